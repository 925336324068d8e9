//! A backward pass in which operations on a GPU hand over the gradients of variables themselves.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

type Gradients = Vec<(Tensor, Tensor)>;

thread_local! {
    /// Variables and their gradients of the pass that runs on this thread, if one does.
    static HANDED: RefCell<Option<Gradients>> = const { RefCell::new(None) };
}

/// [`Tensor::backward`] with the same gradients. Candle adds each to zeros: one allocation and one pass over memory for the zeros, as
/// many for the sum. On a GPU the blocks' branches and the layer norms leave that out for variables, such as the norms' scales and
/// shifts: two allocations and two launches less for each.
///
/// # Errors
/// As [`Tensor::backward`].
///
/// ```
/// use candle_core::{Device, Var};
/// let x = Var::new(&[3f32], &Device::Cpu)?;
/// let grads = lafter_fast::backward(&x.sqr()?.sum_all()?)?;
/// assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>()?, [6.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    if !loss.device().is_cuda() {
        return loss.backward();
    }
    let pass = Pass::begin();
    let mut grads = loss.backward()?;
    for (variable, grad) in pass.end() {
        let sum = match grads.remove(&variable) {
            Some(other) => (other + grad)?,
            None => grad,
        };
        grads.insert(&variable, sum);
    }
    Ok(grads)
}

/// While it lives, gradients of variables are handed over.
struct Pass;

impl Pass {
    fn begin() -> Self {
        HANDED.set(Some(Vec::new()));
        Self
    }

    fn end(self) -> Gradients {
        HANDED.take().unwrap_or_default()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        HANDED.set(None);
    }
}

/// What an operation's `bwd` returns for an argument: its gradient, unless the pass takes that of a variable, or nothing learns.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn hand(of: &Tensor, grad: Tensor) -> Option<Tensor> {
    if !of.track_op() {
        return None;
    }
    if !of.is_variable() {
        return Some(grad);
    }
    HANDED.with_borrow_mut(|handed| match handed {
        Some(handed) => {
            handed.push((of.clone(), grad.detach()));
            None
        }
        None => Some(grad),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn only_a_pass_takes_gradients_and_only_those_of_variables() {
        let x = Var::new(&[3f32], &Device::Cpu).unwrap();
        let (y, g) = (x.sqr().unwrap(), Tensor::new(&[5f32], &Device::Cpu).unwrap());
        assert!(hand(&x, g.clone()).is_some() && hand(&y, g.clone()).is_some());
        let pass = Pass::begin();
        assert!(hand(&x, g.clone()).is_none() && hand(&y, g.clone()).is_some() && hand(&y.detach(), g.clone()).is_none());
        let handed = pass.end();
        assert!(handed.len() == 1 && handed[0].0.id() == x.id());
        let broken = Pass::begin();
        drop(broken); // as an error in between does
        assert!(hand(&x, g).is_some());
    }
}
