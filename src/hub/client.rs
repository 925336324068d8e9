//! [`Client`]: requests to the hub or a mirror of it, with redirects, proxies and the user's token.

use std::io::Read;
use std::time::Duration;

use ureq::{Agent, AgentBuilder, Response};

use crate::proxy::{direct, host_name};

/// Redirects followed at most.
const REDIRECTS: usize = 10;

/// A list of files longer than this is none.
const LIST_LIMIT: u64 = 1 << 28;

/// Why a request or a download failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server's answer.
    Status(u16),
    /// The server cannot be reached.
    Network(String),
    /// The connection ended early.
    Cut(String),
    /// The answer is not the hub's.
    Nonsense(String),
    /// A file in the cache.
    File(crate::error::Error),
}

/// What the hub says of a file.
pub(super) struct Described {
    /// Names the content: the file in the cache is called so.
    pub(super) etag: String,
    pub(super) commit: Option<String>,
    pub(super) size: u64,
}

pub(super) struct Client {
    through_proxy: Agent,
    without: Agent,
    endpoint: String,
    token: Option<String>,
}

/// An answer at the end of its redirects, with what the hub said on the way.
struct Answer {
    response: Response,
    commit: Option<String>,
    linked_etag: Option<String>,
    etag: Option<String>,
}

impl Client {
    pub(super) fn new(endpoint: &str, token: Option<&str>) -> Self {
        let agent = |proxy: bool| {
            let builder = AgentBuilder::new().try_proxy_from_env(proxy).redirects(0);
            let builder = builder.timeout_connect(Duration::from_secs(30)).timeout_read(Duration::from_secs(120));
            builder.user_agent(concat!("lafter/", env!("CARGO_PKG_VERSION"))).build()
        };
        Self { through_proxy: agent(true), without: agent(false), endpoint: endpoint.to_string(), token: token.map(str::to_string) }
    }

    /// The JSON text at a path below the endpoint.
    pub(super) fn json(&self, path: &str) -> Result<Vec<u8>, Fault> {
        let response = self.get(&format!("{}{path}", self.endpoint), None)?.response;
        let mut body = Vec::new();
        response.into_reader().take(LIST_LIMIT).read_to_end(&mut body).map_err(|e| Fault::Cut(e.to_string()))?;
        Ok(body)
    }

    /// Size and name of the content at a path: from one byte of it, since some servers answer no HEAD.
    pub(super) fn describe(&self, path: &str) -> Result<Described, Fault> {
        let url = format!("{}{path}", self.endpoint);
        let answer = match self.get(&url, Some("bytes=0-0")) {
            Err(Fault::Status(416)) => self.get(&url, None)?, // an empty file has no first byte
            answer => answer?,
        };
        let (range, length) = (answer.response.header("content-range"), answer.response.header("content-length"));
        let size = match answer.response.status() {
            206 => range.and_then(|range| range.rsplit('/').next()),
            _ => length,
        };
        let size = size.and_then(|size| size.trim().parse().ok()).ok_or_else(|| Fault::Nonsense("it tells no size".to_string()))?;
        let etag = answer.linked_etag.or(answer.etag).ok_or_else(|| Fault::Nonsense("header ETag is missing".to_string()))?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
        let etag: String = etag.trim_start_matches("W/").trim_matches('"').chars().map(plain).take(200).collect();
        if etag.is_empty() {
            return Err(Fault::Nonsense("header ETag is empty".to_string()));
        }
        Ok(Described { etag, commit: answer.commit, size })
    }

    /// The content at a path from byte `start` on; where it begins in fact (a server may know no ranges).
    pub(super) fn read(&self, path: &str, start: u64) -> Result<(Box<dyn Read + Send + Sync>, u64), Fault> {
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let response = self.get(&format!("{}{path}", self.endpoint), range.as_deref())?.response;
        let start = if response.status() == 206 { start } else { 0 };
        Ok((response.into_reader(), start))
    }

    /// Follows redirects, relative ones and to other hosts; the token goes to the endpoint's own host only.
    fn get(&self, url: &str, range: Option<&str>) -> Result<Answer, Fault> {
        let (mut url, mut commit, mut linked_etag, mut etag) = (url.to_string(), None, None, None);
        for _ in 0..=REDIRECTS {
            let agent = if direct(&url) { &self.without } else { &self.through_proxy };
            let mut request = agent.get(&url);
            if let Some(range) = range {
                request = request.set("Range", range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| origin(&url) == origin(&self.endpoint)) {
                request = request.set("Authorization", &format!("Bearer {token}"));
            }
            let response = match request.call() {
                Ok(response) => response,
                Err(ureq::Error::Status(code, _)) => return Err(Fault::Status(code)),
                Err(ureq::Error::Transport(fault)) => return Err(Fault::Network(said(&url, &fault))),
            };
            let header = |name: &str| response.header(name).map(str::to_string);
            let place = header("location").filter(|_| matches!(response.status(), 301 | 302 | 303 | 307 | 308));
            linked_etag = linked_etag.or(header("x-linked-etag"));
            // A redirect's own ETag counts only where the hub itself speaks; the last answer's always.
            let speaks = commit.is_none() && response.header("x-repo-commit").is_some();
            commit = commit.or(header("x-repo-commit"));
            if etag.is_none() && (speaks || place.is_none()) {
                etag = header("etag");
            }
            match place {
                Some(place) => url = joined(&url, &place),
                None => return Ok(Answer { response, commit, linked_etag, etag }),
            }
        }
        Err(Fault::Nonsense(format!("more than {REDIRECTS} redirects")))
    }
}

/// A fault below HTTP, without the address and the headers: a password or a token may stand in them.
fn said(url: &str, fault: &ureq::Transport) -> String {
    let source = std::error::Error::source(fault).map(ToString::to_string);
    let message = fault.message().filter(|_| fault.kind() != ureq::ErrorKind::BadHeader).map(str::to_string);
    let reason = source.or(message).map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{}: {}{reason}", host_name(url), fault.kind())
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
