//! Any server that speaks OpenAI's API: llama.cpp, vLLM, Ollama, `transformers serve`, the hosted ones.

use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::api_key::ApiKey;
use super::generator::Generator;
use super::reply::{Reply, answer_of, one_line};
use super::request::{Answer, Api, Request};
use super::retry::{Backoff, WAITING, wait_of};
use crate::error::{Error, Result};
use crate::progress::pause;
use crate::proxy::{host_name, proxy_for};

/// The longest body that is read: an answer of a few thousand tokens is a hundredth of it.
const BODY_LIMIT: u64 = 8 << 20;
/// How long a server may load its model.
const LOADING_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Between two questions whether it is done.
const LOADING_STEP: Duration = Duration::from_secs(2);
/// A wait that a server asks for, and one of several, is told from this on.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// How long one request comes again as often as the server says when, before that counts as failures.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Lines about waiting are at least this far apart.
const BETWEEN_NEWS: Duration = Duration::from_secs(60);
/// Names of parameters of an address that hold a key, or part of one.
const SECRETS: [&str; 7] = ["key", "token", "secret", "sig", "pass", "auth", "code"];

/// A model behind an OpenAI-compatible server. Cheap to clone; all clones share their connections.
///
/// ```no_run
/// use lafter::describe::generate::{Endpoint, Generator, Request, Settings};
/// let model = Endpoint::new("http://localhost:8080/v1", "qwen2.5-7b-instruct")?;
/// let answer = model.generate(&Request::new("Describe what an owl looks like.", &Settings::chat()))?;
/// println!("{}", answer.text);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct Endpoint {
    /// With `/v1` or what the user gave instead; without a slash at its end.
    base: String,
    /// `?api-version=2024-02-01` of the address, or nothing; it stands behind every path.
    query: String,
    /// Scheme, host and port: what errors may show.
    host: String,
    model: String,
    key: Option<ApiKey>,
    timeout: Duration,
    retries: usize,
    agent: ureq::Agent,
    state: Arc<State>,
}

/// What was learned of the server while asking.
#[derive(Default)]
struct State {
    /// It answered once, so address, key and model are right.
    answered: AtomicBool,
    /// It answered this model's requests in an earlier run, so the parameters are right.
    known: AtomicBool,
    /// It wants the newer name of `max_tokens`.
    max_completion_tokens: AtomicBool,
    /// What the user should be told, and when something was told last.
    news: Mutex<(Vec<String>, Option<Instant>)>,
}

impl Endpoint {
    /// `url` as its documentation gives it: with or without `/v1`, with or without `/chat/completions`, with parameters that
    /// go with every request (`?api-version=…`).
    ///
    /// # Errors
    /// [`Error::Usage`] if it is not an http or https address or holds a password or a key, or the model has no name.
    pub fn new(url: &str, model: &str) -> Result<Self> {
        let (url, query) = url.trim().split_once('?').unwrap_or((url.trim(), ""));
        let url = url.trim_end_matches('/');
        let ends = ["/chat/completions", "/completions", "/responses", "/models"];
        let url = ends.iter().find_map(|end| url.strip_suffix(end)).unwrap_or(url);
        let parts = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
        let wrong = || Error::Usage("--endpoint must be an address such as http://localhost:8080/v1 or https://api.openai.com/v1".into());
        let (scheme, rest) = parts.ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        let secret = |parameter: &str| SECRETS.iter().any(|word| parameter.split('=').next().unwrap_or("").to_lowercase().contains(word));
        let odd = |text: &str| text.contains(['#', ' ']);
        if authority.is_empty() || authority.contains('@') || odd(rest) || odd(query) || query.split('&').any(secret) {
            // a name, password or key inside the address would end up in messages of other libraries
            let text = "--endpoint must not hold a user name, a password, a key or a `#`: a key comes from the environment, see --key-env";
            return Err(Error::Usage(text.into()));
        }
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        if model.trim().is_empty() {
            return Err(Error::Usage("--llm must name the model that the server is to use".into()));
        }
        let base = if path.is_empty() { format!("{scheme}://{authority}/v1") } else { url.to_string() };
        let host = format!("{scheme}://{authority}");
        let (timeout, retries) = (Duration::from_secs(120), 6);
        proxy_for(&host)?;
        let agent = agent(&host, timeout);
        Ok(Self { base, query, host, model: model.trim().into(), key: None, timeout, retries, agent, state: Arc::default() })
    }

