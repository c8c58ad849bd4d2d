//! The patch family against plain loops in f64.

mod common;
#[path = "reference/patch.rs"]
mod reference;

use common::*;
use dit_engine::backend::{AddedRows, Backend, PatchDims, Write};
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

/// Sizes that packs of 16 bytes divide, for both elements of activations: what the kernels of a GPU are made for. Among them
/// the patches of the presets, and weights whose gradients are shared by many blocks: of one tile, and of several.
const ALIGNED_CASES: [Case; 7] = [
    (1, 2, 3, 5, 4, 4, 72),
    (2, 1, 1, 16, 64, 8, 40),
    (3, 1, 3, 5, 8, 8, 136),
    (1, 1, 3, 3, 16, 16, 64),
    (1, 4, 2, 3, 16, 16, 24),
    (2, 2, 45, 51, 4, 4, 8),
    (1, 16, 26, 41, 4, 4, 8),
];

fn dims((batch, channels, grid_height, grid_width, patch_height, patch_width, dim): Case) -> PatchDims {
    let (height, width) = (grid_height * patch_height, grid_width * patch_width);
    PatchDims { batch, channels, height, width, patch_height, patch_width, dim }
}

/// Inputs of the right lengths.
struct Inputs {
    image: Vec<f32>,
    tokens: Vec<f32>,
    weight: Vec<f32>,
    embed_bias: Vec<f32>,
    deembed_bias: Vec<f32>,
}

/// Random inputs. What kernels may round on the way to their products is round already.
fn inputs<B: Backend>(backend: &B, dims: PatchDims) -> Inputs {
    Inputs {
        image: rounded(backend, &random(1, dims.image_len())),
        tokens: rounded(backend, &random(2, dims.batch * dims.tokens() * dims.dim)),
        weight: rounded(backend, &random(3, dims.dim * dims.patch_len())),
        embed_bias: random(4, dims.dim),
        deembed_bias: random(5, dims.channels),
    }
}

fn write_of(before: Option<&Inputs>) -> Write {
    if before.is_some() { Write::Add } else { Write::Replace }
}

fn embed_forward<B: Backend>(backend: &B, with: &Inputs, dims: PatchDims) -> Vec<f32> {
    let (image, weight) = (upload(backend, &with.image), upload_weights(backend, &with.weight));
    let bias = upload(backend, &with.embed_bias);
    let mut tokens = poisoned_activation(backend, with.tokens.len());
    backend.patch_embed_forward(
        all_mut::<B>(&mut tokens),
        all::<B>(&image),
        all::<B>(&weight),
        all::<B>(&bias),
        dims,
    );
    download(backend, &tokens)
}

/// With position `[tokens, dim]` and rows `[batch, dim]`, or without either.
fn embed_rows_forward<B: Backend>(
    backend: &B,
    with: &Inputs,
    [position, sample]: [Option<&[f32]>; 2],
    dims: PatchDims,
) -> Vec<f32> {
    let (image, weight) = (upload(backend, &with.image), upload_weights(backend, &with.weight));
    let bias = upload(backend, &with.embed_bias);
    let [position, sample] = [position, sample].map(|rows| rows.map(|rows| upload(backend, rows)));
    let rows = AddedRows { position: position.as_ref().map(all::<B>), sample: sample.as_ref().map(all::<B>) };
    let mut tokens = poisoned_activation(backend, with.tokens.len());
    let (to, image, weight) = (all_mut::<B>(&mut tokens), all::<B>(&image), all::<B>(&weight));
    backend.patch_embed_rows_forward(to, image, weight, all::<B>(&bias), rows, dims);
    download(backend, &tokens)
}

fn check_added_rows<B: Backend>(backend: &B, case: Case) {
    let dims = dims(case);
    let with = inputs(backend, dims);
    let (position, sample) = (random(6, dims.tokens() * dims.dim), random(7, dims.batch * dims.dim));
    let row_len = dims.tokens() * dims.dim;
    let bias = wide(&with.embed_bias);
    let want = reference::embed_forward(&wide(&with.image), &wide(&with.weight), &bias, dims);
    let naive = reference::embed_forward(&with.image, &with.weight, &with.embed_bias, dims);
    for rows in [
        [None, None],
        [Some(&position[..]), None],
        [None, Some(&sample[..])],
        [Some(&position[..]), Some(&sample[..])],
    ] {
        let added = |i: usize| {
            let position = rows[0].map_or(0.0, |position| position[i % row_len]);
            let sample = rows[1].map_or(0.0, |sample| sample[i / row_len * dims.dim + i % dims.dim]);
            (position, sample)
        };
        let want: Vec<f64> =
            want.iter().enumerate().map(|(i, x)| x + f64::from(added(i).0) + f64::from(added(i).1)).collect();
        let naive: Vec<f32> = naive.iter().enumerate().map(|(i, x)| x + added(i).0 + added(i).1).collect();
        let got = embed_rows_forward(backend, &with, rows, dims);
        assert_close(&format!("embed with rows {case:?}"), &got, &want, &rounded(backend, &naive));
    }
}

