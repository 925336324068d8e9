//! Meta-queries: the model writes the queries itself, for the data set's domain (MPVR, Mirza et al. 2024).

use super::query::{Queries, Query};
use super::request::{Answer, Finish, Request, Settings};
use crate::error::{Error, Result};

/// Two data sets with queries as they should be: the examples of a few-shot request.
const EXAMPLES: [(&str, [&str; 4]); 2] = [
    (
        "close pictures of surfaces, named by their texture",
        [
            "What does a {} surface look like in a close photograph?",
            "Describe the pattern and the relief of a {} material.",
            "How does light fall on a {} texture?",
            "Which everyday objects have a {} surface, and how does it look on them?",
        ],
    ),
    (
        "photographs of birds, named by species",
        [
            "Describe the plumage and the colors of a {} in the wild.",
            "How can a {} be told from similar birds by its beak and wings?",
            "What does a {} look like in flight?",
            "Describe a photograph of a {} in its usual surroundings.",
        ],
    ),
];

/// The request that asks for `count` queries for a data set: what it shows in half a sentence (`about`), and some of its
/// class names. The model answers with lines that hold `{}`; [`queries_of`] reads them.
///
/// ```
/// use lafter::describe::generate::{Settings, meta_request};
/// let request = meta_request("satellite pictures of land", &["river", "forest"], 10, &Settings::chat());
/// assert!(request.query.contains("satellite pictures of land") && request.query.contains("river, forest"));
/// assert!(request.settings.max_tokens >= 10 * 40);
/// ```
pub fn meta_request<S: AsRef<str>>(about: &str, classes: &[S], count: usize, settings: &Settings) -> Request {
    let mut text = String::from(
        "You write questions that will be put to a language model, so that its answers describe how the classes of an image data set look. \
         Each question holds {} exactly once, in the place of the class name, asks for visible features, and fits what the pictures of the data set show. \
         Write one question a line, without numbers and without any other text.\n\n",
    );
    for (data, queries) in EXAMPLES {
        text += &format!("Data set: {data}\nQuestions:\n{}\n\n", queries.join("\n"));
    }
    let names: Vec<&str> = classes.iter().take(20).map(AsRef::as_ref).collect();
    text += &format!("Data set: {about}; some of its classes: {}\nNumber of questions: {count}\nQuestions:\n", names.join(", "));
    let settings =
        Settings { max_tokens: settings.max_tokens.max(count.saturating_mul(40).saturating_add(40)), stop: Vec::new(), ..settings.clone() };
    Request::new(text, &settings)
}

/// The queries in the answer to a [`meta_request`], at most `count`, and how many lines were none (no place for the class
/// name, or the same again). Other ways to mark the place (`{class}`, `[class name]`, `<class>`) are understood.
///
/// ```
/// use lafter::describe::generate::{Answer, queries_of};
/// let text = "Sure, here they are:\n1. What does a {} look like from above?\n2. Describe [class name] at noon.\n3. Nothing.";
/// let (queries, dropped) = queries_of(&Answer { text: text.into(), ..Answer::default() }, 10)?;
/// assert_eq!(queries.fill("lake"), ["What does a lake look like from above?", "Describe lake at noon."]);
/// assert_eq!(dropped, 1);
/// # Ok::<(), lafter::Error>(())
/// ```
///
/// # Errors
/// [`Error::Text`] if there is none.
pub fn queries_of(answer: &Answer, count: usize) -> Result<(Queries, usize)> {
    let (mut texts, mut dropped): (Vec<String>, usize) = (Vec::new(), 0);
    let (text, _) = super::turns::of_assistant(&super::thoughts::without_thoughts(&answer.text));
    let text = super::forms::plain(&text, None).text;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for (i, line) in lines.iter().enumerate() {
        let line = super::markup::strip_markup(line);
        if i + 1 == lines.len() && answer.finish == Finish::Length && !line.ends_with(['?', '.', '!', ':']) {
            dropped += 1; // the limit of tokens tore it
            continue;
        }
        let (line, removed) = super::preambles::strip_preamble(&line);
        if line.is_empty() || (removed && !line.contains('{')) {
            continue;
        }
        let text = with_article(&with_place(&line));
        match Query::new(text.as_str()) {
            Ok(_) if !texts.contains(&text) => texts.push(text),
            _ => dropped += 1,
        }
    }
    texts.truncate(count);
    let none = || {
        let said = super::reply::one_line(&answer.text, 80);
        Error::Text(format!(
            "the model wrote no query with a place {{}} for the class name (it said \"{said}\"): use another model, another --seed, or --style lafter"
        ))
    };
    if texts.is_empty() { Err(none()) } else { Ok((Queries::new(texts)?, dropped)) }
}

/// Names of the place as models write them, made `{}`.
fn with_place(line: &str) -> String {
    let mut line = line.to_string();
    for inner in
        ["class name", "classname", "class_name", "class", "category", "category name", "object", "name", "CLASS", "Class Name", "Class"]
    {
        for (open, close) in [("{", "}"), ("[", "]"), ("<", ">")] {
            line = line.replace(&format!("{open}{inner}{close}"), "{}");
        }
    }
    line
}

/// "a {}" becomes "{article} {}".
fn with_article(line: &str) -> String {
    line.replace(" a {}", " {article} {}").replace(" an {}", " {article} {}").replace(" a(n) {}", " {article} {}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_usable_is_an_error_in_one_line() {
        let error = queries_of(&Answer { text: "I cannot\ndo that".into(), ..Answer::default() }, 3).unwrap_err().to_string();
        assert!(error.contains("I cannot do that") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn a_question_that_the_limit_tore_is_dropped() {
        let text = "What does a {} look like?\nDescribe the colors of a {} wi";
        let (queries, dropped) = queries_of(&Answer { text: text.into(), finish: Finish::Length }, 3).unwrap();
        assert_eq!((queries.fill("owl"), dropped), (vec!["What does an owl look like?".to_string()], 1));
    }

    #[test]
    fn articles_places_and_repetitions() {
        let text = "[\"What is a {}?\",\n\"Is it an {}?\"]<|im_end|>";
        let (queries, _) = queries_of(&Answer { text: text.into(), ..Answer::default() }, 2).unwrap();
        assert_eq!(queries.fill("owl"), ["What is an owl?", "Is it an owl?"]);
        let text = "<think>A {} is a {}.</think>\n- What does a {class} look like?\n- What does a {class} look like?\nIs it an {}?\nDescribe <category>.\n";
        let (queries, dropped) = queries_of(&Answer { text: text.into(), ..Answer::default() }, 2).unwrap();
        assert_eq!((queries.fill("owl"), dropped), (vec!["What does an owl look like?".into(), "Is it an owl?".to_string()], 1));
    }
}