    /// Sends the key that the environment variable `name` holds with every request. It stays in memory.
    ///
    /// # Errors
    /// [`Error::Usage`] if the variable is not set, or holds what cannot be a key.
    pub fn key_from_env(mut self, name: &str) -> Result<Self> {
        self.key = Some(ApiKey::from_env(name)?);
        Ok(self)
    }

    /// The same with `OPENAI_API_KEY` if it is set, but only over https or to this machine: any other server has to be
    /// trusted with a key by name.
    ///
    /// # Errors
    /// As [`key_from_env`](Self::key_from_env).
    pub fn default_key(self) -> Result<Self> {
        const NAME: &str = "OPENAI_API_KEY";
        let set = std::env::var_os(NAME).is_some_and(|value| !value.is_empty());
        if set && (self.host.starts_with("https://") || is_local(&self.host)) { self.key_from_env(NAME) } else { Ok(self) }
    }

    /// How long one answer may take; 120 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(1));
        self.agent = agent(&self.host, self.timeout);
        self
    }

    /// How often a request is tried again after 429, 5xx, time-outs and broken connections; 6 by default.
    pub fn retries(mut self, retries: usize) -> Self {
        self.retries = retries;
        self
    }

    /// The body of a request.
    fn body(&self, request: &Request) -> Value {
        let settings = &request.settings;
        let mut body = json!({ "model": self.model, "temperature": settings.temperature, "top_p": settings.top_p, "seed": request.seed() });
        match settings.api {
            Api::Chat => body["messages"] = json!([{ "role": "user", "content": request.query }]),
            Api::Completion => body["prompt"] = json!(request.query),
        }
        let newer = settings.api == Api::Chat && self.state.max_completion_tokens.load(Ordering::SeqCst);
        body[if newer { "max_completion_tokens" } else { "max_tokens" }] = json!(settings.max_tokens);
        if !settings.stop.is_empty() {
            body["stop"] = json!(settings.stop);
        }
        if let Some(fields) = body.as_object_mut() {
            settings.omit.iter().for_each(|name| drop(fields.remove(name)));
        }
        body
    }

    /// Sends once and says what is to be done with what came back.
    fn try_once(&self, request: &Request) -> Reply {
        let path = match request.settings.api {
            Api::Chat => "chat/completions",
            Api::Completion => "completions",
        };
        let mut call = self.agent.post(&format!("{}/{path}{}", self.base, self.query)).set("Content-Type", "application/json");
        if let Some(key) = &self.key {
            // Azure takes a bearer's token for a token of its directory
            call = if is_azure(&self.host, &self.query) {
                call.set("api-key", key.expose())
            } else {
                call.set("Authorization", &format!("Bearer {}", key.expose()))
            };
        }
        let body = self.body(request);
        match call.send_string(&body.to_string()) {
            Ok(response) => {
                let to = response.header("location").map(|to| format!(", {}", one_line(to, 120))).unwrap_or_default();
                match read(response) {
                    (200..=299, Ok(body), _) => answer_of(&body, request.settings.api, self.key.as_ref()),
                    (200..=299, Err(Unread::TooLong), _) => {
                        Reply::Skip(format!("{}'s answer is longer than {} MiB, the most that is read", self.host, BODY_LIMIT >> 20))
                    }
                    (200..=299, Err(Unread::TooSlow), _) => Reply::again(self.too_slow()),
                    (200..=299, Err(Unread::Cut(why)), _) => Reply::again(why),
                    // no interim answer ("100 Continue") was asked for
                    (code @ ..=199, _, _) => Reply::again(format!("status {code} in place of an answer")),
                    (code, _, _) => Reply::Fatal(format!("sends on to another address (status {code}{to}): give that one as --endpoint")),
                }
            }
            Err(ureq::Error::Status(code, response)) => {
                let (_, answer, after) = read(response);
                let answer = answer.unwrap_or_default();
                let renamed = request.settings.api == Api::Chat && body.get("max_tokens").is_some() && matches!(code, 400 | 422);
                if renamed && String::from_utf8_lossy(&answer).contains("max_completion_tokens") {
                    // requests that were sent side by side all come here, each once
                    self.state.max_completion_tokens.store(true, Ordering::SeqCst);
                    return self.try_once(request);
                }
                self.refusal(code, &answer, after)
            }
            Err(ureq::Error::Transport(fault)) => self.fault(&fault),
        }
    }

    /// What a status of 400 and above means.
    fn refusal(&self, code: u16, body: &[u8], after: Option<Duration>) -> Reply {
        let said = self.said(body);
        let key = self.key.as_ref().map(|key| key.name());
        let accepted = self.state.answered.load(Ordering::SeqCst) || self.state.known.load(Ordering::SeqCst);
        match code {
            // of one that is accepted, 403 is a word about the query: some servers moderate so
            401 | 403 if code == 401 || !accepted => Reply::Fatal(match key {
                Some(name) => format!("refuses the key in {name} (status {code}{said}): set {name} to a valid one"),
                None => format!("wants a key (status {code}{said}): put it into OPENAI_API_KEY, or name its variable with --key-env"),
            }),
            402 => Reply::Fatal(format!("wants to be paid (status 402{said}): add credit and run again")),
            404 | 405 => Reply::Fatal(format!(
                "does not know this address or the model \"{}\" (status {code}{said}): check --endpoint, --llm and --api",
                self.model
            )),
            429 if said.contains("insufficient_quota") => {
                Reply::Fatal(format!("says that the quota is used up (status 429{said}): add credit and run again"))
            }
            503 if is_loading(&said) => Reply::Loading(format!("status {code}{said}")),
            408 | 425 | 429 | 500..=599 => Reply::Again { why: format!("status {code}{said}"), after },
            // one query may be against a server's rules; if not a single one is accepted, it is the parameters
            _ if accepted || is_moderated(&said) => Reply::Refused(format!("the server refused a request (status {code}{said})")),
            _ => Reply::Fatal(format!(
                "refuses the request (status {code}{said}): leave out what it does not know with --omit, or see --api"
            )),
        }
    }

    /// The server's own words, as the end of a message: one line, no key.
    fn said(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let mut json: Option<Value> = serde_json::from_str(&text).ok();
        if let (Some(json), Some(key)) = (&mut json, &self.key) {
            key.redact_json(json);
        }
        let field = |name: &str| json.as_ref().and_then(|json| json.pointer(name)).and_then(Value::as_str).map(str::to_string);
        let message = field("/error/message").or_else(|| field("/message")).or_else(|| field("/detail")).or_else(|| field("/error"));
        let code = field("/error/code").map(|code| format!("{code}: ")).unwrap_or_default();
        let mut text = format!("{code}{}", message.unwrap_or_else(|| text.into_owned()));
        if let Some(key) = &self.key {
            text = key.redact(&text);
        }
        let text = one_line(&text, 200);
        if text.is_empty() { text } else { format!(": {text}") }
    }

    fn too_slow(&self) -> String {
        format!("no answer within {} s: raise --timeout if it needs longer", self.timeout.as_secs_f64())
    }

    /// Keeps a line about waiting for [`Generator::news`], unless there was one a moment ago: all requests in flight wait.
    fn tell(&self, line: String) {
        let mut news = self.state.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.1.is_none_or(|last| last.elapsed() >= BETWEEN_NEWS) {
            news.0.push(line);
            news.1 = Some(Instant::now());
        }
    }

    /// A fault below HTTP. Before the first answer it is the address, after it the network.
    fn fault(&self, fault: &ureq::Transport) -> Reply {
        let io = std::error::Error::source(fault).and_then(|source| source.downcast_ref::<std::io::Error>());
        let reason = io.map_or_else(|| fault.message().unwrap_or("no reason given").to_string(), ToString::to_string);
        let reason = one_line(&self.key.as_ref().map_or(reason.clone(), |key| key.redact(&reason)), 120);
        let known = self.state.answered.load(Ordering::SeqCst);
        if reason.contains("timed out") && (known || fault.kind() == ureq::ErrorKind::Io) {
            return Reply::again(self.too_slow());
        }
        match fault.kind() {
            ureq::ErrorKind::Dns if !known => {
                Reply::Fatal(format!("is an unknown host ({reason}): check the spelling of --endpoint and the network"))
            }
            ureq::ErrorKind::ConnectionFailed if !known => {
                Reply::Fatal(format!("cannot be reached ({reason}): start the server, or check the port of --endpoint"))
            }
            ureq::ErrorKind::InvalidUrl | ureq::ErrorKind::UnknownScheme => Reply::Fatal("is not an address: check --endpoint".into()),
            ureq::ErrorKind::InvalidProxyUrl | ureq::ErrorKind::ProxyConnect | ureq::ErrorKind::ProxyUnauthorized => Reply::Fatal(format!(
                "cannot be reached through the proxy ({reason}): check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY"
            )),
            kind => Reply::again(format!("{}: {reason}", kind.to_string().to_lowercase())),
        }
    }
}

