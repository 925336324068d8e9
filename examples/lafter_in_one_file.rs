//! LaFTer (Mirza et al., NeurIPS 2023) in one file, from top to bottom as the paper tells it: on Candle, with nothing of this crate.
//!
//! ```text
//! cargo run --release --example lafter_in_one_file -- MODEL TRAIN TEST [DESCRIPTIONS.json [EPOCHS]]
//! ```
//! MODEL is a CLIP in the layout of transformers (config.json, model.safetensors, tokenizer.json), TRAIN a folder of unlabeled
//! pictures (the names of folders in it are not read), TEST one with a folder for each class, DESCRIPTIONS sentences by class:
//! `{"river": ["A river winds through fields.", …]}`. The settings are those of the authors' code. On the same views the library
//! computes the same numbers (`tests/all/one_file.rs` compares them), faster, and can be stopped, resumed and varied.

use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Result, Tensor, Var, backprop::GradStore};
use candle_nn::{Linear, Module, VarBuilder, linear, linear_no_bias};
use image::RgbImage;
use image::imageops::{self, FilterType};
use rayon::prelude::*;
use serde_json::Value;

/// What reads files can fail in more ways than Candle.
pub type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Labeled = Vec<(PathBuf, u32)>;

/// What to change for a small CLIP; the rest stands below.
pub struct Settings {
    pub text_steps: usize,  // 400 to 600 by data set
    pub prompts: usize,     // N_P
    pub epochs: usize,      // of eq. 4
    pub learning_rate: f64, // of both stages, as smoothing and decay
}

/// The settings of the authors' code, which made the published numbers.
pub const OFFICIAL: Settings = Settings { text_steps: 400, prompts: 50, epochs: 50, learning_rate: 5e-4 };
const NOISE: f32 = 0.1; // σ in eq. 2
const BATCH: usize = 50; // pictures in a step
const LABEL_SMOOTHING: f64 = 0.1;
const WEIGHT_DECAY: f64 = 0.01;
const SEED: u64 = 7777;

// ---- Random numbers (Candle cannot seed its own on the CPU) ---------------------------------------------------------------------

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Rng(u64);

impl Rng {
    /// A stream of its own for each pair of numbers.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// U(low, high)
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / 16_777_216.0)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }

    /// N(0, std²), by Box and Muller.
    pub fn normal(&mut self, shape: (usize, usize), std: f32) -> Result<Tensor> {
        let mut draw = || std * (-2.0 * self.range(1e-7, 1.0).ln()).sqrt() * (std::f32::consts::TAU * self.range(0.0, 1.0)).cos();
        Tensor::from_vec((0..shape.0 * shape.1).map(|_| draw()).collect(), shape, &Device::Cpu)
    }

    /// U(−bound, bound), as a variable.
    pub fn uniform(&mut self, shape: (usize, usize), bound: f32) -> Result<Var> {
        Var::from_vec((0..shape.0 * shape.1).map(|_| self.range(-bound, bound)).collect(), shape, &Device::Cpu)
    }
}

// ---- Layers ---------------------------------------------------------------------------------------------------------------------
// Of Candle's differentiable operations. Its layer norm and `softmax_last_dim` have no backward pass: what comes before them would
// not learn, and nothing would say so.

/// y = (x − mean(x)) / √(var(x) + 1e-5) · weight + bias over the last dimension
pub struct LayerNorm {
    weight: Tensor, // [width]
    bias: Tensor,   // [width]
}

