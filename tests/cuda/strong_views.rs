//! Strong views that the GPU makes: the CPU's levels, step by step and all together.

use candle_core::Device;
use lafter::augment::{
    AugmentStep, Drawn, JitterStep, More, RandAugment, Region, Resample, RgbImage, StrongAugment, StrongParams, TorchvisionPolicy, ops,
};
use lafter::classify::{Head, TextClassifier};
use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes};
use lafter::progress::silent;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Run};

/// Noise on a slope: all levels, and none of them in a place that one might guess.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let noise = x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)).wrapping_mul(747_796_405) >> 9;
        image::Rgb([noise as u8, ((noise >> 8) as u8 / 2).wrapping_add(x as u8), (3 * x + 5 * y) as u8])
    })
}

/// Nothing but a crop of the whole picture.
fn plain((width, height): (u32, u32)) -> StrongParams {
    StrongParams { crop: Region::whole((width, height)), flip: false, jitter: Vec::new(), gray: false, blur: None, more: Drawn::default() }
}

/// The views of a batch on both devices, twice on the GPU.
fn same(device: &Device, strong: &StrongAugment, views: &[(RgbImage, StrongParams)]) {
    let (images, params): (Vec<_>, Vec<_>) = views.iter().cloned().unzip();
    let made = || strong.batch_on_gpu(&images, &params, device).unwrap().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let (ours, again) = (made(), made());
    assert_eq!(ours, again);
    for ((ours, image), params) in ours.iter().zip(&images).zip(&params) {
        let cpu = ops::normalize(&strong.apply_with(image, params), strong.mean, strong.std, strong.rescale);
        let differ = ours.iter().zip(&cpu).filter(|(ours, cpu)| ours.to_bits() != cpu.to_bits()).count();
        assert_eq!((differ, ours.len()), (0, cpu.len()), "{:?} of {params:?}", image.dimensions());
    }
}

#[test]
fn crops_are_resized_as_on_the_cpu() {
    let (device, _turn) = super::gpu();
    for side in [23, 1, 40] {
        for resample in [Resample::Bilinear, Resample::Bicubic, Resample::Lanczos] {
            let strong = StrongAugment { resample, ..StrongAugment::none(side) };
            let whole = [(23, 23), (61, 47), (47, 61), (13, 190), (190, 13), (7, 5), (1, 1), (40, 90), (0, 4)];
            let mut views: Vec<_> = whole.into_iter().map(|(w, h)| (picture(w, h), plain((w, h)))).collect();
            for (left, top, width, height) in [(11, 5, 31, 29), (0, 0, 23, 23), (40, 30, 1, 17), (60, 46, 1, 1), (9, 9, 0, 3)] {
                let crop = Region { left, top, width, height };
                views.push((picture(61, 47), StrongParams { crop, flip: width % 2 == 1, ..plain((61, 47)) }));
            }
            same(&device, &strong, &views);
        }
    }
}

