//! Named colours: the word goes into captions, the value (slightly varied) into pictures.

use super::canvas::Rgb;
use crate::rng::Rng;

/// A colour with the word for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colour {
    /// What captions call it.
    pub word: &'static str,
    /// Red, green and blue, 0 to 1.
    pub rgb: [f32; 3],
}

/// The colours objects come in.
pub const COLOURS: [Colour; 10] = [
    Colour { word: "red", rgb: [0.87, 0.20, 0.20] },
    Colour { word: "orange", rgb: [0.95, 0.55, 0.16] },
    Colour { word: "yellow", rgb: [0.97, 0.81, 0.24] },
    Colour { word: "green", rgb: [0.28, 0.65, 0.32] },
    Colour { word: "blue", rgb: [0.20, 0.42, 0.82] },
    Colour { word: "purple", rgb: [0.55, 0.31, 0.72] },
    Colour { word: "pink", rgb: [0.95, 0.52, 0.68] },
    Colour { word: "white", rgb: [0.95, 0.95, 0.93] },
    Colour { word: "brown", rgb: [0.55, 0.36, 0.22] },
    Colour { word: "gray", rgb: [0.52, 0.54, 0.58] },
];

impl Colour {
    /// One of [`COLOURS`] other than those named in `not`, varied a little.
    pub fn sample(not: &[&str], rng: &mut Rng) -> Self {
        let mut colour = COLOURS[rng.below(COLOURS.len())];
        while not.contains(&colour.word) {
            colour = COLOURS[rng.below(COLOURS.len())];
        }
        colour.varied(rng)
    }

    /// The colour of a word; grey for a word that is none of [`COLOURS`].
    pub fn named(word: &str) -> Self {
        COLOURS.iter().copied().find(|c| c.word == word).unwrap_or(COLOURS[9])
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
