//! What the kernel publishes for the running request: text in small batches, shown values, updates not faster than one sees.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jupyter_protocol::{
    ClearOutput, DisplayData, ExecuteResult, ExecutionCount, JupyterMessage, JupyterMessageContent, Media, StreamContent, Transient,
    UpdateDisplayData,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::limit::Limit;
use crate::stream::Bundle;

/// Between two updates of one display: what comes faster replaces what waits.
const UPDATE_EVERY: Duration = Duration::from_millis(50);
/// Bytes of a value's text.
const LONGEST_VALUE: usize = 20_000;
/// Values that one cell may show; a loop that shows thousands would choke the browser.
const MOST_SHOWN: usize = 500;

/// Standard output, standard error.
const STREAMS: [fn(&str) -> StreamContent; 2] = [StreamContent::stdout, StreamContent::stderr];

pub struct Publisher {
    iopub: UnboundedSender<JupyterMessage>,
    parent: Option<JupyterMessage>,
    out: String,
    err: String,
    /// Of standard output, of standard error.
    limits: [Limit; 2],
    /// Nothing is shown of a silent request.
    silent: bool,
    updates: HashMap<String, Update>,
    shown: usize,
    /// The cell's number.
    pub count: usize,
    /// The cell's value as text, for the history.
    pub value: String,
}

/// One display's latest update.
struct Update {
    sent: Instant,
    waiting: Option<Bundle>,
}

impl Publisher {
    pub fn new(iopub: UnboundedSender<JupyterMessage>) -> Self {
        let limits = limits();
        Self {
            iopub,
            parent: None,
            out: String::new(),
            err: String::new(),
            limits,
            silent: false,
            updates: HashMap::new(),
            shown: 0,
            count: 0,
            value: String::new(),
        }
    }

    /// From now on everything belongs to `parent`, the cell numbered `count`.
    pub fn begin(&mut self, parent: &JupyterMessage, count: usize) {
        self.flush();
        self.silent = matches!(&parent.content, JupyterMessageContent::ExecuteRequest(request) if request.silent);
        (self.parent, self.count, self.shown) = (Some(parent.clone()), count, 0);
        self.limits = limits();
        self.value.clear();
    }

    pub fn out(&mut self, text: &str) {
        self.out.push_str(text);
    }

    pub fn err(&mut self, text: &str) {
        self.err.push_str(text);
    }

    /// Anything else, after the text that came before it.
    pub fn send(&mut self, content: impl Into<JupyterMessageContent>) {
        self.text();
        self.raw(content.into());
    }

    pub fn display(&mut self, mut data: Bundle, id: Option<String>) {
        self.shown += 1;
        if self.shown == MOST_SHOWN {
            self.err.push_str(&format!("[… more than {MOST_SHOWN} displays in one cell are not shown; update one instead]\n"));
        }
        if self.shown < MOST_SHOWN {
            shorten(&mut data);
            let transient = Some(Transient { display_id: id });
            self.send(DisplayData { data: media(data), metadata: Default::default(), transient });
        }
    }

    pub fn update(&mut self, data: Bundle, id: &str) {
        let now = Instant::now();
        match self.updates.get_mut(id) {
            Some(update) if now.duration_since(update.sent) < UPDATE_EVERY => update.waiting = Some(data),
            _ => {
                self.updates.insert(id.to_string(), Update { sent: now, waiting: None });
                self.send(UpdateDisplayData::new(media(data), id));
            }
        }
    }

    pub fn result(&mut self, mut data: Bundle) {
        shorten(&mut data);
        self.value = data.get("text/plain").and_then(|text| text.as_str()).unwrap_or_default().to_string();
        let (execution_count, transient) = (ExecutionCount::new(self.count), Some(Transient::default()));
        self.send(ExecuteResult { execution_count, data: media(data), metadata: Default::default(), transient });
    }

    pub fn clear(&mut self, wait: bool) {
        self.send(ClearOutput { wait });
    }

