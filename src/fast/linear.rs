//! A linear layer that computes only the gradients that are asked for.

use candle_core::backend::BackendStorage;
use candle_core::op::Add;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};

use super::frozen_linear::FrozenLinear;
use super::gemm::{View, library};
use super::{Layer, Packed, Weight, cuda, f32_slice, on_cpu_f32, parallel, with_f32s};

/// y = x Wᵀ + b: x `[.., in]` → `[.., out]`.
///
/// - Candle's `matmul` always computes and keeps both gradients, also that of a frozen weight: 29 % of the arithmetic of a tuning
///   step.
/// - This one computes only those of dx = g W, dW = gᵀ x, db = Σ g that are asked for. A frozen layer computes dx alone.
/// - A [`Packed`](super::Packed) layer adds the bias while it writes the product: 768 → 3,072 takes 72 ms, Candle's matmul 123
///   (`cargo bench --bench ops -- linear linear_candle`).
///
/// It applies to f32 on the CPU, and on every device to a layer that does not learn, in the weight's own number type.
///
/// # Errors
/// If `x` has another width, holds whole numbers, or lies on another device than the layer.
pub fn linear(x: &Tensor, layer: Layer) -> Result<Option<Tensor>> {
    let (outputs, inputs) = Shape::from(layer.weight.dims()).dims2()?;
    if x.dims().last() != Some(&inputs) {
        candle_core::bail!("linear layer expects [.., {inputs}], got {:?}", x.dims());
    }
    if !x.dtype().is_float() {
        candle_core::bail!("a linear layer reads floating-point numbers, got {:?}", x.dtype());
    }
    let (weight, bias) = match layer.weight {
        Weight::Plain(weight) => (weight, layer.bias),
        Weight::Packed(weight) => return packed(x, weight, layer).map(Some),
    };
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    if cuda::nothing(x) {
        return Ok(Some(x.reshape(dims)?));
    }
    if on_cpu_f32(x) && on_cpu_f32(weight) && bias.is_none_or(|bias| on_cpu_f32(bias) && bias.dims() == [outputs]) {
        let (rows, weight) = (x.reshape(((), inputs))?.contiguous()?, weight.contiguous()?);
        let y = match bias {
            Some(bias) => rows.apply_op3(&weight, &bias.contiguous()?, SparingLinear)?,
            None => rows.apply_op2(&weight, SparingLinear)?,
        };
        return Ok(Some(y.reshape(dims)?));
    }
    if weight.track_op() || bias.is_some_and(Tensor::track_op) {
        return Ok(None);
    }
    let here = |tensor: &Tensor| tensor.device().location() == x.device().location();
    if !here(weight) || !bias.is_none_or(here) {
        return elsewhere();
    }
    // a weight in bf16 takes its input in bf16; the answer is in the type of the input
    let bias = bias.map(|bias| bias.to_dtype(weight.dtype())).transpose()?; // one that was tuned is f32
    let frozen = FrozenProduct { weight: weight.clone(), bias };
    let rows = x.to_dtype(weight.dtype())?.reshape(((), inputs))?.contiguous()?;
    Ok(Some(rows.apply_op1(frozen)?.reshape(dims)?.to_dtype(x.dtype())?))
}

/// With a packed weight: in f32 on the CPU, the answer in the type of the input. A bias that was put in the place of the one that it
/// was packed with is added last.
fn packed(x: &Tensor, weight: &Packed, layer: Layer) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return elsewhere();
    }
    let frozen = FrozenLinear { part: weight.clone(), biased: layer.part().is_some() };
    let other = layer.bias.filter(|_| !frozen.biased);
    let y = x.to_dtype(DType::F32)?.contiguous()?.apply_op1(frozen)?;
    match other {
        Some(bias) => y.broadcast_add(&bias.to_dtype(DType::F32)?)?.to_dtype(x.dtype()),
        None => y.to_dtype(x.dtype()),
    }
}

/// y = x Wᵀ + b with a frozen weight on any device, in any type that multiplies there; only the input has a gradient.
struct FrozenProduct {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl FrozenProduct {
    /// x `[rows, inputs]`; `of` reaches into the storages of the device.
    fn run<S: BackendStorage>(&self, x: &S, layout: &Layout, of: impl Fn(&Storage) -> Result<&S>) -> Result<(S, Shape)> {
        let (rows, inputs) = layout.shape().dims2()?;
        let (outputs, shape) = (self.weight.dims()[0], Shape::from((rows, self.weight.dims()[0])));
        let (weight, weight_layout) = self.weight.storage_and_layout();
        let y = x.matmul(of(&weight)?, (1, rows, outputs, inputs), layout, &weight_layout.transpose(0, 1)?)?;
        let Some(bias) = &self.bias else { return Ok((y, shape)) };
        let (bias, bias_layout) = bias.storage_and_layout();
        let y = y.binary_impl::<Add>(of(&bias)?, &Layout::contiguous(&shape), &bias_layout.broadcast_as(&shape)?)?;
        Ok((y, shape))
    }
}

fn elsewhere<T>() -> Result<T> {
    candle_core::bail!("a linear layer and its input lie on different devices: move one of them with to_device")
}

impl CustomOp1 for FrozenProduct {
    fn name(&self) -> &'static str {
        "frozen-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(x, layout, |storage| if let Storage::Cpu(storage) = storage { Ok(storage) } else { elsewhere() })
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run(x, layout, |storage| if let Storage::Cuda(storage) = storage { Ok(storage) } else { elsewhere() })
    }

    /// dx = g W
    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.matmul(&self.weight.detach())?))
    }
}

struct SparingLinear;

/// Rows of the result that one task computes; the cut does not depend on the number of threads, so neither do the bits.
const ROWS: usize = 192;