impl LayerNorm {
    fn load(width: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get(width, "weight")?, bias: vb.get(width, "bias")? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centered.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        centered.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// One residual block: x ← x + attention(norm₁(x)); x ← x + fc2(act(fc1(norm₂(x))))
pub struct Block {
    norm1: LayerNorm,
    attention: [Linear; 4], // query, key, value, output
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    causal: bool,
    quick_gelu: bool,
}

impl Block {
    fn load(config: &Value, width: usize, causal: bool, vb: VarBuilder) -> Result<Self> {
        let (hidden, mlp) = (number(config, "intermediate_size", 4 * width), vb.pp("mlp"));
        let projection = |name: &str| linear(width, width, vb.pp("self_attn").pp(name));
        Ok(Self {
            norm1: LayerNorm::load(width, vb.pp("layer_norm1"))?,
            attention: [projection("q_proj")?, projection("k_proj")?, projection("v_proj")?, projection("out_proj")?],
            norm2: LayerNorm::load(width, vb.pp("layer_norm2"))?,
            fc1: linear(width, hidden, mlp.pp("fc1"))?,
            fc2: linear(hidden, width, mlp.pp("fc2"))?,
            heads: number(config, "num_attention_heads", width / 64),
            causal,
            quick_gelu: config["hidden_act"].as_str().unwrap_or("quick_gelu") == "quick_gelu",
        })
    }

    /// tokens `[batch, n, width]` → `[batch, n, width]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attend(&self.norm1.forward(x)?)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&x)?)?; // [batch, n, hidden]
        let hidden = match self.quick_gelu {
            true => (&hidden * candle_nn::ops::sigmoid(&(&hidden * 1.702)?)?)?,
            false => hidden.gelu_erf()?,
        };
        x + self.fc2.forward(&hidden)?
    }

    /// softmax(q kᵀ / √d + mask) v, then the output projection
    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        let ((batch, n, width), [query, key, value, output]) = (x.dims3()?, &self.attention);
        let d = width / self.heads;
        let split = |x: Tensor| x.reshape((batch, n, self.heads, d))?.transpose(1, 2)?.contiguous(); // [batch, heads, n, d]
        let query = split((query.forward(x)? * (d as f64).powf(-0.5))?)?;
        let (key, value) = (split(key.forward(x)?)?, split(value.forward(x)?)?);
        let mut scores = query.matmul(&key.t()?.contiguous()?)?; // [batch, heads, n, n]
        if self.causal {
            let mask: Vec<f32> = (0..n * n).map(|i| if i % n > i / n { f32::NEG_INFINITY } else { 0.0 }).collect();
            scores = scores.broadcast_add(&Tensor::from_vec(mask, (n, n), x.device())?)?;
        }
        let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&value)?; // [batch, heads, n, d]
        output.forward(&mixed.transpose(1, 2)?.reshape((batch, n, width))?)
    }
}

// ---- CLIP: v, the vision tower, and u, the text tower ---------------------------------------------------------------------------

fn json(path: &Path) -> Fallible<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

/// A size in config.json; what a file leaves out is that of CLIP ViT-B/32.
fn number(config: &Value, name: &str, default: usize) -> usize {
    config[name].as_u64().map_or(default, |number| number as usize)
}

/// CLIP's vision transformer with its stages open: prompts come between `embed` and `encode`.
pub struct VisionTower {
    patches: Linear,   // a convolution whose stride is its size, as a linear layer on patches
    class: Tensor,     // [width]
    positions: Tensor, // [1 + patches, width]
    pre_norm: LayerNorm,
    blocks: Vec<Block>,
    post_norm: LayerNorm,
    projection: Linear,
    patch: usize,
    pub side: usize,
}

impl VisionTower {
    fn load(config: &Value, d: usize, vb: VarBuilder) -> Result<Self> {
        let (width, side, patch) =
            (number(config, "hidden_size", 768), number(config, "image_size", 224), number(config, "patch_size", 32));
        let (model, embeddings, layers) =
            (vb.pp("vision_model"), vb.pp("vision_model.embeddings"), number(config, "num_hidden_layers", 12));
        let convolution = embeddings.get((width, 3, patch, patch), "patch_embedding.weight")?;
        Ok(Self {
            patches: Linear::new(convolution.flatten_from(1)?, None),
            class: embeddings.get(width, "class_embedding")?,
            positions: embeddings.get((1 + (side / patch).pow(2), width), "position_embedding.weight")?,
            pre_norm: LayerNorm::load(width, model.pp("pre_layrnorm"))?, // the checkpoints' own spelling
            blocks: (0..layers).map(|i| Block::load(config, width, false, model.pp("encoder.layers").pp(i))).collect::<Result<_>>()?,
            post_norm: LayerNorm::load(width, model.pp("post_layernorm"))?,
            projection: linear_no_bias(width, d, vb.pp("visual_projection"))?,
            patch,
            side,
        })
    }

