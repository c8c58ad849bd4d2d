//! The whole program from outside: what a user types, what comes back, exit codes, and one clear line for what is wrong.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::program::*;

#[test]
fn from_songs_to_music_and_back_to_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    let summary = good(run(folder, "prepare songs --out data/mine --validation 0.3"));
    assert!(summary.contains("broken.mp3") && summary.contains("1 skipped"), "{summary}");
    bad(run(folder, "prepare songs --out data/strict --strict"), 1, &["broken.mp3"]);
    assert!(good(run(folder, "prepare songs --out data/mine --validation 0.3")).contains("8 reused"));

    let said = good(train_tiny(folder, "--data data/mine --steps 4 --out runs/a").output().unwrap());
    for word in ["parameters", "FLOP a step", "memory", "held out", "listen to"] {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    for file in [
        "config.toml",
        "log.jsonl",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "reference/real-0.wav",
        "samples/step-000004/sample-1.wav",
        "samples/step-000004/sample.png",
    ] {
        assert!(folder.join("runs/a").join(file).is_file(), "{file}");
    }
    let events = fs::read_dir(folder.join("runs/a")).unwrap().flatten();
    assert!(events.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("tfevents")));

    let again = train_tiny(folder, "--data data/mine --out runs/a").output().unwrap();
    bad(again, 1, &["--out", "runs/a", "--resume"]);
    let on = good(run(folder, "train --resume --out runs/a --steps 6"));
    assert!(on.contains("going on at step 4"), "{on}");
    assert_eq!(
        fs::read_to_string(folder.join("runs/a/log.jsonl")).unwrap().matches("\"kind\":\"step\"").count(),
        6
    );

    good(run(folder, "sample --checkpoint runs/a --count 3 --seed 5 --out one"));
    good(run(folder, "sample --checkpoint runs/a --count 2 --seed 5 --out two"));
    for file in ["sample-0.wav", "sample-1.wav", "sample-1.png"] {
        let read = |out: &str| fs::read(folder.join(out).join(file)).unwrap();
        assert!(read("one") == read("two"), "{file} depends on how many were drawn");
    }
    let recipe = good(run(folder, "inspect one/sample-2.wav"));
    assert!(recipe.contains("ddim") && recipe.contains('5'), "{recipe}");
    for what in ["runs/a", "data/mine", "runs/a/checkpoints/last.safetensors"] {
        assert!(!good(run(folder, &format!("inspect {what}"))).is_empty());
        let json = program(folder).args(["inspect", "--json", what]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&json.stdout).expect("JSON");
    }
}

/// The recipe of a sample made during training is enough to make it again from a checkpoint with the same weights.
#[test]
fn a_sample_of_a_training_step_is_made_again_from_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    good(train_tiny(folder, "--data songs --steps 4 --seed 3 --out runs/a").output().unwrap());
    let json = |what: &str| {
        let output = program(folder).args(["inspect", "--json", what]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let trained = &json("runs/a/samples/step-000004/sample-1.wav")["recipe"];
    let checkpoint = json("runs/a/checkpoints/last.safetensors");
    assert_eq!((&trained["weights"], &trained["step"]), (&checkpoint["ema"]["hash"], &checkpoint["step"]));
    assert_eq!(trained.get("checkpoint"), None);

    let prompt = |number: u32| {
        let recipe = &json(&format!("runs/a/samples/step-000004/sample-{number}.wav"))["recipe"];
        recipe["prompt"].as_str().expect("a caption").to_string()
    };
    let seed = trained["seed"].to_string();
    let mut sample = program(folder);
    sample.args(["sample", "--checkpoint", "runs/a", "--count", "2", "--seed", &seed, "--out", "o"]);
    good(sample.args(["--prompt", &prompt(0), "--prompt", &prompt(1)]).output().unwrap());
    let mut drawn = json("o/sample-1.wav")["recipe"].clone();
    assert_eq!(drawn.as_object_mut().unwrap().remove("checkpoint").unwrap(), checkpoint["hash"]);
    assert_eq!(&drawn, trained);
    let sound = |path: &str| {
        let mut wav = hound::WavReader::open(folder.join(path)).unwrap();
        wav.samples::<i16>().map(Result::unwrap).collect::<Vec<i16>>()
    };
    assert_eq!(sound("o/sample-1.wav"), sound("runs/a/samples/step-000004/sample-1.wav"));
    good(run(folder, "sample --checkpoint runs/a --count 1 --raw-weights --out raw"));
    assert_eq!(json("raw/sample-0.wav")["recipe"]["weights"], checkpoint["weights"]["hash"]);
}

/// A folder of songs needs no `prepare`; and Ctrl-C saves what was done.
#[test]
fn ctrl_c_saves_and_resume_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    let mut child = train_tiny(folder, "--data songs --steps 100000")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = folder.join("runs/songs/log.jsonl");
    let start = Instant::now();
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 5 {
        assert!(start.elapsed() < Duration::from_secs(120), "no step in two minutes");
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("go on with"), "{}", text(&output));

    let steps = fs::read_to_string(&log).unwrap().matches("\"kind\":\"step\"").count();
    let on = good(run(folder, &format!("train --resume --steps {}", steps + 2)));
    assert!(on.contains(&format!("going on at step {steps}")), "{on}");
    assert_eq!(fs::read_to_string(&log).unwrap().matches("\"kind\":\"step\"").count(), steps + 2);
}

