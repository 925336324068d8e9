//! RGB pixels in blocks, channel by channel: the layout in which a loop over pixels becomes a loop over wide registers.

/// Pixels of a block.
const BLOCK: usize = 128;

/// Gives `f` the red, green and blue values of the pixels, a block at a time, and puts back what it made of them.
#[inline(always)]
pub(super) fn for_each_block(values: &mut [u8], mut f: impl FnMut(&mut [u8; BLOCK], &mut [u8; BLOCK], &mut [u8; BLOCK])) {
    let (mut r, mut g, mut b) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
    let mut block = |pixels: &mut [u8; 3 * BLOCK]| {
        for i in 0..BLOCK {
            (r[i], g[i], b[i]) = (pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]);
        }
        f(&mut r, &mut g, &mut b);
        for i in 0..BLOCK {
            (pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]) = (r[i], g[i], b[i]);
        }
    };
    let (blocks, rest) = values.as_chunks_mut::<{ 3 * BLOCK }>();
    blocks.iter_mut().for_each(&mut block);
    let mut last = [0; 3 * BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    block(&mut last);
    rest.copy_from_slice(&last[..rest.len()]);
}
