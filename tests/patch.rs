//! The patch family against plain loops in f64.

mod common;
#[path = "reference/patch.rs"]
mod reference;

use common::*;
use dit_engine::backend::{Backend, PatchDims, Write};
use dit_engine::cpu::Cpu;

/// (batch, channels, grid height, grid width, patch height, patch width, dim)
type Case = (usize, usize, usize, usize, usize, usize, usize);

const CASES: [Case; 9] = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 2, 3, 5, 4, 4, 33),
    (1, 3, 5, 1, 7, 3, 31),
    (3, 1, 1, 7, 1, 5, 17),
    (1, 2, 2, 131, 2, 4, 9),
    (2, 1, 31, 9, 2, 2, 65),
    (1, 2, 3, 3, 16, 17, 13),
    (1, 5, 2, 3, 11, 13, 7),
    (1, 2, 1, 401, 2, 1, 5),
];

fn dims((batch, channels, grid_height, grid_width, patch_height, patch_width, dim): Case) -> PatchDims {
    let (height, width) = (grid_height * patch_height, grid_width * patch_width);
    PatchDims { batch, channels, height, width, patch_height, patch_width, dim }
}

/// Random inputs of the right lengths.
struct Inputs {
    image: Vec<f32>,
    tokens: Vec<f32>,
    weight: Vec<f32>,
    embed_bias: Vec<f32>,
    deembed_bias: Vec<f32>,
}

fn inputs(dims: PatchDims) -> Inputs {
    Inputs {
        image: random(1, dims.image_len()),
        tokens: random(2, dims.batch * dims.tokens() * dims.dim),
        weight: random(3, dims.dim * dims.patch_len()),
        embed_bias: random(4, dims.dim),
        deembed_bias: random(5, dims.channels),
    }
}

/// A kernel's output that starts as `before`, or poisoned and to be replaced.
fn start<B: Backend>(backend: &B, before: Option<&[f32]>, len: usize) -> (B::Buf, Write) {
    match before {
        Some(before) => (upload(backend, before), Write::Add),
        None => (poisoned(backend, len), Write::Replace),
    }
}

fn embed_forward<B: Backend>(backend: &B, with: &Inputs, dims: PatchDims) -> Vec<f32> {
    let (image, weight) = (upload(backend, &with.image), upload(backend, &with.weight));
    let bias = upload(backend, &with.embed_bias);
    let mut tokens = poisoned(backend, with.tokens.len());
    backend.patch_embed_forward(
        all_mut::<B>(&mut tokens),
        all::<B>(&image),
        all::<B>(&weight),
        all::<B>(&bias),
        dims,
    );
    download(backend, &tokens)
}

fn deembed_forward<B: Backend>(backend: &B, with: &Inputs, dims: PatchDims) -> Vec<f32> {
    let (tokens, weight) = (upload(backend, &with.tokens), upload(backend, &with.weight));
    let bias = upload(backend, &with.deembed_bias);
    let mut image = poisoned(backend, with.image.len());
    backend.patch_deembed_forward(
        all_mut::<B>(&mut image),
        all::<B>(&tokens),
        all::<B>(&weight),
        all::<B>(&bias),
        dims,
    );
    download(backend, &image)
}

/// Embedding's dimage, de-embedding's dtokens.
fn backward_inputs<B: Backend>(
    backend: &B,
    before: Option<&Inputs>,
    with: &Inputs,
    dims: PatchDims,
) -> (Vec<f32>, Vec<f32>) {
    let (image, tokens) = (upload(backend, &with.image), upload(backend, &with.tokens));
    let weight = upload(backend, &with.weight);
    let (mut dimage, write) = start(backend, before.map(|b| &b.image[..]), with.image.len());
    let (mut dtokens, _) = start(backend, before.map(|b| &b.tokens[..]), with.tokens.len());
    let (weight, image, tokens) = (all::<B>(&weight), all::<B>(&image), all::<B>(&tokens));
    backend.patch_embed_backward_input(all_mut::<B>(&mut dimage), write, tokens, weight, dims);
    backend.patch_deembed_backward_input(all_mut::<B>(&mut dtokens), write, image, weight, dims);
    (download(backend, &dimage), download(backend, &dtokens))
}