    /// pixels `[batch, 3, side, side]` → tokens `[batch, 1 + patches, width]`
    pub fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, patch, grid) = (pixels.dim(0)?, self.patch, self.side / self.patch);
        let cut = pixels.reshape(vec![batch, 3, grid, patch, grid, patch])?.permute(vec![0, 2, 4, 1, 3, 5])?;
        let patches = self.patches.forward(&cut.reshape((batch, grid * grid, 3 * patch * patch))?)?;
        let class = self.class.reshape((1, 1, ()))?.broadcast_as((batch, 1, patches.dim(2)?))?;
        self.pre_norm.forward(&Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?)
    }

    /// All blocks: tokens `[batch, n, width]` → `[batch, n, width]`
    pub fn encode(&self, tokens: &Tensor) -> Result<Tensor> {
        self.blocks.iter().try_fold(tokens.clone(), |x, block| block.forward(&x))
    }

    /// The class token: `[batch, n, width]` → features `[batch, d]`
    pub fn project(&self, tokens: &Tensor) -> Result<Tensor> {
        self.projection.forward(&self.post_norm.forward(&tokens.narrow(1, 0, 1)?.squeeze(1)?)?)
    }

    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        self.project(&self.encode(&self.embed(pixels)?)?)
    }

    /// Scale and shift of every layer norm become variables: the part of η that is in the tower.
    fn train_norms(&mut self) -> Result<Vec<(String, Var)>> {
        let mut norms = vec![("vision_model.pre_layrnorm".to_string(), &mut self.pre_norm)];
        for (i, block) in self.blocks.iter_mut().enumerate() {
            norms.push((format!("vision_model.encoder.layers.{i}.layer_norm1"), &mut block.norm1));
            norms.push((format!("vision_model.encoder.layers.{i}.layer_norm2"), &mut block.norm2));
        }
        norms.push(("vision_model.post_layernorm".to_string(), &mut self.post_norm));
        let mut params = Vec::new();
        for (name, norm) in norms {
            let (weight, bias) = (Var::from_tensor(&norm.weight.copy()?)?, Var::from_tensor(&norm.bias.copy()?)?);
            (norm.weight, norm.bias) = (weight.as_tensor().clone(), bias.as_tensor().clone());
            params.extend([(format!("{name}.weight"), weight), (format!("{name}.bias"), bias)]);
        }
        Ok(params)
    }
}

/// CLIP's causal text transformer, with its tokenizer.
pub struct TextTower {
    tokens: Tensor,    // [vocabulary, width]
    positions: Tensor, // [context, width]
    blocks: Vec<Block>,
    norm: LayerNorm,
    projection: Linear,
    tokenizer: tokenizers::Tokenizer,
}

impl TextTower {
    fn load(config: &Value, d: usize, tokenizer: tokenizers::Tokenizer, vb: VarBuilder) -> Result<Self> {
        let (width, context) = (number(config, "hidden_size", 512), number(config, "max_position_embeddings", 77));
        let (model, embeddings, layers) = (vb.pp("text_model"), vb.pp("text_model.embeddings"), number(config, "num_hidden_layers", 12));
        Ok(Self {
            tokens: embeddings.get((number(config, "vocab_size", 49_408), width), "token_embedding.weight")?,
            positions: embeddings.get((context, width), "position_embedding.weight")?,
            blocks: (0..layers).map(|i| Block::load(config, width, true, model.pp("encoder.layers").pp(i))).collect::<Result<_>>()?,
            norm: LayerNorm::load(width, model.pp("final_layer_norm"))?,
            projection: linear_no_bias(width, d, vb.pp("text_projection"))?,
            tokenizer,
        })
    }

