use std::fs;

use proptest::prelude::*;

use super::*;
use crate::config::{BlockKind, Overrides};

fn config() -> Config {
    let mut overrides = Overrides::default();
    for setting in
        ["model.image=[8,12]", "model.patch=[4,4]", "model.dim=12", "model.depth=1", "model.heads=3"]
    {
        overrides.add_setting(setting).unwrap();
    }
    let mut config = Config::resolve("demo", &overrides).unwrap();
    config.model.block = BlockKind::AdalnZero;
    config.train.seed = i64::MAX as u64;
    config
}

fn layout(config: &Config) -> Layout {
    Dit::new(&config.model, &config.text).unwrap().layout().clone()
}

/// Bit patterns of every kind, NaN with payloads, infinities, -0 and subnormals among them; zero in the gaps.
fn bits(layout: &Layout, salt: u32) -> Vec<f32> {
    let odd = [0x7FC0_1234, 0xFFA0_0001, 0x7F80_0000, 0x8000_0000, 0x0000_0001, 0x3F80_0000];
    let mut flat = vec![0.0; layout.len()];
    for span in layout.spans() {
        for (i, value) in flat[span.range.clone()].iter_mut().enumerate() {
            let scrambled = (i as u32).wrapping_mul(0x9E37_79B9).wrapping_add(salt);
            *value = f32::from_bits(*odd.get(i).unwrap_or(&scrambled));
        }
    }
    flat
}

fn checkpoint() -> Checkpoint {
    let config = config();
    let layout = layout(&config);
    Checkpoint {
        step: 1234,
        hearing: Some(Hearing::Trained(Tokenizer::train(["a slow piano"], 300).unwrap().into())),
        fingerprint: "0123abcd".to_string(),
        mean: (0..8).map(|i| i as f32 / 3.0).collect(),
        deviation: (0..8).map(|i| 1.0 + i as f32).collect(),
        range: (0..8).map(|i| [-1.5 - i as f32, 2.0 * i as f32]).collect(),
        best_loss: Some(0.1 + 0.2),
        weights: bits(&layout, 1),
        ema: bits(&layout, 2),
        first: bits(&layout, 3),
        second: bits(&layout, 4),
        config,
    }
}

fn assert_same_bits(a: &Checkpoint, b: &Checkpoint) {
    for ((a, b), name) in a.parts().into_iter().zip(b.parts()).zip(PREFIXES) {
        assert!(a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())), "{name}");
    }
    let facts =
        |c: &Checkpoint| (c.step, c.config.clone(), c.hearing.clone(), c.fingerprint.clone(), c.best_loss);
    assert_eq!(facts(a), facts(b));
    assert_eq!((&a.mean, &a.deviation, &a.range), (&b.mean, &b.deviation, &b.range));
}

#[test]
fn what_is_saved_comes_back_to_the_bit_and_again_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    for best_loss in [None, Some(0.1 + 0.2), Some(f64::INFINITY)] {
        // The range need not be known.
        let range = if best_loss.is_some() { checkpoint().range } else { Vec::new() };
        let saved = Checkpoint { best_loss, range, ..checkpoint() };
        saved.save(&one, &layout(&saved.config)).unwrap();
        let loaded = Checkpoint::load(&one).unwrap();
        assert_same_bits(&saved, &loaded);
        loaded.save(&two, &layout(&saved.config)).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        assert_eq!(sha256(&one).unwrap(), sha256(&two).unwrap());
    }
}

/// The format's own library reads what we write.
#[test]
fn the_file_is_a_safetensors_file_with_named_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let saved = checkpoint();
    let layout = layout(&saved.config);
    saved.save(&path, &layout).unwrap();
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), 4 * layout.spans().len() + 3);
    let span = layout.find("blocks.0.attn.qkv.weight").unwrap();
    let tensor = tensors.tensor("adam.second.blocks.0.attn.qkv.weight").unwrap();
    assert_eq!(tensor.shape(), [36, 12]);
    assert_eq!(tensor.data(), bytemuck::cast_slice::<f32, u8>(&saved.second[span.range.clone()]));
    assert_eq!(tensors.tensor("data.mean").unwrap().shape(), [1, 8]);
}

/// The bytes of [`checkpoint`], saved once.
fn saved_bytes() -> Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let save = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let saved = checkpoint();
        saved.save(&path, &layout(&saved.config)).unwrap();
        fs::read(&path).unwrap()
    };
    BYTES.get_or_init(save).clone()
}

/// Takes a good file, lets `change` spoil the bytes, and returns what loading says.
fn spoilt(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let mut bytes = saved_bytes();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let error = Checkpoint::load(&path).unwrap_err().to_string();
    error.strip_prefix(&format!("{}: ", path.display())).expect("the file is named").to_string()
}