#[test]
fn each_step_is_that_of_the_cpu() {
    let (device, _turn) = super::gpu();
    for side in [23u32, 2, 1] {
        let strong = StrongAugment::none(side as usize);
        let start = || plain((side, side));
        let mut params = vec![StrongParams { gray: true, ..start() }, StrongParams { flip: true, ..start() }];
        let jitters = [0.0, 0.37, 1.0, 1.9, 40.0]
            .into_iter()
            .flat_map(|factor| [JitterStep::Brightness(factor), JitterStep::Contrast(factor), JitterStep::Saturation(factor)]);
        let turns = [-0.5, -0.1, 0.0, 0.003, 0.004, 0.1, 0.33, 0.5].map(JitterStep::Hue);
        params.extend(jitters.chain(turns).map(|step| StrongParams { jitter: vec![step], ..start() }));
        params.extend([0.1, 0.7, 1.3, 2.0, 2.5, 6.0, 40.0].map(|sigma| StrongParams { blur: Some(sigma), ..start() }));
        let last = side - 1;
        let tilted = |perspective| StrongParams { more: Drawn { perspective, ..Drawn::default() }, ..start() };
        for corners in [[(0, 0), (last, 0), (last, last), (0, last)], [(1, 0), (last, 1), (last, last), (0, last / 2)], [(0, 0); 4]] {
            params.push(tilted(Some(corners.map(|(x, y): (u32, u32)| (x.min(last), y.min(last))))));
        }
        same(&device, &strong, &params.into_iter().map(|params| (picture(side, side), params)).collect::<Vec<_>>());

        let torchvision = RandAugment::Torchvision(TorchvisionPolicy::default());
        for policy in [RandAugment::default(), torchvision] {
            let strong = StrongAugment { more: More { rand_augment: Some(policy), ..More::default() }, ..strong.clone() };
            let drawn = |step| StrongParams { more: Drawn { rand_augment: vec![step], ..Drawn::default() }, ..start() };
            let steps = [
                AugmentStep::AutoContrast,
                AugmentStep::Equalize,
                AugmentStep::Invert,
                AugmentStep::Rotate(17.3),
                AugmentStep::Rotate(-360.0),
                AugmentStep::Posterize(3),
                AugmentStep::Solarize(101.5),
                AugmentStep::SolarizeAdd(77),
                AugmentStep::Color(0.4),
                AugmentStep::Contrast(1.7),
                AugmentStep::Brightness(1.4),
                AugmentStep::Sharpness(1.9),
                AugmentStep::Sharpness(0.1),
                AugmentStep::ShearX(0.28),
                AugmentStep::ShearY(-0.31),
                AugmentStep::TranslateX(5.7),
                AugmentStep::TranslateY(-6.2),
            ];
            let mut views: Vec<_> = steps.into_iter().map(|step| (picture(side, side), drawn(step))).collect();
            for flat in [AugmentStep::AutoContrast, AugmentStep::Equalize] {
                let image = RgbImage::from_fn(side, side, |x, _| image::Rgb([9, 200 + (x % 7) as u8, (x % 2) as u8]));
                views.push((image, drawn(flat)));
            }
            same(&device, &strong, &views);
        }
    }
}

#[test]
fn all_that_is_drawn_together_is_that_of_the_cpu() {
    let (device, _turn) = super::gpu();
    let torchvision = Some(RandAugment::Torchvision(TorchvisionPolicy::default()));
    let all = More { rand_augment: torchvision, second_jitter_p: 0.5, perspective_p: 1.0, ..More::default() };
    for strong in [
        StrongAugment::simsiam(37),
        StrongAugment::paper(24),
        StrongAugment::dpa(37),
        StrongAugment::nola(29),
        StrongAugment { more: all, ..StrongAugment::simsiam(19) },
    ] {
        let root = Rng::new(77);
        let views: Vec<_> = (0..12u32)
            .map(|i| {
                let image = picture(20 + 31 * (i % 5), 90 - 7 * i);
                let params = strong.sample(image.width(), image.height(), &mut root.fork(u64::from(i)));
                (image, params)
            })
            .collect();
        same(&device, &strong, &views);
    }
    let strong = StrongAugment::simsiam(8);
    assert!(strong.batch_on_gpu(&[], &[], &device).unwrap_err().is_usage());
    assert!(strong.batch_on_gpu(&[picture(9, 9)], &[], &device).unwrap_err().is_usage());
}

/// Seed and bits are the same wherever the views are made.
#[test]
fn a_run_does_not_depend_on_where_its_views_are_made() {
    let (device, _turn) = super::gpu();
    let pictures = Dataset::new(Scenes::new(Domain::Target, 9, 3));
    let losses = |views_on_gpu| {
        let clip = super::demo(&device);
        let config = FinetuneConfig { prompts: 2, epochs: 2, batch_size: 4, views_on_gpu, ..FinetuneConfig::official() };
        let head = Head::linear(clip.config().projection, pictures.classes().len(), &mut Rng::new(5), clip.device()).unwrap();
        let tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7)).unwrap();
        let history = Run::new(tuner).fit(&pictures, silent).unwrap();
        history.iter().map(|epoch| (epoch.steps, epoch.loss.to_bits(), epoch.agreement.to_bits())).collect::<Vec<_>>()
    };
    assert_eq!(losses(true), losses(false));
}
