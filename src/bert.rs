//! A frozen, pretrained sentence encoder in place of the trained one: any model of BERT's type (Devlin et al. 2019) in Hugging
//! Face's layout (`config.json`, `tokenizer.json`, `model.safetensors`), run forward by our own operations, on the CPU: each
//! caption once in a run.

use std::fmt;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::backend::{Activation, Backend};
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::files::require_regular_file;
use crate::ops::matmul::Residual;
use crate::ops::{attention, elementwise, embed, matmul, norm};
use crate::params::{Init, Layout, LayoutBuilder, Param};
use crate::tape::{Tape, Var};
use crate::text::{Captions, Vectors};

/// Captions that are encoded at a time.
const BATCH: usize = 16;
/// No extent of such a model is above this.
const LARGEST_EXTENT: usize = 1 << 20;

/// `config.json`, as far as it decides what is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// Always "bert".
    model_type: String,
    /// Features a token.
    pub hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    layer_norm_eps: f32,
    vocab_size: usize,
    type_vocab_size: usize,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".to_string()
}

impl BertConfig {
    fn check(&self) -> Result<(), String> {
        if self.model_type != "bert" || self.position_embedding_type != "absolute" {
            return Err(format!(
                "is a `{}` with {} positions; only `bert` with absolute ones can be run",
                self.model_type, self.position_embedding_type
            ));
        }
        if self.hidden_act != "gelu" {
            return Err(format!("has the activation `{}`; only `gelu` can be run", self.hidden_act));
        }
        let extents = [
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
            self.max_position_embeddings,
            self.vocab_size,
            self.type_vocab_size,
        ];
        if extents.iter().any(|extent| !(1..=LARGEST_EXTENT).contains(extent)) {
            return Err(format!("has an extent that is not in 1 .. {LARGEST_EXTENT}"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err("has a hidden_size that its heads do not divide".to_string());
        }
        Ok(())
    }
}

/// Weight and bias.
type Pair = (Param, Param);

/// One layer: attention, MLP, each added to what it was given and then normalised.
struct Layer {
    q: Pair,
    kv: Pair,
    out: Pair,
    first_norm: Pair,
    up: Pair,
    down: Pair,
    second_norm: Pair,
}

/// The encoder.
pub struct Bert {
    config: BertConfig,
    tokenizer: tokenizers::Tokenizer,
    layout: Layout,
    weights: Vec<f32>,
    words: Param,
    positions: Param,
    norm: Pair,
    layers: Vec<Layer>,
}

impl Bert {
    /// Reads a folder in Hugging Face's layout.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is not there, [`Error::Format`] for one that is something else.
    pub fn open(folder: &Path) -> Result<Bert> {
        let read = |name: &str| {
            let path = folder.join(name);
            require_regular_file(&path)?;
            fs::read(&path).map_err(Error::io("read", &path))
        };
        let (config, tokenizer) = (read("config.json")?, read("tokenizer.json")?);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut bert = Self::without_weights(&text(&config), &text(&tokenizer), folder)?;
        let path = folder.join("model.safetensors");
        let bytes = read("model.safetensors")?;
        let refused = |reason: String| Error::format(&path, reason);
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| refused(format!("is not a safetensors file: {error}")))?;
        bert.fill(&tensors).map_err(refused)?;
        Ok(bert)
    }

    /// From what a checkpoint holds: configuration and tokenizer as JSON, and the flat parameters; `path` is for the error.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub fn from_parts(config: &str, tokenizer: &str, weights: Vec<f32>, path: &Path) -> Result<Bert> {
        let bert = Self::without_weights(config, tokenizer, path)?;
        if weights.len() != bert.layout.len() {
            return Err(Error::format(path, "holds a text encoder of another size than it says"));
        }
        Ok(Bert { weights, ..bert })
    }

