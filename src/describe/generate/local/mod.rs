//! A language model in this process: quantised GGUF through candle-transformers (feature `llm`), no service needed.

mod chat;
mod gguf;
mod hub;
mod sample;
mod tokens;
mod weights;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{Device, IndexOp, Tensor};
use tokenizers::Tokenizer;

use super::generator::Generator;
use super::request::{Answer, Api, Finish, Request};
use crate::error::{Error, Result};
use crate::progress::{Event, check_interrupt};
use crate::rng::Rng;
use chat::ChatTemplate;
use weights::Weights;

/// A GGUF model of the Llama, Qwen2 or Qwen3 family. Cheap to clone; clones share weights and take turns.
///
/// One answer is made at a time: decoding is bound by memory and arithmetic that already use every core (see
/// [`Generator::generate`] below), so requests in flight gain nothing here.
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
    /// Tokens that end an answer.
    ends: Vec<u32>,
    /// Put in front of a text to be completed.
    begin: Option<u32>,
    context: usize,
    device: Device,
    weights: Arc<Mutex<Weights>>,
}

impl LocalModel {
    /// A GGUF file, or a hub id: `owner/name` takes the repository's Q4_K_M file, `owner/name:q8_0` the one whose name holds
    /// this. The tokenizer is `tokenizer.json` beside the file, else what the file itself holds.
    ///
    /// # Errors
    /// [`Error::Llm`] where the file is no GGUF, is cut off, or of another family, or has no usable tokenizer;
    /// [`Error::Hub`] where it cannot be downloaded.
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
        let weights = Weights::load(file, device)?;
        Ok(Self {
            name,
            tokenizer: Arc::new(tokenizer),
            chat: chat.map(Arc::new),
            ends,
            begin,
            context,
            device: device.clone(),
            weights: Arc::new(Mutex::new(weights)),
        })
    }

    /// True for models that follow instructions: use [`Api::Chat`] with them, [`Api::Completion`] with others.
    pub fn has_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// The token ids of a request, as the model reads them.
    ///
    /// # Errors
    /// [`Error::Llm`] where a chat is asked of a model without a chat template.
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

    /// The tokens that follow `prompt` (not empty), at most `count`, with the reason of the end. `pick` chooses from the
    /// logits; `done` sees all tokens so far.
    fn extend(
        &self,
        prompt: &[u32],
        count: usize,
        mut pick: impl FnMut(&[f32]) -> u32,
        mut done: impl FnMut(&[u32]) -> Result<bool>,
    ) -> Result<(Vec<u32>, Finish)> {
        let mut weights = self.weights.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        weights.reset();
        let mut answer: Vec<u32> = Vec::new();
        let mut input = prompt.to_vec();
        let mut place = 0;
        while answer.len() < count {
            check_interrupt("the local model")?;
            let tokens = Tensor::new(input.as_slice(), &self.device)?.unsqueeze(0)?; // [1, tokens]
            let logits = weights.forward(&tokens, place)?.i(0)?.flatten_all()?.to_dtype(candle_core::DType::F32)?; // [vocabulary]
            place += input.len();
            let token = pick(&logits.to_vec1::<f32>()?);
            if self.ends.contains(&token) {
                return Ok((answer, Finish::Stop));
            }
            answer.push(token);
            if done(&answer)? {
                return Ok((answer, Finish::Stop));
            }
            input = vec![token];
        }
        Ok((answer, Finish::Length))
    }

    /// The most probable continuation, token by token: for comparisons with other implementations.
    ///
    /// # Errors
    /// [`Error::Candle`].
    pub fn greedy(&self, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
        Ok(self.extend(prompt, count, sample::greedy, |_| Ok(false))?.0)
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

    /// One answer. The same seed, query and completion give the same text, in any order and on any number of threads.
    fn generate(&self, request: &Request) -> Result<Answer> {
        let settings = &request.settings;
        settings.validate()?;
        let prompt = self.tokens(request)?;
        if prompt.is_empty() || prompt.len() + settings.max_tokens > self.context {
            let (tokens, room) = (prompt.len(), self.context.saturating_sub(settings.max_tokens));
            return Err(Error::Unanswered(format!("a query of {tokens} tokens does not fit {}: room for 1 to {room}", self.name)));
        }
        let key = request.key("").0;
        let mut rng = Rng::new(settings.seed).fork(key as u64 ^ (key >> 64) as u64);
        let pick = |logits: &[f32]| sample::draw(logits, settings.temperature, settings.top_p, &mut rng);
        let stopped = |tokens: &[u32]| Ok(!settings.stop.is_empty() && cut(&self.text(tokens)?, &settings.stop).is_some());
        let (tokens, finish) = self.extend(&prompt, settings.max_tokens, pick, stopped)?;
        let text = self.text(&tokens)?;
        Ok(Answer { text: cut(&text, &settings.stop).unwrap_or(text), finish })
    }
}

/// The text before the first stop string, where there is one.
fn cut(text: &str, stops: &[String]) -> Option<String> {
    let first = stops.iter().filter_map(|stop| text.find(stop.as_str())).min()?;
    Some(text[..first].to_string())
}

impl fmt::Debug for LocalModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalModel({}, {:?})", self.name, self.device)
    }
}
