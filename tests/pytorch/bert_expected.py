"""What PyTorch makes of sentences with a BERT folder, for tests/bert.rs.

    python3 tests/pytorch/bert_expected.py              makes the small random model of tests/fixtures/bert
    python3 tests/pytorch/bert_expected.py FOLDER       writes expected.safetensors and sentences.json into a pretrained one

Needs torch, transformers, tokenizers and safetensors. The vectors are the last layer's, one a token, computed in f64.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, BertConfig, BertModel

SENTENCES = [
    "This is an example sentence",
    "Each sentence is converted",
    "A slow ambient track at 72 bpm in D minor, played on bell, pad and synth bass, no drums, dark and melancholic.",
    "fast, bright, with drums!",
    "",
    "caf\u00e9 \u266b \u5b57",
]
FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "bert"


def make_fixture():
    torch.manual_seed(0)
    FIXTURE.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(128)
    tokenizer.save(str(FIXTURE / "tokenizer.json"), pretty=False)
    config = BertConfig(
        vocab_size=200, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=64,
        max_position_embeddings=160, initializer_range=0.3, layer_norm_eps=1e-12,
    )
    model = BertModel(config, add_pooling_layer=False)
    for parameter in model.parameters():  # also what starts at 0 and 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, FIXTURE / "model.safetensors")
    keys = ["model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
            "max_position_embeddings", "layer_norm_eps", "vocab_size", "type_vocab_size"]
    values = {key: getattr(config, key) for key in keys}
    (FIXTURE / "config.json").write_text(json.dumps(values, indent=2) + "\n")


def expect(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = AutoModel.from_pretrained(folder).double().eval()
    expected = {}
    for index, sentence in enumerate(SENTENCES):
        ids = torch.tensor([tokenizer.encode(sentence).ids])
        with torch.no_grad():
            expected[str(index)] = model(ids).last_hidden_state[0].float().contiguous()
    save_file(expected, folder / "expected.safetensors")
    (folder / "sentences.json").write_text(json.dumps(SENTENCES) + "\n")
    pooled = torch.nn.functional.normalize(expected["0"].double().mean(0), dim=0)
    print(folder, "the first numbers of the first sentence's normalised mean:", pooled[:6].tolist())


if __name__ == "__main__":
    if len(sys.argv) == 1:
        make_fixture()
    expect(Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURE)
