//! The twelve objects, each drawn from a few shapes in its own coordinates ([-1, 1]², y down).

use super::canvas::{Pen, Point, above, block, both, circle, ellipse, line, polygon, ring, turned};
use super::palette::{Color, GLASS, INK, LEAF, METAL, WHITE, WOOD};

/// The class names, in the order of the labels.
pub const CLASSES: [&str; 12] = ["balloon", "boat", "car", "cup", "fish", "flower", "house", "key", "mushroom", "star", "tree", "umbrella"];

/// What varies from one picture of a class to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The main color: the hull, the petals, the walls.
    pub color: Color,
    /// The second color: the sail, the roof, the dots.
    pub second: Color,
    /// One of two ways the object is built (a round or a pointed tree, a cup with or without steam).
    pub variant: bool,
    /// How many petals, dots, windows: 0, 1 or 2 more than the least.
    pub more: usize,
}

/// Draws class `class` (an index into [`CLASSES`]) with the pen.
pub(super) fn draw(class: usize, pen: &mut Pen, look: &Look) {
    match class {
        0 => balloon(pen, look),
        1 => boat(pen, look),
        2 => car(pen, look),
        3 => cup(pen, look),
        4 => fish(pen, look),
        5 => flower(pen, look),
        6 => house(pen, look),
        7 => key(pen, look),
        8 => mushroom(pen, look),
        9 => star(pen, look),
        10 => tree(pen, look),
        _ => umbrella(pen, look),
    }
}

fn balloon(pen: &mut Pen, look: &Look) {
    let mut last = (0.0, 0.38);
    for i in 1..=8 {
        let t = i as f32 / 8.0;
        let next = (0.09 * (t * 7.0).sin(), 0.38 + 0.62 * t);
        pen.flat(INK, 1.0, line(last, next, 0.025));
        last = next;
    }
    pen.fill(look.second.rgb, polygon(vec![(0.0, 0.24), (0.12, 0.42), (-0.12, 0.42)]));
    pen.fill(look.color.rgb, ellipse((0.0, -0.34), 0.56, 0.64));
    if look.variant {
        pen.flat(look.second.rgb, 0.9, both(ellipse((0.0, -0.34), 0.54, 0.62), block((0.0, -0.3), (1.0, 0.09), 0.0)));
    }
    pen.flat(WHITE, 0.55, turned((-0.22, -0.6), 0.5, ellipse((-0.22, -0.6), 0.09, 0.17)));
}

fn boat(pen: &mut Pen, look: &Look) {
    pen.fill(WOOD, line((0.0, 0.35), (0.0, -0.9), 0.04));
    pen.fill(look.second.rgb, polygon(vec![(0.09, -0.85), (0.09, 0.22), (0.75, 0.22)]));
    if look.variant {
        pen.fill(look.second.rgb, polygon(vec![(-0.09, -0.6), (-0.09, 0.22), (-0.6, 0.22)]));
    } else {
        pen.fill([0.87, 0.2, 0.2], polygon(vec![(-0.04, -0.92), (-0.04, -0.68), (-0.34, -0.8)]));
    }
    pen.fill(look.color.rgb, polygon(vec![(-0.95, 0.34), (0.95, 0.34), (0.62, 0.8), (-0.62, 0.8)]));
    pen.flat(WHITE, 0.85, block((0.0, 0.44), (0.8, 0.035), 0.0));
}

fn car(pen: &mut Pen, look: &Look) {
    let cabin = if look.variant {
        vec![(-0.62, 0.02), (-0.42, -0.46), (0.32, -0.46), (0.62, 0.02)]
    } else {
        vec![(-0.9, 0.02), (-0.86, -0.46), (0.3, -0.46), (0.58, 0.02)]
    };
    pen.fill(look.color.rgb, polygon(cabin));
    pen.flat(GLASS, 1.0, polygon(vec![(-0.45, -0.04), (-0.33, -0.35), (-0.08, -0.35), (-0.08, -0.04)]));
    pen.flat(GLASS, 1.0, polygon(vec![(0.05, -0.04), (0.05, -0.35), (0.27, -0.35), (0.45, -0.04)]));
    pen.fill(look.color.rgb, block((0.0, 0.2), (0.97, 0.26), 0.14));
    pen.flat([0.99, 0.93, 0.6], 1.0, circle((0.88, 0.14), 0.07));
    for x in [-0.52, 0.52] {
        pen.flat(INK, 1.0, circle((x, 0.46), 0.25));
        pen.flat(METAL, 1.0, circle((x, 0.46), 0.11));
    }
}

