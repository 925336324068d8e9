//! Where an object stands: seven settings, each a painted background and a phrase for captions.

use super::canvas::{Canvas, Pen, Rgb, ellipse, lerp, line};
use super::palette::Color;
use crate::rng::Rng;

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Green grass below a blue sky with clouds.
    Meadow,
    /// Blue water with waves.
    Sea,
    /// Yellow sand below a sky with clouds.
    Beach,
    /// Dark ground below stars.
    Night,
    /// A wooden table before a wall in the scene's tint.
    Room,
    /// White ground and falling flakes.
    Snow,
    /// One color, the scene's tint.
    Plain,
}

/// All settings, in the order of their drawing.
pub const SETTINGS: [Setting; 7] =
    [Setting::Meadow, Setting::Sea, Setting::Beach, Setting::Night, Setting::Room, Setting::Snow, Setting::Plain];

impl Setting {
    /// Phrases that end a caption: "a red car *on the grass*". For [`Setting::Plain`], `{}` is the background's color.
    pub fn phrases(self) -> &'static [&'static str] {
        match self {
            Self::Meadow => &["on the grass", "in a green meadow", "under a blue sky"],
            Self::Sea => &["by the sea", "on the water", "in front of blue water"],
            Self::Beach => &["on the beach", "on yellow sand"],
            Self::Night => &["at night", "in the dark", "under the stars of the night"],
            Self::Room => &["on a table", "in a room", "on a wooden table"],
            Self::Snow => &["in the snow", "on a winter day"],
            Self::Plain => &["on a plain {} background", "in front of a {} wall"],
        }
    }

    /// Paints the whole canvas. `tint` colors [`Setting::Plain`] and the wall of [`Setting::Room`].
    pub(super) fn paint(self, canvas: &mut Canvas, horizon: f32, tint: Color, rng: &mut Rng) {
        let day: (Rgb, Rgb) = ([0.49, 0.74, 0.93], [0.86, 0.94, 0.98]);
        let pale = lerp(tint.rgb, [0.96, 0.95, 0.93], 0.45);
        let (sky, ground): ((Rgb, Rgb), (Rgb, Rgb)) = match self {
            Self::Meadow => (day, ([0.55, 0.77, 0.39], [0.38, 0.62, 0.29])),
            Self::Sea => (day, ([0.30, 0.62, 0.82], [0.12, 0.38, 0.64])),
            Self::Beach => (([0.55, 0.81, 0.92], [0.96, 0.93, 0.84]), ([0.95, 0.87, 0.65], [0.86, 0.74, 0.50])),
            Self::Night => (([0.07, 0.09, 0.24], [0.22, 0.22, 0.44]), ([0.13, 0.20, 0.24], [0.07, 0.11, 0.15])),
            Self::Room => ((pale, lerp(pale, [0.9; 3], 0.2)), ([0.72, 0.52, 0.34], [0.58, 0.40, 0.26])),
            Self::Snow => (([0.66, 0.76, 0.87], [0.86, 0.90, 0.95]), ([0.98, 0.98, 1.0], [0.84, 0.89, 0.96])),
            Self::Plain => ((lerp(pale, [1.0; 3], 0.15), pale), (pale, lerp(pale, [0.3; 3], 0.12))),
        };
        let (wave, phase) = (if self == Self::Meadow || self == Self::Snow { 0.035 } else { 0.0 }, rng.range(0.0, 6.0));
        let edge = 1.0 / canvas.side as f32;
        canvas.paint(|x, y, _| {
            let line = horizon + wave * (x * 4.0 + phase).sin();
            let above = lerp(sky.0, sky.1, (y / line).min(1.0));
            let below = lerp(ground.0, ground.1, ((y - line) / (1.0 - line)).clamp(0.0, 1.0));
            lerp(above, below, ((y - line) / edge + 0.5).clamp(0.0, 1.0))
        });
        self.decorate(canvas, horizon, rng);
    }

    /// Small things that make the setting: clouds, waves, stars as dots, snow flakes, grain of the table.
    fn decorate(self, canvas: &mut Canvas, horizon: f32, rng: &mut Rng) {
        let mut pen = Pen { canvas, center: (0.5, 0.5), scale: 0.5, angle: 0.0, mirrored: false, outline: 0.0 };
        // Canvas coordinates [0, 1] to the pen's [-1, 1].
        let mut spot = |low: f32, high: f32| (rng.range(-1.0, 1.0), rng.range(2.0 * low - 1.0, 2.0 * high - 1.0));
        match self {
            Self::Meadow | Self::Beach => {
                for _ in 0..2 {
                    let (x, y) = spot(0.05, horizon * 0.6);
                    pen.flat([1.0; 3], 0.8, ellipse((x, y), 0.22, 0.06));
                    pen.flat([1.0; 3], 0.8, ellipse((x + 0.06, y - 0.05), 0.11, 0.07));
                }
            }
            Self::Sea => {
                for _ in 0..5 {
                    let (x, y) = spot(horizon + 0.04, 1.0);
                    pen.flat([0.75, 0.9, 0.97], 0.6, line((x - 0.12, y), (x + 0.12, y), 0.012));
                }
            }
            Self::Night => {
                for _ in 0..14 {
                    let at = spot(0.0, horizon);
                    pen.flat([1.0, 0.98, 0.85], 0.9, ellipse(at, 0.018, 0.018));
                }
            }
            Self::Snow => {
                for _ in 0..16 {
                    let at = spot(0.0, 1.0);
                    pen.flat([1.0; 3], 0.9, ellipse(at, 0.025, 0.025));
                }
            }
            Self::Room => {
                for _ in 0..3 {
                    let (x, y) = spot(horizon + 0.06, 1.0);
                    pen.flat([0.45, 0.30, 0.19], 0.35, line((x - 0.4, y), (x + 0.4, y), 0.008));
                }
            }
            Self::Plain => {}
        }
    }
}
