//! Answers read back from a table.

use std::path::Path;

use super::{PredictionRow, TableFormat, UNKNOWN};
use crate::error::{Error, Result};
use crate::files::read_text;

/// What a table says of one picture: the answer, the runner-up, and by how much their probabilities differ.
#[derive(Clone, Debug, PartialEq)]
pub struct TwoBest {
    /// The class; of an answer below a threshold [`UNKNOWN`](super::UNKNOWN), unless the row lists its most probable classes.
    pub class: String,
    /// The class with the next greatest probability.
    pub runner_up: String,
    /// The difference of the two probabilities.
    pub margin: f64,
}

const NO_ANSWER: &str = "no class, or a margin that is not between 0 and 1";

/// `None` if no softmax can have answered so.
fn two_best(class: String, runner_up: String, margin: f64) -> Option<TwoBest> {
    (!class.is_empty() && (0.0..=1.0).contains(&margin)).then_some(TwoBest { class, runner_up, margin })
}

/// The two best classes of each picture of a table that [`save_table`](super::save_table) wrote as CSV or JSON lines.
///
/// # Errors
/// [`Error::Usage`] for another ending; [`Error::Data`] naming the line that cannot be read, or a column that is missing;
/// [`Error::Io`].
pub fn read_two_best(path: impl AsRef<Path>) -> Result<Vec<TwoBest>> {
    let path = path.as_ref();
    let fault = |line: usize, what: &str| Error::Data(format!("{}, row {line}: {what}: write the table anew", path.display()));
    match TableFormat::of(path)? {
        TableFormat::Parquet => Err(Error::Usage(format!("{}: read from .csv or .jsonl only: write the table as one", path.display()))),
        TableFormat::JsonLines => {
            let text = read_text(path)?;
            let read = |(at, line): (usize, &str)| {
                let PredictionRow { class, runner_up, margin, top, .. } =
                    serde_json::from_str(line).map_err(|e| fault(at + 1, &e.to_string()))?;
                let best = top.into_iter().next().filter(|_| class == UNKNOWN).map_or(class, |(best, _)| best);
                two_best(best, runner_up, margin).ok_or_else(|| fault(at + 1, NO_ANSWER))
            };
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(read).collect()
        }
        TableFormat::Csv => {
            let text = read_text(path)?;
            let mut rows = csv_rows(&text).into_iter().enumerate();
            let head = rows.next().map(|(_, head)| head).unwrap_or_default();
            let column = |name: &str| head.iter().position(|found| found == name).ok_or_else(|| fault(1, &format!("no column {name}")));
            let (class, runner_up, margin) = (column("class")?, column("runner_up")?, column("margin")?);
            let read = |(at, row): (usize, Vec<String>)| match (row.get(class), row.get(runner_up), row.get(margin).map(|m| m.parse())) {
                (Some(class), Some(runner_up), Some(Ok(margin))) => {
                    two_best(class.clone(), runner_up.clone(), margin).ok_or_else(|| fault(at + 1, NO_ANSWER))
                }
                _ => Err(fault(at + 1, "not as many fields as columns, or a margin that is not a number")),
            };
            rows.map(read).collect()
        }
    }
}

/// Rows and fields (RFC 4180): a field in quotes may hold commas, line feeds, and quotes twice over.
fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let csv = "picture,class,probability,runner_up,margin,zero_shot,text_classifier,changed\n\"a,b \"\"c\"\"\nd.png\",\"house, small\",0.5,fish,0.25,,,\nx.png,fish,0.4,boat,0.01,,,\n";
        std::fs::write(path("a.csv"), csv).unwrap();
        let two = |class: &str, runner_up: &str, margin| TwoBest { class: class.into(), runner_up: runner_up.into(), margin };
        assert_eq!(read_two_best(path("a.csv")).unwrap(), [two("house, small", "fish", 0.25), two("fish", "boat", 0.01)]);
        let json = r#"{"index":0,"picture":"x","class":"fish","probability":0.4,"runner_up":"boat","margin":0.01,"zero_shot":null,"text_classifier":null,"changed":null}"#;
        std::fs::write(path("a.jsonl"), format!("{json}\n\n")).unwrap();
        assert_eq!(read_two_best(path("a.jsonl")).unwrap(), [two("fish", "boat", 0.01)]);
        let unsure = json.replace("\"class\":\"fish\"", "\"class\":\"unknown\"");
        let listed = unsure.replace("\"changed\":null", "\"changed\":null,\"top\":[[\"fish\",0.4],[\"boat\",0.39]]");
        std::fs::write(path("a.jsonl"), format!("{unsure}\n{listed}\n")).unwrap();
        assert_eq!(read_two_best(path("a.jsonl")).unwrap(), [two("unknown", "boat", 0.01), two("fish", "boat", 0.01)]);
        std::fs::write(path("b.csv"), "picture,class,margin\nx,fish,0.1\n").unwrap();
        assert!(read_two_best(path("b.csv")).unwrap_err().to_string().contains("no column runner_up"));
        std::fs::write(path("c.csv"), csv.replace("0.01", "?")).unwrap();
        assert!(read_two_best(path("c.csv")).unwrap_err().to_string().contains("row 3"));
        assert!(read_two_best(path("a.parquet")).unwrap_err().is_usage());
    }
}
