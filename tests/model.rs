//! The whole model: its parameters, its gradients, its memory, and that it learns.

mod common;

use common::{captions, random};
use dit_engine::backend::{Backend, Objective};
use dit_engine::config::{
    BlockKind, Config, ModelConfig, Overrides, Position, Recompute, TextConfig, TextMode,
};
use dit_engine::cpu::Cpu;
use dit_engine::diffusion::noising::Levels;
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::train::optimizer::{State, adam_step};
use dit_engine::train::step::{NoiseSource, StepInput, evaluate, forward_backward, weighted_loss};

/// A kind of block, how captions are heard, and the features of a frozen encoder.
type Case = (BlockKind, TextMode, usize);

const CASES: [Case; 6] = [
    (BlockKind::Seed, TextMode::None, 0),
    (BlockKind::AdalnZero, TextMode::None, 0),
    (BlockKind::Seed, TextMode::Both, 0),
    (BlockKind::AdalnZero, TextMode::Cross, 0),
    (BlockKind::AdalnZero, TextMode::Pooled, 0),
    (BlockKind::AdalnZero, TextMode::Both, 20),
];

fn small((block, mode, features): Case) -> Config {
    let position = match block {
        BlockKind::Seed => Position::Learned,
        BlockKind::AdalnZero => Position::Sincos,
    };
    let model = ModelConfig {
        image: [12, 16],
        channels: 2,
        patch: [4, 4],
        dim: 32,
        depth: 2,
        heads: 2,
        mlp_ratio: 4,
        block,
        position,
    };
    let text = TextConfig {
        mode,
        vocabulary: 300,
        tokens: 5,
        dim: 24,
        depth: 1,
        heads: 3,
        features,
        ..TextConfig::default()
    };
    let mut config = Config { model, text, ..Config::default() };
    config.train.warmup = 0;
    config.train.lr = 2e-3;
    config
}

#[test]
fn the_seed_has_exactly_its_parameters() {
    let config = Config::resolve("seed", &Overrides::default()).unwrap();
    let dit = Dit::new(&config.model, &config.text).unwrap();
    assert_eq!(config.model.tokens(), 6_592);
    assert_eq!(dit.layout().count(), 5_388_802);
    let shape = |name: &str| dit.layout().find(name).unwrap().shape.clone();
    assert_eq!(shape("patch_embed.weight"), [256, 2, 4, 4]);
    assert_eq!(shape("position"), [6592, 256]);
    assert_eq!(shape("step_embed.0.weight"), [1024, 256]);
    assert_eq!(shape("step_embed.2.bias"), [256]);
    assert_eq!(shape("blocks.3.norm2.bias"), [256]);
    assert_eq!(shape("blocks.0.attn.qkv.weight"), [768, 256]);
    assert_eq!(shape("blocks.0.attn.out.weight"), [256, 256]);
    assert_eq!(shape("blocks.3.mlp.0.weight"), [1024, 256]);
    assert_eq!(shape("blocks.3.mlp.2.weight"), [256, 1024]);
    assert_eq!(shape("patch_deembed.weight"), [256, 2, 4, 4]);
    assert_eq!(shape("patch_deembed.bias"), [2]);
    assert!(dit.layout().find("final.modulation.weight").is_err());
}

#[test]
fn every_preset_lays_out_without_overlap() {
    for name in dit_engine::config::presets::NAMES {
        let config = Config::resolve(name, &Overrides::default()).unwrap();
        let layout = Dit::new(&config.model, &config.text).unwrap().layout().clone();
        let mut spans: Vec<_> = layout.spans().iter().map(|span| span.range.clone()).collect();
        spans.sort_by_key(|range| range.start);
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "{name}");
        assert!(spans.iter().all(|range| range.start % 16 == 0 && range.end <= layout.len()), "{name}");
        let decays = |span: &&dit_engine::params::Span| span.decays;
        assert!(layout.spans().iter().filter(decays).all(|span| span.range.end <= layout.decayed()));
        assert!(layout.spans().iter().filter(|s| !s.decays).all(|span| span.range.start >= layout.decayed()));
    }
}