    /// n sentences → features `[n, d]`, read at the end of each text
    pub fn encode(&self, texts: &[String]) -> Fallible<Tensor> {
        let (context, mut features) = (self.positions.dim(0)?, Vec::new());
        for text in texts {
            let mut ids = self.tokenizer.encode(text.as_str(), true)?.get_ids().to_vec();
            if let (true, Some(end)) = (ids.len() > context, ids.last().copied()) {
                ids.truncate(context - 1);
                ids.push(end);
            }
            let n = ids.len();
            let x = self.tokens.embedding(&Tensor::from_vec(ids, n, self.tokens.device())?)?;
            let x = (x + self.positions.narrow(0, 0, n)?)?.unsqueeze(0)?; // [1, n, width]
            let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
            features.push(self.projection.forward(&self.norm.forward(&x.narrow(1, n - 1, 1)?.squeeze(1)?)?)?); // [1, d]
        }
        Ok(Tensor::cat(&features, 0)?)
    }
}

/// Both towers and 1/τ of eq. 1.
pub struct Clip {
    pub vision: VisionTower,
    pub text: TextTower,
    pub scale: f64,
}

impl Clip {
    pub fn load(folder: &Path) -> Fallible<Self> {
        let config = json(&folder.join("config.json"))?;
        let tokenizer = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json"))?;
        let weights = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)?;
        let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let d = number(&config, "projection_dim", 512);
        Ok(Self {
            vision: VisionTower::load(&config["vision_config"], d, vb.clone())?,
            text: TextTower::load(&config["text_config"], d, tokenizer, vb.clone())?,
            scale: vb.get((), "logit_scale")?.to_scalar::<f32>()?.exp().into(),
        })
    }
}

// ---- Section 3.1: a classifier for pictures, trained on texts alone -------------------------------------------------------------

/// x / ‖x‖ over the last dimension
pub fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}

/// p(c|x) = softmax_c( cos(u_c, v(x)) / τ ): the logits, of class features `[C, d]` and image features `[n, d]`. (eq. 1)
pub fn zero_shot(classes: &Tensor, features: &Tensor, scale: f64) -> Result<Tensor> {
    unit(features)?.matmul(&unit(classes)?.t()?)? * scale
}

/// L_SCE = −Σ_c q_c log p_c with q_c = (1 − ε)·[c = label] + ε / C, the mean over the batch.
pub fn smoothed_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?; // [n, C]
    let of_label = log_p.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?;
    (of_label * (LABEL_SMOOTHING - 1.0))? - (log_p.mean_all()? * LABEL_SMOOTHING)?
}

/// L_SCE( f_θ( u(t)/‖u(t)‖ + n ), c ) for given noise n: features `[n, d]`, head `[C, d]`. (eq. 2)
pub fn text_loss(features: &Tensor, noise: &Tensor, labels: &Tensor, head: &Tensor) -> Result<Tensor> {
    smoothed_cross_entropy(&(unit(features)? + noise)?.matmul(&head.t()?)?, labels)
}

/// min_θ Σ_(t,c)∈T L_SCE( f_θ( u(t)/‖u(t)‖ + n ), c ), n ~ N(0, σ²I) anew at every step: f_θ, `[C, d]`. (eq. 2)
pub fn train_text_classifier(features: &Tensor, labels: &Tensor, classes: usize, settings: &Settings) -> Result<Tensor> {
    let ((n, d), mut rng) = (features.dims2()?, Rng::new(SEED, 1));
    let head = rng.uniform((classes, d), 1.0 / (d as f32).sqrt())?;
    let mut optimizer = AdamW::new(vec![("head.0.weight".to_string(), head.clone())], settings)?;
    for _ in 0..settings.text_steps {
        let loss = text_loss(features, &rng.normal((n, d), NOISE)?, labels, &head)?;
        optimizer.step(&loss.backward()?)?;
    }
    Ok(head.as_detached_tensor())
}