fn deembed_forward<B: Backend>(backend: &B, with: &Inputs, dims: PatchDims) -> Vec<f32> {
    let (tokens, weight) = (upload_activation(backend, &with.tokens), upload_weights(backend, &with.weight));
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
    let (image, tokens) = (upload(backend, &with.image), upload_activation(backend, &with.tokens));
    let (weight, write) = (upload_weights(backend, &with.weight), write_of(before));
    let mut dimage = match before {
        Some(before) => upload(backend, &before.image),
        None => poisoned(backend, with.image.len()),
    };
    let mut dtokens = match before {
        Some(before) => upload_activation(backend, &before.tokens),
        None => poisoned_activation(backend, with.tokens.len()),
    };
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
    let (image, tokens) = (upload(backend, &with.image), upload_activation(backend, &with.tokens));
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
    let with = inputs(backend, dims);
    let (image, tokens, weight) = (wide(&with.image), wide(&with.tokens), wide(&with.weight));

    let want = reference::embed_forward(&image, &weight, &wide(&with.embed_bias), dims);
    let naive = reference::embed_forward(&with.image, &with.weight, &with.embed_bias, dims);
    let naive = rounded(backend, &naive);
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
    assert_close(&format!("dtokens {case:?}"), &dtokens, &want_tokens, &rounded(backend, &naive_tokens));
    let (dimage, dtokens) = backward_inputs(backend, Some(&with), &with, dims);
    assert_close_added(&format!("dimage += {case:?}"), &dimage, &with.image, &want_image, &naive_image);
    let naive: Vec<f32> =
        naive_tokens.iter().zip(&with.tokens).map(|(naive, before)| naive + before).collect();
    let want: Vec<f64> = want_tokens.iter().zip(&tokens).map(|(want, before)| want + before).collect();
    assert_close(&format!("dtokens += {case:?}"), &dtokens, &want, &rounded(backend, &naive));

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
fn check_gradients<B: Backend>(backend: &B, case: Case, relative: f64) {
    let dims = dims(case);
    let with = inputs(backend, dims);
    let (image, tokens, weight) = (wide(&with.image), wide(&with.tokens), wide(&with.weight));
    let zeros = Inputs {
        weight: vec![0.0; with.weight.len()],
        embed_bias: vec![0.0; with.embed_bias.len()],
        deembed_bias: vec![0.0; with.deembed_bias.len()],
        ..inputs(backend, dims)
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
    assert_gradient("dtokens", &dtokens, &with.tokens, relative, |x| deembed(x, &weight, &deembed_bias));
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
    check_gradients(&Cpu::poisoned(), (2, 2, 3, 5, 4, 3, 9), 1e-6);
}

#[test]
fn embedding_with_added_rows() {
    CASES.into_iter().for_each(|case| check_added_rows(&Cpu::poisoned(), case));
}

#[test]
fn cuda_at_odd_sizes() {
    for (device, case) in cuda::both().iter().flat_map(|device| CASES.map(|case| (device, case))) {
        check(device, case);
        check_added_rows(device, case);
    }
}

#[test]
fn cuda_at_sizes_of_packs() {
    for (device, case) in cuda::both().iter().flat_map(|device| ALIGNED_CASES.map(|case| (device, case))) {
        check(device, case);
        check_added_rows(device, case);
    }
}

#[test]
fn cuda_gradients_against_differences() {
    let [f32, bf16] = cuda::both();
    for case in [(2, 2, 3, 5, 4, 3, 9), (1, 2, 3, 2, 4, 4, 16)] {
        check_gradients(&f32, case, 1e-6);
        check_gradients(&bf16, case, 1e-2); // dtokens are rounded to 8 bits
    }
}

#[test]
fn cuda_sums_in_the_same_order_every_time() {
    for device in cuda::both() {
        let dims = dims(ALIGNED_CASES[5]);
        let with = inputs(&device, dims);
        let first = backward_weights(&device, &with, &with, dims);
        assert!((0..3).all(|_| backward_weights(&device, &with, &with, dims) == first));
    }
}

fn check_empty_batch<B: Backend>(backend: &B) {
    let dims = dims((0, 2, 3, 5, 4, 4, 3));
    let with = inputs(backend, dims);
    assert!(embed_forward(backend, &with, dims).is_empty());
    assert!(deembed_forward(backend, &with, dims).is_empty());
    let got = backward_weights(backend, &with, &with, dims);
    assert_eq!(got[0], with.weight);
    assert_eq!((&got[1], &got[3]), (&with.embed_bias, &with.deembed_bias));
}

#[test]
fn an_empty_batch_does_nothing() {
    check_empty_batch(&Cpu::poisoned());
    cuda::both().iter().for_each(check_empty_batch);
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in [(2, 2, 31, 17, 4, 4, 33), (2, 2, 5, 7, 16, 33, 9)] {
        let dims = dims(case);
        let with = inputs(&Cpu::poisoned(), dims);
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