    /// Sends what waits; called every few milliseconds while a cell runs.
    pub fn tick(&mut self) {
        self.text();
        let now = Instant::now();
        let due = |update: &Update| now.duration_since(update.sent) >= UPDATE_EVERY;
        self.send_updates(due);
    }

    /// Sends all that waits, and what became of text that was left out.
    pub fn flush(&mut self) {
        self.text();
        for (i, make) in STREAMS.into_iter().enumerate() {
            if let Some(rest) = self.limits[i].rest() {
                self.raw(make(&rest).into());
            }
        }
        self.send_updates(|_| true);
        self.updates.clear();
    }

    fn send_updates(&mut self, due: impl Fn(&Update) -> bool) {
        let now = Instant::now();
        let waiting: Vec<_> = self.updates.iter_mut().filter(|(_, update)| due(update)).collect();
        let mut messages = Vec::new();
        for (id, update) in waiting {
            if let Some(data) = update.waiting.take() {
                update.sent = now;
                messages.push(UpdateDisplayData::new(media(data), id));
            }
        }
        messages.into_iter().for_each(|message| self.raw(message.into()));
    }

    fn text(&mut self) {
        let (now, mut passed) = (Instant::now(), Vec::new());
        let texts = [&mut self.out, &mut self.err].map(std::mem::take);
        for ((text, make), limit) in texts.into_iter().zip(STREAMS).zip(&mut self.limits) {
            if !text.is_empty()
                && let Some(text) = limit.pass(text, now)
            {
                passed.push(make(&text));
            }
        }
        passed.into_iter().for_each(|text| self.raw(text.into()));
    }

    fn raw(&self, content: JupyterMessageContent) {
        if let Some(parent) = self.parent.as_ref().filter(|_| !self.silent) {
            let _ = self.iopub.send(JupyterMessage::new(content, Some(parent))); // the server is going down
        }
    }
}

fn limits() -> [Limit; 2] {
    [Limit::new(Instant::now()), Limit::new(Instant::now())]
}

/// Cuts a text that nobody reads to its end.
fn shorten(data: &mut Bundle) {
    if let Some(text) = data.get_mut("text/plain")
        && let Some(shorter) = text.as_str().and_then(shortened)
    {
        *text = shorter.into();
    }
}

/// Beginning and end of a long value, and how much is left out between them; `None` if it is short enough.
fn shortened(text: &str) -> Option<String> {
    if text.len() <= LONGEST_VALUE {
        return None;
    }
    let (head, tail) = (text.floor_char_boundary(LONGEST_VALUE * 9 / 10), text.ceil_char_boundary(text.len() - LONGEST_VALUE / 10));
    let ends = values(text);
    let (before, behind) = (ends.partition_point(|end| *end <= head), ends.partition_point(|end| *end < tail));
    let left_out = (behind + 1).min(ends.len()) - before;
    if ends.len() < 2 || left_out == 0 {
        let notice = format!("[… {} bytes are not shown: print a part of it, or write it to a file]", tail - head);
        return Some(format!("{}\n{notice}\n{}", &text[..head], &text[tail..]));
    }
    // whole values only
    let head = before.checked_sub(1).map_or(head, |last| ends[last]);
    let tail = ends.get(behind).copied().unwrap_or(tail);
    let notice = format!("[… {left_out} of {} values are not shown: print a part, or write them to a file]", ends.len() + 1);
    Some(format!("{}\n{notice}\n{}", &text[..head], &text[tail..].trim_start_matches([',', ' ', '\n'])))
}

/// The ends of the values of a list, but for the last: behind the commas of the outermost bracket.
fn values(text: &str) -> Vec<usize> {
    let (mut ends, mut depth, mut quoted, mut escaped) = (Vec::new(), 0usize, false, false);
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => ends.push(i + 1),
            _ => {}
        }
    }
    ends
}