/// The directional derivative of the loss along the gradient, against central differences of the engine's own
/// forward pass: whole-model wiring, for both kinds of block and all ways to hear a caption. (The kernels' own gradients are held against f64.)
#[test]
fn the_gradient_of_the_whole_model_is_its_slope() {
    for case in CASES {
        let config = small(case);
        let backend = Cpu::poisoned();
        let dit = Dit::new(&config.model, &config.text).unwrap();
        let schedule = Schedule::new(&config.diffusion);
        // Every parameter away from zero, so that every path carries gradient.
        let mut weights = dit.layout().initial_values(3);
        for span in dit.layout().spans() {
            let noise = random(100 + span.range.start as u64, span.range.len());
            weights[span.range.clone()].iter_mut().zip(noise).for_each(|(w, n)| *w += 0.1 * n);
        }
        let levels = Levels::at(&schedule, &config.diffusion, &[100, 500, 900], 16);
        let (x0, noise) = (random(5, 3 * dit.image_len()), random(6, 3 * dit.image_len()));
        let captions = captions(7, 3, &config.text);
        let input = StepInput {
            x0: &x0,
            captions: captions.as_ref(),
            noise: NoiseSource::Given(&noise),
            levels: &levels,
            objective: Objective::X0,
            recompute: Recompute::None,
        };
        let mut state = State::new(&backend, &weights).unwrap();
        forward_backward(&backend, &dit, &mut state, &input, None).unwrap();
        let gradients = State::download(&backend, &state.gradients);
        let loss_at = |weights: &[f32]| {
            let state = State::new(&backend, weights).unwrap();
            let output = evaluate(&backend, &dit, &state.weights, &input).unwrap();
            weighted_loss(&output.losses(&backend), &levels)
        };
        for span in dit.layout().spans() {
            let gradient = &gradients[span.range.clone()];
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-6, "{case:?} {}: no gradient", span.name);
            let step = 2e-3;
            let moved = |sign: f64| {
                let mut moved = weights.clone();
                for (w, g) in moved[span.range.clone()].iter_mut().zip(gradient) {
                    *w += (sign * step * f64::from(*g) / norm) as f32;
                }
                loss_at(&moved)
            };
            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
            let error = (slope - norm).abs();
            assert!(error < 0.02 * norm + 2e-4, "{case:?} {}: slope {slope}, norm {norm}", span.name);
        }
    }
}

#[test]
fn the_second_step_allocates_nothing_and_a_model_learns() {
    for case in CASES {
        let config = small(case);
        let backend = Cpu::poisoned();
        let dit = Dit::new(&config.model, &config.text).unwrap();
        let schedule = Schedule::new(&config.diffusion);
        let mut state = State::new(&backend, &dit.layout().initial_values(0)).unwrap();
        let x0 = random(9, 4 * dit.image_len());
        let mut losses = Vec::new();
        let mut allocations = Vec::new();
        for step in 0..60 {
            let levels = Levels::draw(&schedule, &config.diffusion, 1, step, 4, 16);
            let captions = captions(7, 4, &config.text);
            let input = StepInput {
                x0: &x0,
                captions: captions.as_ref(),
                noise: StepInput::training_noise(1, step),
                levels: &levels,
                objective: Objective::X0,
                recompute: Recompute::None,
            };
            let output = forward_backward(&backend, &dit, &mut state, &input, None).unwrap();
            state.measure_gradients(&backend);
            state.update(&backend, adam_step(&config.train, dit.layout(), step));
            losses.push(weighted_loss(&output.losses(&backend), &levels));
            allocations.push(backend.memory().fresh_allocations);
        }
        assert!(allocations[1..].iter().all(|&n| n == allocations[0]), "{allocations:?}");
        let mean = |range: std::ops::Range<usize>| losses[range].iter().sum::<f64>() / 10.0;
        assert!(mean(50..60) < 0.7 * mean(0..10), "{case:?}: {losses:?}");
    }
}

/// A block that is computed again in backward gives the same gradients, bit for bit, and holds less meanwhile.
#[test]
fn recomputed_blocks_give_the_same_gradients_from_less_memory() {
    for case in CASES {
        let config = small(case);
        let dit = Dit::new(&config.model, &config.text).unwrap();
        let schedule = Schedule::new(&config.diffusion);
        let mut weights = dit.layout().initial_values(3);
        weights.iter_mut().zip(random(4, dit.layout().len())).for_each(|(w, n)| *w += 0.1 * n);
        let levels = Levels::at(&schedule, &config.diffusion, &[100, 500, 900], 16);
        let (x0, noise) = (random(5, 3 * dit.image_len()), random(6, 3 * dit.image_len()));
        let run = |recompute| {
            let backend = Cpu::poisoned();
            let mut state = State::new(&backend, &weights).unwrap();
            let noise = NoiseSource::Given(&noise);
            let objective = Objective::X0;
            let captions = captions(7, 3, &config.text);
            let captions = captions.as_ref();
            let input = StepInput { x0: &x0, captions, noise, levels: &levels, objective, recompute };
            forward_backward(&backend, &dit, &mut state, &input, None).unwrap();
            let bits: Vec<u32> =
                State::download(&backend, &state.gradients).iter().map(|g| g.to_bits()).collect();
            (bits, backend.memory().peak_bytes)
        };
        let (kept, most) = run(Recompute::None);
        let (recomputed, least) = run(Recompute::Blocks);
        assert!(kept == recomputed, "{case:?}: the gradients differ");
        assert!(least < most, "{case:?}: {least} bytes with recomputing, {most} without");
    }
}
