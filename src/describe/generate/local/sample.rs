//! The next token from logits: the most probable, or drawn with temperature and top-p.

use crate::rng::Rng;

/// Tokens this much less probable than the most probable one are rarely among those drawn from.
const LIKELY: f64 = 1e-3;

/// argmax_i z_i; the first of equals.
pub(super) fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// i ~ softmax(z / T), restricted to the smallest set of most probable tokens whose probability reaches p (nucleus
/// sampling, Holtzman et al. 2020). T = 0 is [`greedy`].
pub(super) fn draw(logits: &[f32], temperature: f64, top_p: f64, rng: &mut Rng) -> u32 {
    if temperature <= 0.0 || logits.is_empty() {
        return greedy(logits);
    }
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(i, z)| (i as u32, (f64::from(z - most) / temperature).exp())).collect();
    if top_p < 1.0 {
        let enough = top_p * weights.iter().map(|(_, weight)| weight).sum::<f64>();
        // equal weights keep the order of their ids: the same seed gives the same text
        let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        // the set is mostly small and a vocabulary large: sort what is likely to hold it first
        let mut likely: Vec<(u32, f64)> = weights.iter().copied().filter(|(_, weight)| *weight > LIKELY).collect();
        if likely.iter().map(|(_, weight)| weight).sum::<f64>() > enough {
            weights = std::mem::take(&mut likely);
        }
        weights.sort_unstable_by(order);
        let mut sum = 0.0;
        let mut inside = 0;
        while inside < weights.len() && sum < enough {
            sum += weights[inside].1;
            inside += 1;
        }
        weights.truncate(inside.max(1));
    }
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut left = f64::from(rng.uniform()) * total;
    for (i, weight) in &weights {
        left -= weight;
        if left < 0.0 {
            return *i;
        }
    }
    greedy(logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_temperature_and_top_p() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.2].iter().map(|p| p.ln()).collect();
        let count = |temperature, top_p| {
            let mut rng = Rng::new(1);
            let mut counts = [0usize; 3];
            (0..20_000).for_each(|_| counts[draw(&logits, temperature, top_p, &mut rng) as usize] += 1);
            counts.map(|n| n as f64 / 20_000.0)
        };
        let near = |got: [f64; 3], wanted: [f64; 3]| got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.015);
        assert!(near(count(1.0, 1.0), [0.5, 0.3, 0.2]));
        assert!(near(count(1.0, 0.6), [0.625, 0.375, 0.0]));
        assert!(near(count(1.0, 0.4), [1.0, 0.0, 0.0]));
        assert!(near(count(0.5, 1.0), [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]));
        assert_eq!(count(0.0, 1.0), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_short_way_to_the_most_probable_tokens_draws_the_same() {
        let mut rng = Rng::new(5);
        let logits: Vec<f32> = (0..5000).map(|_| rng.range(-12.0, 6.0)).collect();
        let slow = |top_p: f64, rng: &mut Rng| {
            let mut by: Vec<(u32, f64)> = logits.iter().enumerate().map(|(i, z)| (i as u32, f64::from(z - 6.0).exp())).collect();
            by.sort_by(|a, b| b.1.total_cmp(&a.1));
            let enough = top_p * by.iter().map(|(_, weight)| weight).sum::<f64>();
            let mut sum = 0.0;
            let before = by.iter().map(|(_, weight)| {
                sum += weight;
                sum - weight
            });
            let inside = before.take_while(|before| *before < enough).count();
            let total: f64 = by[..inside].iter().map(|(_, weight)| weight).sum();
            let mut left = f64::from(rng.uniform()) * total;
            let mut drawn = |weight: f64| {
                left -= weight;
                left < 0.0
            };
            by[..inside].iter().find(|(_, weight)| drawn(*weight)).map_or(by[0].0, |(i, _)| *i)
        };
        for top_p in [0.3, 0.9, 0.99, 0.9999] {
            let (mut one, mut two) = (Rng::new(3), Rng::new(3));
            let drawn: Vec<u32> = (0..200).map(|_| draw(&logits, 1.0, top_p, &mut one)).collect();
            assert_eq!(drawn, (0..200).map(|_| slow(top_p, &mut two)).collect::<Vec<_>>(), "{top_p}");
        }
    }

    #[test]
    fn broken_logits_do_not_panic() {
        let mut rng = Rng::new(1);
        for logits in [vec![f32::NAN; 3], vec![f32::NEG_INFINITY; 2], vec![f32::INFINITY, 0.0], Vec::new()] {
            assert!((draw(&logits, 1.0, 0.9, &mut rng) as usize) < 3);
        }
    }
}
