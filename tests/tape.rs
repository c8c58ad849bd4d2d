//! The tape: accumulation, lifetimes, and the search for the first value that is not finite.

mod common;

use common::{download, random, upload};
use dit_engine::Error;
use dit_engine::backend::{Activation, Backend};
use dit_engine::cpu::Cpu;
use dit_engine::ops::{elementwise, matmul};
use dit_engine::params::{Init, Layout, LayoutBuilder};
use dit_engine::tape::Tape;

fn empty_layout() -> Layout {
    LayoutBuilder::default().finish()
}

/// y = x + silu(x), z = y + y: x is used twice and y twice, so dz/dx = 2 (1 + silu'(x)).
#[test]
fn a_value_used_twice_gets_both_gradients() {
    let backend = Cpu::poisoned();
    let layout = empty_layout();
    let (weights, mut weight_gradients) = (backend.alloc(0).unwrap(), backend.alloc(0).unwrap());
    let values = random(1, 257);
    let mut tape = Tape::recording(&backend, &layout, &weights);
    let x = tape.leaf(&[1, 1, 257], upload(&backend, &values));
    let branch = elementwise::activation(&mut tape, &x, Activation::Silu).unwrap();
    let y = elementwise::residual(&mut tape, &x, &branch).unwrap();
    let z = elementwise::residual(&mut tape, &y, &y).unwrap();
    let seed = upload(&backend, &vec![1.0; 257]);
    let gradients = tape.backward(z, seed, &mut weight_gradients).unwrap();
    let dx = download(&backend, gradients.of(&x).unwrap());
    for (&x, &dx) in values.iter().zip(&dx) {
        let x = f64::from(x);
        let s = 1.0 / (1.0 + (-x).exp());
        let expected = 2.0 * (1.0 + s * (1.0 + x * (1.0 - s)));
        assert!((f64::from(dx) - expected).abs() < 1e-5, "{dx} {expected}");
    }
}

#[test]
fn parameter_gradients_accumulate_over_walks() {
    let backend = Cpu::poisoned();
    let mut builder = LayoutBuilder::default();
    let weight = builder.add("weight", &[2, 3], true, Init::Constant(0.5));
    let bias = builder.add("bias", &[2], false, Init::Constant(0.0));
    let layout = builder.finish();
    let weights = upload(&backend, &layout.initial_values(0));
    let mut gradients = upload(&backend, &vec![0.0; layout.len()]);
    for _ in 0..2 {
        let mut tape = Tape::recording(&backend, &layout, &weights);
        let x = tape.constant(&[1, 3], upload(&backend, &[1.0, 2.0, 3.0]));
        let y = matmul::linear(&mut tape, &x, weight, bias, Activation::Identity).unwrap();
        let seed = upload(&backend, &[1.0, 10.0]);
        tape.backward(y, seed, &mut gradients).unwrap();
    }
    let gradients = download(&backend, &gradients);
    assert_eq!(gradients[layout.span(weight).range.clone()], [2.0, 4.0, 6.0, 20.0, 40.0, 60.0]);
    assert_eq!(gradients[layout.span(bias).range.clone()], [2.0, 20.0]);
}

/// The wide tensor in the middle lives while it is needed; without recording it is gone at once.
#[test]
fn a_tape_that_does_not_record_keeps_nothing() {
    let live_after = |recording: bool| {
        let backend = Cpu::new();
        let layout = empty_layout();
        let weights = backend.alloc(0).unwrap();
        let mut tape = match recording {
            true => Tape::recording(&backend, &layout, &weights),
            false => Tape::forward_only(&backend, &layout, &weights),
        };
        let mut x = tape.leaf(&[1000], upload(&backend, &random(2, 1000)));
        for _ in 0..10 {
            x = elementwise::activation(&mut tape, &x, Activation::Tanh).unwrap();
        }
        backend.memory().live_bytes
    };
    assert_eq!(live_after(false), 4000);
    assert_eq!(live_after(true), 11 * 4000);
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    let backend = Cpu::poisoned();
    let layout = empty_layout();
    let weights = backend.alloc(0).unwrap();
    let mut tape = Tape::recording(&backend, &layout, &weights);
    tape.watch_for_non_finite(17);
    let big = tape.leaf(&[3], upload(&backend, &[1.0, 3e38, 2.0]));
    tape.label("blocks.0.mlp");
    let fine = elementwise::activation(&mut tape, &big, Activation::LeakyRelu).unwrap();
    tape.label("blocks.1.residual");
    let error = elementwise::residual(&mut tape, &fine, &fine).err().expect("3e38 + 3e38 overflows");
    match error {
        Error::NonFinite { tensor, value, step, .. } => {
            assert_eq!((tensor.as_str(), value, step), ("blocks.1.residual", f32::INFINITY, 17));
        }
        other => panic!("{other}"),
    }
}

/// Forward all is well; on the way back -1e38 is doubled twice before it reaches the first op's result.
#[test]
fn the_first_gradient_that_is_not_finite_is_named() {
    let backend = Cpu::poisoned();
    let layout = empty_layout();
    let (weights, mut weight_gradients) = (backend.alloc(0).unwrap(), backend.alloc(0).unwrap());
    let mut tape = Tape::recording(&backend, &layout, &weights);
    tape.watch_for_non_finite(17);
    let x = tape.leaf(&[3], upload(&backend, &[1.0, 3.0, 2.0]));
    let mut doubled = x;
    for label in ["blocks.0.residual", "blocks.1.residual", "blocks.2.residual"] {
        tape.label(label);
        doubled = elementwise::residual(&mut tape, &doubled, &doubled).unwrap();
    }
    let seed = upload(&backend, &[1.0, -1e38, 1.0]);
    match tape.backward(doubled, seed, &mut weight_gradients).err().expect("-1e38 * 4 overflows") {
        Error::NonFinite { tensor, value, step, .. } => {
            let expected = ("gradient of blocks.0.residual", f32::NEG_INFINITY, 17);
            assert_eq!((tensor.as_str(), value, step), expected);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let backend = Cpu::new();
    let layout = empty_layout();
    let weights = backend.alloc(0).unwrap();
    let mut tape = Tape::recording(&backend, &layout, &weights);
    let a = tape.leaf(&[2, 3], upload(&backend, &[0.0; 6]));
    let b = tape.leaf(&[3, 2], upload(&backend, &[0.0; 6]));
    let error = elementwise::residual(&mut tape, &a, &b).err().expect("shapes differ").to_string();
    assert_eq!(error, "residual: expected [2, 3], got [3, 2]");
}
