//! The frozen sentence encoder against the textbook in f64 (tests/bert/expected.py).

use std::fs;
use std::path::Path;

use dit_engine::bert::Bert;
use dit_engine::text::Vectors;
use safetensors::SafeTensors;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert");

/// The sentences of a folder's `expected.safetensors`, and the vectors of each: `[tokens, features]`.
fn expected(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let sentences: Vec<String> =
        serde_json::from_slice(&fs::read(folder.join("sentences.json")).unwrap()).unwrap();
    let values = |i: usize| -> Vec<f32> {
        let tensor = tensors.tensor(&format!("{i}")).unwrap();
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    sentences.into_iter().enumerate().map(|(i, sentence)| (sentence, values(i))).collect()
}

fn check(folder: &Path) {
    let bert = Bert::open(folder).unwrap();
    let expected = expected(folder);
    let sentences: Vec<&str> = expected.iter().map(|(sentence, _)| &sentence[..]).collect();
    let got = bert.vectors(&sentences, 512).unwrap();
    let mut worst = 0.0f32;
    for (got, (sentence, want)) in got.iter().zip(&expected) {
        assert_eq!(got.len(), want.len(), "{sentence}");
        let error = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        worst = worst.max(error / largest);
    }
    println!("{}: {worst:.1e} of the largest value at most", folder.display());
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn vectors_are_those_of_the_textbook() {
    check(Path::new(FIXTURE));
    // A pretrained folder, prepared by tests/bert/expected.py.
    if let Some(folder) = std::env::var_os("DIT_TEST_BERT") {
        check(Path::new(&folder));
    }
}

#[test]
fn long_texts_are_cut_and_empty_ones_are_two_tokens() {
    let bert = Bert::open(Path::new(FIXTURE)).unwrap();
    let got = bert.vectors(&["", "a slow piano and a slow piano and a slow piano"], 6).unwrap();
    assert_eq!(got[0].len(), 2 * bert.features());
    assert_eq!(got[1].len(), 6 * bert.features());
}

#[test]
fn what_is_no_such_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |what: &str| {
        let error = Bert::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(what) && !error.contains('\n'), "`{what}` is not in: {error}");
    };
    error("config.json");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(Path::new(FIXTURE).join(name), folder.path().join(name)).unwrap();
    }
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    for (from, to, what) in [
        ("\"bert\"", "\"t5\"", "only `bert`"),
        ("\"gelu\"", "\"relu\"", "only `gelu`"),
        ("\"hidden_size\": 24", "\"hidden_size\": 36", "another shape"),
        ("\"hidden_size\": 24", "\"hidden_size\": 0", "extent"),
        ("{", "[", "none of BERT's type"),
    ] {
        assert!(config.contains(from), "{from}");
        fs::write(folder.path().join("config.json"), config.replacen(from, to, 1)).unwrap();
        error(what);
    }
    fs::write(folder.path().join("config.json"), &config).unwrap();
    let model = fs::read(folder.path().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("model.safetensors"), &model[..model.len() / 2]).unwrap();
    error("is not a safetensors file");
}
