//! One direction of a resize in whole numbers: Pillow's weights, order of sums and rounding, so its results bit for bit.

use super::filter::Resample;
use lafter_fast as fast; // fast::

/// Weights are in units of 2⁻²²: 8 bits for the result and 2 for filters that overshoot leave 22 of 32.
const BITS: u32 = 22;

/// What every output pixel of a line reads: a run of source pixels and their weights, which sum to 1.
pub(super) struct Taps {
    /// Where each run begins.
    starts: Vec<usize>,
    /// `width` weights for each output pixel; those past the end of a run are 0.
    weights: Vec<i32>,
    lengths: Vec<usize>,
    width: usize,
}

impl Taps {
    /// The taps for `count` output pixels from `first` on, of a line of `source` pixels resized to `target` pixels.
    ///
    /// The filter is centred on the output pixel and widened by the scale when shrinking.
    pub fn new(source: u32, target: u32, first: u32, count: u32, filter: Resample) -> Self {
        let scale = f64::from(source) / f64::from(target);
        let widen = scale.max(1.0);
        let reach = filter.support() * widen;
        let width = (reach.ceil() as usize * 2 + 1).min(source as usize);
        let (mut starts, mut lengths, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut run = Vec::with_capacity(width);
        for pixel in first..first + count {
            let centre = (f64::from(pixel) + 0.5) * scale;
            let start = (centre - reach + 0.5) as u32; // `as` stops at 0
            let end = ((centre + reach + 0.5) as u32).min(source);
            let value = |x| filter.value((f64::from(x) - centre + 0.5) * (1.0 / widen));
            run.clear();
            run.extend((start..end).map(value));
            let total: f64 = run.iter().sum();
            starts.push(start as usize);
            lengths.push(run.len());
            weights.extend(run.iter().map(|weight| {
                let scaled = (if total == 0.0 { *weight } else { weight / total }) * f64::from(1 << BITS);
                (scaled + 0.5f64.copysign(scaled)) as i32
            }));
            weights.resize(starts.len() * width, 0);
        }
        Self { starts, weights, lengths, width }
    }

    /// The first source pixel that is read, and the one after the last.
    pub fn span(&self) -> (usize, usize) {
        let last = self.starts.last().zip(self.lengths.last()).map_or(0, |(start, length)| start + length);
        (self.starts.first().copied().unwrap_or(0), last)
    }

    /// Runs and weights, one of each for every output pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.width.max(1)).zip(&self.lengths).map(|(weights, length)| &weights[..*length]);
        self.starts.iter().copied().zip(weights)
    }
}

/// Rounds and cuts to 0..=255; the half is already in the sum.
#[inline(always)]
fn level(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (BITS - 1);

/// Rows that are resized side by side, and the lanes they fill: three channels and one unused.
const ROWS: usize = 8;
const LANES: usize = 4 * ROWS;

/// Resizes rows of RGB pixels that begin `stride` bytes apart, the first pixel of which is pixel `first` of the source's
/// rows, to rows of `narrow` bytes. `wide` bytes of each row are read.
///
/// Neighbours in a row share a weight only with pixels of other rows, so eight rows are turned into columns first.
pub(super) fn across(rows: &[u8], stride: usize, wide: usize, first: usize, taps: &Taps, out: &mut [u8], narrow: usize) {
    let mut columns = vec![[0u8; LANES]; wide / 3];
    for (rows, out) in rows.chunks(ROWS * stride).zip(out.chunks_mut(ROWS * narrow)) {
        for (lane, row) in rows.chunks(stride).enumerate() {
            // four bytes at once: a next pixel's first one falls on the unused lane
            let (last, columns) = match columns.split_last_mut() {
                Some(split) => split,
                None => return,
            };
            for (pixel, column) in row[..wide].windows(4).step_by(3).zip(columns) {
                column[4 * lane..4 * lane + 4].copy_from_slice(pixel);
            }
            last[4 * lane..4 * lane + 3].copy_from_slice(&row[wide - 3..wide]);
        }
        across_columns(&columns, first, taps, out, narrow);
    }
}

fast::wide! { // fast::
    fn across_columns(columns: &[[u8; LANES]], first: usize, taps: &Taps, out: &mut [u8], narrow: usize) {
        for ((start, weights), x) in taps.iter().zip((0..narrow).step_by(3)) {
            let mut sums = [HALF; LANES];
            for (column, weight) in columns[start - first..].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(column) {
                    *sum += i32::from(*value) * weight;
                }
            }
            let levels = sums.map(level);
            for (row, levels) in out.chunks_exact_mut(narrow).zip(levels.chunks_exact(4)) {
                row[x..x + 3].copy_from_slice(&levels[..3]);
            }
        }
    }
} // fast::

fast::wide! { // fast::
    /// Resizes rows that begin `stride` bytes apart, the first of which is row `first` of the source, to rows of `length` bytes.
    pub(super) fn down(rows: &[u8], stride: usize, first: usize, taps: &Taps, out: &mut [u8], length: usize) {
        const BLOCK: usize = 64; // sums that stay in registers
        for ((start, weights), target) in taps.iter().zip(out.chunks_exact_mut(length)) {
            let rows = &rows[(start - first) * stride..];
            let (blocks, rest) = target.as_chunks_mut::<BLOCK>();
            let at_rest = blocks.len() * BLOCK;
            for (block, target) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; BLOCK];
                for (i, weight) in weights.iter().enumerate() {
                    let row = &rows[i * stride + block * BLOCK..][..BLOCK];
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += i32::from(*value) * weight;
                    }
                }
                *target = sums.map(level);
            }
            let mut sums = [HALF; BLOCK];
            for (i, weight) in weights.iter().enumerate() {
                for (sum, value) in sums.iter_mut().zip(&rows[i * stride + at_rest..][..rest.len()]) {
                    *sum += i32::from(*value) * weight;
                }
            }
            rest.iter_mut().zip(sums).for_each(|(value, sum)| *value = level(sum));
        }
    }
} // fast::

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_runs_lie_inside() {
        for filter in [Resample::Bilinear, Resample::Bicubic, Resample::Lanczos] {
            for (source, target) in [(1, 1), (1, 9), (9, 1), (17, 224), (500, 224), (224, 224), (3, 2)] {
                let taps = Taps::new(source, target, 0, target, filter);
                assert_eq!(taps.span(), (0, source as usize), "{filter:?} {source} -> {target}");
                for (start, weights) in taps.iter() {
                    assert!(!weights.is_empty() && start + weights.len() <= source as usize);
                    let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
                    assert!((total - (1 << BITS)).unsigned_abs() <= weights.len() as u64, "{total}");
                }
            }
        }
    }
}
