//! Templates: sentences with a place for the class name.

use std::fmt;
use std::path::Path;

use crate::describe::literal::read_sentences;
use crate::describe::spoken::spoken;
use crate::error::{Error, Result};
use crate::files::read_text;

/// The place of the class name.
const PLACE: &str = "{}";

/// One sentence with `{}` where the class name goes.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use lafter::describe::Template;
/// assert_eq!(Template::new("a satellite photo of {}.")?.fill("a river"), "a satellite photo of a river.");
/// assert!(Template::new("a satellite photo").is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Template(String);

impl Template {
    /// Checks that the text has a place for the class name.
    ///
    /// # Errors
    /// [`Error::Text`] if there is no `{}` in it.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.contains(PLACE) {
            return Ok(Self(text));
        }
        Err(Error::Text(format!("template \"{text}\" has no place for the class name: write {{}} there")))
    }

    /// The sentence for one class; its name stands there as [`spoken`], with blanks instead of underscores.
    pub fn fill(&self, name: &str) -> String {
        self.0.replace(PLACE, &spoken(name))
    }

    /// The text, with its `{}`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.0)
    }
}

/// A list of templates, never empty.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use lafter::describe::Templates;
/// assert_eq!(Templates::single().fill("river"), ["a photo of a river"]);
/// assert_eq!(Templates::clip_ensemble().len(), 7);
/// let own = Templates::parse("# satellite pictures\na satellite photo of {}.\n\na {} from above.\n", "the example")?;
/// assert_eq!(own.len(), 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(Vec<Template>);

impl Templates {
    /// A checked list.
    ///
    /// # Errors
    /// [`Error::Text`] if it is empty, or a template has no place for the class name.
    pub fn new(texts: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let templates = texts.into_iter().map(Template::new).collect::<Result<Vec<_>>>()?;
        if templates.is_empty() {
            return Err(Error::Text("the list of templates is empty: give at least one, such as \"a photo of a {}\"".to_string()));
        }
        Ok(Self(templates))
    }

    /// The zero-shot baseline of LaFTer: the one template "a photo of a {}", without a full stop.
    pub fn single() -> Self {
        Self(vec![Template("a photo of a {}".to_string())])
    }

    /// The seven of CLIP's eighty ImageNet templates that a forward selection kept for ViT-B/32 (OpenAI's
    /// prompt-engineering notebook, which gives them as the best subset).
    pub fn clip_ensemble() -> Self {
        let texts = [
            "itap of a {}.",
            "a bad photo of the {}.",
            "a origami {}.",
            "a photo of the large {}.",
            "a {} in a video game.",
            "art of the {}.",
            "a photo of the small {}.",
        ];
        Self(texts.iter().map(|text| Template(text.to_string())).collect())
    }

    /// One template per line; blank lines and lines that begin with `#` are left out. The marks of a script go: quotes, commas,
    /// brackets, `lambda c: f'a photo of a {c}.'`. A JSON list is read, too. `origin` stands in errors.
    ///
    /// # Errors
    /// [`Error::Text`] naming the line without `{}`, or saying that there is no template.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let templates = read_sentences(text, origin, Template::new)?;
        if templates.is_empty() {
            return Err(Error::Text(format!("{origin}: holds no templates: write one per line, such as \"a photo of a {{}}\"")));
        }
        Ok(Self(templates))
    }

    /// [`Templates::parse`] on a file.
    ///
    /// # Errors
    /// As [`Templates::parse`], and [`Error::Io`] if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read_text(path)?, &path.display().to_string())
    }

    /// One sentence per template.
    pub fn fill(&self, name: &str) -> Vec<String> {
        self.0.iter().map(|template| template.fill(name)).collect()
    }

    /// The templates, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Template> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: an empty list is refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self::single()
    }
}

/// "an" before a first letter a, e, i, o or u, else "a": the rule LaFTer's queries use, by letter and not by sound.
///
/// ```
/// use lafter::describe::article;
/// assert_eq!((article("airplane"), article("ship"), article("hour")), ("an", "a", "a"));
/// ```
pub fn article(name: &str) -> &'static str {
    match name.trim_start().chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('a' | 'e' | 'i' | 'o' | 'u') => "an",
        _ => "a",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_and_braces_in_names_stay() {
        assert_eq!(Template::new("a {} like a {}").unwrap().fill("λ{}"), "a λ{} like a λ{}");
    }

    #[test]
    fn errors_name_the_line() {
        let error = Templates::parse("a {}\n# x\na photo of a {c}", "t.txt").unwrap_err().to_string();
        assert!(error.starts_with("t.txt, line 3") && error.contains("{}") && error.lines().count() == 1, "{error}");
        assert!(Templates::parse("# nothing\n\n", "t.txt").unwrap_err().to_string().contains("no templates"));
        assert!(Templates::new(Vec::<String>::new()).is_err());
    }

    #[test]
    fn names_are_read_as_words() {
        assert_eq!(Templates::single().fill("001.Black_footed_Albatross"), ["a photo of a Black footed Albatross"]);
    }

    #[test]
    fn templates_copied_from_a_script() {
        let clean = Templates::parse("a bad photo of a {}.\nit's a {}.", "t").unwrap();
        for text in [
            "    'a bad photo of a {}.',\n    \"it's a {}.\",\n",
            "templates = [\n'a bad photo of a {}.',\n'it\\'s a {}.'\n]\n",
            "imagenet = (\n    lambda c: f'a bad photo of a {c}.',\n    lambda c: f\"it's a {c}.\",\n)",
            "[\"a bad photo of a {}.\", \"it's a {}.\"]",
            "“a bad photo of a {}.”\n\n# mine\n“it's a {}.”",
            "1. a bad photo of a {}.\n2. it's a {}.",
            "- a bad photo of a {}.\n- it's a {}.",
        ] {
            assert_eq!(Templates::parse(text, "t").unwrap(), clean, "{text}");
        }
        assert_eq!(Templates::parse("{}\n", "t").unwrap().fill("x"), ["x"]);
        assert_eq!(Templates::parse("'tis a {}", "t").unwrap().fill("x"), ["'tis a x"]);
        for text in ["[1]", r#"{"templates": ["a photo of a {}."]}"#] {
            let error = Templates::parse(text, "t.txt").unwrap_err().to_string();
            assert!(error.starts_with("t.txt: ") && error.contains("list of sentences"), "{error}");
        }
    }

    #[test]
    fn articles_by_the_first_letter() {
        assert_eq!(["Owl", " ibex", "Émeu", "", "7up"].map(article), ["an", "an", "a", "a", "a"]);
    }
}
