//! Queries: what a language model is asked about a class.

use std::fmt;
use std::path::Path;

use super::article::article_by_sound;
use super::subject::Subject;
use crate::describe::literal::read_sentences;
use crate::describe::spoken;
use crate::error::{Error, Result};
use crate::files::read_text;

const PLACE: &str = "{}";
const ARTICLE: &str = "{article}";

/// One query with `{}` where the class name goes; `{article}` becomes "a" or "an", as the word after it needs.
///
/// ```
/// use lafter::describe::generate::Query;
/// let query = Query::new("Describe what {article} {} looks like.")?;
/// assert_eq!(query.fill("hourglass"), "Describe what an hourglass looks like.");
/// assert_eq!(query.fill("the sea"), "Describe what the sea looks like.");
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Query(String);

impl Query {
    /// Checks that the text has a place for the class name.
    ///
    /// # Errors
    /// [`Error::Text`] if there is no `{}` in it.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.contains(PLACE) {
            return Ok(Self(text));
        }
        Err(Error::Text(format!(
            "query \"{text}\" has no place for the class name: write {{}} there, and {{article}} before it for a or an"
        )))
    }

    /// The query for one class; its name stands there as [`spoken`], with blanks instead of underscores.
    pub fn fill(&self, name: &str) -> String {
        let name = spoken(name);
        let mut filled = String::new();
        for (i, part) in self.0.split(ARTICLE).enumerate() {
            let part = part.replace(PLACE, &name);
            let article = if i > 0 { article_by_sound(&part) } else { "" };
            filled.push_str(article);
            filled.push_str(if i > 0 && article.is_empty() { part.trim_start() } else { &part });
        }
        filled
    }

    /// The text, with its places.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({:?})", self.0)
    }
}

/// A list of queries, never empty; every class is asked each of them.
///
/// ```
/// use lafter::describe::generate::{Subject, Queries};
/// assert_eq!(Queries::lafter(Subject::General).fill("owl")[0], "Describe what an owl looks like.");
/// assert_eq!(Queries::lafter(Subject::Satellite).fill("river")[1], "How can you identify a river from a satellite?");
/// assert_eq!(Queries::lafter(Subject::Action).fill("juggling")[2], "What does the action of juggling look like?");
/// assert_eq!(Queries::cupl_full(Subject::Texture).len(), 6);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queries(Vec<Query>);

impl Queries {
    /// A checked list.
    ///
    /// # Errors
    /// [`Error::Text`] if it is empty, or a query has no place for the class name.
    pub fn new(texts: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let queries = texts.into_iter().map(Query::new).collect::<Result<Vec<_>>>()?;
        if queries.is_empty() {
            return Err(Error::Text("the list of queries is empty: give at least one, such as \"Describe {article} {}.\"".into()));
        }
        Ok(Self(queries))
    }

    /// LaFTer's five (METHOD: what it looks like, how to identify it, what does it look like, an image from the internet
    /// of it, a caption of an image of it), in the words of the domain.
    pub fn lafter(domain: Subject) -> Self {
        let (thing, seen) = (domain.thing(), domain.seen());
        Self(
            [
                format!("Describe what {thing} looks like{seen}."),
                format!("How can you identify {thing}{seen}?"),
                format!("What does {thing} look like{seen}?"),
                format!("Describe an image from the internet of {thing}{seen}."),
                format!("A caption of an image of {thing}{seen}:"),
            ]
            .map(Query)
            .to_vec(),
        )
    }

    /// CuPL's three general queries ("base"), the same for every data set except for the words of the domain.
    pub fn cupl_base(domain: Subject) -> Self {
        let (thing, seen) = (domain.thing(), domain.seen());
        Self(
            [
                format!("Describe what {thing} looks like{seen}:"),
                format!("Describe {thing}{seen}:"),
                format!("What are the identifying characteristics of {thing}{seen}?"),
            ]
            .map(Query)
            .to_vec(),
        )
    }

    /// CuPL's hand-written queries of the data set ("full"); for [`Subject::General`] these are LaFTer's five.
    pub fn cupl_full(domain: Subject) -> Self {
        Self(domain.cupl().iter().map(|text| Query(text.to_string())).collect())
    }

    /// One query per line, or a JSON list, read as [`Templates::parse`](crate::describe::Templates::parse) does. `origin` stands in
    /// errors.
    ///
    /// # Errors
    /// [`Error::Text`] naming the line without `{}`, or saying that there is no query.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let queries = read_sentences(text, origin, Query::new)?;
        if queries.is_empty() {
            return Err(Error::Text(format!("{origin}: holds no queries: write one per line, such as \"Describe {{article}} {{}}.\"")));
        }
        Ok(Self(queries))
    }

    /// [`Queries::parse`] on a file.
    ///
    /// # Errors
    /// As [`Queries::parse`], and [`Error::Io`] if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read_text(path)?, &path.display().to_string())
    }

    /// Every query, filled in for one class.
    pub fn fill(&self, name: &str) -> Vec<String> {
        self.0.iter().map(|query| query.fill(name)).collect()
    }

    /// The queries, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Query> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_article_fits_the_word_behind_it() {
        let query = Query::new("{article} bad photo of {article} {}, not {article} unicorn").unwrap();
        assert_eq!(query.fill("ice_cream"), "a bad photo of an ice cream, not a unicorn");
        // Braces of a class name are its own.
        assert_eq!(Query::new("{article} {}").unwrap().fill("x{}{article}"), "a x{}{article}");
    }

    #[test]
    fn every_built_in_query_has_its_place_and_fills_whole() {
        for name in Subject::names() {
            let domain: Subject = name.parse().unwrap();
            assert_eq!(domain.to_string(), name);
            for queries in [Queries::lafter(domain), Queries::cupl_base(domain), Queries::cupl_full(domain)] {
                for query in queries.iter() {
                    let filled = query.fill("owl");
                    assert!(filled.contains("owl") && !filled.contains(['{', '}']) && !filled.contains("  "), "{filled}");
                }
            }
        }
        assert!("moon".parse::<Subject>().unwrap_err().to_string().contains("satellite"));
    }

    #[test]
    fn errors_name_the_line() {
        let error = Queries::parse("Describe {}.\n\nDescribe it.", "q.txt").unwrap_err().to_string();
        assert!(error.starts_with("q.txt, line 3") && error.lines().count() == 1, "{error}");
        assert_eq!(Queries::parse("[\"Describe {}.\", 'What is {}?']", "q").unwrap().fill("it"), ["Describe it.", "What is it?"]);
        assert!(Queries::parse("# x\n", "q.txt").unwrap_err().to_string().contains("no queries"));
    }
}