    /// Names, shapes and places of the parameters of a configuration, as [`Self::parts`] has them.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub fn layout_of(config: &str, tokenizer: &str, path: &Path) -> Result<Layout> {
        Self::without_weights(config, tokenizer, path).map(|bert| bert.layout)
    }

    /// Configuration and tokenizer as JSON.
    pub fn description(&self) -> [String; 2] {
        let config = serde_json::to_string(&self.config).expect("plain numbers and strings are JSON");
        [config, self.tokenizer.to_string(false).expect("a tokenizer is plain numbers and strings")]
    }

    /// The parameters, and where each lies.
    pub fn parts(&self) -> (&Layout, &[f32]) {
        (&self.layout, &self.weights)
    }

    fn without_weights(config: &str, tokenizer: &str, path: &Path) -> Result<Bert> {
        let bad = |what: &str, reason: String| Error::format(path, format!("its {what} {reason}"));
        let config: BertConfig = serde_json::from_str(config)
            .map_err(|error| bad("config.json", format!("is none of BERT's type: {error}")))?;
        config.check().map_err(|reason| bad("config.json", reason))?;
        let mut tokenizer: tokenizers::Tokenizer =
            tokenizer.parse().map_err(|error| bad("tokenizer.json", format!("cannot be read: {error}")))?;
        tokenizer.with_truncation(None).map_err(|error| bad("tokenizer.json", error.to_string()))?;
        tokenizer.with_padding(None);
        if tokenizer.get_vocab_size(true) > config.vocab_size {
            return Err(bad("tokenizer.json", "has more tokens than the model".to_string()));
        }

        let mut layout = LayoutBuilder::default();
        let (dim, hidden) = (config.hidden_size, config.intermediate_size);
        let mut add = |name: String, shape: &[usize]| layout.add(name, shape, false, Init::Constant(0.0));
        let words = add("words".to_string(), &[config.vocab_size, dim]);
        let positions = add("positions".to_string(), &[config.max_position_embeddings, dim]);
        let mut pair = |name: String, shape: &[usize]| {
            let weight = add(format!("{name}.weight"), shape);
            (weight, add(format!("{name}.bias"), &shape[..1]))
        };
        let norm = pair("norm".to_string(), &[dim]);
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer {
                q: pair(format!("{index}.q"), &[dim, dim]),
                kv: pair(format!("{index}.kv"), &[2 * dim, dim]),
                out: pair(format!("{index}.out"), &[dim, dim]),
                first_norm: pair(format!("{index}.norm1"), &[dim]),
                up: pair(format!("{index}.up"), &[hidden, dim]),
                down: pair(format!("{index}.down"), &[dim, hidden]),
                second_norm: pair(format!("{index}.norm2"), &[dim]),
            })
            .collect();
        let layout = layout.finish();
        Ok(Bert { config, tokenizer, weights: Vec::new(), words, positions, norm, layers, layout })
    }

    /// Takes the parameters from a model's tensors: keys and values side by side, the one token type in the positions.
    fn fill(&mut self, tensors: &SafeTensors<'_>) -> Result<(), String> {
        let prefix = ["", "bert."].into_iter().find(|prefix| {
            tensors.names().iter().any(|name| *name == format!("{prefix}embeddings.word_embeddings.weight"))
        });
        let prefix =
            prefix.ok_or("holds no model of BERT's type: there are no embeddings.word_embeddings")?;
        let dim = self.config.hidden_size;
        let mut weights = vec![0.0; self.layout.len()];
        let layout = &self.layout;
        let mut put = |param: Param, names: &[String]| -> Result<(), String> {
            let span = layout.span(param);
            let mut values = Vec::with_capacity(span.range.len());
            for name in names {
                values.extend(read(tensors, &format!("{prefix}{name}"))?);
            }
            if values.len() != span.range.len() {
                return Err(format!("`{}` has another shape than config.json says", names[0]));
            }
            weights[span.range.clone()].copy_from_slice(&values);
            Ok(())
        };
        let mut put_pair = |pair: Pair, names: &[String]| -> Result<(), String> {
            let with = |end: &str| names.iter().map(|name| format!("{name}.{end}")).collect::<Vec<_>>();
            put(pair.0, &with("weight"))?;
            put(pair.1, &with("bias"))
        };
        put_pair(self.norm, &["embeddings.LayerNorm".to_string()])?;
        for (index, layer) in self.layers.iter().enumerate() {
            let name = |end: &str| format!("encoder.layer.{index}.{end}");
            put_pair(layer.q, &[name("attention.self.query")])?;
            put_pair(layer.kv, &[name("attention.self.key"), name("attention.self.value")])?;
            put_pair(layer.out, &[name("attention.output.dense")])?;
            put_pair(layer.first_norm, &[name("attention.output.LayerNorm")])?;
            put_pair(layer.up, &[name("intermediate.dense")])?;
            put_pair(layer.down, &[name("output.dense")])?;
            put_pair(layer.second_norm, &[name("output.LayerNorm")])?;
        }
        put(self.words, &["embeddings.word_embeddings.weight".to_string()])?;
        put(self.positions, &["embeddings.position_embeddings.weight".to_string()])?;
        let types = read(tensors, &format!("{prefix}embeddings.token_type_embeddings.weight"))?;
        let first = types.get(..dim).ok_or("has no token types")?;
        for row in weights[layout.span(self.positions).range.clone()].chunks_exact_mut(dim) {
            row.iter_mut().zip(first).for_each(|(position, of_type)| *position += of_type);
        }
        self.weights = weights;
        Ok(())
    }

    /// The last layer's vectors of a batch, `[batch, tokens, features]`.
    fn forward(&self, cpu: &Cpu, weights: &<Cpu as Backend>::Buf, batch: &Captions) -> Result<Var<Cpu>> {
        let mut tape = Tape::forward_only(cpu, &self.layout, weights);
        let tape = &mut tape;
        let eps = self.config.layer_norm_eps;
        let lengths = tape.constant_from_host(&[batch.len()], &batch.lengths)?;
        let words = embed::lookup(tape, self.words, &batch.ids, batch.tokens)?;
        let x = elementwise::add_positions(tape, &words, self.positions)?;
        let mut x = norm::affine(tape, &x, self.norm.0, self.norm.1, eps)?;
        for layer in &self.layers {
            let linear = |tape: &mut Tape<'_, Cpu>, x: &Var<Cpu>, (weight, bias): Pair| {
                matmul::linear(tape, x, weight, bias, Activation::Identity)
            };
            let (q, kv) = (linear(tape, &x, layer.q)?, linear(tape, &x, layer.kv)?);
            let mixed = attention::cross(tape, &q, &kv, &lengths, self.config.num_attention_heads)?;
            let sum = matmul::residual_linear(tape, &mixed, layer.out.0, layer.out.1, &plain(&x))?;
            x = norm::affine(tape, &sum, layer.first_norm.0, layer.first_norm.1, eps)?;
            let hidden = linear(tape, &x, layer.up)?;
            let hidden = gelu(tape, &hidden)?;
            let sum = matmul::residual_linear(tape, &hidden, layer.down.0, layer.down.1, &plain(&x))?;
            x = norm::affine(tape, &sum, layer.second_norm.0, layer.second_norm.1, eps)?;
        }
        Ok(x)
    }

    fn encode_batch(
        &self,
        cpu: &Cpu,
        weights: &<Cpu as Backend>::Buf,
        ids: &[Vec<u32>],
    ) -> Result<Vec<Vec<f32>>> {
        let tokens = ids.iter().map(Vec::len).max().unwrap_or(1);
        let batch = Captions::padded(ids.iter().map(Vec::as_slice), tokens);
        let x = self.forward(cpu, weights, &batch)?;
        let mut host = vec![0.0; x.len()];
        cpu.download(&mut host, x.data());
        let dim = self.config.hidden_size;
        let samples = host.chunks_exact(tokens * dim).zip(ids);
        Ok(samples.map(|(sample, ids)| sample[..ids.len() * dim].to_vec()).collect())
    }
}