fn media(data: Bundle) -> Media {
    serde_json::from_value(data.into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jupyter_protocol::{ExecuteRequest, JupyterMessage};
    use serde_json::{Map, Value};

    #[test]
    fn updates_are_thinned_but_the_last_arrives() {
        let (iopub, mut messages) = tokio::sync::mpsc::unbounded_channel();
        let mut publisher = Publisher::new(iopub);
        publisher.begin(&JupyterMessage::new(ExecuteRequest::new("1".into()), None), 1);
        let data = |i: usize| Map::from_iter([("text/plain".to_string(), Value::from(i.to_string()))]);
        publisher.out("before\n");
        publisher.display(data(0), Some("a".into()));
        (1..=100).for_each(|i| publisher.update(data(i), "a"));
        publisher.flush();
        let mut kinds = Vec::new();
        let mut last = None;
        while let Ok(message) = messages.try_recv() {
            kinds.push(message.header.msg_type.clone());
            last = Some(serde_json::to_value(&message.content).unwrap());
        }
        assert_eq!(kinds, ["stream", "display_data", "update_display_data", "update_display_data"]);
        assert_eq!(last.unwrap()["data"]["text/plain"], "100");
    }

    #[test]
    fn a_long_value_is_cut_and_says_what_is_left_out() {
        let short = format!("{:?}", vec![7; 1000]);
        assert_eq!(shortened(&short), None);
        let long = format!("{:?}", (0..200_000).map(|i| (i, "a, b")).collect::<Vec<_>>());
        let cut = shortened(&long).unwrap();
        assert!(cut.len() < LONGEST_VALUE + 200 && cut.starts_with("[(0, \"a, b\"), (1") && cut.ends_with("(199999, \"a, b\")]"), "{cut}");
        let left_out: usize = cut.split_once("[… ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        let shown = cut.matches("), (").count();
        assert!(cut.contains("of 200000 values are not shown") && left_out.abs_diff(200_000 - shown) < 5, "{left_out} {shown}");
        let last = shortened(&format!("{:?}", (1, 2, "x".repeat(30_000)))).unwrap();
        assert!(last.starts_with("(1, 2, \"xxx") && last.contains("[… 10010 bytes are not shown") && last.ends_with("xxx\")"), "{last}");
        let text = shortened(&format!("{:?}", "é".repeat(100_000))).unwrap();
        assert!(text.contains("bytes are not shown") && text.ends_with("é\""), "{}", &text[text.len() - 100..]);
    }

    #[test]
    fn what_was_left_out_is_told_where_it_was_written() {
        let (iopub, mut messages) = tokio::sync::mpsc::unbounded_channel();
        let mut publisher = Publisher::new(iopub);
        publisher.begin(&JupyterMessage::new(ExecuteRequest::new("1".into()), None), 1);
        publisher.err(&"a line\n".repeat(200_000));
        publisher.out("a result\n");
        publisher.flush();
        let texts = std::iter::from_fn(|| messages.try_recv().ok()).map(|message| serde_json::to_value(&message.content).unwrap());
        let texts: Vec<Value> = texts.collect();
        let of =
            |name: &str| texts.iter().filter(|text| text["name"] == name).map(|text| text["text"].as_str().unwrap()).collect::<String>();
        assert_eq!(of("stdout"), "a result\n");
        assert!(of("stderr").contains("are not shown"));
    }

    #[test]
    fn a_silent_request_shows_nothing() {
        let (iopub, mut messages) = tokio::sync::mpsc::unbounded_channel();
        let mut publisher = Publisher::new(iopub);
        let request = ExecuteRequest { silent: true, ..ExecuteRequest::new("1".into()) };
        publisher.begin(&JupyterMessage::new(request, None), 1);
        publisher.out("text");
        publisher.result(Map::from_iter([("text/plain".to_string(), Value::from("1"))]));
        publisher.flush();
        assert!(messages.try_recv().is_err());
        publisher.begin(&JupyterMessage::new(ExecuteRequest::new("1".into()), None), 1);
        publisher.out("text");
        publisher.flush();
        assert!(messages.try_recv().is_ok());
    }
}
