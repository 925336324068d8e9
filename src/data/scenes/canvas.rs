//! A small rasteriser: shapes as signed distances, filled with anti-aliased edges on a float RGB canvas.

use image::RgbImage;

/// Linear blend from `a` (t = 0) to `b` (t = 1).
pub(super) fn lerp(a: Rgb, b: Rgb, t: f32) -> Rgb {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

/// A color; each channel in [0, 1].
pub(super) type Rgb = [f32; 3];
/// A point in an object's own coordinates: x to the right, y down, the object within about [-1, 1]².
pub(super) type Point = (f32, f32);

/// A square picture in f32.
#[derive(Clone)]
pub(super) struct Canvas {
    pub side: usize,
    pub pixels: Vec<Rgb>, // [side · side], row by row
}

impl Canvas {
    pub fn new(side: usize) -> Self {
        Self { side, pixels: vec![[1.0; 3]; side * side] }
    }

    /// Sets every pixel from its center in [0, 1]².
    pub fn paint(&mut self, color: impl Fn(f32, f32, Rgb) -> Rgb) {
        let side = self.side;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = ((i % side) as f32 + 0.5, (i / side) as f32 + 0.5);
            *pixel = color(x / side as f32, y / side as f32, *pixel);
        }
    }

    /// The picture in 8 bits.
    pub fn to_rgb8(&self) -> RgbImage {
        RgbImage::from_fn(self.side as u32, self.side as u32, |x, y| {
            let pixel = self.pixels[y as usize * self.side + x as usize];
            image::Rgb(pixel.map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8))
        })
    }
}

/// Draws in an object's coordinates: scaled, turned, mirrored and moved onto the canvas.
pub(super) struct Pen<'a> {
    pub canvas: &'a mut Canvas,
    /// Center of the object, in [0, 1]² of the canvas.
    pub center: Point,
    /// Half the object's extent, as a share of the canvas.
    pub scale: f32,
    /// Turn in radians, clockwise.
    pub angle: f32,
    pub mirrored: bool,
    /// Width of the dark outline in object units; 0 for none.
    pub outline: f32,
}

impl Pen<'_> {
    /// Fills the points whose signed distance is negative, lit from the upper left, with the pen's outline.
    pub fn fill(&mut self, color: Rgb, distance: impl Fn(Point) -> f32) {
        let outline = self.outline;
        self.blend(1.0, &distance, |p, d| {
            let light = 1.0 - 0.11 * (p.0 * 0.5 + p.1);
            if d > -outline * 0.5 { color.map(|v| v * 0.45) } else { color.map(|v| v * light) }
        });
    }

    /// Fills without light or outline: details, glass, eyes, shadows.
    pub fn flat(&mut self, color: Rgb, alpha: f32, distance: impl Fn(Point) -> f32) {
        self.blend(alpha, &distance, |_, _| color);
    }

    fn blend(&mut self, alpha: f32, distance: &impl Fn(Point) -> f32, color: impl Fn(Point, f32) -> Rgb) {
        let side = self.canvas.side as f32;
        let (sin, cos) = self.angle.sin_cos();
        let unit = self.scale * side; // pixels in one object unit
        let reach = 1.5 * unit;
        let (cx, cy) = (self.center.0 * side, self.center.1 * side);
        let range = |c: f32| ((c - reach).max(0.0) as usize, (c + reach).clamp(0.0, side) as usize);
        let ((x0, x1), (y0, y1)) = (range(cx), range(cy));
        for y in y0..y1 {
            for x in x0..x1 {
                let (dx, dy) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
                let (px, py) = ((dx * cos + dy * sin) / unit, (dy * cos - dx * sin) / unit);
                let p = (if self.mirrored { -px } else { px }, py);
                let d = distance(p);
                // Coverage of the pixel: the distance in pixels, clipped to half a pixel either side of the edge.
                let cover = (0.5 - d * unit).clamp(0.0, 1.0) * alpha;
                if cover > 0.0 {
                    let pixel = &mut self.canvas.pixels[y * self.canvas.side + x];
                    *pixel = lerp(*pixel, color(p, d), cover);
                }
            }
        }
    }
}

/// Distance to a circle.
pub(super) fn circle(center: Point, radius: f32) -> impl Fn(Point) -> f32 {
    move |p| (p.0 - center.0).hypot(p.1 - center.1) - radius
}

/// Distance to a ring of half-width `half`.
pub(super) fn ring(center: Point, radius: f32, half: f32) -> impl Fn(Point) -> f32 {
    move |p| ((p.0 - center.0).hypot(p.1 - center.1) - radius).abs() - half
}