/// AdamW (Loshchilov & Hutter 2019, algorithm 2) with PyTorch's defaults. Weights decay, biases do not.
pub struct AdamW {
    slots: Vec<(String, Var, Tensor, Tensor)>, // name, parameter, mean and mean square of its gradients
    steps: i32,
    learning_rate: f64,
}

impl AdamW {
    pub fn new(params: Vec<(String, Var)>, settings: &Settings) -> Result<Self> {
        let slot = |(name, var): (String, Var)| Ok((name, var.clone(), var.zeros_like()?.detach(), var.zeros_like()?.detach()));
        Ok(Self { slots: params.into_iter().map(slot).collect::<Result<_>>()?, steps: 0, learning_rate: settings.learning_rate })
    }

    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.steps += 1;
        let (rate, correct1, correct2) = (self.learning_rate, 1.0 - 0.9f64.powi(self.steps), 1.0 - 0.999f64.powi(self.steps));
        for (name, var, mean, square) in &mut self.slots {
            let Some(grad) = grads.get(var) else { candle_core::bail!("{name} has no gradient") };
            *mean = ((&*mean * 0.9)? + (grad * (1.0 - 0.9))?)?.detach();
            *square = ((&*square * 0.999)? + (grad.sqr()? * (1.0 - 0.999))?)?.detach();
            let update = ((&*mean / correct1)? / ((&*square / correct2)?.sqrt()? + 1e-8)?)?;
            let decay = if name.ends_with("bias") { 0.0 } else { WEIGHT_DECAY };
            var.set(&((var.as_detached_tensor() * (1.0 - rate * decay))? - (update * rate)?)?)?;
        }
        Ok(())
    }
}

// ---- Two views of a picture: α_w, which CLIP was trained on, and α_h, SimSiam's -------------------------------------------------

/// α_w: shorter edge to `side` (bicubic), center crop.
pub fn weak_view(picture: &RgbImage, side: u32) -> RgbImage {
    let ((w, h), short) = (picture.dimensions(), picture.width().min(picture.height()));
    let (w, h) = (side * w / short, side * h / short);
    let resized = imageops::resize(picture, w, h, FilterType::CatmullRom);
    imageops::crop_imm(&resized, (w - side) / 2, (h - side) / 2, side, side).to_image()
}

/// α_h: random resized crop, color jitter in random order, gray, blur, flip.
pub fn strong_view(picture: &RgbImage, side: u32, rng: &mut Rng) -> RgbImage {
    let (x, y, w, h) = random_crop(picture.dimensions(), rng);
    let crop = imageops::crop_imm(picture, x, y, w, h).to_image();
    let mut view = imageops::resize(&crop, side, side, FilterType::Triangle);
    let mut steps = if rng.range(0.0, 1.0) < 0.8 { vec![0, 1, 2, 3] } else { Vec::new() };
    rng.shuffle(&mut steps);
    for step in steps {
        let (factor, turn) = (rng.range(0.6, 1.4), rng.range(-0.1, 0.1));
        let mean = view.pixels().map(|pixel| gray(pixel.0)).sum::<f32>() / (side * side) as f32;
        match step {
            0 => blend(&mut view, factor, |_| 0.0),  // brightness
            1 => blend(&mut view, factor, |_| mean), // contrast
            2 => blend(&mut view, factor, gray),     // saturation
            _ => view.pixels_mut().for_each(|pixel| pixel.0 = turn_hue(pixel.0, turn)),
        }
    }
    if rng.range(0.0, 1.0) < 0.2 {
        blend(&mut view, 0.0, gray);
    }
    view = imageops::blur(&view, rng.range(0.1, 2.0) * side as f32 / 224.0); // σ as for views of 224 pixels
    if rng.range(0.0, 1.0) < 0.5 { imageops::flip_horizontal(&view) } else { view }
}