fn cup(pen: &mut Pen, look: &Look) {
    pen.fill(look.color.rgb, ring((0.5, 0.08), 0.27, 0.075));
    pen.fill(look.color.rgb, polygon(vec![(-0.62, -0.42), (0.52, -0.42), (0.36, 0.72), (-0.46, 0.72)]));
    if look.more > 0 {
        let side = |y: f32| 0.12 * (y + 0.42);
        pen.flat(look.second.rgb, 0.95, move |p: Point| ((p.1 - 0.2).abs() - 0.1).max((p.0 + 0.05).abs() - 0.55 + side(p.1)));
    }
    pen.fill(look.color.rgb, ellipse((-0.05, -0.42), 0.58, 0.14));
    pen.flat([0.33, 0.2, 0.13], 1.0, ellipse((-0.05, -0.41), 0.47, 0.09));
    if look.variant {
        for x in [-0.25, 0.12] {
            let mut last = (x, -0.58);
            for i in 1..=6 {
                let next = (x + 0.06 * (i as f32 * 1.4).sin(), -0.58 - 0.065 * i as f32);
                pen.flat(WHITE, 0.7, line(last, next, 0.035));
                last = next;
            }
        }
    }
}

fn fish(pen: &mut Pen, look: &Look) {
    pen.fill(look.second.rgb, polygon(vec![(-0.4, 0.0), (-0.98, -0.46), (-0.82, 0.0), (-0.98, 0.46)]));
    pen.fill(look.second.rgb, polygon(vec![(-0.2, -0.3), (0.0, -0.66), (0.4, -0.3)]));
    pen.fill(look.second.rgb, polygon(vec![(0.0, 0.3), (-0.1, 0.58), (0.25, 0.33)]));
    pen.fill(look.color.rgb, ellipse((0.15, 0.0), 0.75, 0.42));
    if look.variant {
        for x in [-0.25, 0.02, 0.29] {
            pen.flat(look.second.rgb, 0.9, both(ellipse((0.15, 0.0), 0.72, 0.39), block((x, 0.0), (0.055, 1.0), 0.0)));
        }
    }
    pen.flat(WHITE, 1.0, circle((0.6, -0.1), 0.11));
    pen.flat(INK, 1.0, circle((0.62, -0.1), 0.055));
}

fn flower(pen: &mut Pen, look: &Look) {
    pen.fill(LEAF, line((0.0, 0.0), (0.0, 0.98), 0.05));
    for (x, turn) in [(0.24, -0.5), (-0.24, 0.5)] {
        pen.fill(LEAF, turned((x, 0.62), turn, ellipse((x, 0.62), 0.24, 0.1)));
    }
    let (petals, center) = (5 + look.more, (0.0, -0.36));
    for i in 0..petals {
        let angle = std::f32::consts::TAU * i as f32 / petals as f32;
        let (rx, ry) = if look.variant { (0.3, 0.15) } else { (0.26, 0.21) };
        pen.fill(look.color.rgb, turned(center, angle, ellipse((0.34, -0.36), rx, ry)));
    }
    pen.fill(look.second.rgb, circle(center, 0.2));
}

fn house(pen: &mut Pen, look: &Look) {
    pen.fill([0.6, 0.3, 0.25], block((0.42, -0.55), (0.1, 0.3), 0.0));
    pen.fill(look.color.rgb, block((0.0, 0.36), (0.68, 0.5), 0.0));
    pen.fill(look.second.rgb, polygon(vec![(-0.92, -0.1), (0.0, -0.85), (0.92, -0.1)]));
    pen.fill(WOOD, block((if look.variant { -0.3 } else { 0.0 }, 0.55), (0.15, 0.3), 0.0));
    let windows: &[f32] = if look.variant { &[0.3] } else { &[-0.42, 0.42] };
    for &x in windows {
        let size = if look.variant { 0.2 } else { 0.15 };
        pen.fill(GLASS, block((x, 0.3), (size, size), 0.0));
        pen.flat(INK, 0.7, block((x, 0.3), (0.02, size), 0.0));
        pen.flat(INK, 0.7, block((x, 0.3), (size, 0.02), 0.0));
    }
}

