//! A run that is stopped and resumed is the run that was never stopped, to the bit.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use dit_engine::Error;
use dit_engine::config::{Config, Overrides};
use dit_engine::cpu::Cpu;
use dit_engine::dataset::config::{CutConfig, DatasetConfig};
use dit_engine::dataset::{Dataset, PrepareOptions, prepare};
use dit_engine::dit::Dit;
use dit_engine::render::Written;
use dit_engine::train::checkpoint::Checkpoint;
use dit_engine::train::journal::StepLog;
use dit_engine::train::log::{Line, lines};
use dit_engine::train::run::{Observer, RunOptions, RunSummary, train};
use dit_engine::train::validate::Validation;

const STEPS: u64 = 12;

/// Sets the stop flag after a step, as Ctrl-C would.
struct StopAfter<'a> {
    step: u64,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, log: &StepLog) {
        if log.step == self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn validated(&mut self, _: u64, _: &Validation, _: bool) {}
    fn sampled(&mut self, _: u64, _: &Path, _: &[Written]) {}
    fn saved(&mut self, _: u64, _: &Path) {}
}

fn config(block: &str, position: &str) -> Config {
    let mut overrides = Overrides::default();
    for setting in [
        "model.image=[16,16]",
        "model.patch=[4,4]",
        "model.dim=32",
        "model.depth=2",
        "model.heads=2",
        &format!("model.block={block}"),
        &format!("model.position={position}"),
        "data.mel_bands=16",
        "data.n_fft=512",
        "data.griffin_lim_iterations=2",
        "diffusion.region=mixed",
        "train.batch=3",
        &format!("train.steps={STEPS}"),
        "train.warmup=2",
        "train.lr=1e-3",
        "train.weight_decay=0.01",
        "train.validate_every=4",
        "train.validation_samples=5",
        "train.checkpoint_every=5",
        "train.sample_every=6",
        "sample.steps=3",
        "sample.count=2",
        "text.mode=both",
        "text.dim=16",
        "text.dropout=0.3",
    ] {
        overrides.add_setting(setting).unwrap();
    }
    Config::resolve("demo", &overrides).unwrap()
}

/// Ten short tones of different pitch with two captions each, prepared.
fn dataset(folder: &Path, config: &Config) -> Arc<Dataset> {
    let songs = folder.join("songs");
    fs::create_dir_all(&songs).unwrap();
    for song in 0..10 {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(songs.join(format!("{song}.wav")), spec).unwrap();
        for i in 0..16_000 {
            let tone = (i as f32 * (0.03 + 0.02 * song as f32)).sin() * (1.0 - i as f32 / 16_000.0);
            wav.write_sample((tone * 12_000.0) as i16).unwrap();
        }
        wav.finalize().unwrap();
    }
    let rows = (0..10).map(|song| format!("{song}.wav,a tone of height {song}\n{song}.wav,beep {song}\n"));
    let table = "file_name,caption\n".to_string() + &rows.collect::<String>();
    fs::write(songs.join("metadata.csv"), table).unwrap();
    let options = PrepareOptions {
        sources: vec![songs],
        out: folder.join("prepared"),
        config: DatasetConfig { representation: config.data.clone(), cut: CutConfig::default() },
        validation: 0.3,
        tables: Default::default(),
        strict: true,
        prune: false,
    };
    prepare(&options, &AtomicBool::new(false), &()).unwrap();
    Arc::new(Dataset::open(&options.out).unwrap())
}

fn run(folder: &Path, config: &Config, data: &Arc<Dataset>, stop_after: u64, resume: bool) -> RunSummary {
    let stop = AtomicBool::new(false);
    let resume =
        resume.then(|| Checkpoint::load(&folder.join("checkpoints/last.safetensors")).expect("a checkpoint"));
    let options = RunOptions {
        folder,
        config: config.clone(),
        dataset: data.clone(),
        hearing: None,
        resume,
        stop: &stop,
    };
    let mut observer = StopAfter { step: stop_after, stop: &stop };
    train(&Cpu::new(), options, &mut observer).unwrap()
}

/// Everything that must not differ: the log without its timings, and the files' bytes.
fn outcome(folder: &Path) -> (Vec<Line>, Vec<(PathBuf, Vec<u8>)>) {
    let mut log = lines(&fs::read_to_string(folder.join("log.jsonl")).unwrap());
    for line in &mut log {
        if let Line::Step(step) = line {
            (step.samples_per_second, step.wait_ms) = (0.0, 0.0);
        }
    }
    let files = [
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "samples/step-000006/sample-1.wav",
        "samples/step-000012/sample-0.wav",
        "samples/step-000012/sample.png",
    ];
    let files = files.map(|file| (PathBuf::from(file), fs::read(folder.join(file)).unwrap()));
    (log, files.to_vec())
}

fn compare(block: &str, position: &str, stops: &[u64]) {
    let temporary = tempfile::tempdir().unwrap();
    let config = config(block, position);
    let data = dataset(temporary.path(), &config);
    let whole = temporary.path().join("whole");
    let summary = run(&whole, &config, &data, u64::MAX, false);
    assert_eq!((summary.steps, summary.interrupted), (STEPS, false));
    let expected = outcome(&whole);
    assert_eq!(expected.0.iter().filter(|line| matches!(line, Line::Step(_))).count() as u64, STEPS);

    for &stop in stops {
        let folder = temporary.path().join(format!("stopped-{stop}"));
        let summary = run(&folder, &config, &data, stop, false);
        assert_eq!((summary.steps, summary.interrupted), (stop, true));
        run(&folder, &config, &data, u64::MAX, true);
        let got = outcome(&folder);
        assert_eq!(got.0, expected.0, "{block} stopped after step {stop}: the logs differ");
        for ((name, got), (_, expected)) in got.1.iter().zip(&expected.1) {
            assert!(got == expected, "{block} stopped after step {stop}: {} differs", name.display());
        }
    }
}