/// A fifth to all of the area, width/height 3/4 to 4/3; ten tries, else the largest square of the middle.
fn random_crop((w, h): (u32, u32), rng: &mut Rng) -> (u32, u32, u32, u32) {
    for _ in 0..10 {
        let area = (w * h) as f32 * rng.range(0.2, 1.0);
        let ratio = rng.range(0.75f32.ln(), (4.0f32 / 3.0).ln()).exp();
        let (crop_w, crop_h) = ((area * ratio).sqrt().round() as u32, (area / ratio).sqrt().round() as u32);
        if (1..=w).contains(&crop_w) && (1..=h).contains(&crop_h) {
            let mut below = |n: u32| (rng.next() % u64::from(n + 1)) as u32;
            return (below(w - crop_w), below(h - crop_h), crop_w, crop_h);
        }
    }
    (w.saturating_sub(h) / 2, h.saturating_sub(w) / 2, w.min(h), w.min(h))
}

/// Each pixel ← factor · pixel + (1 − factor) · simple(pixel)
fn blend(view: &mut RgbImage, factor: f32, simple: impl Fn([u8; 3]) -> f32) {
    for pixel in view.pixels_mut() {
        let simple = simple(pixel.0);
        pixel.0 = pixel.0.map(|value| (simple + factor * (f32::from(value) - simple)).clamp(0.0, 255.0) as u8);
    }
}

fn gray([r, g, b]: [u8; 3]) -> f32 {
    (0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)).round()
}

/// Another hue of the same value and saturation: each channel follows one trapezium, a third of the circle apart.
fn turn_hue(rgb: [u8; 3], turn: f32) -> [u8; 3] {
    let [r, g, b] = rgb.map(f32::from);
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let sextants = [(r, g - b, 0.0), (g, b - r, 2.0), (b, r - g, 4.0)];
    let (_, difference, sextant) = sextants.into_iter().find(|(value, ..)| *value == high).unwrap_or_default();
    let hue = sextant + difference / (high - low).max(1.0) + 6.0 * turn;
    let channel = |at: f32| high - (high - low) * (2.0 - ((hue + at).rem_euclid(6.0) - 3.0).abs()).clamp(0.0, 1.0);
    [channel(0.0), channel(4.0), channel(2.0)].map(|value| value.round() as u8)
}

/// CLIP's mean and standard deviation: n views → `[n, 3, side, side]`
pub fn pixels(views: &[RgbImage], side: usize) -> Result<Tensor> {
    let (mean, std) = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
    let mut values: Vec<f32> = Vec::with_capacity(views.len() * 3 * side * side);
    for view in views {
        for c in 0..3 {
            values.extend(view.pixels().map(|pixel| (f32::from(pixel[c]) / 255.0 - mean[c]) / std[c]));
        }
    }
    Tensor::from_vec(values, (views.len(), 3, side, side), &Device::Cpu)
}

// ---- Section 3.2: tuning on unlabeled pictures ----------------------------------------------------------------------------------

/// v^p_η with f_θ, and what its pseudo-labels come from.
pub struct Student {
    pub tower: VisionTower,
    pub prompts: Tensor, // [N_P, width]
    pub head: Tensor,    // [C, d]
    pub teacher_head: Tensor,
    /// θ and η: prompts, scale and shift of the norms, head.
    pub params: Vec<(String, Var)>,
}

impl Student {
    pub fn new(mut tower: VisionTower, text_classifier: &Tensor, settings: &Settings) -> Result<Self> {
        let width = tower.class.elem_count();
        let bound = (6.0 / (3 * 16 * 16 + width) as f32).sqrt();
        let prompts = Rng::new(SEED, 2).uniform((settings.prompts, width), bound)?;
        let head = Var::from_tensor(&text_classifier.copy()?)?;
        let added = [("prompts.0".to_string(), prompts.clone()), ("head.0.weight".to_string(), head.clone())];
        let params = added.into_iter().chain(tower.train_norms()?).collect();
        let (prompts, head) = (prompts.into_inner(), head.into_inner());
        Ok(Self { tower, prompts, head, teacher_head: text_classifier.clone(), params })
    }

