//! A hub on this machine for the tests that download.
#![allow(dead_code)] // no test uses all of it

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lafter::hub::HubOptions;
use sha2::Digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the stand-in misbehaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    Status(u16),
    /// Ends every body longer than this after so many bytes.
    CutAt(usize),
    /// The same, but only the first time.
    CutOnce(usize),
    /// Changes this byte of every body that has one, the first time.
    ChangeOnce(usize),
    /// The same, every time.
    Change(usize),
    /// Ends the first long body after so many bytes, and answers the next range with one that begins a byte earlier.
    WrongRange(usize),
    /// Is too busy the first time, for so many seconds.
    Busy(u16),
    /// Refuses the files with this in their name.
    Refuse(&'static str),
}

/// A server that knows one repository. It runs until the test's process ends.
pub struct Hub {
    pub address: String,
    pub requests: Arc<Mutex<Vec<String>>>,
    pub fault: Arc<Mutex<Fault>>,
}

impl Hub {
    /// `repository` as its address says it: `owner/name` of a model, `datasets/owner/name`.
    pub fn start(repository: &'static str, files: Vec<(&'static str, PathBuf)>, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let files: HashMap<String, Vec<u8>> = files.into_iter().map(|(name, path)| (name.into(), std::fs::read(path).unwrap())).collect();
        let hub = Self { address, requests: Arc::default(), fault: Arc::new(Mutex::new(fault)) };
        let (requests, fault) = (hub.requests.clone(), hub.fault.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(&stream, repository, &files, &requests, &fault);
            }
        });
        hub
    }

    /// A mirror that sends every request on to this hub, by its whole address.
    pub fn mirror(&self) -> String {
        let (listener, target) = (TcpListener::bind("127.0.0.1:0").unwrap(), self.address.clone());
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                let request = lines.next().unwrap_or_default();
                lines.for_each(drop);
                let path = request.split(' ').nth(1).unwrap_or("");
                let head = format!("HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {target}{path}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
            }
        });
        address
    }

    pub fn options(&self, cache: &Path) -> HubOptions {
        HubOptions { endpoint: self.address.clone(), cache: cache.join("hub"), token: None, offline: false, retries: 0 }
    }
}

fn answer(
    mut stream: &TcpStream,
    repository: &str,
    files: &HashMap<String, Vec<u8>>,
    log: &Mutex<Vec<String>>,
    fault: &Mutex<Fault>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or("").to_string();
    let mut range = (0, None);
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some((from, to)) = line.strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
            range = (from.parse().unwrap(), to.parse::<usize>().ok());
        }
        if line.starts_with("authorization") {
            log.lock().unwrap().push(line);
        }
    }
    log.lock().unwrap().push(path.clone());
    let mut send = |status: &str, headers: &str, length: usize, body: &[u8]| {
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\nx-repo-commit: {COMMIT}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body))
    };
    let mut fault = fault.lock().unwrap();
    match *fault {
        Fault::Status(code) => return send(&format!("{code} No"), "X-Error-Message: so it is\r\n", 0, b""),
        Fault::Busy(seconds) => {
            *fault = Fault::None;
            return send("429 Too Many", &format!("Retry-After: {seconds}\r\n"), 0, b"");
        }
        Fault::Refuse(part) if path.contains(part) => return send("503 No", "", 0, b""),
        _ => {}
    }
    let kind = if repository.starts_with("datasets/") { "" } else { "models/" };
    if path == format!("/api/{kind}{repository}/revision/main") {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return send("200 OK", "", body.len(), body.as_bytes());
    }
    let Some(name) = path.strip_prefix(&format!("/{repository}/resolve/{COMMIT}/")).filter(|name| files.contains_key(*name)) else {
        return send("404 Not Found", "", 0, b"");
    };
    let whole = &files[name];
    let earlier = usize::from(range.0 > 0 && matches!(*fault, Fault::WrongRange(0)));
    let (from, to) = (range.0 - earlier, range.1.map_or(whole.len(), |to| to + 1));
    let mut body = whole[from..to].to_vec();
    let headers = format!("ETag: \"{}\"\r\nContent-Range: bytes {from}-{}/{}\r\n", etag(whole), to - 1, whole.len());
    let sent = match *fault {
        Fault::CutAt(n) | Fault::CutOnce(n) | Fault::WrongRange(n) if body.len() > n && n > 0 => n,
        _ => body.len(),
    };
    match *fault {
        Fault::CutOnce(_) if sent < body.len() => *fault = Fault::None,
        Fault::WrongRange(n) if sent < body.len() || n == 0 && earlier == 1 => {
            *fault = if n > 0 { Fault::WrongRange(0) } else { Fault::None }
        }
        Fault::ChangeOnce(n) if n < body.len() => {
            body[n] ^= 1;
            *fault = Fault::None;
        }
        Fault::Change(n) if n < body.len() => body[n] ^= 1,
        _ => {}
    }
    send("206 Partial Content", &headers, body.len(), &body[..sent])
}

/// The name of a content: its SHA-256, as the hub has it for large files.
pub fn etag(content: &[u8]) -> String {
    format!("{:x}", sha2::Sha256::digest(content))
}

/// An address at which nothing listens.
pub fn unreachable() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
