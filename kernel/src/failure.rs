//! Why a cell failed, as Jupyter wants to hear it.

use jupyter_protocol::{ErrorOutput, ReplyError};

/// A failed cell: the kind of failure, one line, and what is printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub name: String,
    pub value: String,
    pub lines: Vec<String>,
}

impl Failure {
    /// A failure that one line says.
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        let lines = vec![format!("\u{1b}[31m{name}\u{1b}[0m: {value}")];
        Self { name: name.into(), value, lines }
    }

    pub fn output(&self) -> ErrorOutput {
        ErrorOutput { ename: self.name.clone(), evalue: self.value.clone(), traceback: self.lines.clone() }
    }

    pub fn reply(&self) -> ReplyError {
        ReplyError { ename: self.name.clone(), evalue: self.value.clone(), traceback: self.lines.clone() }
    }
}