/// Distance to an ellipse with axes along x and y (first order: exact on the edge).
pub(super) fn ellipse(center: Point, rx: f32, ry: f32) -> impl Fn(Point) -> f32 {
    move |p| {
        let (x, y) = (p.0 - center.0, p.1 - center.1);
        let (k1, k2) = ((x / rx).hypot(y / ry), (x / (rx * rx)).hypot(y / (ry * ry)));
        if k2 < 1e-6 { -rx.min(ry) } else { k1 * (k1 - 1.0) / k2 }
    }
}

/// Distance to a box with rounded corners; `half` is its half-size.
pub(super) fn block(center: Point, half: Point, round: f32) -> impl Fn(Point) -> f32 {
    move |p| {
        let (x, y) = ((p.0 - center.0).abs() - half.0 + round, (p.1 - center.1).abs() - half.1 + round);
        x.max(0.0).hypot(y.max(0.0)) + x.max(y).min(0.0) - round
    }
}

/// Distance to a thick line with round ends.
pub(super) fn line(a: Point, b: Point, half: f32) -> impl Fn(Point) -> f32 {
    move |p| segment(p, a, b).sqrt() - half
}

/// Distance to a polygon's edge, negative inside (even–odd rule).
pub(super) fn polygon(points: Vec<Point>) -> impl Fn(Point) -> f32 {
    move |p| {
        let (mut best, mut inside) = (f32::MAX, false);
        for (i, &a) in points.iter().enumerate() {
            let b = points[(i + 1) % points.len()];
            best = best.min(segment(p, a, b));
            if (a.1 > p.1) != (b.1 > p.1) && p.0 < (b.0 - a.0) * (p.1 - a.1) / (b.1 - a.1) + a.0 {
                inside = !inside;
            }
        }
        if inside { -best.sqrt() } else { best.sqrt() }
    }
}

/// The part of `shape` that lies above y = `limit` (y runs down).
pub(super) fn above(limit: f32, shape: impl Fn(Point) -> f32) -> impl Fn(Point) -> f32 {
    move |p| shape(p).max(p.1 - limit)
}

/// The points in both shapes.
pub(super) fn both(a: impl Fn(Point) -> f32, b: impl Fn(Point) -> f32) -> impl Fn(Point) -> f32 {
    move |p| a(p).max(b(p))
}

/// A shape turned about `pivot` by `angle` radians, clockwise.
pub(super) fn turned(pivot: Point, angle: f32, shape: impl Fn(Point) -> f32) -> impl Fn(Point) -> f32 {
    let (sin, cos) = angle.sin_cos();
    move |p| {
        let (x, y) = (p.0 - pivot.0, p.1 - pivot.1);
        shape((pivot.0 + x * cos + y * sin, pivot.1 + y * cos - x * sin))
    }
}

/// Squared distance from `p` to the segment `a`–`b`.
fn segment(p: Point, a: Point, b: Point) -> f32 {
    let (ex, ey) = (b.0 - a.0, b.1 - a.1);
    let (wx, wy) = (p.0 - a.0, p.1 - a.1);
    let t = ((wx * ex + wy * ey) / (ex * ex + ey * ey).max(1e-9)).clamp(0.0, 1.0);
    let (dx, dy) = (wx - ex * t, wy - ey * t);
    dx * dx + dy * dy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_signed_and_exact_on_the_axes() {
        assert!((circle((0.0, 0.0), 0.5)((1.0, 0.0)) - 0.5).abs() < 1e-6);
        assert!((block((0.0, 0.0), (0.5, 0.2), 0.1)((0.0, 1.0)) - 0.8).abs() < 1e-6);
        assert!((line((0.0, 0.0), (1.0, 0.0), 0.1)((0.5, 0.4)) - 0.3).abs() < 1e-6);
        let square = polygon(vec![(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]);
        assert!((square((0.0, 0.0)) + 1.0).abs() < 1e-6 && (square((2.0, 0.0)) - 1.0).abs() < 1e-6);
        assert!(ellipse((0.0, 0.0), 0.5, 0.2)((0.5, 0.0)).abs() < 1e-6);
        assert!(ellipse((0.0, 0.0), 0.5, 0.2)((0.0, 0.0)) < 0.0);
    }

    #[test]
    fn a_disc_covers_its_area() {
        let mut canvas = Canvas::new(100);
        let mut pen = Pen { canvas: &mut canvas, center: (0.5, 0.5), scale: 0.4, angle: 0.3, mirrored: true, outline: 0.0 };
        pen.flat([0.0; 3], 1.0, circle((0.0, 0.0), 1.0));
        let dark: f32 = canvas.pixels.iter().map(|p| 1.0 - p[0]).sum();
        assert!((dark - std::f32::consts::PI * 1600.0).abs() < 5.0, "{dark}");
    }
}
