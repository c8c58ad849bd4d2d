use super::*;
use crate::config::{BlockKind, Overrides, Position};

fn preset(name: &str, settings: &[&str]) -> Config {
    let mut overrides = Overrides::default();
    settings.iter().for_each(|setting| overrides.add_setting(setting).unwrap());
    Config::resolve(name, &overrides).unwrap()
}

fn small(block: BlockKind, position: Position) -> Config {
    let mut config = preset(
        "demo",
        &["model.image=[24,20]", "model.patch=[4,4]", "model.dim=16", "model.heads=2", "text.mode=none"],
    );
    (config.model.block, config.model.position) = (block, position);
    (config.model.depth, config.train.batch, config.model.channels) = (2, 3, 2);
    config
}

fn both_kinds() -> [Config; 2] {
    [small(BlockKind::Seed, Position::Learned), small(BlockKind::AdalnZero, Position::Sincos)]
}

#[test]
fn the_second_step_allocates_nothing() {
    for config in both_kinds() {
        let dit = Dit::new(&config.model, &config.text).unwrap();
        let meter = Meter::new();
        let mut state = State::new(&meter, &vec![0.0; dit.layout().len()]).unwrap();
        let x0 = vec![0.0; config.train.batch * dit.image_len()];
        train_step(&meter, &dit, &mut state, &config, &x0, 0).unwrap();
        let first = meter.memory();
        train_step(&meter, &dit, &mut state, &config, &x0, 1).unwrap();
        assert_eq!(meter.memory(), first);
    }
}

/// Counted by hand from the shapes: every product once forward and twice backward, except that nobody wants the
/// gradient of the image or of the sinusoids.
#[test]
fn flops_are_those_of_the_textbook() {
    let config = small(BlockKind::Seed, Position::Learned);
    let (batch, tokens, dim, depth) = (3, 30, 16, 2);
    let rows = batch * tokens;
    let patch = 2 * rows * (2 * 4 * 4) * dim;
    let step_first = 2 * batch * dim * 4 * dim;
    let step_second = 2 * batch * 4 * dim * dim;
    let linears = 2 * rows * dim * (3 * dim + dim + 4 * dim + 4 * dim);
    let attention = 14 * batch * tokens * tokens * dim;
    let expected =
        2 * patch + 3 * patch + 2 * step_first + 3 * step_second + depth * (3 * linears + attention);
    let cost = train_step_cost(&config).unwrap();
    assert_eq!(cost.flops_step, expected);
    assert_eq!(cost.families[&Family::Attention].flops, depth * attention);
    assert_eq!(cost.families[&Family::Patch].flops, 5 * patch);
    assert_eq!(cost.launches, cost.families.values().map(|tally| tally.launches).sum::<u64>());
}

#[test]
fn the_seed_has_its_parameters_and_its_state() {
    let cost = train_step_cost(&preset("seed", &[])).unwrap();
    assert_eq!(cost.parameters, 5_388_802);
    // Five flat buffers with at most 16 elements of gap a parameter, and one norm.
    assert!(
        (5 * 4 * cost.parameters..5 * 4 * (cost.parameters + 16 * 60)).contains(&cost.memory.state_bytes)
    );
    assert_eq!(cost.memory.activations_bytes + cost.memory.state_bytes, cost.memory.held_bytes);
    assert!(cost.memory.run_bytes >= cost.memory.held_bytes);
}

fn check(config: &Config, available: u64) -> Result<()> {
    check_fits_into(available, &Meter::new(), &train_step_cost(config)?, config)
}

fn advice_of(config: &Config, available: u64) -> String {
    match check(config, available).unwrap_err() {
        Error::Memory { needed_bytes, available_bytes, advice } => {
            assert!(needed_bytes > available && available_bytes == available);
            advice
        }
        other => panic!("{other}"),
    }
}

/// Takes the flags out of an advice, applies them, and checks.
fn follow(name: &str, settings: &[&str], available: u64) -> (String, Config) {
    let advice = advice_of(&preset(name, settings), available);
    let words: Vec<&str> = advice.split(' ').collect();
    let advised = words.windows(2).filter(|pair| pair[0] == "--set").map(|pair| pair[1]);
    let config = preset(name, &settings.iter().copied().chain(advised).collect::<Vec<_>>());
    check(&config, available).unwrap();
    (advice, config)
}