/// Embedding's dweight and dbias, then de-embedding's, added to what `before` holds.
fn backward_weights<B: Backend>(
    backend: &B,
    before: &Inputs,
    with: &Inputs,
    dims: PatchDims,
) -> [Vec<f32>; 4] {
    let (image, tokens) = (upload(backend, &with.image), upload(backend, &with.tokens));
    let mut embed = (upload(backend, &before.weight), upload(backend, &before.embed_bias));
    let mut deembed = (upload(backend, &before.weight), upload(backend, &before.deembed_bias));
    let (image, tokens) = (all::<B>(&image), all::<B>(&tokens));
    let (dweight, dbias) = (all_mut::<B>(&mut embed.0), all_mut::<B>(&mut embed.1));
    backend.patch_embed_backward_weight(dweight, dbias, tokens, image, dims);
    let (dweight, dbias) = (all_mut::<B>(&mut deembed.0), all_mut::<B>(&mut deembed.1));
    backend.patch_deembed_backward_weight(dweight, dbias, image, tokens, dims);
    [embed.0, embed.1, deembed.0, deembed.1].map(|buf| download(backend, &buf))
}

/// As `assert_close`, for results that were added to `before`.
fn assert_close_added(name: &str, got: &[f32], before: &[f32], want: &[f64], naive: &[f32]) {
    let want: Vec<f64> = want.iter().zip(before).map(|(want, &before)| want + f64::from(before)).collect();
    let naive: Vec<f32> = naive.iter().zip(before).map(|(naive, before)| naive + before).collect();
    assert_close(name, got, &want, &naive);
}

fn check<B: Backend>(backend: &B, case: Case) {
    let dims = dims(case);
    let with = inputs(dims);
    let (image, tokens, weight) = (wide(&with.image), wide(&with.tokens), wide(&with.weight));

    let want = reference::embed_forward(&image, &weight, &wide(&with.embed_bias), dims);
    let naive = reference::embed_forward(&with.image, &with.weight, &with.embed_bias, dims);
    assert_close(&format!("embed {case:?}"), &embed_forward(backend, &with, dims), &want, &naive);

    let want = reference::deembed_forward(&tokens, &weight, &wide(&with.deembed_bias), dims);
    let naive = reference::deembed_forward(&with.tokens, &with.weight, &with.deembed_bias, dims);
    assert_close(&format!("deembed {case:?}"), &deembed_forward(backend, &with, dims), &want, &naive);

    let want_image = reference::embed_backward_input(&tokens, &weight, dims);
    let naive_image = reference::embed_backward_input(&with.tokens, &with.weight, dims);
    let want_tokens = reference::deembed_backward_input(&image, &weight, dims);
    let naive_tokens = reference::deembed_backward_input(&with.image, &with.weight, dims);
    let (dimage, dtokens) = backward_inputs(backend, None, &with, dims);
    assert_close(&format!("dimage {case:?}"), &dimage, &want_image, &naive_image);
    assert_close(&format!("dtokens {case:?}"), &dtokens, &want_tokens, &naive_tokens);
    let (dimage, dtokens) = backward_inputs(backend, Some(&with), &with, dims);
    assert_close_added(&format!("dimage += {case:?}"), &dimage, &with.image, &want_image, &naive_image);
    assert_close_added(&format!("dtokens += {case:?}"), &dtokens, &with.tokens, &want_tokens, &naive_tokens);

    let got = backward_weights(backend, &with, &with, dims);
    let want = reference::embed_backward_weight(&tokens, &image, dims);
    let naive = reference::embed_backward_weight(&with.tokens, &with.image, dims);
    assert_close_added(&format!("embed dweight {case:?}"), &got[0], &with.weight, &want.0, &naive.0);
    assert_close_added(&format!("embed dbias {case:?}"), &got[1], &with.embed_bias, &want.1, &naive.1);
    let want = reference::deembed_backward_weight(&image, &tokens, dims);
    let naive = reference::deembed_backward_weight(&with.image, &with.tokens, dims);
    assert_close_added(&format!("deembed dweight {case:?}"), &got[2], &with.weight, &want.0, &naive.0);
    assert_close_added(&format!("deembed dbias {case:?}"), &got[3], &with.deembed_bias, &want.1, &naive.1);
}

