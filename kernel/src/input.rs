//! `input("…")` in a cell: a request to the front end, and its answer.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use jupyter_protocol::{InputRequest, JupyterMessage};
use tokio::sync::mpsc::UnboundedSender;

use crate::cell::Cell;

/// The kernel's side of the stdin channel.
pub struct Input {
    requests: UnboundedSender<JupyterMessage>,
    answers: Mutex<Receiver<String>>,
}

impl Input {
    /// Requests go out through `requests`; what is sent to the returned end is the answer.
    pub fn new(requests: UnboundedSender<JupyterMessage>) -> (Self, Sender<String>) {
        let (sender, answers) = channel();
        (Self { requests, answers: Mutex::new(answers) }, sender)
    }

    /// Waits for the reader's line; empty where the front end cannot ask or the cell is interrupted.
    pub fn ask(&self, parent: &JupyterMessage, allowed: bool, prompt: &str, hidden: bool, cell: &Cell) -> String {
        if !allowed {
            cell.lock().publisher.err("input() has no answer: this front end does not allow questions\n");
            return String::new();
        }
        let Ok(answers) = self.answers.lock() else { return String::new() };
        while answers.try_recv().is_ok() {} // to a question that was interrupted
        cell.lock().publisher.tick();
        let request = InputRequest { prompt: prompt.to_string(), password: hidden };
        if self.requests.send(request.as_child_of(parent)).is_err() {
            return String::new();
        }
        loop {
            match answers.recv_timeout(Duration::from_millis(100)) {
                Ok(answer) => return answer.replace('\n', " "),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !cell.lock().interrupted => {}
                Err(_) => {
                    // the signal, on which `input` ends the cell, is to be there before the answer
                    std::thread::sleep(Duration::from_millis(100));
                    return String::new();
                }
            }
        }
    }
}
