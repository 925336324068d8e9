//! Keys and values of one text, kept from token to token.

use candle_core::{DType, Device, Result, Tensor};

/// Tokens that a text may grow by before its tensors are copied into larger ones.
const ROOM: usize = 64;

/// Per block the keys and the values of all tokens so far, `[key heads, room, head width]` each.
pub(super) struct Memory {
    blocks: Vec<(Tensor, Tensor)>,
    len: usize,
}

impl Memory {
    /// Without a token.
    pub(super) fn new(blocks: usize, heads: usize, width: usize, device: &Device) -> Result<Self> {
        let empty = || Tensor::zeros((heads, ROOM, width), DType::F32, device);
        Ok(Self { blocks: (0..blocks).map(|_| Ok((empty()?, empty()?))).collect::<Result<_>>()?, len: 0 })
    }

    /// A copy that goes its own way: several answers to one query share the reading of it.
    pub(super) fn fork(&self) -> Result<Self> {
        let copy = |(keys, values): &(Tensor, Tensor)| Ok((larger(keys, self.len, ROOM)?, larger(values, self.len, ROOM)?));
        Ok(Self { blocks: self.blocks.iter().map(copy).collect::<Result<_>>()?, len: self.len })
    }

    /// Tokens that it holds.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Writes a block's keys and values `[key heads, n, head width]` behind those it holds, and returns all of them.
    pub(super) fn extend(&mut self, block: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = keys.dim(1)?;
        let (all_keys, all_values) = &mut self.blocks[block];
        if self.len + n > all_keys.dim(1)? {
            *all_keys = larger(all_keys, self.len, n + ROOM)?;
            *all_values = larger(all_values, self.len, n + ROOM)?;
        }
        all_keys.slice_set(keys, 1, self.len)?;
        all_values.slice_set(values, 1, self.len)?;
        Ok((all_keys.narrow(1, 0, self.len + n)?, all_values.narrow(1, 0, self.len + n)?))
    }

    /// After the last block: `n` tokens more.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
    }
}

/// The first `len` of dimension 1 in a tensor of its own, with room for `more` behind them.
fn larger(tensor: &Tensor, len: usize, more: usize) -> Result<Tensor> {
    tensor.narrow(1, 0, len)?.pad_with_zeros(1, 0, more)?.contiguous()
}