#[test]
fn wrong_arguments_get_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("junk.safetensors"), "not a checkpoint").unwrap();
    fs::write(folder.join("bad.toml"), "[model]\ndepth = \n").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    let fails = |line: &str, needles: &[&str]| bad(run(folder, line), 1, needles);
    fails("train --config bad.toml", &["bad.toml", "line 2"]);
    fails("train --config none.toml", &["none.toml"]);
    fails("train --data nowhere", &["--data", "nowhere"]);
    fails("train --data empty", &["no audio files found", "empty"]);
    fails("train --resume", &["--resume", "runs"]);
    fails("sample --checkpoint none --out o", &["--checkpoint", "none"]);
    fails("sample --checkpoint empty --out o", &["--checkpoint", "empty", "no run's folder"]);
    fails("sample --checkpoint junk.safetensors --out o", &["junk.safetensors"]);
    fails("inspect junk.safetensors", &["junk.safetensors"]);
    fails("inspect nothing", &["nothing"]);
    fails("step --state junk.safetensors --out o", &["junk.safetensors"]);
    fails("prepare nowhere --out d", &["nowhere"]);
    let mistyped = |line: &str, needles: &[&str]| bad(run(folder, line), 2, needles);
    mistyped("train --set model.deph=3", &["model.deph", "did you mean model.depth"]);
    mistyped("train --set model.heads=7", &["model.heads", "do not divide"]);
    mistyped("train --preset tiny", &["--preset", "demo, small"]);
    mistyped("train --resume --out runs/x --set model.depth=3", &["--resume", "--set"]);
    mistyped("preset tiny", &["tiny", "demo, small"]);
    for line in ["train --steps many", "fly", "train --steps 3 --epochs 2"] {
        assert_eq!(run(folder, line).status.code(), Some(2), "{line}");
    }
}

#[test]
fn a_run_that_cannot_fit_is_refused_with_the_setting_that_would() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    good(run(folder, "prepare songs --out data/mine"));
    for device in ["cpu", "softcuda"] {
        let line = format!(
            "train --data data/mine --set model.dim=160 --set train.batch=100000 --steps 1 --device {device}"
        );
        bad(run(folder, &line), 1, &["of memory", "train.batch"]);
    }
    assert!(!folder.join("runs").exists(), "a refused run leaves nothing");
}

#[test]
fn presets_print_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let all = good(run(folder.path(), "preset"));
    assert!(all.contains("5,388,802"), "{all}");
    let demo = good(run(folder.path(), "preset demo"));
    fs::write(folder.path().join("mine.toml"), &demo).unwrap();
    bad(run(folder.path(), "train --config mine.toml --data nowhere"), 1, &["nowhere"]);
}

/// Two folders of one name have a place each: neither prunes the other's shards.
#[test]
fn folders_of_the_same_name_do_not_share_their_shards() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for owner in ["a", "b"] {
        fs::create_dir(folder.join(owner)).unwrap();
        songs(&folder.join(owner));
        good(train_tiny(folder, &format!("--data {owner}/songs --steps 1")).output().unwrap());
    }
    let prepared = fs::read_dir(folder.join("data")).unwrap().count();
    assert_eq!(prepared, 2);
}

