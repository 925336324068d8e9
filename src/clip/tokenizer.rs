//! CLIP's tokenizer: texts to ids, cut at the context length with end-of-text kept.

mod clean;
mod growth;
mod vocabulary;

pub(crate) use vocabulary::byte_letters;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::catch_panic::catch_panic;
use crate::error::{Error, Result, cut};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// What OpenAI and open_clip call their list of merges.
const MERGE_LIST: &str = "bpe_simple_vocab_16e6.txt.gz";

/// Longest reason of another crate that a message repeats, in characters.
const LONGEST_REASON: usize = 120;

/// Texts as ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// One row per text: start, words, end; no padding.
    pub ids: Vec<Vec<u32>>,
    /// How many texts were longer than the context and lost their last words.
    pub cut: usize,
}

impl Tokens {
    /// All rows in one block, `pad` behind each: values in row-major order and the shape `[n, length]`. `length` is that of
    /// the longest row if `None`.
    ///
    /// # Errors
    /// [`Error::Usage`] if a row is longer than `length`.
    ///
    /// ```
    /// let tokens = lafter::clip::Tokens { ids: vec![vec![5, 9], vec![5, 6, 9]], cut: 0 };
    /// assert_eq!(tokens.padded(0, None)?, (vec![5, 9, 0, 5, 6, 9], [2, 3]));
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn padded(&self, pad: u32, length: Option<usize>) -> Result<(Vec<u32>, [usize; 2])> {
        let longest = self.ids.iter().map(Vec::len).max().unwrap_or(0);
        let length = length.unwrap_or(longest);
        if longest > length {
            return Err(Error::Usage(format!(
                "a text of {longest} tokens cannot be padded to {length}: choose a length of at least {longest}"
            )));
        }
        let row = |ids: &Vec<u32>| ids.iter().copied().chain(std::iter::repeat(pad)).take(length).collect::<Vec<_>>();
        Ok((self.ids.iter().flat_map(row).collect(), [self.ids.len(), length]))
    }
}