/// y[rows, columns] += a[rows, inner] · b[inner, columns] for matrices of any layout.
fn multiply_add(a: &[f32], av: View, b: &[f32], bv: View, inner: usize, columns: usize, y: &mut [f32]) {
    if y.is_empty() || inner == 0 {
        return;
    }
    let work = 2 * y.len() * inner;
    let blocks = y.chunks_mut(ROWS * columns).enumerate().collect();
    parallel::for_each(blocks, work, |(block, y)| {
        let a_view = View { at: av.at + block * ROWS * av.row, ..av };
        let to = View { at: 0, row: columns, column: 1 };
        library(y.len() / columns, columns, inner, 1.0, a, a_view, b, bv, true, y, to);
    });
}

/// y[rows, out] = x[rows, in] · weight[out, in]ᵀ + y
fn forward(x: &[f32], weight: &[f32], inputs: usize, outputs: usize, mut y: Vec<f32>) -> Vec<f32> {
    let rows = View { at: 0, row: inputs, column: 1 };
    multiply_add(x, rows, weight, rows.transposed(), inputs, outputs, &mut y);
    y
}

/// The gradients that are asked for: dx = g W, dW = gᵀ x.
fn gradients(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (rows, inputs) = x.dims2()?;
    let outputs = weight.dims()[0];
    let (wide, narrow) = (View { at: 0, row: inputs, column: 1 }, View { at: 0, row: outputs, column: 1 });
    let product = |a: &Tensor, av: View, b: &Tensor, inner: usize, like: &Tensor| -> Result<Tensor> {
        let mut y = vec![0f32; like.elem_count()];
        with_f32s([a, b], |[a, b]| multiply_add(a, av, b, wide, inner, inputs, &mut y))?;
        Tensor::from_vec(y, like.shape(), like.device())
    };
    let dx = x.track_op().then(|| product(grad, narrow, weight, outputs, x)).transpose()?;
    let dw = weight.track_op().then(|| product(grad, narrow.transposed(), x, rows, weight)).transpose()?;
    Ok((dx, dw))
}

impl CustomOp2 for SparingLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout, weight: &CpuStorage, weight_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let outputs = weight_layout.dims()[0];
        let y = forward(f32_slice(x, x_layout)?, f32_slice(weight, weight_layout)?, inputs, outputs, vec![0f32; rows * outputs]);
        Ok((CpuStorage::F32(y), Shape::from((rows, outputs))))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        gradients(x, weight, grad)
    }
}

impl CustomOp3 for SparingLinear {
    fn name(&self) -> &'static str {
        "linear-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let bias = f32_slice(bias, bias_layout)?;
        let y = forward(f32_slice(x, x_layout)?, f32_slice(weight, weight_layout)?, inputs, bias.len(), bias.repeat(rows));
        Ok((CpuStorage::F32(y), Shape::from((rows, bias.len()))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = gradients(x, weight, grad)?;
        let db = bias.track_op().then(|| grad.sum(0)).transpose()?;
        Ok((dx, dw, db))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::random::Random;
    use crate::{Isa, Precision};

    #[test]
    fn an_input_of_another_width_is_refused() {
        let mut random = Random(1);
        let weight = random.tensor((3, 4), 1.0);
        let plain = Layer::plain(&weight, None);
        let [packed] = Packed::stack([plain], Precision::F32, Isa::best()).unwrap().map(Option::unwrap);
        for layer in [plain, Layer { weight: Weight::Packed(&packed), ..plain }] {
            for x in [random.tensor((2, 6), 1.0), random.tensor((2, 8), 1.0), random.tensor((5, 1, 2), 1.0), random.tensor((), 1.0)] {
                let error = linear(&x, layer).unwrap_err().to_string();
                assert!(error.contains(&format!("[.., 4], got {:?}", x.dims())), "{error}");
            }
        }
    }

    #[test]
    fn a_bias_of_another_shape_or_type_and_whole_numbers_are_left_or_refused() {
        let mut random = Random(2);
        let (x, weight) = (random.tensor((3, 4), 1.0), Var::from_tensor(&random.tensor((5, 4), 1.0)).unwrap());
        let biases = [random.tensor(6, 1.0), random.tensor((5, 1), 1.0), random.tensor((1, 5), 1.0), random.tensor((), 1.0)];
        for bias in biases.into_iter().chain([random.tensor(5, 1.0).to_dtype(DType::BF16).unwrap()]) {
            assert!(linear(&x, Layer::plain(&weight, Some(&bias))).unwrap().is_none(), "{bias:?}");
        }
        let whole = x.to_dtype(DType::U32).unwrap();
        let frozen = weight.detach();
        let [packed] = Packed::stack([Layer::plain(&frozen, None)], Precision::F32, Isa::best()).unwrap().map(Option::unwrap);
        for weight in [Weight::Plain(&weight), Weight::Packed(&packed)] {
            let error = linear(&whole, Layer { weight, bias: None, joined: None }).unwrap_err().to_string();
            assert!(error.contains("floating-point numbers, got U32"), "{error}");
        }
    }

    #[test]
    fn a_frozen_weight_in_bf16_takes_a_bias_in_f32() {
        let weight = Tensor::new(&[[1f32, 2.0], [-1.0, 0.5]], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
        let bias = Tensor::new(&[0.5f32, -4.0], &Device::Cpu).unwrap();
        let x = Tensor::new(&[[3f32, 4.0]], &Device::Cpu).unwrap();
        let layer = Layer { weight: Weight::Plain(&weight), bias: Some(&bias), joined: None };
        let y = linear(&x, layer).unwrap().unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[11.5, -5.0]]);
    }
}
