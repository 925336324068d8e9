//! [`Client`]: requests to the hub or a mirror of it, with redirects, proxies and the user's token.

use std::collections::HashMap;
use std::io::Read;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::{Agent, AgentBuilder, Response};

use crate::error::Error;
use crate::progress::{Event, interruptible, next_of, no_thread, pause};
use crate::proxy::{host_name, proxy_for};

/// Redirects followed at most.
const REDIRECTS: usize = 10;
/// A list of files longer than this is none.
const LIST_LIMIT: u64 = 1 << 28;
/// The longest wait, in seconds, that a hub may ask for before it is asked again.
const PATIENCE: u64 = 60;
/// Bytes that are read from a connection at once, and how many such parts may wait to be written.
const PART: usize = 1 << 16;
const PARTS: usize = 16;
/// What an interrupt interrupts.
const WHAT: &str = "downloading";

/// Why a request or a download failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server's answer, with what it says about it.
    Status(u16, String),
    /// The server cannot be reached.
    Network(String),
    /// The connection ended early, or bytes were changed on the way.
    Cut(String),
    /// The answer is not the hub's.
    Nonsense(String),
    /// A file in the cache, a setting, or an interrupt.
    Here(Error),
}

/// What the hub says of a file.
pub(super) struct Described {
    /// Names the content: the file in the cache is called so. That of a large file is its SHA-256.
    pub(super) etag: String,
    pub(super) size: u64,
}

pub(super) struct Client {
    endpoint: String,
    token: Option<String>,
    retries: usize,
    /// Connections, by the proxy that they go through.
    agents: Mutex<HashMap<Option<ureq::Proxy>, Agent>>,
}

/// An answer at the end of its redirects, with what the hub said on the way.
struct Answer {
    response: Response,
    linked_etag: Option<String>,
    linked_size: Option<String>,
    etag: Option<String>,
}

impl Client {
    /// A request that the server is too busy for is sent again, `retries` times.
    pub(super) fn new(endpoint: &str, token: Option<&str>, retries: usize) -> Self {
        Self { endpoint: endpoint.to_string(), token: token.map(str::to_string), retries, agents: Mutex::default() }
    }

    /// The JSON text at a path below the endpoint.
    pub(super) fn json(&self, path: &str, events: &mut dyn FnMut(&Event)) -> Result<Vec<u8>, Fault> {
        let response = self.get(&format!("{}{path}", self.endpoint), None, events)?.response;
        let read = move || {
            let mut body = Vec::new();
            response.into_reader().take(LIST_LIMIT).read_to_end(&mut body).map(|_| body)
        };
        match interruptible(WHAT, read).map_err(Fault::Here)? {
            Some(body) => body.map_err(|e| Fault::Cut(e.to_string())),
            None => Err(Fault::Cut("the connection's thread ended".into())),
        }
    }

    /// Size and name of the content at a path: from one byte of it, since some servers answer no HEAD.
    pub(super) fn describe(&self, path: &str, events: &mut dyn FnMut(&Event)) -> Result<Described, Fault> {
        let url = format!("{}{path}", self.endpoint);
        let answer = match self.get(&url, Some("bytes=0-0"), events) {
            Err(Fault::Status(416, _)) => self.get(&url, None, events)?, // an empty file has no first byte
            answer => answer?,
        };
        let header = |name: &str| answer.response.header(name);
        if header("content-type").is_some_and(|kind| kind.starts_with("text/html")) && !path.ends_with(".html") {
            return Err(Fault::Nonsense("it is a web page and not the file".to_string()));
        }
        let size = match answer.response.status() {
            206 => header("content-range").and_then(|range| range.rsplit('/').next()),
            _ => header("content-length").filter(|_| header("content-encoding").is_none()),
        };
        // what the hub itself says of a file that lies elsewhere comes first
        let size = answer.linked_size.as_deref().or(size).and_then(|size| size.trim().parse().ok());
        let size = size.ok_or_else(|| Fault::Nonsense("it tells no size".to_string()))?;
        let etag = answer.linked_etag.or(answer.etag).ok_or_else(|| Fault::Nonsense("header ETag is missing".to_string()))?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
        let etag: String = etag.trim_start_matches("W/").trim_matches('"').chars().map(plain).take(200).collect();
        if etag.is_empty() {
            return Err(Fault::Nonsense("header ETag is empty".to_string()));
        }
        Ok(Described { etag, size })
    }

