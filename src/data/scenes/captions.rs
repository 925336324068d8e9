//! Captions that tell the truth about a scene: from the bare class name to whole sentences about its parts.

use super::scene::Scene;
use super::setting::Setting;
use crate::rng::Rng;

/// Openings around a noun phrase, which replaces `{}`.
const FRAMES: [&str; 20] = [
    "{}",
    "a photo of {}",
    "a picture of {}",
    "a drawing of {}",
    "an image of {}",
    "this is {}",
    "here is {}",
    "you can see {}",
    "there is {}",
    "a simple picture that shows {}",
    "it looks like {}",
    "the image shows {}",
    "a colorful drawing of {}",
    "one can see {} here",
    "look at {}",
    "in the picture there is {}",
    "sometimes it is {}",
    "the object is {}",
    "this can be {}",
    "a good view of {}",
];

/// A caption of the scene: a frame around a noun phrase, a sentence about its parts, or both.
///
/// ```
/// use lafter::data::scenes::{Scene, captions};
/// use lafter::rng::Rng;
/// let mut rng = Rng::new(1);
/// let scene = Scene::sample(2, &mut rng);
/// assert!(!captions::caption(&scene, &mut rng).is_empty());
/// ```
pub fn caption(scene: &Scene, rng: &mut Rng) -> String {
    let caption = match rng.below(10) {
        // The class name alone in a frame: "a photo of a car".
        0 | 1 => fill(pick(&FRAMES, rng), &with_article(scene.name())),
        2..=4 => fill(pick(&FRAMES, rng), &noun_phrase(scene, rng)),
        // Parts without the class name, so that the words for parts carry meaning of their own.
        5 | 6 => fill(pick(&FRAMES, rng), &parts(scene, rng)),
        7 => format!("a {} is {}", scene.name(), parts(scene, rng)),
        8 => format!("{}, {}", noun_phrase(scene, rng), parts(scene, rng)),
        _ => format!("the {} has {}", subject(scene, rng), detail(scene, rng)),
    };
    if rng.chance(0.3) { format!("{caption}.") } else { caption }
}

fn pick<'a>(items: &[&'a str], rng: &mut Rng) -> &'a str {
    items[rng.below(items.len())]
}

fn fill(frame: &str, phrase: &str) -> String {
    frame.replacen("{}", phrase, 1)
}

/// "a" or "an" by the first letter.
pub fn with_article(phrase: &str) -> String {
    let vowel = phrase.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {phrase}", if vowel { "an" } else { "a" })
}

/// "red car", "small car".
fn subject(scene: &Scene, rng: &mut Rng) -> String {
    match (rng.below(4), size(scene)) {
        (0, Some(size)) => format!("{size} {}", scene.name()),
        (1, _) => scene.name().to_string(),
        _ => format!("{} {}", scene.look.color.word, scene.name()),
    }
}

fn size(scene: &Scene) -> Option<&'static str> {
    match scene.scale {
        s if s < 0.37 => Some("small"),
        s if s > 0.43 => Some("large"),
        _ => None,
    }
}

fn noun_phrase(scene: &Scene, rng: &mut Rng) -> String {
    let mut phrase = with_article(&subject(scene, rng));
    if rng.chance(0.35) {
        phrase = format!("{phrase} with {}", detail(scene, rng));
    }
    if rng.chance(0.25) {
        phrase = format!("{phrase} {}", place(scene, rng));
    }
    phrase
}

/// The setting, or the side of the picture.
fn place(scene: &Scene, rng: &mut Rng) -> String {
    if rng.chance(0.2) {
        match scene.center.0 {
            x if x < 0.46 => return "on the left".into(),
            x if x > 0.54 => return "on the right".into(),
            _ => return "in the middle".into(),
        }
    }
    let phrase = pick(scene.setting.phrases(), rng);
    if scene.setting == Setting::Plain { fill(phrase, scene.tint.word) } else { phrase.to_string() }
}