    /// f_θ(v^p_η(x)): prompts come after the class token, features are not normalized. `[batch, 3, side, side]` → `[batch, C]`
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        let tokens = self.tower.embed(pixels)?; // [batch, 1 + patches, width]
        let (batch, n, width) = tokens.dims3()?;
        let prompts = self.prompts.unsqueeze(0)?.broadcast_as((batch, self.prompts.dim(0)?, width))?;
        let tokens = Tensor::cat(&[&tokens.narrow(1, 0, 1)?, &prompts, &tokens.narrow(1, 1, n - 1)?], 1)?;
        self.tower.project(&self.tower.encode(&tokens)?)?.matmul(&self.head.t()?) // [batch, 1 + N_P + patches, width]
    }

    /// ĉ(x) = argmax_c f(v(α_w(x))): the text classifier on the tower without prompts, with the norms as they are now. (eq. 3)
    pub fn pseudo_labels(&self, weak: &Tensor) -> Result<Tensor> {
        unit(&self.tower.forward(weak)?.detach())?.matmul(&self.teacher_head.t()?)?.argmax(D::Minus1)
    }

    /// min_{θ,η} Σ_x L_SCE( f_θ( v^p_η(α_h(x)) ), ĉ(x) ): one pass; the mean loss. (eq. 4)
    fn epoch(&self, files: &[PathBuf], epoch: usize, optimizer: &mut AdamW) -> Fallible<f32> {
        let (side, batch) = (self.tower.side, BATCH.min(files.len()));
        let (mut order, mut losses) = ((0..files.len()).collect::<Vec<_>>(), Vec::new());
        Rng::new(SEED, 1000 + epoch as u64).shuffle(&mut order);
        for indices in order.chunks_exact(batch) {
            let views = indices.par_iter().map(|i| {
                let (picture, mut rng) = (read(&files[*i])?, Rng::new(SEED ^ (epoch as u64) << 32, 2000 + *i as u64));
                Ok((weak_view(&picture, side as u32), strong_view(&picture, side as u32, &mut rng)))
            });
            let (weak, strong): (Vec<_>, Vec<_>) = views.collect::<Fallible<Vec<_>>>()?.into_iter().unzip();
            let (weak, strong) = (pixels(&weak, side)?, pixels(&strong, side)?);
            let loss = smoothed_cross_entropy(&self.logits(&strong)?, &self.pseudo_labels(&weak)?)?;
            optimizer.step(&loss.backward()?)?;
            losses.push(loss.to_scalar::<f32>()?);
        }
        Ok(losses.iter().sum::<f32>() / losses.len() as f32)
    }
}

// ---- Files, accuracy, and the whole run -----------------------------------------------------------------------------------------

/// The pictures in a folder and below it.
fn pictures(folder: &Path) -> Fallible<Vec<PathBuf>> {
    let (mut files, mut entries) = (Vec::new(), std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Fallible<Vec<_>>>()?);
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => files.extend(pictures(&path)?),
            false => files.extend(image::ImageFormat::from_path(&path).is_ok().then_some(path)),
        }
    }
    if files.is_empty() { Err(format!("{}: no pictures", folder.display()).into()) } else { Ok(files) }
}

/// One folder for each class: the names, and the pictures with their labels.
fn class_folders(root: &Path) -> Fallible<(Vec<String>, Labeled)> {
    let (mut names, mut labeled) = (Vec::new(), Vec::new());
    for path in pictures(root)?.into_iter().filter(|path| path.parent() != Some(root)) {
        let name = path.strip_prefix(root)?.iter().next().unwrap_or_default().to_string_lossy().replace('_', " ");
        if names.last() != Some(&name) {
            names.push(name);
        }
        labeled.push((path, names.len() as u32 - 1));
    }
    Ok((names, labeled))
}