    /// The content at a path from byte `start` on, or from its beginning where the server knows no ranges; where it begins in fact.
    pub(super) fn read(&self, path: &str, start: u64, events: &mut dyn FnMut(&Event)) -> Result<(Body, u64), Fault> {
        let url = format!("{}{path}", self.endpoint);
        if start > 0 {
            let response = self.get(&url, Some(&format!("bytes={start}-")), events)?.response;
            let range = response.header("content-range").and_then(|range| range.strip_prefix("bytes "));
            let first: Option<u64> = range.and_then(|range| range.split('-').next()?.trim().parse().ok());
            match (response.status(), first) {
                (206, Some(first)) if first == start => return Ok((Body::of(response)?, start)),
                (206, _) => {} // another range than was asked for
                _ => return Ok((Body::of(response)?, 0)),
            }
        }
        Ok((Body::of(self.get(&url, None, events)?.response)?, 0))
    }

    /// Connections to an address, through its proxy if it has one.
    fn agent(&self, url: &str) -> crate::error::Result<Agent> {
        let proxy = proxy_for(url)?;
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let build = || {
            let builder = AgentBuilder::new().redirects(0).user_agent(concat!("lafter/", env!("CARGO_PKG_VERSION")));
            let builder = builder.timeout_connect(Duration::from_secs(30)).timeout_read(Duration::from_secs(120));
            proxy.iter().fold(builder, |builder, proxy| builder.proxy(proxy.clone())).build()
        };
        Ok(agents.entry(proxy.clone()).or_insert_with(build).clone())
    }

    /// An answer, asked for again where the server is too busy, as long as it wishes.
    fn get(&self, url: &str, range: Option<&str>, events: &mut dyn FnMut(&Event)) -> Result<Answer, Fault> {
        let mut tried = 0;
        loop {
            let (fault, again) = match self.follow(url, range) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let status = match fault {
                Fault::Status(status @ (429 | 500 | 502..=504), _) if tried < self.retries && again.is_none_or(|wait| wait <= PATIENCE) => {
                    status
                }
                fault => return Err(fault),
            };
            let wait = again.map_or(Duration::from_millis(500 << tried.min(6)), Duration::from_secs);
            if wait.as_secs() > 2 {
                let (host, seconds) = (host_name(url), wait.as_secs());
                events(&Event::Notice(format!("{host} is busy (status {status}): it is asked again in {seconds} seconds")));
            }
            tried += 1;
            pause(WHAT, wait).map_err(Fault::Here)?;
        }
    }