/// Byte-pair encoding as CLIP uses it. Texts are cleaned first, as OpenAI's and open_clip's tokenizers do and a `tokenizer.json` does not:
/// the common entities of HTML, also escaped twice, become characters; curly quotes, ligatures and full-width letters their plain
/// forms. Garbled encodings (mojibake) are not repaired. Cloning shares the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    start: u32,
    end: u32,
    end_name: Arc<str>,
    source: Arc<str>,
    /// A hash of the file's contents and of the names of start- and end-of-text.
    hash: Arc<str>,
    context: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, else `vocab.json` and `merges.txt`, else OpenAI's `bpe_simple_vocab_16e6.txt.gz`. A `tokenizer.json` of
    /// transformers before 4.17, which keeps the blanks between words, gives way to the two files.
    /// `context` is the text tower's length in tokens, start and end included.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if none of the files is there, one is unreadable or keeps the blanks, or start- or end-of-text is missing.
    pub fn from_dir(directory: impl AsRef<Path>, context: usize) -> Result<Self> {
        let directory = directory.as_ref();
        let file = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
        let pair = file("vocab.json").zip(file("merges.txt"));
        let whole = file("tokenizer.json").map(|path| read(&path).map(|json| (path, json))).transpose()?;
        let old = |json: &[u8]| serde_json::from_slice::<Value>(json).is_ok_and(|json| keeps_blanks(&json));
        let (path, json) = if let Some(whole) = whole.filter(|(_, json)| pair.is_none() || !old(json)) {
            whole
        } else if let Some((vocabulary, merges)) = pair {
            let json = vocabulary::from_files(&vocabulary, &read(&vocabulary)?, &merges, &read(&merges)?)?;
            (directory.join("vocab.json with merges.txt"), json)
        } else if let Some(path) = file(MERGE_LIST) {
            let json = vocabulary::from_merge_list(&path, &read(&path)?)?;
            (path, json)
        } else {
            let looked = format!("tokenizer.json, vocab.json with merges.txt, {MERGE_LIST}");
            let remedy = "add one of them; all of OpenAI's and most open_clip models share the files of openai/clip-vit-base-patch32";
            return Err(Error::Tokenizer(format!("no tokenizer in {}: looked for {looked}: {remedy}", directory.display())));
        };
        let (start, end) = special_names(directory);
        Self::new(&json, &path.display().to_string(), context, &start, &end)
    }

    /// The same from the contents of a `tokenizer.json`; `source` names it in errors.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it cannot be read, has no start- or end-of-text, or `context` is below 2.
    pub fn from_json(json: &[u8], source: &str, context: usize) -> Result<Self> {
        Self::new(json, source, context, START, END)
    }

    fn new(json: &[u8], source: &str, context: usize, start: &str, end: &str) -> Result<Self> {
        let fault = |why: String| {
            let why = why.lines().next().unwrap_or_default().chars().take(LONGEST_REASON).collect::<String>();
            Error::Tokenizer(format!("{source} is not a tokenizer ({why}): download it again"))
        };
        if context < 2 {
            return Err(Error::Tokenizer(format!("a context of {context} tokens has no room for start- and end-of-text")));
        }
        let bytes = Sha256::new().chain_update(json).chain_update(start).chain_update(end).finalize();
        let hash: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // what turns ids back into text, pads and cuts is not used; a broken decoder makes the tokenizers crate panic
        let mut json: Value = serde_json::from_slice(json).map_err(|e| fault(e.to_string()))?;
        let fields = json.as_object_mut().ok_or_else(|| fault("not an object".into()))?;
        ["decoder", "post_processor", "truncation", "padding"].iter().for_each(|unused| drop(fields.shift_remove(*unused)));
        // drops merges at random, for training: answers would differ from run to run
        json["model"].as_object_mut().into_iter().for_each(|model| drop(model.shift_remove("dropout")));
        growth::check(&json).map_err(&fault)?;
        if keeps_blanks(&json) {
            let remedy = "add vocab.json and merges.txt, or save the tokenizer again with a current transformers";
            return Err(Error::Tokenizer(format!(
                "{source} keeps the blanks between words, as transformers before 4.17 wrote it, and CLIP's words have none: {remedy}"
            )));
        }
        // damaged merges make the tokenizers crate panic
        let read = catch_panic(|| tokenizers::Tokenizer::from_bytes(json.to_string()).map_err(|e| e.to_string()));
        let inner = read.ok_or_else(|| fault("its parts contradict each other".into()))?.map_err(&fault)?;
        let special = |token: &str, kind: &str| {
            let remedy = "use the tokenizer that belongs to this checkpoint";
            inner.token_to_id(token).ok_or_else(|| Error::Tokenizer(format!("{source} has no {kind} token \"{}\": {remedy}", cut(token))))
        };
        let (end_name, source) = (end.into(), source.into());
        let (end, start) = (special(end, "end-of-text")?, special(start, "start-of-text")?);
        Ok(Self { inner: Arc::new(inner), start, end, end_name, source, hash: hash.into(), context })
    }

    /// The `tokenizer.json` for transformers of a tokenizer that was read from a list of merges alone; `None` of one from other files.
    pub(super) fn json_of_merges(&self) -> Result<Option<Vec<u8>>> {
        let path = Path::new(&*self.source);
        if path.file_name().is_none_or(|name| name != MERGE_LIST) {
            return Ok(None);
        }
        vocabulary::for_transformers(path, &read(path)?, [self.start, self.end]).map(Some)
    }

    /// Texts to ids, in parallel, in input order. A text that does not fit the context loses its last words, never the
    /// end-of-text, at which the text tower reads its feature.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a text that cannot be tokenized.
    pub fn encode(&self, texts: &[impl AsRef<str>]) -> Result<Tokens> {
        let clean: Vec<String> = texts.iter().map(|text| clean::clean(text.as_ref())).collect();
        let fault = |text: &str, why: &str| {
            let why = why.lines().next().unwrap_or_default().chars().take(LONGEST_REASON).collect::<String>();
            let remedy = "use the tokenizer that belongs to this checkpoint";
            Error::Tokenizer(format!("the text \"{}\" cannot be tokenized ({why}): {remedy}", cut(text)))
        };
        let encode = |text: &String| {
            // a tokenizer that was accepted may still give up: its patterns are compared with a text here first
            let encoded = catch_panic(|| self.inner.encode_fast(text.as_str(), false).map_err(|e| e.to_string()));
            encoded.ok_or_else(|| fault(text, "the tokenizer gave up"))?.map_err(|e| fault(text, &e))
        };
        let encodings = clean.par_iter().map(encode).collect::<Result<Vec<_>>>()?;
        let room = self.context - 2; // the constructor has made sure that context ≥ 2
        let cut = encodings.iter().filter(|encoding| encoding.get_ids().len() > room).count();
        let row = |words: &[u32]| {
            let words = words.iter().copied().take(room);
            std::iter::once(self.start).chain(words).chain(std::iter::once(self.end)).collect()
        };
        Ok(Tokens { ids: encodings.iter().map(|encoding| row(encoding.get_ids())).collect(), cut })
    }

    /// Checks that every id fits a text tower with an embedding of `vocabulary` rows.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an id of `vocabulary` or above.
    pub fn check_vocabulary(&self, vocabulary: usize) -> Result<()> {
        let highest = self.highest() as usize;
        if highest < vocabulary {
            return Ok(());
        }
        let remedy = "use the tokenizer that belongs to this checkpoint";
        Err(Error::Tokenizer(format!("the tokenizer gives ids up to {highest}, the text tower knows {vocabulary}: {remedy}")))
    }

    /// The highest id.
    pub fn highest(&self) -> u32 {
        self.inner.get_vocab(true).values().copied().max().unwrap_or(0)
    }

    /// True for a token of the vocabulary.
    pub(super) fn knows(&self, token: &str) -> bool {
        self.inner.token_to_id(token).is_some()
    }

    /// Id of start-of-text.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Id of end-of-text.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// End-of-text as the tokenizer writes it: `<|endoftext|>`.
    pub fn end_name(&self) -> &str {
        &self.end_name
    }

    /// The file it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Identifies the tokenizer: equal for equal contents of its file.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Longest text in tokens, start and end included.
    pub fn context(&self) -> usize {
        self.context
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens, context {})", self.inner.get_vocab_size(true), self.context)
    }
}

