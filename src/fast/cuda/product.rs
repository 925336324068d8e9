//! Products of matrices by cuBLAS on slices of memory: batches at any stride, transposed, added to what is there.

use candle_core::cuda::cudarc::cublas::{result::gemm_strided_batched_ex, sys};
use candle_core::cuda::cudarc::driver::{CudaView, DevicePtr, DeviceRepr};
use candle_core::cuda::{CudaDType, WrapErr, gemm_reduced_precision_f32};
use candle_core::{CudaDevice, Result};
use half::bf16;

/// A number type of the kernels that come in two.
pub(super) trait Number: CudaDType + DeviceRepr + Copy {
    /// The end of their names.
    const NAME: &'static str;
    const TYPE: sys::cudaDataType;

    /// Values of this type from f32, in `to` if they are not f32 themselves.
    fn of<'a>(device: &CudaDevice, x: &'a CudaView<'a, f32>, to: &'a CudaView<'a, Self>) -> Result<&'a CudaView<'a, Self>>
    where
        Self: Sized;
}

impl Number for f32 {
    const NAME: &'static str = "f32";
    const TYPE: sys::cudaDataType = sys::cudaDataType_t::CUDA_R_32F;

    fn of<'a>(_: &CudaDevice, x: &'a CudaView<'a, f32>, _: &'a CudaView<'a, f32>) -> Result<&'a CudaView<'a, f32>> {
        Ok(x)
    }
}

impl Number for bf16 {
    const NAME: &'static str = "bf16";
    const TYPE: sys::cudaDataType = sys::cudaDataType_t::CUDA_R_16BF;

    fn of<'a>(device: &CudaDevice, x: &'a CudaView<'a, f32>, to: &'a CudaView<'a, bf16>) -> Result<&'a CudaView<'a, bf16>> {
        super::branch::round(device, x, to)?;
        Ok(to)
    }
}

/// Matrices of a batch, row by row: `next` values from one to the next, `row` from one row to the next.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    values: &'a CudaView<'a, T>,
    row: usize,
    next: usize,
    transposed: bool,
}

impl<'a, T> Matrix<'a, T> {
    /// One matrix.
    pub fn one(values: &'a CudaView<'a, T>, row: usize) -> Self {
        Self { values, row, next: 0, transposed: false }
    }

    /// A batch of them.
    pub fn batch(values: &'a CudaView<'a, T>, row: usize, next: usize) -> Self {
        Self { values, row, next, transposed: false }
    }

    pub fn values(&self) -> &'a CudaView<'a, T> {
        self.values
    }

    /// The same, read as their transposes.
    pub fn t(self) -> Self {
        Self { transposed: true, ..self }
    }

    /// Whether `count` matrices of `rows` × `columns` lie within the values.
    fn holds(&self, count: usize, rows: usize, columns: usize) -> bool {
        let (rows, columns) = if self.transposed { (columns, rows) } else { (rows, columns) };
        columns <= self.row && (count - 1) * self.next + (rows - 1) * self.row + columns <= self.values.len()
    }

    fn operation(&self) -> sys::cublasOperation_t {
        if self.transposed { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N }
    }
}

/// to `[m, n]` ← factor · a `[m, k]` · b `[k, n]` + keep · to, `count` times; sums are f32.
///
/// Exact products of f32 ask for no tensor cores: with that flag cuBLAS may compute them in f16 on Turing. Candle's own matmul has it.
pub(super) fn product<A: Number, C: Number>(
    device: &CudaDevice,
    count: usize,
    [m, n, k]: [usize; 3],
    factor: f32,
    [a, b]: [Matrix<A>; 2],
    keep: f32,
    to: Matrix<C>,
) -> Result<()> {
    let counts = count > 0 && m > 0 && n > 0 && k > 0;
    if !counts || !a.holds(count, m, k) || !b.holds(count, k, n) || to.transposed || !to.holds(count, m, n) {
        candle_core::bail!("a product of {count} matrices [{m}, {k}] and [{k}, {n}] does not fit its memory");
    }
    let (kind, algorithm) = match (A::NAME == f32::NAME, gemm_reduced_precision_f32()) {
        (true, false) => (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cublasGemmAlgo_t::CUBLAS_GEMM_DFALT),
        (true, true) => (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32, sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP),
        (false, _) => (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP),
    };
    let stream = device.cuda_stream();
    let [(left, _a), (right, _b), (result, _c)] =
        [a.values.device_ptr(&stream), b.values.device_ptr(&stream), to.values.device_ptr(&stream)];
    let small = |n: usize| i32::try_from(n).map_err(|_| candle_core::Error::Msg(format!("a matrix of {n} rows is too large for cuBLAS")));
    // SAFETY: the matrices lie within their memory, as checked above. cuBLAS counts by columns: its first matrix is our second.
    unsafe {
        gemm_strided_batched_ex(
            *device.cublas_handle().handle(),
            b.operation(),
            a.operation(),
            small(n)?,
            small(m)?,
            small(k)?,
            (&raw const factor).cast(),
            right as *const _,
            A::TYPE,
            small(b.row)?,
            b.next as i64,
            left as *const _,
            A::TYPE,
            small(a.row)?,
            a.next as i64,
            (&raw const keep).cast(),
            result as *mut _,
            C::TYPE,
            small(to.row)?,
            to.next as i64,
            small(count)?,
            kind,
            algorithm,
        )
    }
    .w()
}
