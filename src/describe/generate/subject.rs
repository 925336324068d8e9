//! What the pictures of a data set show, and how one speaks of its classes.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The kind of data set: it decides how queries speak of a class ("a river from a satellite", "the action of juggling").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// Things: ImageNet, CIFAR, Caltech.
    #[default]
    General,
    /// Land seen from above: EuroSAT, RESISC45.
    Satellite,
    /// Textures: DTD.
    Texture,
    /// Actions: UCF101, Kinetics.
    Action,
    /// Places: SUN397.
    Scene,
    /// Flowers: Flowers102.
    Flower,
    /// Dishes: Food101.
    Food,
    /// Breeds of pets: OxfordPets.
    Pet,
    /// Species of birds: CUB-200.
    Bird,
    /// Models of cars: StanfordCars.
    Car,
    /// Variants of aircraft: FGVC-Aircraft.
    Aircraft,
    /// Black and white sketches: ImageNet-Sketch.
    Sketch,
    /// Drawings, toys, graffiti: ImageNet-R.
    Art,
}

/// One row per domain: its name, how LaFTer's queries name a class and from where it is seen, what the pictures are, and
/// CuPL's hand-written queries for it (Pratt et al. 2023; those of satellite pictures, actions and renditions as later
/// work on the same data sets wrote them).
struct Row {
    domain: Subject,
    name: &'static str,
    thing: &'static str,
    seen: &'static str,
    about: &'static str,
    cupl: &'static [&'static str],
}

const ROWS: [Row; 13] = [
    Row {
        domain: Subject::General,
        name: "general",
        thing: "{article} {}",
        seen: "",
        about: "photographs of everyday objects and animals from the internet",
        cupl: &[
            "Describe what {article} {} looks like",
            "How can you identify {article} {}?",
            "What does {article} {} look like?",
            "Describe an image from the internet of {article} {}",
            "A caption of an image of {article} {}:",
        ],
    },
    Row {
        domain: Subject::Satellite,
        name: "satellite",
        thing: "{article} {}",
        seen: " from a satellite",
        about: "satellite pictures of land, named by how it is used or covered",
        cupl: &[
            "Describe an aerial satellite view of {article} {}",
            "How does a satellite photo of {article} {} look like",
            "Visually describe a centered satellite view of {article} {}",
        ],
    },
    Row {
        domain: Subject::Texture,
        name: "texture",
        thing: "{article} {} texture",
        seen: "",
        about: "close pictures of surfaces, named by their texture",
        cupl: &[
            "What does {article} {} material look like?",
            "What does {article} {} surface look like?",
            "What does {article} {} texture look like?",
            "What does {article} {} object look like?",
            "What does {article} {} thing look like?",
            "What does {article} {} pattern look like?",
        ],
    },
    Row {
        domain: Subject::Action,
        name: "action",
        thing: "the action of {}",
        seen: "",
        about: "still frames of videos that show people at an action",
        cupl: &["What does a person doing {} look like", "Describe the process of {}", "How does a person {}"],
    },
    Row {
        domain: Subject::Scene,
        name: "scene",
        thing: "{article} {}",
        seen: "",
        about: "photographs of places, indoors and outdoors",
        cupl: &["Describe what {article} {} looks like", "How can you identify {article} {}?", "Describe a photo of {article} {}"],
    },
    Row {
        domain: Subject::Flower,
        name: "flower",
        thing: "{article} {} flower",
        seen: "",
        about: "photographs of flowers, named by species",
        cupl: &[
            "What does {article} {} flower look like",
            "Describe the appearance of {article} {}",
            "A caption of an image of {article} {}",
            "Visually describe {article} {}, a type of flower",
        ],
    },
    Row {
        domain: Subject::Food,
        name: "food",
        thing: "the food {}",
        seen: "",
        about: "photographs of dishes on a table",
        cupl: &["Describe what {} looks like", "Visually describe {}", "How can you tell that the food in this photo is {}?"],
    },
    Row {
        domain: Subject::Pet,
        name: "pet",
        thing: "{article} {} pet",
        seen: "",
        about: "photographs of cats and dogs, named by breed",
        cupl: &["Describe what {article} {} pet looks like", "Visually describe {article} {}, a type of pet"],
    },
    Row {
        domain: Subject::Bird,
        name: "bird",
        thing: "{article} {} bird",
        seen: "",
        about: "photographs of birds, named by species",
        cupl: &[
            "Describe what {article} {}, a species of bird, looks like",
            "What does {article} {} look like",
            "Visually describe {article} {}, a type of bird",
            "A caption of an image of {article} {}, a type of bird",
            "Describe the appearance of {article} {}",
            "What are the prominent features to identify {article} {} bird",
        ],
    },
    Row {
        domain: Subject::Car,
        name: "car",
        thing: "{article} {} car",
        seen: "",
        about: "photographs of cars, named by maker, model and year",
        cupl: &[
            "How can you identify {article} {}",
            "Description of {article} {}, a type of car",
            "A caption of a photo of {article} {}:",
            "What are the primary characteristics of {article} {}?",
            "Description of the exterior of {article} {}",
            "What are the identifying characteristics of {article} {}, a type of car?",
            "Describe an image from the internet of {article} {}",
            "What does {article} {} look like?",
            "Describe what {article} {}, a type of car, looks like",
        ],
    },
    Row {
        domain: Subject::Aircraft,
        name: "aircraft",
        thing: "{article} {} aircraft",
        seen: "",
        about: "photographs of aircraft, named by maker and variant",
        cupl: &["Describe {article} {} aircraft", "What does {article} {} aircraft look like?"],
    },
    Row {
        domain: Subject::Sketch,
        name: "sketch",
        thing: "a black and white sketch of {article} {}",
        seen: "",
        about: "black and white sketches of objects and animals",
        cupl: &[
            "Describe how a black and white sketch of {article} {} looks like",
            "A black and white sketch of {article} {}",
            "Describe a black and white sketch from the internet of {article} {}",
        ],
    },
    Row {
        domain: Subject::Art,
        name: "art",
        thing: "an artwork of {article} {}",
        seen: "",
        about: "drawings, paintings, sculptures, toys and graffiti of objects and animals",
        cupl: &[
            "Describe an art drawing of {article} {}",
            "Describe artwork showing {article} {}",
            "Describe a cartoon {}",
            "Describe an origami of {article} {}",
            "Describe a painting of {article} {}",
            "Describe a sculpture of {article} {}",
            "Describe a toy {}",
            "Describe a graffiti of {article} {}",
        ],
    },
];

impl Subject {
    fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.domain == self).unwrap_or(&ROWS[0])
    }

    /// All domains, by name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }

    /// How LaFTer's queries name a class: "{article} {} texture".
    pub(super) fn thing(self) -> &'static str {
        self.row().thing
    }

    /// From where it is seen: " from a satellite", or nothing.
    pub(super) fn seen(self) -> &'static str {
        self.row().seen
    }

    /// What the pictures are, in half a sentence: the data set's description of meta-queries if the user gives none.
    pub fn about(self) -> &'static str {
        self.row().about
    }

    pub(super) fn cupl(self) -> &'static [&'static str] {
        self.row().cupl
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

impl FromStr for Subject {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let row = ROWS.iter().find(|row| row.name == name);
        let known = || Self::names().collect::<Vec<_>>().join(", ");
        row.map(|row| row.domain).ok_or_else(|| Error::Usage(format!("no domain \"{name}\": choose one of {}", known())))
    }
}
