//! Pictures on the GPU: bytes to normalized planes, planes to patches.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, PinnedHostSlice, sys::CUevent_flags};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

use super::launch::{by_elements, launch, values, wrap};

/// Pixels `[batch, channels, grid · side, grid · side]` f32 → patches `[batch, grid², channels · side²]`.
pub fn patches(pixels: &CudaStorage, layout: &Layout, side: usize) -> Result<(CudaStorage, Shape)> {
    let (device, (batch, channels, height, _)) = (pixels.device(), layout.shape().dims4()?);
    let (from, grid) = (values::<f32>(pixels, layout)?, height / side);
    let count = layout.shape().elem_count() as u64;
    // SAFETY: the kernel writes every value.
    let to = unsafe { device.alloc::<f32>(count as usize)? };
    let (channels32, grid32, side32) = (channels as u32, grid as u32, side as u32);
    // SAFETY: `count` values stand behind both; the kernel only moves them.
    unsafe { launch!(device, "patches", by_elements(count), &from, &channels32, &grid32, &side32, &count, &to) };
    Ok((wrap(to, device), Shape::from((batch, grid * grid, channels * side * side))))
}

/// Batches whose copies may be under way at a time.
const SLOTS: usize = 4;

/// A page-locked buffer, given back when its last copy is done.
struct Slot {
    bytes: PinnedHostSlice<u8>,
    /// Recorded after each copy; the buffer's own event is recorded only where events order several streams.
    copied: CudaEvent,
}

impl Slot {
    fn new(stream: &CudaStream, size: usize) -> Result<Self> {
        let copied = stream.context().new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC)).w()?;
        // SAFETY: what is read of it is filled before.
        Ok(Self { bytes: unsafe { stream.context().alloc_pinned(size).w()? }, copied })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = self.copied.synchronize();
    }
}

/// Pictures of bytes on their way to a GPU, through page-locked buffers in turn: the host fills one while the copies from the others
/// are queued, and waits only for the copy that used the same one [`SLOTS`] batches ago.
pub struct Upload {
    pub(super) device: CudaDevice,
    pub(super) table: Tensor,
    slots: Vec<Slot>,
    turn: usize,
}

impl Upload {
    /// For a GPU; `table` has each of 256 levels of each channel, `[3, 256]`. `None` for other devices.
    ///
    /// # Errors
    /// If the table is not of that size, or the device has no memory left.
    pub fn new(device: &Device, table: &[f32]) -> Result<Option<Self>> {
        let Device::Cuda(gpu) = device else { return Ok(None) };
        let table = Tensor::from_slice(table, (3, 256), device)?;
        Ok(Some(Self { device: gpu.clone(), table, slots: Vec::new(), turn: 0 }))
    }

    /// Pictures `[height, width, 3]` of bytes → planes `[n, 3, height, width]` f32, each level looked up in the table.
    ///
    /// # Errors
    /// If there is no picture, or one has another size.
    pub fn planes(&mut self, pictures: &[Vec<u8>], height: usize, width: usize) -> Result<Tensor> {
        let (n, pixels) = (pictures.len(), height * width);
        if n * pixels == 0 || pictures.iter().any(|picture| picture.len() != 3 * pixels) {
            candle_core::bail!("expected pictures of 3 · {width} · {height} bytes");
        }
        let size = 3 * n * pixels;
        let bytes = self.staged(size, size, |to| {
            to.par_chunks_mut(3 * pixels).zip(pictures).for_each(|(to, picture)| to.copy_from_slice(picture));
        })?;
        let bytes = bytes.slice(..);
        let (storage, layout) = self.table.storage_and_layout();
        let Storage::Cuda(table) = &*storage else { candle_core::bail!("the table is not on the device") };
        let table = values::<f32>(table, layout)?;
        // SAFETY: the kernel writes every value.
        let planes = unsafe { self.device.alloc::<f32>(size)? };
        let (pixels, count) = (pixels as u64, size as u64);
        // SAFETY: `count` bytes and values stand behind the two, 3 · 256 behind the table.
        unsafe { launch!(&self.device, "planes", by_elements(count), &bytes, &table, &pixels, &count, &planes) };
        let planes = Storage::Cuda(wrap(planes, &self.device));
        debug_assert_eq!(planes.dtype(), DType::F32);
        Ok(Tensor::from_storage(planes, (n, 3, height, width), BackpropOp::none(), false))
    }

    /// At least `size` bytes on the device, the first of them as `fill` writes them, by way of the next page-locked buffer. One of `size` to
    /// twice that is kept, another is replaced by one of `room`.
    pub(super) fn staged(&mut self, size: usize, room: usize, fill: impl FnOnce(&mut [u8])) -> Result<CudaSlice<u8>> {
        let stream = self.device.cuda_stream();
        self.turn = (self.turn + 1) % SLOTS;
        if !self.slots.get(self.turn).is_some_and(|slot| (size..=2 * size).contains(&slot.bytes.len())) {
            let slot = Slot::new(&stream, room.max(size))?;
            self.turn = self.turn.min(self.slots.len());
            if self.turn < self.slots.len() { self.slots[self.turn] = slot } else { self.slots.push(slot) }
        }
        let slot = &mut self.slots[self.turn];
        slot.copied.synchronize().w()?;
        fill(&mut slot.bytes.as_mut_slice().w()?[..size]);
        // SAFETY: the copy writes every value.
        let mut bytes = unsafe { self.device.alloc::<u8>(slot.bytes.len())? };
        stream.memcpy_htod(&slot.bytes, &mut bytes).w()?;
        slot.copied.record(&stream).w()?;
        Ok(bytes)
    }
}
