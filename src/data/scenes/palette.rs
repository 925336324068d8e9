//! Named colors: the word goes into captions, the value (slightly varied) into pictures.

use super::canvas::Rgb;
use crate::rng::Rng;

/// A color with the word for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color {
    /// What captions call it.
    pub word: &'static str,
    /// Red, green and blue, 0 to 1.
    pub rgb: [f32; 3],
}

/// The colors objects come in.
pub const COLORS: [Color; 10] = [
    Color { word: "red", rgb: [0.87, 0.20, 0.20] },
    Color { word: "orange", rgb: [0.95, 0.55, 0.16] },
    Color { word: "yellow", rgb: [0.97, 0.81, 0.24] },
    Color { word: "green", rgb: [0.28, 0.65, 0.32] },
    Color { word: "blue", rgb: [0.20, 0.42, 0.82] },
    Color { word: "purple", rgb: [0.55, 0.31, 0.72] },
    Color { word: "pink", rgb: [0.95, 0.52, 0.68] },
    Color { word: "white", rgb: [0.95, 0.95, 0.93] },
    Color { word: "brown", rgb: [0.55, 0.36, 0.22] },
    Color { word: "gray", rgb: [0.52, 0.54, 0.58] },
];

impl Color {
    /// One of [`COLORS`] other than those named in `not`, varied a little.
    pub fn sample(not: &[&str], rng: &mut Rng) -> Self {
        let mut color = COLORS[rng.below(COLORS.len())];
        while not.contains(&color.word) {
            color = COLORS[rng.below(COLORS.len())];
        }
        color.varied(rng)
    }

    /// The color of a word; gray for a word that is none of [`COLORS`].
    pub fn named(word: &str) -> Self {
        COLORS.iter().copied().find(|c| c.word == word).unwrap_or(COLORS[9])
    }

    /// Lighter or darker by up to 8 %, each channel moved by up to 0.04.
    pub fn varied(self, rng: &mut Rng) -> Self {
        let light = rng.range(0.92, 1.08);
        Self { word: self.word, rgb: self.rgb.map(|v| (v * light + rng.range(-0.04, 0.04)).clamp(0.0, 1.0)) }
    }
}

pub(super) const INK: Rgb = [0.16, 0.16, 0.20];
pub(super) const WHITE: Rgb = [0.97, 0.97, 0.96];
pub(super) const WOOD: Rgb = [0.48, 0.32, 0.20];
pub(super) const GLASS: Rgb = [0.75, 0.89, 0.96];
pub(super) const LEAF: Rgb = [0.26, 0.56, 0.28];
pub(super) const METAL: Rgb = [0.72, 0.74, 0.78];