fn read(path: &Path) -> Fallible<RgbImage> {
    Ok(image::open(path).map_err(|error| format!("{}: {error}", path.display()))?.into_rgb8())
}

/// Top-1 accuracy in percent, on weak views.
fn accuracy(test: &[(PathBuf, u32)], side: usize, logits: impl Fn(&Tensor) -> Result<Tensor>) -> Fallible<f32> {
    let mut right = 0;
    for batch in test.chunks(50) {
        let views = batch.par_iter().map(|(path, _)| Ok(weak_view(&read(path)?, side as u32))).collect::<Fallible<Vec<_>>>()?;
        let answers = logits(&pixels(&views, side)?)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        right += answers.iter().zip(batch).filter(|(answer, (_, label))| *answer == label).count();
    }
    Ok(100.0 * right as f32 / test.len() as f32)
}

/// Top-1 in percent: zero-shot, text classifier, after each epoch of tuning. The last is LaFTer's.
pub fn run(model: &Path, train: &Path, test: &Path, descriptions: Option<&Path>, settings: &Settings) -> Fallible<Vec<f32>> {
    let (clip, unlabeled, (classes, test)) = (Clip::load(model)?, pictures(train)?, class_folders(test)?);
    let side = clip.vision.side;
    println!("{} unlabeled pictures; {} of {} classes to test on", unlabeled.len(), test.len(), classes.len());

    // eq. 1: one template
    let prompts: Vec<String> = classes.iter().map(|class| format!("a photo of a {class}")).collect();
    let names = clip.text.encode(&prompts)?; // [C, d]
    let mut top1 = vec![accuracy(&test, side, |pixels| zero_shot(&names, &clip.vision.forward(pixels)?, clip.scale))?];
    println!("zero-shot        {:.2} %", top1[0]);

    // eq. 2: templates and descriptions
    let described = descriptions.map_or(Ok(Value::Null), json)?;
    let (mut texts, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in (0u32..).zip(&classes) {
        texts.extend(["a photo of a ", "a picture of a ", "a drawing of a ", "an image of a "].map(|text| format!("{text}{class}")));
        texts.extend(described[class.as_str()].as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from));
        labels.resize(texts.len(), label);
    }
    let (features, n) = (clip.text.encode(&texts)?.detach(), texts.len());
    let classifier = train_text_classifier(&features, &Tensor::from_vec(labels, n, &Device::Cpu)?, classes.len(), settings)?;
    top1.push(accuracy(&test, side, |pixels| unit(&clip.vision.forward(pixels)?)?.matmul(&classifier.t()?))?);
    println!("text classifier  {:.2} %, from {n} texts", top1[1]);

    // eq. 3 and 4
    let student = Student::new(clip.vision, &classifier, settings)?;
    let mut optimizer = AdamW::new(student.params.clone(), settings)?;
    for epoch in 0..settings.epochs {
        let loss = student.epoch(&unlabeled, epoch, &mut optimizer)?;
        top1.push(accuracy(&test, side, |pixels| student.logits(pixels))?);
        println!("epoch {:>3}        {:.2} %, loss {loss:.4}", epoch + 1, top1[epoch + 2]);
    }
    Ok(top1)
}

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, train, test, rest @ ..] = args.as_slice() else {
        return Err("usage: lafter_in_one_file MODEL TRAIN TEST [DESCRIPTIONS.json [EPOCHS]]".into());
    };
    let epochs = rest.get(1).map_or(Ok(OFFICIAL.epochs), |epochs| epochs.parse())?;
    run(model.as_ref(), train.as_ref(), test.as_ref(), rest.first().map(Path::new), &Settings { epochs, ..OFFICIAL }).map(drop)
}
