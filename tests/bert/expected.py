"""What a sentence encoder of BERT's type makes of sentences, by the book in f64, for tests/bert.rs.

    python3 tests/bert/expected.py            makes the small random model of tests/fixtures/bert, and what is expected of it
    python3 tests/bert/expected.py FOLDER     writes expected.safetensors and sentences.json into a pretrained folder

Needs numpy, scipy, tokenizers and safetensors. Devlin et al. 2019; Vaswani et al. 2017; GELU in its exact form (Hendrycks and
Gimpel 2016). The vectors are the last layer's, one a token.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.special import erf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "This is an example sentence",
    "Each sentence is converted",
    "A slow ambient track at 72 bpm in D minor, played on bell, pad and synth bass, no drums, dark and melancholic.",
    "fast, bright, with drums!",
    "",
    "caf\u00e9 \u266b \u5b57",
]
FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "bert"
CONFIG = {
    "model_type": "bert", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 64,
    "hidden_act": "gelu", "max_position_embeddings": 160, "layer_norm_eps": 1e-12, "vocab_size": 200, "type_vocab_size": 2,
}


def make_fixture():
    rng = np.random.default_rng(0)
    FIXTURE.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=CONFIG["vocab_size"], special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(128)
    tokenizer.save(str(FIXTURE / "tokenizer.json"), pretty=False)
    dim, hidden = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    tensors = {}

    def add(name, *shape, around=0.0):
        tensors[name] = (around + 0.3 * rng.standard_normal(shape)).astype(np.float32)

    def linear(name, out, inner):
        add(f"{name}.weight", out, inner)
        add(f"{name}.bias", out)

    def norm(name):
        add(f"{name}.weight", dim, around=1.0)
        add(f"{name}.bias", dim)

    for kind, rows in [("word", "vocab_size"), ("position", "max_position_embeddings"), ("token_type", "type_vocab_size")]:
        add(f"embeddings.{kind}_embeddings.weight", CONFIG[rows], dim)
    norm("embeddings.LayerNorm")
    for layer in range(CONFIG["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        for part in ["query", "key", "value"]:
            linear(f"{base}.attention.self.{part}", dim, dim)
        linear(f"{base}.attention.output.dense", dim, dim)
        norm(f"{base}.attention.output.LayerNorm")
        linear(f"{base}.intermediate.dense", hidden, dim)
        linear(f"{base}.output.dense", dim, hidden)
        norm(f"{base}.output.LayerNorm")
    save_file(tensors, FIXTURE / "model.safetensors")
    (FIXTURE / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def forward(ids, w, config):
    """The last layer's vectors [tokens, features] of one sentence."""
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    positions = w["embeddings.position_embeddings.weight"][: len(ids)]
    x = w["embeddings.word_embeddings.weight"][ids] + positions + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        parts = [linear(x, f"{base}.attention.self.{part}") for part in ["query", "key", "value"]]
        q, k, v = (part.reshape(len(ids), heads, -1).transpose(1, 0, 2) for part in parts)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(x.shape)
        x = norm(x + linear(mixed, f"{base}.attention.output.dense"), f"{base}.attention.output.LayerNorm")
        hidden = linear(x, f"{base}.intermediate.dense")
        hidden = hidden * 0.5 * (1.0 + erf(hidden / np.sqrt(2.0)))
        x = norm(x + linear(hidden, f"{base}.output.dense"), f"{base}.output.LayerNorm")
    return x


def expect(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    config = json.loads((folder / "config.json").read_text())
    weights = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    vectors = [forward(tokenizer.encode(sentence).ids, weights, config) for sentence in SENTENCES]
    save_file({str(i): x.astype(np.float32) for i, x in enumerate(vectors)}, folder / "expected.safetensors")
    (folder / "sentences.json").write_text(json.dumps(SENTENCES) + "\n")
    mean = vectors[0].mean(0)
    print("the first sentence's normalised mean begins with", (mean / np.linalg.norm(mean))[:6].round(7).tolist())


if __name__ == "__main__":
    if len(sys.argv) == 1:
        make_fixture()
    expect(Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURE)