/// Nothing is composed or prepared for a command line that cannot work.
#[test]
fn absurd_values_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mistyped = |line: &str, needles: &[&str]| bad(run(folder, line), 2, needles);
    mistyped("train --steps 0", &["--steps", "at least 1"]);
    mistyped("train --epochs 0", &["--epochs", "at least 1"]);
    mistyped("train --steps 18446744073709551615", &["train.steps", "at most"]);
    mistyped("train --set diffusion.steps=9000000000000000000", &["diffusion.steps", "at most"]);
    mistyped("train --set diffusion.steps=9000000000", &["diffusion.steps", "at most"]);
    mistyped("train --set sample.count=9000000000000000000", &["sample.count", "at most"]);
    mistyped("train --set model.depth=abc", &["model.depth"]);
    mistyped(
        "train --set data.mel_bands=80 --set model.patch=[64,8]",
        &["model.image=[80,128]", "model.patch=[40,8]"],
    );
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "something was written");
}

/// `preset | true` and `preset > /dev/full`.
#[test]
fn a_closed_pipe_is_quiet_and_a_full_disk_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    for line in ["preset", "preset demo", "prepare songs --out mine"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program(folder).args(line.split_whitespace()).stdout(writer).output().unwrap();
        let said = good(output);
        assert!(!said.contains("panicked") && !said.contains("error"), "{line}: {said}");
    }
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let output = program(folder).args(["preset", "demo"]).stdout(full).output().unwrap();
        bad(output, 1, &["stdout", "No space left"]);
    }
}

#[test]
fn a_library_is_not_heard_unless_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let noise: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(folder.join("noise.ogg"), noise).unwrap();
    bad(run(folder, "prepare noise.ogg --out d"), 1, &["noise.ogg"]);
    let asked = program(folder)
        .args(["prepare", "noise.ogg", "--out", "d"])
        .env("DIT_LOG", "debug")
        .output()
        .unwrap();
    assert!(text(&asked).contains("symphonia"), "{}", text(&asked));
    assert!(!text(&asked).contains('\x1b'), "colours in a pipe: {}", text(&asked));
}

/// A named pipe that nobody writes into blocks who opens it.
#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    for line in [
        "inspect pipe",
        "step --state pipe --out o",
        "train --config pipe",
        "sample --checkpoint pipe --out o",
    ] {
        let mut command = program(folder);
        command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                panic!("`{line}` waits for the pipe");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bad(child.wait_with_output().unwrap(), 1, &["pipe: is a pipe or a device"]);
    }
}

#[test]
fn a_run_can_be_extended_but_not_shortened() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    good(train_tiny(folder, "--data songs --steps 4 --out runs/a").output().unwrap());
    let config = || fs::read_to_string(folder.join("runs/a/config.toml")).unwrap();
    let before = config();
    bad(run(folder, "train --resume --out runs/a --steps 2"), 2, &["--steps", "2", "runs/a", "step 4"]);
    let most = format!("train --resume --out runs/a --epochs {}", u64::MAX);
    bad(run(folder, &most), 2, &["--epochs", "fewer"]);
    for line in ["train --resume --out runs/a", "train --resume --out runs/a --steps 4"] {
        let said = good(run(folder, line));
        assert!(said.contains("nothing left to do") && said.lines().count() == 1, "{said}");
    }
    assert_eq!(config(), before);
}

#[test]
fn settings_that_contradict_the_prepared_data_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    good(run(folder, "prepare songs --width 64 --out mine"));
    let train = |line: &str| train_tiny(folder, &format!("--data mine --steps 1 {line}")).output().unwrap();
    bad(train("--set data.n_fft=2048"), 2, &["data.n_fft", "2048", "1024", "mine"]);
    bad(train("--set data.representation=logmag"), 2, &["data.representation", "logmag", "mel"]);
    bad(train("--set model.image=[64,32]"), 2, &["model.image", "[64, 32]", "[64, 64]"]);
    let said = good(train("--set data.griffin_lim_iterations=3 --out runs/a"));
    assert!(said.contains("[64, 64]") && said.contains("instead of the preset's"), "{said}");
    let config = fs::read_to_string(folder.join("runs/a/config.toml")).unwrap();
    assert!(config.contains("griffin_lim_iterations = 3\n"), "{config}");
}