impl Generator for Endpoint {
    fn model(&self) -> &str {
        &self.model
    }

    fn at_once(&self) -> usize {
        8
    }

    fn known(&self) {
        self.state.known.store(true, Ordering::SeqCst);
    }

    fn news(&self) -> Vec<String> {
        std::mem::take(&mut self.state.news.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn generate(&self, request: &Request) -> Result<Answer> {
        request.settings.validate()?;
        let mut backoff = Backoff::new(request, self.retries);
        let (started, mut tries, mut loading) = (Instant::now(), 0, None);
        loop {
            let (why, after) = match self.try_once(request) {
                Reply::Answer(answer) => {
                    self.state.answered.store(true, Ordering::SeqCst);
                    return Ok(answer);
                }
                Reply::Fatal(why) => return Err(Error::Llm(format!("{} {why}", self.host))),
                Reply::Skip(why) => return Err(Error::Unanswered(why)),
                Reply::Refused(why) => return Err(Error::Refused(why)),
                Reply::Loading(why) => {
                    let limit = LOADING_LIMIT.as_secs() / 60;
                    if loading.get_or_insert_with(Instant::now).elapsed() >= LOADING_LIMIT {
                        let remedy = "look at the server, and repeat the command when it answers";
                        return Err(Error::Llm(format!("{} still loads its model after {limit} minutes ({why}): {remedy}", self.host)));
                    }
                    self.tell(format!("{} loads its model ({why}): waiting for it, {limit} minutes at most", self.host));
                    pause(WAITING, LOADING_STEP)?;
                    continue;
                }
                Reply::Again { why, after } => (why, after),
            };
            tries += 1;
            // a server that says when to come again has not failed: with many requests in flight each may have to come often
            let asked = after.filter(|wait| !wait.is_zero());
            let patient = asked.is_some() && self.retries > 0 && started.elapsed() < PATIENCE;
            let told = asked.filter(|wait| *wait >= LONG_WAIT || started.elapsed() >= LONG_WAIT);
            if let Some(wait) = told.filter(|_| patient || backoff.is_left()) {
                let seconds = wait.as_secs_f64().ceil();
                self.tell(format!("{} wants to be asked again in {seconds} s ({why}): waiting; Ctrl-C keeps what is there", self.host));
            }
            if !(if patient { backoff.again(after)? } else { backoff.wait(after)? }) {
                return Err(Error::Unanswered(format!("{} failed {tries} times: {why}", self.host)));
            }
        }
    }
}

/// Why a body was not read.
enum Unread {
    TooLong,
    TooSlow,
    Cut(String),
}

/// Status, body, and how long the server wants to be left alone.
fn read(response: ureq::Response) -> (u16, std::result::Result<Vec<u8>, Unread>, Option<Duration>) {
    let code = response.status();
    let after = response.header("retry-after").and_then(|text| wait_of(text, SystemTime::now()));
    let mut body = Vec::new();
    let read = response.into_reader().take(BODY_LIMIT + 1).read_to_end(&mut body);
    let body = match read {
        Ok(_) if body.len() as u64 > BODY_LIMIT => Err(Unread::TooLong),
        Ok(_) => Ok(body),
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut || e.to_string().contains("timed out") => Err(Unread::TooSlow),
        Err(e) => Err(Unread::Cut(format!("the answer was cut off: {}", one_line(&e.to_string(), 80)))),
    };
    (code, body, after)
}

/// True if a server that is there says that its model is not yet: llama.cpp ("Loading model"), Hugging Face's ("is
/// currently loading"), and others.
fn is_loading(said: &str) -> bool {
    let said = said.to_lowercase();
    ["loading", "warming up", "starting up", "initializing", "not ready"].iter().any(|word| said.contains(word))
}

/// True if a server says that the words of a query are against its rules, and not its parameters.
fn is_moderated(said: &str) -> bool {
    let said = said.to_lowercase();
    ["content_filter", "content filter", "content_policy", "content policy", "content management policy", "moderation", "flagged", "safety"]
        .iter()
        .any(|word| said.contains(word))
}

/// Azure's servers and gateways before them take the key in a header of their own.
fn is_azure(host: &str, query: &str) -> bool {
    let name = host_name(host);
    name.ends_with(".azure.com") || name.ends_with(".azure-api.net") || query.contains("api-version=")
}

/// Connections of one endpoint. No redirects: a POST sent elsewhere would take the query, and perhaps the key, along.
fn agent(host: &str, timeout: Duration) -> ureq::Agent {
    let agent = ureq::AgentBuilder::new()
        .timeout_connect(Duration::from_secs(15).min(timeout))
        .timeout(timeout)
        .redirects(0)
        .max_idle_connections(256)
        .max_idle_connections_per_host(256)
        .user_agent(concat!("lafter/", env!("CARGO_PKG_VERSION")));
    match proxy_for(host) {
        Ok(Some(proxy)) => agent.proxy(proxy).build(),
        _ => agent.build(), // `Endpoint::new` refuses what is no proxy
    }
}

fn is_local(host: &str) -> bool {
    let name = host_name(host);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map_or("no key".into(), |key| format!("key from {}", key.name()));
        write!(f, "Endpoint({}, {}, {key})", self.base, self.model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::generate::Settings;

    #[test]
    fn addresses_as_people_write_them() {
        for url in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/chat/completions", "http://h:1/v1/completions/"] {
            assert_eq!(Endpoint::new(url, "m").unwrap().base, "http://h:1/v1", "{url}");
        }
        assert_eq!(Endpoint::new("https://h/api/openai/", "m").unwrap().base, "https://h/api/openai");
        for path in ["chat/completions", ""] {
            let url = format!("https://h/openai/deployments/d/{path}?api-version=2024-02-01");
            let endpoint = Endpoint::new(&url, "m").unwrap();
            assert_eq!((endpoint.base.as_str(), endpoint.query.as_str()), ("https://h/openai/deployments/d", "?api-version=2024-02-01"));
        }
        let bare = Endpoint::new("http://h:1?", "m").unwrap();
        assert_eq!((bare.base.as_str(), bare.query.as_str()), ("http://h:1/v1", ""));
        assert!(
            is_azure("https://x.openai.azure.com", "") && is_azure("http://h", "?api-version=1") && !is_azure("https://azure.example", "")
        );
        for url in [
            "https://h/v1?api_key=sk-1",
            "https://h/v1?a=b&access_token=sk-1",
            "https://h/v1#sk-1",
            "h:1",
            "ftp://h",
            "http://",
            "http://user:word@h",
            "https://h/v1?key=sk-1",
            "",
        ] {
            let error = Endpoint::new(url, "m").unwrap_err();
            assert!(error.is_usage() && !error.to_string().contains("sk-1") && !error.to_string().contains("word@"), "{error}");
        }
        assert!(Endpoint::new("http://h", " ").is_err());
    }

    #[test]
    fn news_come_once_and_not_too_often() {
        let endpoint = Endpoint::new("http://h", "m").unwrap();
        endpoint.tell("one".into());
        endpoint.clone().tell("two".into());
        assert_eq!(endpoint.news(), ["one"]);
        assert!(endpoint.news().is_empty());
        assert!(is_loading(": Loading model") && is_loading(": unavailable_error: Model m is currently loading") && !is_loading(": busy"));
    }

    #[test]
    fn hosts_of_this_machine() {
        assert!(["http://localhost:1", "http://127.0.0.1:80", "http://[::1]:8"].iter().all(|host| is_local(host)));
        assert!(!["http://localhost.example.org", "https://10.0.0.1"].iter().any(|host| is_local(host)));
    }

    #[test]
    fn the_body_holds_what_the_settings_say() {
        let endpoint = Endpoint::new("http://h", "m").unwrap();
        let chat = endpoint.body(&Request::new("Q", &Settings::chat()));
        assert_eq!(chat["messages"][0]["content"], "Q");
        assert_eq!((&chat["max_tokens"], &chat["stop"]), (&json!(50), &Value::Null));
        let settings = Settings { omit: vec!["seed".into(), "top_p".into()], ..Settings::official() };
        let completion = endpoint.body(&Request::new("Q", &settings));
        assert_eq!(completion, json!({ "model": "m", "prompt": "Q", "temperature": 0.99, "max_tokens": 50, "stop": ["."] }));
    }
}