/// True where words end in `</w>` and no step takes them apart: `ByteLevel` alone leaves a blank before each, an id of its own.
fn keeps_blanks(json: &Value) -> bool {
    let step = &json["pre_tokenizer"];
    let steps = step["pretokenizers"].as_array().map_or(std::slice::from_ref(step), Vec::as_slice);
    let splits = |step: &Value| step["type"].as_str().is_some_and(|kind| kind != "ByteLevel");
    json["model"]["end_of_word_suffix"] == "</w>" && !steps.iter().any(splits)
}

/// A file's contents, without the byte-order mark that editors of Windows put first.
fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    Ok(bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes))
}

/// Start- and end-of-text as the directory names them; CLIP's own if it says nothing.
fn special_names(directory: &Path) -> (String, String) {
    let files = ["tokenizer_config.json", "special_tokens_map.json"].map(|name| std::fs::read(directory.join(name)).unwrap_or_default());
    let json: Vec<Value> = files.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect();
    let find = |key: &str| {
        let token = json.iter().filter_map(|json| json.get(key)).find_map(|token| token.get("content").unwrap_or(token).as_str());
        token.map(str::to_string)
    };
    (find("bos_token").unwrap_or_else(|| START.into()), find("eos_token").unwrap_or_else(|| END.into()))
}
