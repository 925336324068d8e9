//! A language model in this process: quantized GGUF through Candle (feature `llm`), no service needed.

mod chat;
mod engine;
mod gguf;
mod hub;
mod linear;
mod memory;
mod network;
mod sample;
mod tokens;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use tokenizers::Tokenizer;

use super::generator::Generator;
use super::reply::one_line;
use super::request::{Answer, Api, Request};
use crate::error::{Error, Result};
use crate::progress::Event;
use crate::rng::Rng;
use chat::ChatTemplate;
use engine::{Engine, Job};
use network::Network;

/// What helps where a chat template does not.
const WITHOUT_TEMPLATE: &str = "use --api completion, or serve it with llama.cpp and name the server with --endpoint";

/// A GGUF model of the Llama, Qwen2 or Qwen3 family. Cheap to clone; clones share weights.
///
/// Requests from several threads are answered together: each pass reads the weights once and gives every answer its next
/// token. An answer does not depend on its company where weights are quantized: on a CPU it is the same, bit for bit, alone or
/// among others. (F16, BF16 and F32 weights are multiplied by another kernel, which may round otherwise for another number of
/// answers at once: with `--concurrency 1` their answers are always the same.) The price is that a lone answer from
/// Q6_K weights is computed as two. Tokens per second on two cores of an EPYC of 2024
/// (`cargo bench --features llm-reference --bench local_llm`), candle-transformers' model being greedy and one text at a time:
///
/// | shape, Q4_K_M | candle-transformers | alone | 4 at once | 16 | 31 |
/// |---|---|---|---|---|---|
/// | Qwen2.5-0.5B | 7.1 | 44 | 106 | 148 | 152 |
/// | Qwen2.5-1.5B | 22.0 | 16 | 39 | 69 | 82 |
///
/// Candle's threads wait for each other without sleeping between two products, so a model slows down out of all proportion
/// where other programs fill the processor: set `CANDLE_NUM_THREADS` to the number of free cores there. (The tests of
/// `tests/all/batched_llm.rs`, two cores, two other programs at full load: minutes, and seconds with 1.)
///
/// ```no_run
/// use candle_core::Device;
/// use lafter::describe::generate::{Generator, LocalModel, Request, Settings};
/// let model = LocalModel::load("qwen2.5-1.5b-instruct-q4_k_m.gguf", &Device::Cpu, |_| {})?;
/// let settings = Settings { temperature: 0.7, top_p: 0.9, ..Settings::chat() };
/// println!("{}", model.generate(&Request::new("Describe what an owl looks like.", &settings))?.text);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct LocalModel {
    name: String,
    tokenizer: Arc<Tokenizer>,
    chat: Option<Arc<ChatTemplate>>,
    /// Put in front of a text to be completed.
    begin: Option<u32>,
    /// Tokens that are no part of a text.
    hidden: Arc<HashSet<u32>>,
    vocabulary: usize,
    context: usize,
    device: Device,
    engine: Arc<Engine>,
}

impl LocalModel {
    /// A GGUF file, or a hub id: `owner/name` takes the repository's Q4_K_M file, `owner/name:q8_0` the one whose name holds
    /// this. The tokenizer is `tokenizer.json` next to the file, else what the file itself holds.
    ///
    /// # Errors
    /// [`Error::Llm`] if the file is not a GGUF, is cut off, or of another family, or has no usable tokenizer;
    /// [`Error::Hub`] if it cannot be downloaded.
    pub fn load(llm: &str, device: &Device, mut events: impl FnMut(&Event)) -> Result<Self> {
        let path = Path::new(llm);
        if path.is_file() {
            return Self::open(path, device);
        }
        if llm.ends_with(".gguf") || path.exists() {
            return Err(Error::Usage(format!("--llm {llm}: no such file: expected a .gguf file, or a hub id such as owner/name:q4_k_m")));
        }
        Self::open(&hub::download(llm, &mut events)?, device)
    }

