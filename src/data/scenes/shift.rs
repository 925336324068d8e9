//! The target domain's shift: clutter, a color cast, low contrast, a woven texture, blur and noise over a scene.

use serde::{Deserialize, Serialize};

use super::canvas::{Canvas, Pen, Rgb, block, circle, lerp, line, polygon};
use super::palette::Color;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// How strongly each part of the shift acts. All strengths at zero (and contrast at one) leave the picture clean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Most random shapes behind the object, and half as many small ones before it.
    pub clutter: usize,
    /// The light's color: channels are multiplied by it.
    pub cast: [f32; 3],
    /// How much the cast varies from picture to picture: each channel by a factor of 1 ± this.
    pub cast_spread: f32,
    /// Range of the remaining contrast, 1 = unchanged.
    pub contrast: (f32, f32),
    /// Gray value that low contrast tends to.
    pub haze: f32,
    /// Amplitude of the woven texture.
    pub texture: f32,
    /// Standard deviation of the noise.
    pub noise: f32,
    /// Passes of the 3 × 3 blur (at 64 pixels; more on larger pictures).
    pub blur: usize,
}

impl Shift {
    /// The demo's target domain: scenes at a fair, each under a lamp of its own color, with confetti behind and before.
    ///
    /// The demo CLIP never saw colored light, and the strong view's color jitter varies just that: so tuning can learn
    /// what the tower lacks from its own, mostly right, answers.
    pub fn fair() -> Self {
        Self { clutter: 4, cast: [1.0; 3], cast_spread: 0.45, contrast: (1.0, 1.0), haze: 0.43, texture: 0.0, noise: 0.0, blur: 0 }
    }

    /// No shift at all.
    pub fn none() -> Self {
        Self { clutter: 0, cast: [1.0; 3], cast_spread: 0.0, contrast: (1.0, 1.0), haze: 0.5, texture: 0.0, noise: 0.0, blur: 0 }
    }

    /// Refuses dials that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Usage`] for the first that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let Self { clutter, cast, cast_spread, contrast: (low, high), haze, texture, noise, blur } = self;
        let share = |value: &f32| (0.0..=1.0).contains(value);
        let ranges = [
            ("clutter", *clutter <= 1000, "0 to 1000"),
            ("cast", cast.iter().all(|channel| (0.0..=10.0).contains(channel)), "three numbers, 0 to 10"),
            ("cast_spread", share(cast_spread), "0 to 1"),
            ("contrast", 0.0 <= *low && low <= high && *high <= 10.0, "two numbers, 0 to 10, the smaller first"),
            ("haze", share(haze), "0 to 1"),
            ("texture", share(texture), "0 to 1"),
            ("noise", share(noise), "0 to 1"),
            ("blur", *blur <= 100, "0 to 100"),
        ];
        match ranges.into_iter().find(|(_, holds, _)| !holds) {
            Some((dial, _, may)) => Err(Error::Usage(format!("{dial} must be {may}, got {}", serde_json::json!(self)[dial]))),
            None => Ok(()),
        }
    }

    pub(super) fn clutter_behind(&self, canvas: &mut Canvas, rng: &mut Rng) {
        for _ in 0..self.clutter.min(self.clutter / 2 + rng.below(self.clutter / 2 + 1)) {
            let scale = rng.range(0.06, 0.16);
            stray(canvas, scale, rng);
        }
    }

    pub(super) fn clutter_before(&self, canvas: &mut Canvas, rng: &mut Rng) {
        for _ in 0..rng.below(self.clutter / 2 + 1) {
            let scale = rng.range(0.03, 0.07);
            stray(canvas, scale, rng);
        }
    }

    pub(super) fn apply(&self, canvas: &mut Canvas, rng: &mut Rng) {
        for _ in 0..self.blur * (canvas.side / 64).max(1) {
            blur(canvas);
        }
        let contrast = rng.range(self.contrast.0, self.contrast.1);
        let cast: Rgb = self.cast.map(|v| v * rng.range(1.0 - self.cast_spread, 1.0 + self.cast_spread));
        let (turn, phase) = (rng.range(-0.25, 0.25), rng.range(0.0, 6.0));
        let (sin, cos) = turn.sin_cos();
        let (texture, haze) = (self.texture, self.haze);
        canvas.paint(|x, y, pixel| {
            // Threads of a weave, 16 to the picture, in two directions.
            let (u, v) = ((x * cos + y * sin) * 100.0 + phase, (y * cos - x * sin) * 100.0 + phase);
            let thread = texture * 0.5 * (u.sin() + v.sin());
            let mut out = [0.0; 3];
            for c in 0..3 {
                out[c] = (haze + (pixel[c] - 0.5) * contrast + thread) * cast[c];
            }
            out
        });
        if self.noise > 0.0 {
            // Grain of the size of a 64th of the picture, whatever its resolution.
            let (side, cells) = (canvas.side, 64);
            let grain = rng.normals(cells * cells * 3, self.noise);
            for (i, pixel) in canvas.pixels.iter_mut().enumerate() {
                let at = (i / side * cells / side) * cells + i % side * cells / side;
                for c in 0..3 {
                    pixel[c] += grain[at * 3 + c];
                }
            }
        }
    }
}

/// One stray shape of a random kind, color and place.
fn stray(canvas: &mut Canvas, scale: f32, rng: &mut Rng) {
    let color = Color::sample(&[], rng).rgb;
    let center = (rng.uniform(), rng.uniform());
    let mut pen = Pen { canvas, center, scale, angle: rng.range(0.0, 6.3), mirrored: false, outline: 0.0 };
    match rng.below(4) {
        0 => pen.fill(color, circle((0.0, 0.0), 0.8)),
        1 => pen.fill(color, block((0.0, 0.0), (0.9, 0.45), 0.05)),
        2 => pen.fill(color, polygon(vec![(-0.9, 0.7), (0.0, -0.9), (0.9, 0.7)])),
        _ => pen.fill(color, line((-1.0, 0.0), (1.0, 0.0), 0.18)),
    }
}

/// Mean of each pixel's 3 × 3 neighborhood, weighted 1–2–1 each way.
fn blur(canvas: &mut Canvas) {
    let (side, source) = (canvas.side, canvas.pixels.clone());
    let at = |x: usize, y: usize| source[y.min(side - 1) * side + x.min(side - 1)];
    for y in 0..side {
        for x in 0..side {
            let mut sum = [0.0; 3];
            for (dy, wy) in [(0, 1.0), (1, 2.0), (2, 1.0)] {
                for (dx, wx) in [(0, 1.0), (1, 2.0), (2, 1.0)] {
                    let near = at((x + dx).saturating_sub(1), (y + dy).saturating_sub(1));
                    for c in 0..3 {
                        sum[c] += near[c] * wx * wy;
                    }
                }
            }
            canvas.pixels[y * side + x] = lerp([0.0; 3], sum, 1.0 / 16.0);
        }
    }
}
