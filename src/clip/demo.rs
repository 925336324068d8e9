//! The demo CLIP's files, embedded in the library; `lafter pretrain-demo` makes them (`lafter::pretrain`).

/// The files of a directory in transformers' layout.
pub(super) struct Files {
    pub config: &'static [u8],
    pub weights: &'static [u8],
    pub tokenizer: &'static [u8],
}

pub(super) fn files() -> Files {
    Files {
        config: include_bytes!("demo/config.json"),
        weights: include_bytes!("demo/model.safetensors"),
        tokenizer: include_bytes!("demo/tokenizer.json"),
    }
}
