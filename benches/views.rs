//! Both views of a photograph, from the bytes of a JPEG of 500 × 375 to two tensors of 224 × 224, on one thread:
//! `cargo bench --bench views`.
//!
//! | row | what |
//! |---|---|
//! | two_views | decode, weak view, strong view as in the released code |
//! | two_views_decode, two_views_weak, two_views_strong | its parts, from the decoded picture |
//! | two_views_recipe | what is left of the strong view where a GPU makes it (`tune.views_on_gpu`) |
//!
//! `LAFTER_BENCH_PHOTOS` names a folder of JPEGs to take; without it, 16 pictures of photographic statistics are encoded first.

mod common;

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use lafter::augment::Preprocess;
use lafter::data::decode::decode;
use lafter::rng::Rng;
use lafter::tune::FinetuneConfig;

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

fn main() -> lafter::Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(9)?;
    let jpegs = match std::env::var_os("LAFTER_BENCH_PHOTOS") {
        Some(folder) => read(folder.as_ref())?,
        None => (0..16).map(synthetic).collect::<lafter::Result<_>>()?,
    };
    let pictures = jpegs.iter().map(|jpeg| decode(jpeg, "photograph")).collect::<lafter::Result<Vec<_>>>()?;
    let weak = Preprocess::clip(224);
    let strong = FinetuneConfig::official().strong_view(&weak);
    let rng = Rng::new(3);
    let n = jpegs.len();
    bench.row("two_views", n, || {
        for (i, jpeg) in jpegs.iter().enumerate() {
            let picture = decode(jpeg, "photograph")?;
            std::hint::black_box((weak.apply(&picture), strong.apply(&picture, &mut rng.fork(i as u64))));
        }
        Ok(())
    })?;
    bench.row("two_views_decode", n, || jpegs.iter().try_for_each(|jpeg| decode(jpeg, "photograph").map(drop)))?;
    bench.row("two_views_weak", n, || {
        pictures.iter().for_each(|picture| drop(std::hint::black_box(weak.apply(picture))));
        Ok(())
    })?;
    bench.row("two_views_strong", n, || {
        let view = |(i, picture): (usize, &RgbImage)| drop(std::hint::black_box(strong.apply(picture, &mut rng.fork(i as u64))));
        pictures.iter().enumerate().for_each(view);
        Ok(())
    })?;
    bench.row("two_views_recipe", n, || {
        for (i, picture) in pictures.iter().enumerate() {
            let params = strong.sample(picture.width(), picture.height(), &mut rng.fork(i as u64));
            std::hint::black_box(strong.recipe(picture, &params));
        }
        Ok(())
    })
}

fn read(folder: &std::path::Path) -> lafter::Result<Vec<Vec<u8>>> {
    let io = |e| lafter::Error::io(folder, e);
    let mut files: Vec<_> = std::fs::read_dir(folder).map_err(io)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).map_err(|e| lafter::Error::io(file, e))).collect()
}

/// Waves of every length, the longer the stronger, as in photographs; quality 95.
fn synthetic(seed: u64) -> lafter::Result<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let waves: Vec<[f32; 6]> = (0..60).map(|_| std::array::from_fn(|_| rng.uniform())).collect();
    let level = |x: u32, y: u32, channel: usize| {
        let wave = |[fx, fy, phase, ..]: &[f32; 6]| {
            let length = 2.0 + 300.0 * fx * fx;
            let angle = std::f32::consts::TAU * fy;
            0.4 * length.sqrt() * ((x as f32 * angle.cos() + y as f32 * angle.sin()) / length + 6.0 * phase).sin()
        };
        128.0 + waves.iter().map(|w| wave(w) * (0.5 + w[3 + channel])).sum::<f32>()
    };
    let picture = RgbImage::from_fn(500, 375, |x, y| image::Rgb(std::array::from_fn(|channel| level(x, y, channel) as u8)));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&picture).map_err(|e| lafter::Error::Image(e.to_string()))?;
    Ok(bytes)
}
