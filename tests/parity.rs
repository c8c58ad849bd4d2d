//! One training step against PyTorch: the fixtures are written by tests/pytorch/make_fixtures.py, whose README says
//! how. Relative errors are norms: |a - b| / |b|.

mod common;

use std::path::{Path, PathBuf};

use dit_engine::backend::{Backend, Precision};
use dit_engine::config::{Config, Overrides};
use dit_engine::cpu::Cpu;
use dit_engine::train::parity;
use safetensors::SafeTensors;

/// Bound of the relative error of the prediction and of every gradient.
const BOUND: f64 = 1e-4;
/// The same where activations are bf16, which has 8 bits where f32 has 24: for the prediction, and for gradients.
const BOUNDS_BF16: [f64; 2] = [2e-2, 1e-1];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The configuration that a fixture names in its metadata, with PyTorch's Adam.
fn config_of(bytes: &[u8]) -> Config {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut overrides = Overrides::default();
    for (key, value) in header.metadata().as_ref().unwrap() {
        overrides.add_setting(&format!("{key}={value}")).unwrap();
    }
    for setting in ["train.beta2=0.999", "train.clip=0", "train.weight_decay=0", "sample.steps=10"] {
        overrides.add_setting(setting).unwrap();
    }
    Config::resolve("small", &overrides).unwrap()
}

fn values(tensors: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
    bytemuck::pod_collect_to_vec::<u8, f32>(view.data()).into_iter().map(f64::from).collect()
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

/// Runs the step and compares; returns the worst relative errors of (prediction, gradients, updated weights, loss).
fn compare<B: Backend>(backend: &B, name: &str) -> [f64; 4] {
    let state = fixture(&format!("{name}.state.safetensors"));
    let config = config_of(&std::fs::read(&state).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    parity::run(backend, &config, &state, &out).unwrap();

    let ours = std::fs::read(&out).unwrap();
    let ours = SafeTensors::deserialize(&ours).unwrap();
    let theirs = std::fs::read(fixture(&format!("{name}.expected.safetensors"))).unwrap();
    let theirs = SafeTensors::deserialize(&theirs).unwrap();
    let names = |prefix: &str| {
        let mut names: Vec<String> =
            theirs.names().into_iter().filter(|n| n.starts_with(prefix)).map(|n| n.to_string()).collect();
        names.sort();
        assert!(!names.is_empty());
        names
    };
    let error = |name: &str| {
        let (mut a, mut b) = (values(&ours, name), values(&theirs, name));
        if name.starts_with("new.") && name.ends_with("attn.qkv.bias") {
            // Adam makes a full step of the sign of a gradient that is only rounding.
            let keys = a.len() / 3..2 * a.len() / 3;
            a.drain(keys.clone());
            b.drain(keys);
        }
        let error = distance(&a, &b) / norm(&b);
        println!("{name:40} {error:.2e}");
        error
    };
    assert!(error("x_t") < 1e-6);
    let worst = |prefix: &str| names(prefix).iter().map(|name| error(name)).fold(0.0, f64::max);
    [error("prediction"), worst("grad."), worst("new."), error("loss")]
}

fn check<B: Backend>(backend: &B, name: &str) {
    let [prediction, gradients, updated, loss] = compare(backend, name);
    assert!(loss < 1e-6, "{loss}");
    assert!(prediction < BOUND && gradients < BOUND && updated < BOUND, "{prediction} {gradients} {updated}");
}

#[test]
fn the_seeds_block_steps_as_in_pytorch() {
    check(&Cpu::poisoned(), "seed");
}

#[test]
fn adaln_zero_steps_as_in_pytorch() {
    check(&Cpu::poisoned(), "adaln_zero");
}

#[test]
fn the_v_objective_steps_as_in_pytorch() {
    check(&Cpu::poisoned(), "adaln_zero_v");
}

#[test]
fn cuda_steps_as_in_pytorch() {
    for name in ["seed", "adaln_zero", "adaln_zero_v"] {
        check(&common::cuda::cuda(Precision::F32), name);
    }
}

#[test]
fn cuda_steps_nearly_as_in_pytorch_in_bf16() {
    for name in ["seed", "adaln_zero", "adaln_zero_v"] {
        let [prediction, gradients, _, loss] = compare(&common::cuda::cuda(Precision::Bf16), name);
        println!("{name}: prediction {prediction:.1e}, gradients {gradients:.1e}, loss {loss:.1e}");
        assert!(loss < BOUNDS_BF16[0], "{name}: {loss}");
        assert!(
            prediction < BOUNDS_BF16[0] && gradients < BOUNDS_BF16[1],
            "{name}: {prediction} {gradients}"
        );
    }
}

#[test]
fn a_state_that_does_not_fit_is_named() {
    let state = fixture("seed.state.safetensors");
    let mut config = config_of(&std::fs::read(&state).unwrap());
    config.model.depth = 3;
    let error = parity::run(&Cpu::new(), &config, &state, Path::new("unused")).unwrap_err().to_string();
    assert!(error.ends_with("holds no `param.blocks.2.norm1.weight`"), "{error}");
    config.model.depth = 2;
    config.model.mlp_ratio = 2;
    let error = parity::run(&Cpu::new(), &config, &state, Path::new("unused")).unwrap_err().to_string();
    assert!(error.contains("`param.blocks.0.mlp.0.weight` has shape [128, 32], not [64, 32]"), "{error}");
}
