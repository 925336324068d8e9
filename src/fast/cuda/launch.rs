//! What every launch needs: the kernel by name, slices of storages, the shape of the grid, results wrapped again.

use std::sync::Arc;

use candle_core::cuda::CudaDType;
use candle_core::cuda::cudarc::driver::{CudaFunction, CudaSlice, CudaStream, CudaView, LaunchArgs, LaunchConfig};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape};

use super::MODULES;

/// A kernel on the stream of its device.
pub(super) struct Function {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Function {
    pub fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

/// The kernel `name`; the driver compiles its module when the first of them is used.
pub(super) fn kernel(device: &CudaDevice, name: &str) -> Result<Function> {
    let Some(module) = MODULES.iter().find(|module| module.kernels.iter().any(|(known, _)| *known == name)) else {
        candle_core::bail!("no GPU kernel {name}")
    };
    let function = device.get_or_load_custom_func(name, module.name, module.ptx)?.into_cuda_function();
    Ok(Function { function, stream: device.cuda_stream() })
}

/// Launches a kernel on its device: name, shape of the grid, references to its arguments. Unsafe, as every launch is: the arguments
/// must be those of the kernel, in type and order, and the memory behind them as long as it reads and writes.
macro_rules! launch {
    ($device:expr, $name:expr, $grid:expr, $($argument:expr),+ $(,)?) => {{
        use candle_core::cuda::{WrapErr, cudarc::driver::PushKernelArg};
        let function = $crate::cuda::launch::kernel($device, $name)?;
        let mut launch = function.builder();
        $(launch.arg($argument);)+
        launch.launch($grid).w()?;
    }};
}
pub(super) use launch;

/// The values of a contiguous storage.
pub(super) fn values<'a, T: CudaDType>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => candle_core::bail!("GPU kernel on a strided tensor: call contiguous() first"),
    }
}

pub(super) fn wrap<T: CudaDType>(values: CudaSlice<T>, device: &CudaDevice) -> CudaStorage {
    CudaStorage::wrap_cuda_slice(values, device.clone())
}

/// Threads of a block.
const BLOCK: u32 = 256;

/// One warp per row.
pub(super) fn by_rows(rows: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (rows.div_ceil(BLOCK / 32), 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 }
}

/// One thread per element.
pub(super) fn by_elements(count: u64) -> LaunchConfig {
    LaunchConfig { grid_dim: (count.div_ceil(u64::from(BLOCK)) as u32, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 }
}

/// Threads over the columns, blocks over strips of rows: strips along x, which takes 2³¹ − 1 of them, y no more than 65,535.
pub(super) fn by_columns(width: u32, strips: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (strips, width.div_ceil(BLOCK), 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 }
}

/// Pictures along x, the values of each along y: where y has too few blocks, a thread takes several.
pub(super) fn by_pictures(pictures: u32, values: u64) -> LaunchConfig {
    let blocks = values.div_ceil(u64::from(BLOCK)).clamp(1, 65_535) as u32;
    LaunchConfig { grid_dim: (pictures, blocks, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 }
}

/// One block per strip of rows, or of columns.
pub(super) fn by_strips(strips: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (strips, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 }
}

/// Rows and width of `[.., width]`, as kernels count them.
pub(super) fn rows_of(layout: &Layout) -> Result<(u32, u32)> {
    let width = layout.dims().last().copied().unwrap_or(1);
    let rows = layout.shape().elem_count() / width.max(1);
    match (u32::try_from(rows), u32::try_from(width)) {
        (Ok(rows), Ok(width)) if rows > 0 && width > 0 => Ok((rows, width)),
        _ => candle_core::bail!("GPU kernel on a tensor of shape {:?}", layout.dims()),
    }
}

/// A kernel of one to three inputs as an operation without a graph: name and launch.
pub(super) struct Kernel<F>(pub &'static str, pub F);

fn no_cpu<T>(name: &str) -> Result<T> {
    candle_core::bail!("{name} is a GPU kernel, its inputs are on the CPU")
}

impl<F: Fn(&CudaStorage, &Layout) -> Result<(CudaStorage, Shape)>> CustomOp1 for Kernel<F> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        no_cpu(self.0)
    }

    fn cuda_fwd(&self, a: &CudaStorage, al: &Layout) -> Result<(CudaStorage, Shape)> {
        (self.1)(a, al)
    }
}

impl<F: Fn(&CudaStorage, &Layout, &CudaStorage, &Layout) -> Result<(CudaStorage, Shape)>> CustomOp2 for Kernel<F> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        no_cpu(self.0)
    }

    fn cuda_fwd(&self, a: &CudaStorage, al: &Layout, b: &CudaStorage, bl: &Layout) -> Result<(CudaStorage, Shape)> {
        (self.1)(a, al, b, bl)
    }
}

impl<F: Fn(&CudaStorage, &Layout, &CudaStorage, &Layout, &CudaStorage, &Layout) -> Result<(CudaStorage, Shape)>> CustomOp3 for Kernel<F> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        no_cpu(self.0)
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        al: &Layout,
        b: &CudaStorage,
        bl: &Layout,
        c: &CudaStorage,
        cl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        (self.1)(a, al, b, bl, c, cl)
    }
}