fn dot(x: &[f64], with: &[f32]) -> f64 {
    x.iter().zip(with).map(|(x, &c)| x * f64::from(c)).sum()
}

/// Gradients of `sum of c * output` against central differences, c random (the other input of the same shape).
fn check_gradients<B: Backend>(backend: &B, case: Case) {
    let dims = dims(case);
    let with = inputs(dims);
    let (image, tokens, weight) = (wide(&with.image), wide(&with.tokens), wide(&with.weight));
    let zeros = Inputs {
        weight: vec![0.0; with.weight.len()],
        embed_bias: vec![0.0; with.embed_bias.len()],
        deembed_bias: vec![0.0; with.deembed_bias.len()],
        ..inputs(dims)
    };
    let embed = |image: &[f64], weight: &[f64], bias: &[f64]| {
        dot(&reference::embed_forward(image, weight, bias, dims), &with.tokens)
    };
    let deembed = |tokens: &[f64], weight: &[f64], bias: &[f64]| {
        dot(&reference::deembed_forward(tokens, weight, bias, dims), &with.image)
    };
    let (embed_bias, deembed_bias) = (wide(&with.embed_bias), wide(&with.deembed_bias));
    let (dimage, dtokens) = backward_inputs(backend, None, &with, dims);
    assert_gradient("dimage", &dimage, &with.image, 1e-6, |x| embed(x, &weight, &embed_bias));
    assert_gradient("dtokens", &dtokens, &with.tokens, 1e-6, |x| deembed(x, &weight, &deembed_bias));
    let got = backward_weights(backend, &zeros, &with, dims);
    assert_gradient("embed dweight", &got[0], &with.weight, 1e-6, |w| embed(&image, w, &embed_bias));
    assert_gradient("embed dbias", &got[1], &with.embed_bias, 1e-6, |b| embed(&image, &weight, b));
    assert_gradient("deembed dweight", &got[2], &with.weight, 1e-6, |w| deembed(&tokens, w, &deembed_bias));
    assert_gradient("deembed dbias", &got[3], &with.deembed_bias, 1e-6, |b| deembed(&tokens, &weight, b));
}

#[test]
fn every_kernel_against_loops() {
    CASES.into_iter().for_each(|case| check(&Cpu::poisoned(), case));
}

#[test]
fn gradients_against_differences() {
    check_gradients(&Cpu::poisoned(), (2, 2, 3, 5, 4, 3, 9));
}

#[test]
fn an_empty_batch_does_nothing() {
    let dims = dims((0, 2, 3, 5, 4, 4, 3));
    let with = inputs(dims);
    assert!(embed_forward(&Cpu::poisoned(), &with, dims).is_empty());
    assert!(deembed_forward(&Cpu::poisoned(), &with, dims).is_empty());
    let got = backward_weights(&Cpu::poisoned(), &with, &with, dims);
    assert_eq!(got[0], with.weight);
    assert_eq!((&got[1], &got[3]), (&with.embed_bias, &with.deembed_bias));
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in [(2, 2, 31, 17, 4, 4, 33), (2, 2, 5, 7, 16, 33, 9)] {
        let dims = dims(case);
        let with = inputs(dims);
        assert_same_bits_for_any_threads(&format!("{case:?}"), || {
            let cpu = Cpu::poisoned();
            let (dimage, dtokens) = backward_inputs(&cpu, None, &with, dims);
            let mut all = [embed_forward(&cpu, &with, dims), deembed_forward(&cpu, &with, dims)].concat();
            all.extend([dimage, dtokens].concat());
            all.extend(backward_weights(&cpu, &with, &with, dims).concat());
            all
        });
    }
}
