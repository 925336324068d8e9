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

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use tokenizers::Tokenizer;

use super::generator::Generator;
use super::request::{Answer, Api, Request};
use crate::error::{Error, Result};
use crate::progress::Event;
use crate::rng::Rng;
use chat::ChatTemplate;
use engine::{Engine, Job};
use network::Network;

/// A GGUF model of the Llama, Qwen2 or Qwen3 family. Cheap to clone; clones share weights.
///
/// Requests from several threads are answered together: each pass reads the weights once and gives every answer its next
/// token. An answer does not depend on its company: on a CPU it is the same, bit for bit, alone or among others. The price
/// is that a lone answer from Q6_K weights is computed as two. Tokens per second on two cores of an EPYC of 2024
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
        let context = file.context();
        let name = file.name();
        let engine = Arc::new(Engine::new(Network::load(file, device)?, ends));
        Ok(Self { name, tokenizer: Arc::new(tokenizer), chat: chat.map(Arc::new), begin, context, device: device.clone(), engine })
    }

    /// True for models that follow instructions: use [`Api::Chat`] with them, [`Api::Completion`] with others.
    pub fn has_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// The token ids of a request, as the model reads them.
    ///
    /// # Errors
    /// [`Error::Llm`] if a chat is asked of a model without a chat template.
    pub fn tokens(&self, request: &Request) -> Result<Vec<u32>> {
        let (text, special) = match (request.settings.api, &self.chat) {
            (Api::Completion, _) => (request.query.clone(), true),
            (Api::Chat, Some(chat)) => {
                (chat.render(&request.query).map_err(|e| self.fault(&format!("its chat template fails: {e}")))?, false)
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
        if !prompt.is_empty() && prompt.len() + count <= self.context {
            return Ok(());
        }
        if count >= self.context {
            let context = self.context;
            return Err(self.fault(&format!("{count} tokens of answer leave no room for a query in {context}: lower --max-tokens")));
        }
        let (tokens, room) = (prompt.len(), self.context - count);
        Err(Error::Unanswered(format!("a query of {tokens} tokens does not fit {}: room for 1 to {room}", self.name)))
    }

    fn text(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true).map_err(|e| self.fault(&format!("its tokenizer fails: {e}")))
    }

    fn fault(&self, what: &str) -> Error {
        Error::Llm(format!("{}: {}", self.name, super::reply::one_line(what, 200)))
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

    /// One answer. The same seed, query and completion give the same text, in any order, in any company and on any number
    /// of threads.
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
