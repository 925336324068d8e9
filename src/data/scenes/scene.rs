//! One scene: everything that is random about a picture, drawn first, so that pictures and captions tell the same truth.

use image::RgbImage;

use super::canvas::{Canvas, Pen, ellipse};
use super::objects::{CLASSES, Look, draw};
use super::palette::Color;
use super::setting::{SETTINGS, Setting};
use super::shift::Shift;
use crate::rng::Rng;

/// The parameters of a picture: what is shown, how it looks, where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Index into [`CLASSES`].
    pub class: usize,
    /// Colors and build of the object.
    pub look: Look,
    /// Where the object stands.
    pub setting: Setting,
    /// Color of a plain background or of a room's wall.
    pub tint: Color,
    /// Height of the horizon from the top, as a share of the picture.
    pub horizon: f32,
    /// Center of the object in [0, 1]², y down.
    pub center: (f32, f32),
    /// Half the object's extent as a share of the picture.
    pub scale: f32,
    /// Turn in radians, clockwise.
    pub angle: f32,
    /// Whether the object is mirrored left to right.
    pub mirrored: bool,
    /// Width of the outline in object units, 0 for none.
    pub outline: f32,
    /// Stream of what remains: places of clouds, of clutter, noise.
    pub details: Rng,
}

impl Scene {
    /// Draws a scene of class `class` (taken modulo the number of classes).
    pub fn sample(class: usize, rng: &mut Rng) -> Self {
        let class = class % CLASSES.len();
        let setting = SETTINGS[rng.below(SETTINGS.len())];
        let color = main_color(class, rng);
        let second = second_color(class, color.word, rng);
        let scale = rng.range(0.34, 0.46);
        // The object may touch the border, but not leave by more than a little.
        let room = (0.53 - scale).clamp(0.05, 0.12);
        Self {
            class,
            look: Look { color, second, variant: rng.chance(0.5), more: rng.below(3) },
            setting,
            tint: Color::sample(&[color.word, "brown"], rng),
            horizon: rng.range(0.5, 0.74),
            center: (0.5 + rng.range(-room, room), 0.5 + rng.range(-room, room)),
            scale,
            // A key lies slanted; the others stand nearly upright.
            angle: if CLASSES[class] == "key" { rng.range(-0.6, 0.6) } else { rng.range(-0.2, 0.2) },
            mirrored: rng.chance(0.5),
            outline: if rng.chance(0.5) { rng.range(0.05, 0.09) } else { 0.0 },
            details: rng.fork(rng.clone().next_u64()),
        }
    }

    /// The class name.
    pub fn name(&self) -> &'static str {
        CLASSES[self.class]
    }

    /// The clean picture, `side` × `side` pixels.
    pub fn render(&self, side: usize) -> RgbImage {
        let mut canvas = self.backdrop(side);
        self.place(&mut canvas);
        canvas.to_rgb8()
    }

    /// The picture as the target domain shows it.
    pub fn render_shifted(&self, side: usize, shift: &Shift) -> RgbImage {
        let mut rng = self.details.fork(2);
        let mut canvas = self.backdrop(side);
        shift.clutter_behind(&mut canvas, &mut rng);
        self.place(&mut canvas);
        shift.clutter_before(&mut canvas, &mut rng);
        shift.apply(&mut canvas, &mut rng);
        canvas.to_rgb8()
    }

    fn backdrop(&self, side: usize) -> Canvas {
        let mut canvas = Canvas::new(side);
        self.setting.paint(&mut canvas, self.horizon, self.tint, &mut self.details.fork(1));
        canvas
    }

    fn place(&self, canvas: &mut Canvas) {
        let (center, scale) = (self.center, self.scale);
        // A soft shadow on the ground ties the object to the picture.
        let mut shadow = Pen { canvas, center: (center.0, center.1 + scale), scale, angle: 0.0, mirrored: false, outline: 0.0 };
        for (i, alpha) in [0.10, 0.10, 0.12].into_iter().enumerate() {
            let grow = 1.0 - 0.22 * i as f32;
            shadow.flat([0.1, 0.1, 0.15], alpha, ellipse((0.0, 0.0), 0.75 * grow, 0.16 * grow));
        }
        let mut pen = Pen { canvas, center, scale, angle: self.angle, mirrored: self.mirrored, outline: self.outline };
        draw(self.class, &mut pen, &self.look);
    }
}

/// Often the color one expects (green trees, yellow stars), else any: shape has to tell the class.
fn main_color(class: usize, rng: &mut Rng) -> Color {
    let usual: &[&str] = match CLASSES[class] {
        "boat" => &["brown", "blue", "white", "red"],
        "fish" => &["orange", "blue", "yellow"],
        "flower" => &["pink", "red", "yellow", "purple", "white"],
        "house" => &["white", "yellow", "brown", "orange"],
        "key" => &["yellow", "gray", "brown"],
        "mushroom" => &["red", "brown", "orange"],
        "star" => &["yellow", "orange", "white"],
        "tree" => &["green"],
        _ => &[],
    };
    if !usual.is_empty() && rng.chance(0.6) { Color::named(usual[rng.below(usual.len())]).varied(rng) } else { Color::sample(&[], rng) }
}

fn second_color(class: usize, main: &str, rng: &mut Rng) -> Color {
    let usual: &[&str] = match CLASSES[class] {
        "boat" | "mushroom" => &["white"],
        "flower" => &["yellow", "brown", "orange"],
        "house" => &["red", "brown", "gray"],
        "tree" => &["red", "pink"],
        _ => &[],
    };
    let pick = if usual.is_empty() || rng.chance(0.3) { None } else { Some(usual[rng.below(usual.len())]) };
    match pick {
        Some(word) if word != main => Color::named(word).varied(rng),
        _ => Color::sample(&[main], rng),
    }
}