#[test]
fn the_announced_memory_holds_the_data_and_its_batches() {
    let config = small(BlockKind::Seed, Position::Learned);
    let (without, with) =
        (train_step_cost(&config).unwrap(), run_cost(&Meter::new(), &config, 1 << 30).unwrap());
    assert_eq!(with.memory.run_bytes, without.memory.run_bytes + (1 << 30));
    // Two batches of three images of two channels.
    assert_eq!(with.memory.loader_bytes, 2 * 3 * 2 * 24 * 20 * 4);
    assert!(check_fits_into(with.memory.run_bytes, &Meter::new(), &with, &config).is_ok());
    assert!(check_fits_into(with.memory.run_bytes - 1, &Meter::new(), &with, &config).is_err());
}

#[test]
fn the_advised_batch_is_the_largest_that_leaves_a_tenth_free() {
    // A model whose activations outweigh its state, and that recomputes already.
    let (name, settings) = ("small", ["train.recompute=blocks", "train.batch=64"]);
    let everything = train_step_cost(&preset(name, &settings)).unwrap().memory.run_bytes;
    assert!(check(&preset(name, &settings), everything).is_ok());
    for available in [everything - 1, everything / 2] {
        let (advice, config) = follow(name, &settings, available);
        assert!(advice.starts_with("with --set train.batch="), "{advice}");
        let needed = |config: &Config| train_step_cost(config).unwrap().memory.run_bytes;
        let mut larger = config.clone();
        larger.train.batch += 1;
        assert!(needed(&config) <= available / 10 * 9 && needed(&larger) > available / 10 * 9);
    }
}

#[test]
fn what_can_be_recomputed_goes_before_the_batch() {
    let everything = train_step_cost(&preset("small", &[])).unwrap().memory.run_bytes;
    let (advice, config) = follow("small", &[], everything - 1);
    assert!(advice.starts_with("with --set train.recompute=blocks it needs "), "{advice}");
    assert_eq!(config.train.batch, preset("small", &[]).train.batch);
}

#[test]
fn when_not_even_one_sample_fits_the_model_has_to_shrink() {
    let settings = ["train.recompute=none", "sample.count=1"];
    let one = train_step_cost(&preset("seed", &["train.batch=1", settings[0], settings[1]])).unwrap();
    let (advice, _) = follow("seed", &settings, one.memory.held_bytes / 2);
    assert!(advice.contains("model.patch=[") || advice.contains("model.image=["), "{advice}");
    let advice = advice_of(&preset("seed", &[]), 1 << 20);
    assert!(advice.ends_with("try --preset demo"), "{advice}");
}

#[test]
fn absurd_sizes_are_refused_without_being_tried() {
    let settings =
        ["model.dim=655360", "model.depth=1000000", "model.channels=999999", "model.image=[1048576,1048576]"];
    for setting in settings {
        let error = train_step_cost(&preset("demo", &[setting])).unwrap_err().to_string();
        assert!(error.starts_with("needs "), "{setting}: {error}");
    }
}

/// The CPU really runs the same two steps; not a byte and not an allocation may differ.
#[test]
fn the_meter_and_the_cpu_agree_to_the_byte() {
    for config in both_kinds() {
        let dit = Dit::new(&config.model, &config.text).unwrap();
        let cpu = crate::cpu::Cpu::new();
        let weights = dit.layout().initial_values(1);
        let mut state = State::new(&cpu, &weights).unwrap();
        let x0: Vec<f32> = (0..config.train.batch * dit.image_len()).map(|i| (i as f32).sin()).collect();
        for step in 0..2 {
            train_step(&cpu, &dit, &mut state, &config, &x0, step).unwrap();
        }
        let cost = train_step_cost(&config).unwrap();
        let real = cpu.memory();
        assert_eq!(cost.memory.held_bytes, real.held_bytes);
        assert_eq!(cost.memory.fresh_allocations, real.fresh_allocations);
        validate_and_sample(&cpu, &dit, &state, &config, &x0[..dit.image_len()]).unwrap();
        let checkpoint_bytes = CHECKPOINT_BUFFERS * 4 * dit.layout().len() as u64;
        assert_eq!(
            cost.memory.run_bytes - checkpoint_bytes - cost.memory.loader_bytes,
            cpu.memory().held_bytes
        );
    }
}