    /// A GGUF file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let mut file = gguf::Gguf::open(path)?;
        let tokenizer = tokens::tokenizer(path, &mut file)?;
        let chat = file.text("tokenizer.chat_template").map(|source| {
            let token = |key: &str| file.number(key).and_then(|id| tokenizer.id_to_token(id as u32)).unwrap_or_default();
            ChatTemplate::new(&source, token("tokenizer.ggml.bos_token_id"), token("tokenizer.ggml.eos_token_id"))
        });
        let (ends, begin) = (tokens::ends(&file, &tokenizer), tokens::begin(&file));
        let (hidden, chat) = (Arc::new(tokens::hidden(&tokenizer)), chat.map(Arc::new));
        let (name, context, vocabulary) = (file.name(), file.context(), file.rows("token_embd.weight").unwrap_or(0));
        let engine = Arc::new(Engine::new(Network::load(file, device)?, ends));
        Ok(Self { name, tokenizer: Arc::new(tokenizer), chat, begin, hidden, vocabulary, context, device: device.clone(), engine })
    }

    /// True for models that follow instructions: use [`Api::Chat`] with them, [`Api::Completion`] with others.
    pub fn has_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// The token ids of a request, as the model reads them.
    ///
    /// # Errors
    /// [`Error::Llm`] if a chat is asked of a model without a chat template, or with one that fails or leaves the query out.
    pub fn tokens(&self, request: &Request) -> Result<Vec<u32>> {
        let (text, special) = match (request.settings.api, &self.chat) {
            (Api::Completion, _) => (request.query.clone(), true),
            (Api::Chat, Some(chat)) => {
                let unusable = |why: &str| self.fault(&format!("its chat template {why}: {WITHOUT_TEMPLATE}"));
                let failed = |e: minijinja::Error| unusable(&format!("fails ({})", one_line(&e.to_string(), 90)));
                let text = chat.render(&request.query).map_err(failed)?;
                if !text.contains(request.query.trim()) {
                    return Err(unusable("leaves the query out"));
                }
                (text, false)
            }
            (Api::Chat, None) => return Err(self.fault("it has no chat template: use --api completion")),
        };
        let encoding = self.tokenizer.encode(text, special).map_err(|e| self.fault(&format!("its tokenizer fails: {e}")))?;
        let mut ids = encoding.get_ids().to_vec();
        if let Some(begin) = self.begin.filter(|begin| special && ids.first() != Some(begin)) {
            ids.insert(0, begin);
        }
        Ok(ids)
    }

    /// The most probable continuation, token by token: for comparisons with other implementations.
    ///
    /// # Errors
    /// [`Error::Unanswered`] for a prompt that is empty or does not fit; [`Error::Llm`] if `count` alone does not fit.
    pub fn greedy(&self, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
        self.fits(prompt, count)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let (pick, done) = (Box::new(sample::greedy), Box::new(|_: &[u32]| Ok(false)));
        Ok(self.engine.run(Job { prompt: prompt.to_vec(), count, pick, done })?.0)
    }

    fn fits(&self, prompt: &[u32], count: usize) -> Result<()> {
        if let Some(token) = prompt.iter().find(|token| **token as usize >= self.vocabulary) {
            return Err(self.fault(&format!("token {token} is none of its {}: its tokenizer is another model's", self.vocabulary)));
        }
        if !prompt.is_empty() && prompt.len().saturating_add(count) <= self.context {
            return Ok(());
        }
        if count >= self.context {
            let context = self.context;
            return Err(self.fault(&format!("{count} tokens of answer leave no room for a query in {context}: lower --max-tokens")));
        }
        let (tokens, room) = (prompt.len(), self.context - count);
        Err(Error::Unanswered(format!("a query of {tokens} tokens does not fit {}: room for 1 to {room}", self.name)))
    }

    /// What tokens of an answer say; those that are no part of a text, such as the end of a turn, say nothing.
    ///
    /// # Errors
    /// [`Error::Llm`] if the tokenizer fails.
    pub fn text(&self, tokens: &[u32]) -> Result<String> {
        let shown: Vec<u32> = tokens.iter().copied().filter(|token| !self.hidden.contains(token)).collect();
        self.tokenizer.decode(&shown, false).map_err(|e| self.fault(&format!("its tokenizer fails: {e}")))
    }

    fn fault(&self, what: &str) -> Error {
        Error::Llm(format!("{}: {}", self.name, one_line(what, 240)))
    }
}

impl Generator for LocalModel {
    fn model(&self) -> &str {
        &self.name
    }

    /// As many as one pass serves well; the few per cent that 31 gain are lost again if a run is stopped.
    fn at_once(&self) -> usize {
        16
    }

    /// One answer. The same seed, query and completion give the same text, in any order and on any number of threads, and with
    /// quantized weights in any company.
    fn generate(&self, request: &Request) -> Result<Answer> {
        let settings = request.settings.clone();
        settings.validate()?;
        let (prompt, count) = (self.tokens(request)?, settings.max_tokens);
        self.fits(&prompt, count)?;
        let key = request.key("").0;
        let mut rng = Rng::new(settings.seed).fork(key as u64 ^ (key >> 64) as u64);
        let (temperature, top_p) = (settings.temperature, settings.top_p);
        let pick = Box::new(move |logits: &[f32]| sample::draw(logits, temperature, top_p, &mut rng));
        let (stops, model) = (settings.stop.clone(), self.clone());
        let done = Box::new(move |tokens: &[u32]| Ok(!stops.is_empty() && cut(&model.text(tokens)?, &stops).is_some()));
        let (tokens, finish) = self.engine.run(Job { prompt, count, pick, done })?;
        let text = self.text(&tokens)?;
        Ok(Answer { text: cut(&text, &settings.stop).unwrap_or(text), finish })
    }
}

/// The text before the first stop string, if there is one.
fn cut(text: &str, stops: &[String]) -> Option<String> {
    let first = stops.iter().filter_map(|stop| text.find(stop.as_str())).min()?;
    Some(text[..first].to_string())
}

impl fmt::Debug for LocalModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalModel({}, {:?})", self.name, self.device)
    }
}