#[test]
fn resuming_is_bit_exact_for_adaln_zero() {
    let random =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() as u64 % (STEPS - 1) + 1;
    compare("adaln_zero", "sincos", &[1, 6, random]);
}

#[test]
fn resuming_is_bit_exact_for_the_seeds_block() {
    compare("seed", "learned", &[7]);
}

/// Ctrl-C during the last step: it is done, but its samples are not, and the run is not over without them.
#[test]
fn samples_that_the_last_step_owes_are_made_on_resume() {
    compare("seed", "learned", &[STEPS]);
}

/// kill -9 after the checkpoint of step 5: the log has later steps, which are forgotten and done again.
#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let temporary = tempfile::tempdir().unwrap();
    let config = config("adaln_zero", "sincos");
    let data = dataset(temporary.path(), &config);
    let (whole, killed) = (temporary.path().join("whole"), temporary.path().join("killed"));
    run(&whole, &config, &data, u64::MAX, false);
    run(&killed, &config, &data, 5, false);
    let checkpoint = fs::read(killed.join("checkpoints/last.safetensors")).unwrap();
    run(&killed, &config, &data, 8, true);
    fs::write(killed.join("checkpoints/last.safetensors"), checkpoint).unwrap();
    run(&killed, &config, &data, u64::MAX, true);
    assert_eq!(outcome(&killed), outcome(&whole));
}

/// A learning rate that blows the weights up: the run ends with the name of what went bad, and its checkpoint is good.
#[test]
fn a_nan_stops_the_run_with_its_culprit() {
    let temporary = tempfile::tempdir().unwrap();
    let mut config = config("seed", "learned");
    let data = dataset(temporary.path(), &config);
    config.train.lr = 0.9;
    config.train.clip = 0.0;
    config.train.beta2 = 0.0;
    config.train.eps = 1e-30;
    config.train.warmup = 0;
    config.train.steps = 400;
    (config.train.validate_every, config.train.sample_every, config.train.checkpoint_every) = (1000, 1000, 1);
    let stop = AtomicBool::new(false);
    let folder = temporary.path().join("run");
    let options = RunOptions {
        folder: &folder,
        config,
        dataset: data.clone(),
        hearing: None,
        resume: None,
        stop: &stop,
    };
    let error = train(&Cpu::new(), options, &mut StopAfter { step: u64::MAX, stop: &stop }).unwrap_err();
    let text = error.to_string();
    let Error::NonFinite { tensor, step, .. } = error else { panic!("{text}") };
    assert!(!tensor.is_empty() && tensor != "the loss (or the norm of the gradients)", "{text}");
    assert!(text.contains("last.safetensors") && text.contains("train.lr"), "{text}");
    let saved = Checkpoint::load(&folder.join("checkpoints/last.safetensors")).unwrap();
    assert_eq!(saved.step + 1, step, "{text}");
    assert!(saved.weights.iter().all(|weight| weight.is_finite()));
}

/// A parameter is poisoned between two runs: the name is its own, or that of the first value that it spoils.
#[test]
fn a_nan_has_the_name_of_the_tensor_where_it_began() {
    let temporary = tempfile::tempdir().unwrap();
    let config = config("seed", "learned");
    let data = dataset(temporary.path(), &config);
    let folder = temporary.path().join("run");
    run(&folder, &config, &data, 5, false);
    let good = Checkpoint::load(&folder.join("checkpoints/last.safetensors")).unwrap();
    let dit = Dit::new(&config.model, &config.text).unwrap();
    // A bias at the top of f32's range is finite, but not its square, which the next norm needs.
    for (parameter, poison, tensor, step) in [
        ("blocks.1.mlp.0.weight", f32::NAN, "parameter blocks.1.mlp.0.weight", 5),
        ("blocks.0.attn.qkv.bias", f32::NEG_INFINITY, "parameter blocks.0.attn.qkv.bias", 5),
        ("blocks.1.attn.out.bias", 3e38, "blocks.1.cross.norm", 6),
    ] {
        let mut checkpoint = good.clone();
        let span = dit.layout().spans().iter().find(|span| span.name == parameter).unwrap();
        checkpoint.weights[span.range.clone()].fill(poison);
        let stop = AtomicBool::new(false);
        let options = RunOptions {
            folder: &folder,
            config: config.clone(),
            dataset: data.clone(),
            hearing: None,
            resume: Some(checkpoint),
            stop: &stop,
        };
        let error = train(&Cpu::new(), options, &mut StopAfter { step: u64::MAX, stop: &stop }).unwrap_err();
        let text = error.to_string();
        let Error::NonFinite { tensor: got, step: at, .. } = error else { panic!("{text}") };
        assert_eq!((got.as_str(), at), (tensor, step), "{text}");
        assert!(text.contains("last.safetensors (step 5)"), "{text}");
    }
}