#[test]
fn a_representation_means_the_same_as_a_flag_and_as_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    good(run(folder, "prepare songs --width 16 --out mine --representation seed"));
    let described = fs::read_to_string(folder.join("mine/dataset.json")).unwrap();
    assert!(described.contains("8192") && described.contains("412"), "{described}");
    let again = good(run(folder, "prepare songs --width 16 --out mine --set data.representation=seed"));
    assert!(again.contains("8 reused"), "{again}");
    bad(
        run(folder, "prepare songs --width 32 --out mine --representation seed"),
        2,
        &["model.image", "mine"],
    );
}

#[test]
fn a_length_in_seconds_that_cannot_be_is_refused_before_anything_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for seconds in ["0", "-3", "nan", "inf", "1e300"] {
        let output = run(folder.path(), &format!("prepare nowhere --out d --seconds={seconds}"));
        assert_eq!(text(&output).lines().count(), 1, "{}", text(&output));
        assert!(text(&output).len() < 120, "{}", text(&output));
        bad(output, 2, &["--seconds: must be above 0 and at most 16777"]);
    }
}

/// The successful path: the fixtures' own configuration, PyTorch's numbers (tests/parity.rs compares the rest).
#[test]
fn step_gives_the_prediction_that_pytorch_gives() {
    use safetensors::SafeTensors;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let state = fixtures.join("adaln_zero_v.state.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(folder.path());
    command
        .args(["step", "--preset", "small", "--precision", "f32", "--out", "out.safetensors", "--state"])
        .arg(&state);
    let bytes = fs::read(&state).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let named = header.metadata().as_ref().unwrap().iter().map(|(key, value)| format!("{key}={value}"));
    for setting in named.chain(["sample.steps=10".to_string()]) {
        command.args(["--set", &setting]);
    }
    assert!(good(command.output().unwrap()).contains("written to out.safetensors"));
    let prediction = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        bytemuck::pod_collect_to_vec::<u8, f32>(tensors.tensor("prediction").unwrap().data())
    };
    let ours = prediction(&folder.path().join("out.safetensors"));
    let theirs = prediction(&fixtures.join("adaln_zero_v.expected.safetensors"));
    assert_eq!(ours.len(), theirs.len());
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let error = norm(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b)) / norm(&mut theirs.iter().copied());
    assert!(error < 1e-4, "{error:e}");
}

/// What was drawn before Ctrl-C is there, and it is said how much that is.
#[test]
fn ctrl_c_keeps_the_samples_that_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    good(train_tiny(folder, "--data songs --steps 2 --out runs/a").output().unwrap());
    let mut command = program(folder);
    command.args("sample --checkpoint runs/a --count 100000 --out music".split_whitespace());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !folder.join("music/sample-7.wav").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no batch in a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("of 100000 samples are in music"), "{}", text(&output));
    fs::write(folder.join("file"), "").unwrap();
    bad(run(folder, "sample --checkpoint runs/a --count 1 --out file/music"), 1, &["file/music"]);
    bad(
        run(folder, "sample --checkpoint runs/a --count 18446744073709551615 --out o"),
        2,
        &["--count", "at most"],
    );
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    songs(folder);
    good(run(folder, "prepare songs --out mine"));
    let lock = fs::File::options().write(true).open(folder.join("mine/.lock")).unwrap();
    lock.lock().unwrap();
    bad(run(folder, "prepare songs --out mine"), 1, &["mine", "in use by another dit-engine"]);
    drop(lock);
    good(run(folder, "prepare songs --out mine"));
    fs::create_dir_all(folder.join("runs/a")).unwrap();
    let lock = fs::File::create(folder.join("runs/a/.lock")).unwrap();
    lock.lock().unwrap();
    let busy = train_tiny(folder, "--data mine --steps 2 --out runs/a").output().unwrap();
    bad(busy, 1, &["runs/a", "in use by another dit-engine"]);
}