fn key(pen: &mut Pen, look: &Look) {
    pen.fill(look.color.rgb, block((0.25, 0.0), (0.7, 0.085), 0.02));
    for (x, length) in [(0.84, 0.22), (0.6, 0.17), (0.38, 0.13)].into_iter().take(2 + look.more.min(1)) {
        pen.fill(look.color.rgb, block((x, 0.05 + length / 2.0), (0.075, length), 0.0));
    }
    if look.variant {
        pen.fill(look.color.rgb, ring((-0.58, 0.0), 0.28, 0.1));
    } else {
        pen.fill(look.color.rgb, move |p: Point| (block((-0.58, 0.0), (0.27, 0.27), 0.08)(p)).abs() - 0.1);
    }
}

fn mushroom(pen: &mut Pen, look: &Look) {
    pen.fill([0.95, 0.9, 0.8], block((0.0, 0.45), (0.23, 0.46), 0.14));
    let cap = || above(0.12, ellipse((0.0, 0.12), 0.86, 0.92));
    pen.fill(look.color.rgb, cap());
    pen.fill([0.9, 0.83, 0.72], ellipse((0.0, 0.12), 0.84, 0.1));
    let dots = [(-0.38, -0.18, 0.13), (0.08, -0.48, 0.14), (0.44, -0.14, 0.13), (-0.02, -0.12, 0.1), (-0.6, 0.0, 0.07)];
    for &(x, y, r) in dots.iter().take(3 + look.more) {
        pen.flat(look.second.rgb, 1.0, both(cap(), circle((x, y), r)));
    }
}

fn star(pen: &mut Pen, look: &Look) {
    let inner = if look.variant { 0.38 } else { 0.46 };
    let corner = |i: usize, r: f32| {
        let angle = std::f32::consts::PI * i as f32 / 5.0;
        (r * angle.sin(), -r * angle.cos())
    };
    let outer: Vec<Point> = (0..10).map(|i| corner(i, if i % 2 == 0 { 0.95 } else { inner })).collect();
    pen.fill(look.color.rgb, polygon(outer));
    if look.more == 2 {
        let small: Vec<Point> = (0..10).map(|i| corner(i, if i % 2 == 0 { 0.55 } else { inner * 0.58 })).collect();
        pen.flat(look.second.rgb, 0.9, polygon(small));
    }
}

fn tree(pen: &mut Pen, look: &Look) {
    pen.fill(WOOD, block((0.0, 0.6), (0.12, 0.4), 0.03));
    if look.variant {
        for (top, bottom, half) in [(-0.15, 0.55, 0.7), (-0.55, 0.15, 0.58), (-0.95, -0.25, 0.44)] {
            pen.fill(look.color.rgb, polygon(vec![(0.0, top), (half, bottom), (-half, bottom)]));
        }
        return;
    }
    for (x, y, r) in [(-0.36, -0.05, 0.42), (0.36, -0.05, 0.42), (0.0, -0.45, 0.5)] {
        pen.fill(look.color.rgb, circle((x, y), r));
    }
    pen.flat(look.color.rgb, 1.0, circle((0.0, -0.15), 0.42));
    for &(x, y) in [(-0.35, -0.05), (0.12, -0.5), (0.38, 0.0), (-0.12, -0.2)].iter().take(2 * look.more) {
        pen.flat(look.second.rgb, 1.0, circle((x, y), 0.085));
    }
}

fn umbrella(pen: &mut Pen, look: &Look) {
    pen.fill(WOOD, line((0.0, -0.8), (0.0, 0.72), 0.035));
    pen.fill(WOOD, move |p: Point| ring((-0.15, 0.72), 0.15, 0.04)(p).max(0.72 - p.1));
    let canopy = || {
        let dome = above(0.06, ellipse((0.0, 0.06), 0.95, 0.82));
        // Three bites out of the lower edge leave its scallops.
        let bites = |p: Point| [-0.63, 0.0, 0.63].into_iter().map(|x| ellipse((x, 0.1), 0.31, 0.13)(p)).fold(f32::MAX, f32::min);
        move |p: Point| dome(p).max(-bites(p))
    };
    pen.fill(look.color.rgb, canopy());
    if look.variant {
        pen.flat(look.second.rgb, 0.95, both(canopy(), ellipse((0.0, 0.06), 0.33, 0.8)));
    }
    for x in [-0.33, 0.33] {
        let rib = move |p: Point| if p.0 * x < 0.0 { 1.0 } else { ellipse((0.0, 0.06), 0.33, 0.8)(p).abs() - 0.015 };
        pen.flat(INK, 0.45, both(canopy(), rib));
    }
}