    /// Follows redirects, relative ones and to other hosts; the token goes to the endpoint's own host only. With a fault, in how many
    /// seconds the server wants to be asked again.
    fn follow(&self, url: &str, range: Option<&str>) -> Result<Answer, (Fault, Option<u64>)> {
        let (mut url, mut commit, mut linked_etag, mut linked_size, mut etag) = (url.to_string(), None, None, None, None);
        for _ in 0..=REDIRECTS {
            let mut request = self.agent(&url).map_err(|error| (Fault::Here(error), None))?.get(&url);
            if let Some(range) = range {
                request = request.set("Range", range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| origin(&url) == origin(&self.endpoint)) {
                request = request.set("Authorization", &format!("Bearer {token}"));
            }
            let answered = interruptible(WHAT, move || request.call().map_err(Box::new)).map_err(|error| (Fault::Here(error), None))?;
            let response = match answered {
                Some(Ok(response)) => response,
                Some(Err(fault)) => {
                    return Err(match *fault {
                        ureq::Error::Status(code, response) => refused(code, &response),
                        ureq::Error::Transport(fault) => (Fault::Network(said(&url, &fault)), None),
                    });
                }
                None => return Err((Fault::Network(format!("{}: the connection's thread ended", host_name(&url))), None)),
            };
            let header = |name: &str| response.header(name).map(str::to_string);
            let place = header("location").filter(|_| matches!(response.status(), 301 | 302 | 303 | 307 | 308));
            linked_etag = linked_etag.or(header("x-linked-etag"));
            linked_size = linked_size.or(header("x-linked-size"));
            // A redirect's own ETag counts only where the hub itself speaks; the last answer's always.
            let speaks = commit.is_none() && response.header("x-repo-commit").is_some();
            commit = commit.or(header("x-repo-commit"));
            if etag.is_none() && (speaks || place.is_none()) {
                etag = header("etag");
            }
            match place {
                Some(place) => url = joined(&url, &place),
                None => return Ok(Answer { response, linked_etag, linked_size, etag }),
            }
        }
        Err((Fault::Nonsense(format!("more than {REDIRECTS} redirects")), None))
    }
}

/// What a server says of its refusal: the hub's own words, and when to come again.
fn refused(code: u16, response: &Response) -> (Fault, Option<u64>) {
    let words = response.header("x-error-message").unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    (Fault::Status(code, words), response.header("retry-after").and_then(|seconds| seconds.trim().parse().ok()))
}

/// Bytes as they come, read in a thread of its own: a server that hangs can be interrupted.
pub(super) struct Body(Receiver<std::io::Result<Vec<u8>>>);

impl Body {
    fn of(response: Response) -> Result<Self, Fault> {
        let (send, parts) = sync_channel(PARTS);
        let read = move || {
            let mut reader = response.into_reader();
            loop {
                let mut part = vec![0; PART];
                let read = reader.read(&mut part).map(|read| part.truncate(read));
                let ends = read.is_err() || part.is_empty();
                if send.send(read.map(|()| part)).is_err() || ends {
                    return; // or nobody waits any more
                }
            }
        };
        let begun = std::thread::Builder::new().spawn(read);
        begun.map_err(|e| Fault::Here(no_thread(WHAT, &e)))?;
        Ok(Self(parts))
    }

    /// The next bytes; none at the end.
    pub(super) fn next(&mut self) -> Result<Vec<u8>, Fault> {
        match next_of(WHAT, &self.0).map_err(Fault::Here)? {
            Some(part) => part.map_err(|e| Fault::Cut(e.to_string())),
            None => Ok(Vec::new()),
        }
    }
}

/// A fault below HTTP, without the address and the headers: a password or a token may stand in them.
fn said(url: &str, fault: &ureq::Transport) -> String {
    let source = std::error::Error::source(fault).map(ToString::to_string);
    let message = fault.message().filter(|_| fault.kind() != ureq::ErrorKind::BadHeader).map(str::to_string);
    let reason = source.or(message).map_or_else(String::new, |reason| format!(": {reason}"));
    let proxy = matches!(proxy_for(url), Ok(Some(_)));
    let through = if proxy { ", through the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY" } else { "" };
    format!("{}{through}: {}{reason}", host_name(url), fault.kind())
}

/// Scheme, name and port of an address.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// The address that a redirect from `url` leads to.
fn joined(url: &str, place: &str) -> String {
    let scheme = url.split_once("://").map_or("https", |(scheme, _)| scheme);
    if place.contains("://") && !place.starts_with('/') {
        place.to_string()
    } else if place.starts_with("//") {
        format!("{scheme}:{place}")
    } else if place.starts_with('/') {
        format!("{}{place}", origin(url))
    } else {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        format!("{folder}/{place}")
    }
}

/// A path as part of an address.
pub(super) fn encoded(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_anywhere() {
        let from = "https://a.b:1/x/y?z=/q";
        for (place, whole) in [
            ("http://c/d", "http://c/d"),
            ("//c/d", "https://c/d"),
            ("/d?e=https://f", "https://a.b:1/d?e=https://f"),
            ("d", "https://a.b:1/x/d"),
        ] {
            assert_eq!(joined(from, place), whole);
        }
        assert_eq!((origin(from), origin("http://c")), ("https://a.b:1", "http://c"));
        assert_eq!(encoded("data/a b#é.parquet"), "data/a%20b%23%C3%A9.parquet");
    }
}
