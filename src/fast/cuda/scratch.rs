//! Memory that an operation needs only while it runs, handed on from one operation to the next: the driver is asked for it once.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda::DeviceId;
use candle_core::cuda::cudarc::driver::{CudaSlice, CudaView};
use candle_core::{CudaDevice, Error, Result};

use super::branch::APART;
use super::product::Number;

/// Devices that are remembered: each opening of a GPU is one.
const DEVICES: usize = 4;

/// Handle of the stream that is another one on each thread: Candle's `Device::new_cuda` works on it.
const PER_THREAD: usize = 2;

/// What nobody uses now, the largest of each device; the latest device is last.
static SPARE: Mutex<Vec<(DeviceId, CudaSlice<u8>)>> = Mutex::new(Vec::new());

/// Memory of a device until this is dropped; nobody else has it meanwhile. It may go to the next operation before the kernels of
/// this one are done, because all work of a device is on one stream, in the order in which it was asked for. Where each thread has a
/// stream of its own, it goes back to the driver.
pub(super) struct Scratch {
    memory: Option<CudaSlice<u8>>,
    /// Whose spare memory it becomes.
    device: Option<DeviceId>,
    used: Cell<usize>,
}

/// Bytes of [`Scratch`] for parts of these sizes.
pub(super) fn bytes<T: Number, const N: usize>(sizes: [usize; N]) -> usize {
    sizes.iter().map(|size| size.next_multiple_of(APART) * size_of::<T>()).sum()
}

impl Scratch {
    /// At least as many bytes, at most a few times; what they hold is of no use.
    pub fn take(device: &CudaDevice, bytes: usize) -> Result<Self> {
        let id = (device.cuda_stream().cu_stream().addr() != PER_THREAD).then_some(device.id());
        let spare = id.and_then(|id| {
            let mut all = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().position(|(of, _)| *of == id).map(|at| all.remove(at).1)
        });
        let memory = match spare {
            Some(memory) if memory.len() >= bytes => memory,
            smaller => {
                drop(smaller); // goes back before more is asked for
                // SAFETY: numbers of any bits, written before they are read.
                unsafe { device.alloc::<u8>(bytes.max(1))? }
            }
        };
        Ok(Self { memory: Some(memory), device: id, used: Cell::new(0) })
    }

    /// The next parts: each at a place that is good for wide loads.
    pub fn parts<T: Number, const N: usize>(&self, sizes: [usize; N]) -> Result<[CudaView<'_, T>; N]> {
        let mut at = self.used.replace(self.used.get() + bytes::<T, N>(sizes));
        let part = |size: usize| {
            let from = at;
            at += bytes::<T, 1>([size]);
            let memory = self.memory.as_ref()?.try_slice(from..from + size * size_of::<T>())?;
            // SAFETY: numbers of any bits; the place is a multiple of 128 values.
            unsafe { memory.transmute::<T>(size) }
        };
        let parts: Option<Vec<_>> = sizes.map(part).into_iter().collect();
        parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| Error::Msg("more scratch memory is used than was asked for".into()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (Some(mut memory), Some(device)) = (self.memory.take(), self.device) else { return };
        let mut all = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(|(of, _)| *of == device) {
            let (_, other) = all.remove(at); // another thread's, which worked at the same time
            if other.len() > memory.len() {
                memory = other;
            }
        }
        all.push((device, memory));
        if all.len() > DEVICES {
            all.remove(0);
        }
    }
}
