//! The JSON of description files, read entry by entry: repeated keys are seen, and errors name the class and the place.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::error::cut;

/// Keys and their sentences, in the order of the file.
pub(crate) type Entries = Vec<(String, Vec<String>)>;

/// The whole file, with whether it is a list of lists: a map by name or index, or a list of lists. Entries are read in order, so that a
/// repeated key is seen.
pub(crate) struct WholeFile;

impl<'de> Visitor<'de> for WholeFile {
    type Value = (Entries, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"class name\": [\"sentence\", …], …} or a list of lists of sentences")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(class) = map.next_key::<String>()? {
            let sentences = map.next_value_seed(Sentences(&class))?;
            entries.push((class, sentences));
        }
        Ok((entries, false))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries: Entries = Vec::new();
        loop {
            let class = entries.len().to_string();
            match list.next_element_seed(Sentences(&class))? {
                Some(sentences) => entries.push((class, sentences)),
                None => return Ok((entries, true)),
            }
        }
    }
}

/// The list of sentences of one class; whatever else stands there is an error that names the class.
struct Sentences<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Sentences<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sentences<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of sentences for class \"{}\"", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut sentences = Vec::new();
        while let Some(entry) = list.next_element::<serde_json::Value>()? {
            match entry {
                serde_json::Value::String(sentence) => sentences.push(sentence),
                other => {
                    let (class, number) = (self.0, sentences.len() + 1);
                    let found = cut(&other);
                    return Err(A::Error::custom(format!("entry {number} of class \"{class}\" is {found}, not a sentence in quotes")));
                }
            }
        }
        Ok(sentences)
    }
}