impl Vectors for Bert {
    fn features(&self) -> usize {
        self.config.hidden_size
    }

    fn vectors(&self, captions: &[&str], most: usize) -> Result<Vec<Vec<f32>>> {
        let most = most.min(self.config.max_position_embeddings);
        let encode = |caption: &&str| {
            let encoding = self.tokenizer.encode_fast(*caption, true);
            let mut ids = encoding
                .map_err(|error| Error::config("text", format!("the tokenizer cannot do this: {error}")))?
                .get_ids()
                .to_vec();
            // What ends a text ends it where it is cut, too.
            if let Some(&last) = ids.last().filter(|_| ids.len() > most) {
                ids.truncate(most - 1);
                ids.push(last);
            }
            Ok(ids)
        };
        let ids: Vec<Vec<u32>> = captions.iter().map(encode).collect::<Result<_>>()?;
        let cpu = Cpu::new();
        let mut weights = cpu.alloc_weights(self.weights.len())?;
        cpu.upload(Cpu::view_mut(&mut weights, 0..self.weights.len()), &self.weights);
        let parts = ids.chunks(BATCH).map(|ids| self.encode_batch(&cpu, &weights, ids));
        Ok(parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

impl fmt::Debug for Bert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bert").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A residual connection without a gate.
fn plain(stream: &Var<Cpu>) -> Residual<'_, Cpu> {
    Residual { stream, gate: None, ends_part: false }
}

/// x Phi(x), the exact form of Hendrycks and Gimpel 2016: what these models were trained with.
fn gelu(tape: &mut Tape<'_, Cpu>, x: &Var<Cpu>) -> Result<Var<Cpu>> {
    let mut host = vec![0.0; x.len()];
    tape.backend.download(&mut host, x.data());
    host.iter_mut().for_each(|x| *x = 0.5 * *x * (1.0 + libm::erff(*x * std::f32::consts::FRAC_1_SQRT_2)));
    tape.constant_from_host(x.shape(), &host)
}

/// A tensor's values as f32.
fn read(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, String> {
    let tensor = tensors.tensor(name).map_err(|_| format!("holds no `{name}`"))?;
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => {
            Ok(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        Dtype::F16 => {
            Ok(data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
        }
        Dtype::BF16 => {
            Ok(data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
        }
        other => Err(format!("`{name}` is {other:?}; f32, f16 and bf16 can be read")),
    }
}
