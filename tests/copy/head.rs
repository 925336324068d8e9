use candle_core::{DType, Device, Result, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::head::Head;

pub fn check() -> Result<()> {
    let (head, params) = Head::mlp(8, 5, 3, &mut StdRng::seed_from_u64(1), &Device::Cpu)?.trainable()?;
    let logits = head.forward(&Tensor::ones((2, 8), DType::F32, &Device::Cpu)?)?;
    assert_eq!((logits.dims(), head.inputs(), head.classes()), (&[2, 3][..], 8, 3));
    assert_eq!(params.iter().map(|param| param.decay).collect::<Vec<_>>(), [true, false, true, false]);
    Ok(())
}