/// What the thing is made of, in other words than its name: "a round shape on a thin string".
fn parts(scene: &Scene, rng: &mut Rng) -> String {
    let color = scene.look.color.word;
    let forms: &[&str] = match scene.name() {
        "balloon" => {
            &["a round {c} shape on a long string", "a light round thing that floats in the air", "a {c} oval with a string below"]
        }
        "boat" => &[
            "a {c} hull with sails above",
            "a thing with a mast and a sail that floats on water",
            "a triangular sail over a wide {c} hull",
        ],
        "car" => &[
            "a {c} vehicle with two round wheels",
            "a long low body on two dark wheels",
            "a machine with wheels and glass windows for the road",
        ],
        "cup" => {
            &["a {c} vessel with a handle for a hot drink", "a round open top with a handle on the side", "a {c} container full of coffee"]
        }
        "fish" => &[
            "a {c} animal with fins and a tail",
            "an oval body with an eye and a pointed tail",
            "an animal that swims in water with {c} scales",
        ],
        "flower" => {
            &["{c} petals around a round center", "a plant with a green stem and {c} petals", "a blossom on a thin stem with two leaves"]
        }
        "house" => &[
            "a building with a pointed roof and a door",
            "{c} walls under a triangular roof",
            "a building with windows and a chimney on the roof",
        ],
        "key" => &[
            "a {c} metal tool that opens a lock",
            "a ring at the end of a long bar with small teeth",
            "a thin {c} bar with teeth and a hole",
        ],
        "mushroom" => {
            &["a {c} cap with dots on a thick stem", "a wide round cap over a short pale stem", "a fungus with a spotted {c} top"]
        }
        "star" => &["a {c} shape with five points", "a shape with five sharp points around its center", "five {c} points that shine"],
        "tree" => &["a brown trunk below a {c} crown", "a tall plant with a trunk and leaves", "{c} leaves over a wooden trunk"],
        _ => &["a {c} dome on a long thin handle", "a wide canopy that keeps off the rain", "a curved {c} roof with a hooked handle below"],
    };
    pick(forms, rng).replace("{c}", color)
}

/// One visible detail, with its count or color.
fn detail(scene: &Scene, rng: &mut Rng) -> String {
    let (second, variant) = (scene.look.second.word, scene.look.variant);
    let number = |least: usize| ["two", "three", "four", "five", "six", "seven"][(least + scene.look.more - 2).min(5)];
    match scene.name() {
        "balloon" if variant => format!("a {second} stripe"),
        "balloon" => pick(&["a long string", "a thin wavy string", "a shiny spot"], rng).to_string(),
        "boat" if variant => format!("two {second} sails"),
        "boat" => pick(&["one sail and a red flag", "a tall mast", "a small flag on the mast"], rng).to_string(),
        "car" => pick(&["two dark wheels", "glass windows", "two round wheels and a lamp"], rng).to_string(),
        "cup" if variant => pick(&["hot steam above", "a handle and hot coffee"], rng).to_string(),
        "cup" => pick(&["a round handle", "dark coffee inside"], rng).to_string(),
        "fish" if variant => format!("three {second} stripes"),
        "fish" => format!("{second} fins and a {second} tail"),
        "flower" => format!("{} petals and a {second} center", number(5)),
        "house" if variant => format!("a {second} roof and one window"),
        "house" => format!("a {second} roof and two windows"),
        "key" if variant => "a round ring at the end".into(),
        "key" => "a square ring at the end".into(),
        "mushroom" => format!("{} {second} dots", number(3)),
        "star" => pick(&["five points", "five sharp points"], rng).to_string(),
        "tree" if variant => pick(&["a pointed crown", "a pointed top like a pine"], rng).to_string(),
        "tree" if scene.look.more > 0 => format!("a round crown and {} {second} fruits", ["two", "four"][scene.look.more - 1]),
        "tree" => "a round crown".into(),
        _ if variant => format!("a {second} stripe and a hooked handle"),
        _ => pick(&["a hooked handle", "a curved handle"], rng).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_true() {
        let mut rng = Rng::new(1);
        for class in 0..super::super::CLASSES.len() {
            for _ in 0..40 {
                let scene = Scene::sample(class, &mut rng);
                let text = caption(&scene, &mut rng);
                assert!(!text.contains(['{', '}']), "{text}");
                let others = super::super::CLASSES.iter().filter(|name| **name != scene.name());
                for other in others {
                    assert!(
                        !text.split([' ', ',', '.']).any(|word| word == *other),
                        "{text:?} names a {other}, the scene shows a {}",
                        scene.name()
                    );
                }
                assert!(scene.scale >= 0.37 || !text.contains("a large"), "{text}");
            }
        }
    }

    #[test]
    fn articles_follow_the_first_letter() {
        assert_eq!((with_article("umbrella"), with_article("key")), ("an umbrella".into(), "a key".into()));
    }
}
