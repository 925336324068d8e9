//! A stand-in for an OpenAI-compatible server that misbehaves on demand, and counts what it is asked.

pub mod run;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// One request as it arrived.
pub struct Ask {
    /// Requests before it, of the whole stub.
    pub number: usize,
    /// How often the same query with the same seed came before.
    pub before: usize,
    pub query: String,
    pub path: String,
    pub authorization: Option<String>,
    pub body: Value,
}

/// What is sent back.
pub enum Act {
    /// A good answer with this text.
    Say(String),
    /// A good answer that ended for this reason.
    Finish(String, &'static str),
    /// Another status, with a header line ("Retry-After: 1", or "") and a body.
    Status(u16, &'static str, String),
    /// A good answer, later.
    Slow(Duration, String),
    /// Half the body that was announced.
    Cut,
    /// These bytes as body.
    Raw(Vec<u8>),
    /// A good answer of which a byte comes every tenth of a second.
    Drip,
    /// The connection ends without an answer.
    Drop,
    /// No answer, ever.
    Hang,
}

type Behavior = dyn Fn(&Ask) -> Act + Send + Sync;

#[derive(Default)]
struct State {
    number: usize,
    /// By query and seed: how often it was asked, and when first and last.
    asked: HashMap<String, (usize, Instant, Instant)>,
    /// By query and seed: how often it was answered well.
    answered: HashMap<String, usize>,
}

impl Default for Stub {
    fn default() -> Self {
        Self::start(|ask| Act::Say(format!("A sentence about {} number {}.", ask.query, ask.body["seed"])))
    }
}

pub struct Stub {
    pub address: String,
    state: Arc<Mutex<State>>,
    behavior: Arc<Mutex<Arc<Behavior>>>,
}

impl Stub {
    pub fn start(behavior: impl Fn(&Ask) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let behavior: Arc<Behavior> = Arc::new(behavior);
        let stub = Self { address, state: Arc::default(), behavior: Arc::new(Mutex::new(behavior)) };
        let (state, behavior) = (stub.state.clone(), stub.behavior.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, behavior) = (state.clone(), behavior.clone());
                std::thread::spawn(move || while serve(&stream, &state, &behavior).is_ok_and(|alive| alive) {});
            }
        });
        stub
    }

    /// Another behavior from now on.
    pub fn behave(&self, behavior: impl Fn(&Ask) -> Act + Send + Sync + 'static) {
        *self.behavior.lock().unwrap() = Arc::new(behavior);
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().number
    }

    /// How often each query and seed was asked, and how long after the first time the last.
    pub fn asked(&self) -> HashMap<String, (usize, Duration)> {
        self.state.lock().unwrap().asked.iter().map(|(key, (n, first, last))| (key.clone(), (*n, *last - *first))).collect()
    }

    /// How often each was answered well.
    pub fn answered(&self) -> HashMap<String, usize> {
        self.state.lock().unwrap().answered.clone()
    }
}

/// One request of a connection; false if the connection is over.
fn serve(mut stream: &TcpStream, state: &Mutex<State>, behavior: &Mutex<Arc<Behavior>>) -> std::io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    let path = line.split(' ').nth(1).unwrap_or("").to_string();
    let (mut length, mut authorization) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => authorization = Some(value.trim().to_string()),
            _ => {}
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let query = body.pointer("/messages/0/content").or_else(|| body.get("prompt")).and_then(Value::as_str).unwrap_or("").to_string();
    let key = format!("{query}#{}", body["seed"]);
    let ask = {
        let mut state = state.lock().unwrap();
        let now = Instant::now();
        let entry = state.asked.entry(key.clone()).or_insert((0, now, now));
        (entry.0, entry.2) = (entry.0 + 1, now);
        let before = entry.0 - 1;
        state.number += 1;
        Ask { number: state.number - 1, before, query, path, authorization, body }
    };
    let behavior = behavior.lock().unwrap().clone();
    let mut send = |status: u16, header: &str, length: usize, body: &[u8]| {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let head = format!("HTTP/1.1 {status} Any\r\nContent-Type: application/json\r\n{header}Content-Length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body].concat())
    };
    let good = |text: &str, finish: &str| {
        let chat = ask.path.contains("/chat/completions");
        let choice = if chat {
            json!({ "message": { "content": text }, "finish_reason": finish })
        } else {
            json!({ "text": text, "finish_reason": finish })
        };
        json!({ "choices": [choice] }).to_string().into_bytes()
    };
    let well = || *state.lock().unwrap().answered.entry(key.clone()).or_default() += 1;
    match behavior(&ask) {
        Act::Say(text) => {
            well();
            let body = good(&text, "stop");
            send(200, "", body.len(), &body)?;
        }
        Act::Finish(text, reason) => {
            well();
            let body = good(&text, reason);
            send(200, "", body.len(), &body)?;
        }
        Act::Slow(wait, text) => {
            std::thread::sleep(wait);
            well();
            let body = good(&text, "stop");
            send(200, "", body.len(), &body)?;
        }
        Act::Status(status, header, body) => send(status, header, body.len(), body.as_bytes())?,
        Act::Raw(body) => send(200, "", body.len(), &body)?,
        Act::Cut => {
            let body = good("A sentence that is cut off on its way.", "stop");
            send(200, "", body.len(), &body[..body.len() / 2])?;
            stream.shutdown(std::net::Shutdown::Both)?;
            return Ok(false);
        }
        Act::Drip => {
            let body = good("A sentence that never comes to its end.", "stop");
            send(200, "", body.len(), &body[..1])?;
            for byte in &body[1..] {
                std::thread::sleep(Duration::from_millis(100));
                stream.write_all(&[*byte])?;
            }
        }
        Act::Drop => {
            stream.shutdown(std::net::Shutdown::Both)?;
            return Ok(false);
        }
        Act::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
    }
    Ok(true)
}
