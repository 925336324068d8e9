//! A view of a picture in numbers, as a GPU makes it: nothing random, nothing rounded that is not a whole number.

/// What every pixel of a resized line reads: a run of the source's pixels, in weights that sum to 2²². Pillow's resize in whole numbers:
/// (2²¹ + Σ weight · level) / 2²² without its fraction, cut to 0..=255.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewTaps {
    /// Where each run begins.
    pub starts: Vec<u32>,
    /// How long it is.
    pub lengths: Vec<u32>,
    /// `width` weights for each run; those past its end are not read.
    pub weights: Vec<i32>,
    /// Length of the longest run.
    pub width: usize,
}

impl ViewTaps {
    /// One tap of weight 1 for each pixel: a copy, `(source, side)` alike.
    pub fn copy(side: usize) -> Self {
        Self { starts: (0..side as u32).collect(), lengths: vec![1; side], weights: vec![1 << 22; side], width: 1 }
    }

    /// The line in a mirror.
    pub fn mirrored(mut self) -> Self {
        self.starts.reverse();
        self.lengths.reverse();
        self.weights = self.weights.rchunks_exact(self.width.max(1)).flatten().copied().collect();
        self
    }

    /// True if each of `side` runs lies within `source` pixels, and has its weights.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) fn fits(&self, source: usize, side: usize) -> bool {
        let inside =
            |(start, length): (&u32, &u32)| u64::from(*start) + u64::from(*length) <= source as u64 && *length as usize <= self.width;
        self.starts.len() == side
            && self.lengths.len() == side
            && self.weights.len() == side * self.width
            && self.starts.iter().zip(&self.lengths).all(inside)
    }
}

/// A change of a picture of side × side pixels of 8-bit RGB.
#[derive(Clone, Debug, PartialEq)]
pub enum ViewStep {
    /// Each level by a table.
    Levels(Box<[u8; 256]>),
    /// Blend with the mean gray level, rounded: simple + factor · (level − simple) in f32, cut to 0..=255, without its fraction.
    Contrast(f32),
    /// The same blend with the gray picture.
    Saturation(f32),
    /// The hue of each pixel turned by so many of 256.
    Hue(u8),
    /// Three equal channels.
    Gray,
    /// One box blur: 2 · radius + 1 pixels of weight `inner` and one more at each end of weight `outer`, in units of 2⁻²⁴.
    Box {
        /// Down, instead of across.
        down: bool,
        /// Pixels to each side.
        radius: u32,
        /// Their weight.
        inner: u32,
        /// Weight of the ends.
        outer: u32,
    },
    /// Each channel's levels spread to 0..=255.
    AutoContrast,
    /// Each channel's levels made about equally frequent.
    Equalize,
    /// Blend with the smoothed picture, in which a pixel counts fivefold beside its eight neighbors; the outermost pixels stay.
    Sharpness(f32),
    /// Pixel (x, y) is the one at (a x + b y + c, d x + e y + f) in units of 2⁻¹⁶, the color where that is outside.
    Nearest([i64; 6], [u8; 3]),
    /// Pixel (x, y) comes from (a x' + b y' + c, d x' + e y' + f) / (g x' + h y' + 1) with x' = x + ½, y' = y + ½, by a cubic through four
    /// pixels each way, the color where that is outside.
    Cubic([f64; 8], [u8; 3]),
}

/// A view: pixels, how they are resized to side × side, and the steps after that.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewRecipe {
    /// `[height, width, 3]`.
    pub pixels: Vec<u8>,
    /// Columns of the pixels.
    pub width: usize,
    /// Rows of the pixels.
    pub height: usize,
    /// Whether the resize goes down before it goes across: the picture between the two ways has 8 bits.
    pub rows_first: bool,
    /// The taps across.
    pub columns: ViewTaps,
    /// The taps down.
    pub rows: ViewTaps,
    /// In their order.
    pub steps: Vec<ViewStep>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_fit_their_line_and_their_mirror_is_read_backwards() {
        let taps = ViewTaps { starts: vec![0, 1, 3], lengths: vec![2, 3, 1], weights: vec![1, 2, 0, 3, 4, 5, 6, 0, 0], width: 3 };
        assert!(taps.fits(4, 3) && !taps.fits(3, 3) && !taps.fits(4, 2));
        assert!(!ViewTaps { width: 2, ..taps.clone() }.fits(4, 3));
        let mirrored = taps.clone().mirrored();
        assert_eq!((&mirrored.starts[..], &mirrored.lengths[..]), (&[3, 1, 0][..], &[1, 3, 2][..]));
        assert_eq!(mirrored.weights, [6, 0, 0, 3, 4, 5, 1, 2, 0]);
        assert_eq!(mirrored.mirrored(), taps);
        assert!(ViewTaps::copy(5).fits(5, 5));
    }
}