/// Replaces text in the header by text of the same length.
fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("in the header");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn each_damage_is_named() {
    assert_eq!(spoilt(|bytes| bytes.truncate(3)), "is not a safetensors file");
    assert_eq!(
        spoilt(|bytes| bytes.splice(.., *b"RIFF....WAVEfmt ").for_each(drop)),
        "is not a safetensors file"
    );
    assert!(spoilt(|bytes| bytes.truncate(100)).starts_with("is cut off: 100 bytes of "));
    assert!(spoilt(|bytes| bytes.truncate(bytes.len() - 1)).starts_with("is cut off: "));
    assert_eq!(spoilt(|bytes| bytes.push(0)), "is 1 bytes longer than its header says");
    let newer = spoilt(|bytes| replace(bytes, "\"version\":\"1\"", "\"version\":\"9\""));
    assert!(newer.contains("format 9, written by dit-engine") && newer.contains("update"), "{newer}");
    let missing =
        spoilt(|bytes| replace(bytes, "adam.first.patch_embed.bias", "adam.first.patch_embed.bios"));
    assert_eq!(missing, "holds no tensor `adam.first.patch_embed.bias`");
    let shape = spoilt(|bytes| replace(bytes, "\"shape\":[36,12]", "\"shape\":[12,36]"));
    assert_eq!(shape, "`adam.first.blocks.0.attn.qkv.weight` has shape [12, 36]; this model needs [36, 12]");
    let kind = spoilt(|bytes| replace(bytes, "dit-engine checkpoint", "dit-engine some thing"));
    assert!(kind.contains("no checkpoint of dit-engine"), "{kind}");
    let step = spoilt(|bytes| replace(bytes, "\"step\":\"1234\"", "\"step\":\"-123\""));
    assert_eq!(step, "`step` in its metadata is \"-123\", not a number");
    let heads = spoilt(|bytes| replace(bytes, "heads = 3", "heads = 5"));
    assert!(heads.starts_with("its configuration: model.heads"), "{heads}");
}

#[test]
fn a_configuration_that_asks_for_the_moon_is_refused_unbuilt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let saying = |change: &dyn Fn(&mut Config)| {
        let mut saved = checkpoint();
        change(&mut saved.config);
        tensors::write(&path, &saved.facts(), &[]).unwrap();
        Checkpoint::load(&path).unwrap_err().to_string()
    };
    let more = "more parameters than the file holds";
    assert!(saying(&|config| config.model.depth = 1 << 20).contains(more));
    assert!(saying(&|config| config.model.dim = 12 << 16).contains(more));
    assert!(saying(&|config| config.model.mlp_ratio = 1 << 20).contains(more));
    assert!(saying(&|config| config.model.depth = 1 << 40).contains("model.depth: is 1099511627776"));
    let mut small = checkpoint();
    small.config.model.image = [1 << 20, 1 << 20];
    let rows = small.config.model.channels << 20;
    (small.mean, small.deviation, small.range) = (vec![0.0; rows], vec![1.0; rows], Vec::new());
    let layout = layout(&checkpoint().config);
    small.save(&path, &layout).unwrap();
    let error = Checkpoint::load(&path).unwrap_err().to_string();
    assert!(error.contains("more patches than this machine"), "{error}");
}

#[test]
fn a_folder_and_nothing_at_all_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        Checkpoint::load(folder.path())
            .unwrap_err()
            .to_string()
            .ends_with("is a folder, not a safetensors file")
    );
    let nothing = Checkpoint::load(&folder.path().join("x")).unwrap_err().to_string();
    assert!(nothing.starts_with("cannot read "), "{nothing}");
}

#[test]
fn weights_load_under_every_name_that_they_go_by() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let saved = checkpoint();
    let layout = layout(&saved.config);
    saved.save(&path, &layout).unwrap();
    let to_bits = |flat: &[f32]| flat.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(to_bits(&load_weights(&path, &layout).unwrap()), to_bits(&saved.ema));
    for prefix in ["", "param."] {
        let named = layout.spans().iter().map(|span| Named {
            name: format!("{prefix}{}", span.name),
            shape: &span.shape,
            values: &saved.weights[span.range.clone()],
        });
        tensors::write(&path, &BTreeMap::new(), &named.collect::<Vec<_>>()).unwrap();
        assert_eq!(to_bits(&load_weights(&path, &layout).unwrap()), to_bits(&saved.weights));
    }
    tensors::write(&path, &BTreeMap::new(), &[]).unwrap();
    assert!(load_weights(&path, &layout).unwrap_err().to_string().contains("holds no weights of this model"));
}

#[test]
fn half_precision_is_widened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let values = [1.5f32, -0.25, 0.0, 65504.0];
    let halves: Vec<u8> = values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
    let brains: Vec<u8> = values[..2].iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
    let views = [
        ("h", safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![2, 2], &halves).unwrap()),
        ("b", safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![2], &brains).unwrap()),
    ];
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let mut file = TensorFile::open(&path).unwrap();
    let mut out = [0.0; 4];
    file.read("h", &[2, 2], &mut out).unwrap();
    assert_eq!(out, values);
    file.read("b", &[2], &mut out[..2]).unwrap();
    assert_eq!(out[..2], values[..2]);
}

#[test]
fn the_hash_is_sha_256() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    fs::write(&path, "abc").unwrap();
    // FIPS 180-2, appendix B.1.
    assert!(sha256(&path).unwrap().starts_with("ba7816bf8f01cfea414140de5dae2223b00361a3"));
    assert_eq!(short_hash(&path).unwrap(), "ba7816bf8f01cfea");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is done to a checkpoint, loading answers; it never panics, hangs or takes memory that the file has not.
    #[test]
    fn no_damage_crashes(edits in prop::collection::vec((0usize..9000, any::<u8>()), 0..6), cut in 0usize..20_000) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let mut bytes = saved_bytes();
        for (at, value) in edits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.max(bytes.len() / 2));
        fs::write(&path, bytes).unwrap();
        let _ = Checkpoint::load(&path);
    }

    /// Headers that lie about lengths and offsets.
    #[test]
    fn no_header_crashes(
        length in prop_oneof![any::<u64>(), 0u64..400],
        shape in prop::collection::vec(any::<u64>(), 0..4),
        start in any::<u64>(),
        end in prop_oneof![any::<u64>(), 0u64..64],
        data in 0usize..64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let header = format!("{{\"weights.a\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}}}");
        for length in [length, header.len() as u64] {
            let bytes = [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat();
            fs::write(&path, bytes).unwrap();
            let _ = Checkpoint::load(&path);
            let _ = load_weights(&path, &layout(&config()));
        }
    }
}
