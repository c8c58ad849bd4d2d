//! Words and control, from outside: a model that hears captions is trained, and asked.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::program::*;
use dit_engine::audio::decode;

/// A model that hears captions both ways, in `runs/a`.
fn train_with_captions(folder: &Path) {
    songs(folder);
    good(run(folder, "prepare songs --out data/mine --validation 0.3"));
    assert!(folder.join("data/mine/tokenizer.json").is_file());
    let mut train = train_tiny(folder, "--data data/mine --steps 4 --out runs/a");
    for setting in
        ["text.mode=both", "text.dim=32", "text.depth=1", "text.tokens=8", "diffusion.region=mixed"]
    {
        train.args(["--set", setting]);
    }
    good(train.output().unwrap());
}

fn sample(folder: &Path, out: &str, arguments: &[&str]) -> Output {
    let mut command = program(folder);
    command.args(["sample", "--checkpoint", "runs/a", "--count", "2", "--out", out]).args(arguments);
    command.output().unwrap()
}

/// The first channel of a WAV.
fn sound(path: &Path) -> Vec<i16> {
    let mut wav = hound::WavReader::open(path).unwrap();
    let channels = wav.spec().channels as usize;
    wav.samples::<i16>().map(Result::unwrap).step_by(channels).collect()
}

fn recipe(path: &Path) -> serde_json::Value {
    let json = dit_engine::audio::wav::read_recipe(path).unwrap().unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_prompt_is_heard_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train_with_captions(folder);

    let mut heard = Vec::new();
    for (out, arguments) in [
        ("none", &[][..]),
        ("low", &["--prompt", "a falling tone"]),
        ("high", &["--prompt", "a higher tone"]),
        ("against", &["--prompt", "a falling tone", "--negative", "beeps"]),
        ("strong", &["--prompt", "a falling tone", "--guidance", "9"]),
        ("late", &["--prompt", "a falling tone", "--guidance", "9", "--guidance-interval", "0,0.4"]),
        ("rescaled", &["--prompt", "a falling tone", "--guidance", "9", "--rescale", "1"]),
    ] {
        good(sample(folder, out, arguments));
        heard.push(fs::read(folder.join(out).join("sample-0.wav")).unwrap());
    }
    for (i, one) in heard.iter().enumerate() {
        assert!(heard[..i].iter().all(|other| other != one), "number {i} sounds like one before");
    }
    let recipe = recipe(&folder.join("against/sample-1.wav"));
    assert_eq!((&recipe["prompt"], &recipe["negative_prompt"]), (&"a falling tone".into(), &"beeps".into()));
    // Training makes its samples from captions that are held out, or of the songs, and says which.
    let written = self::recipe(&folder.join("runs/a/samples/step-000004/sample-0.wav"));
    assert!(["a falling tone", "beeps", "a higher tone"].contains(&written["prompt"].as_str().unwrap()));

    good(sample(folder, "turns", &["--prompt", "a falling tone", "--prompt", "a higher tone"]));
    assert_eq!(self::recipe(&folder.join("turns/sample-1.wav"))["prompt"], "a higher tone");
    good(sample(folder, "again", &["--prompt", "a falling tone"]));
    assert_eq!(fs::read(folder.join("again/sample-0.wav")).unwrap(), heard[1]);
}

#[test]
fn what_is_kept_returns_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train_with_captions(folder);
    let init = ["--init", "songs/song2.wav"];
    good(sample(
        folder,
        "filled",
        &[&init[..], &["--keep", "0s-0.5s", "--keep", "1.5s-", "--prompt", "beeps"]].concat(),
    ));
    let filled = sound(&folder.join("filled/sample-0.wav"));
    let rate = 16_000;
    let original =
        decode::load(&folder.join("songs/song2.wav"), rate, dit_engine::config::Mix::Mono, None).unwrap();
    for part in [0..rate as usize / 2, 3 * rate as usize / 2..3 * rate as usize] {
        for (got, want) in filled[part.clone()].iter().zip(&original.channels[0][part]) {
            assert!((f32::from(*got) - want * 32_767.0).abs() <= 1.0, "{got} for {}", want * 32_767.0);
        }
    }
    let middle = rate as usize - 2000..rate as usize + 2000;
    let differs = |i: usize| (f32::from(filled[i]) - original.channels[0][i] * 32_767.0).abs() > 300.0;
    assert!(middle.filter(|&i| differs(i)).count() > 1000, "the rest is made anew");
    // The other sample has another middle and the same ends.
    let other = sound(&folder.join("filled/sample-1.wav"));
    assert_eq!(other[..8000], filled[..8000]);
    assert_ne!(other[14_000..18_000], filled[14_000..18_000]);

    good(sample(folder, "continued", &[&init[..], &["--keep", "0s-", "--seconds", "6"]].concat()));
    let continued = sound(&folder.join("continued/sample-0.wav"));
    assert_eq!(continued.len(), 6 * rate as usize);
    assert_eq!(continued[..8000], filled[..8000]);

    // Music at full scale is kept as it is, too.
    let mut loud = hound::WavReader::open(folder.join("songs/song2.wav")).unwrap();
    let mut wav = hound::WavWriter::create(folder.join("loud.wav"), loud.spec()).unwrap();
    loud.samples::<i16>().for_each(|x| {
        wav.write_sample((f32::from(x.unwrap()) * 4.6).clamp(-32_768.0, 32_767.0) as i16).unwrap()
    });
    wav.finalize().unwrap();
    good(sample(folder, "loud", &["--init", "loud.wav", "--keep", "0s-0.5s", "--seconds", "1"]));
    let kept = sound(&folder.join("loud/sample-0.wav"));
    let given = decode::load(&folder.join("loud.wav"), rate, dit_engine::config::Mix::Mono, None).unwrap();
    let peak = given.channels[0][..8000].iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
    assert!(peak > 0.98, "{peak}");
    for (got, want) in kept[..8000].iter().zip(&given.channels[0]) {
        assert!((f32::from(*got) - want.clamp(-1.0, 1.0) * 32_767.0).abs() <= 1.0, "{got} for {want}");
    }
    assert_eq!(kept.len(), rate as usize, "as long as was asked for");

    good(sample(folder, "varied", &[&init[..], &["--strength", "0.3"]].concat()));
    good(sample(folder, "looped", &["--loop", "--seconds", "3"]));
    let looped = sound(&folder.join("looped/sample-0.wav"));
    let jump = |a: i16, b: i16| (i32::from(a) - i32::from(b)).abs();
    let largest = looped.windows(2).map(|pair| jump(pair[0], pair[1])).max().unwrap();
    assert!(jump(looped[0], looped[looped.len() - 1]) <= largest, "the end does not meet the beginning");
}

#[test]
fn wishes_that_cannot_be_get_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train_with_captions(folder);
    for (arguments, code, needles) in [
        (&["--keep", "0s-1s"][..], 2, &["--keep: needs the sound that it is of: --init"][..]),
        (&["--strength", "0.5"], 2, &["--strength", "--init"]),
        (&["--init", "songs/song2.wav"], 2, &["--init: needs --keep"]),
        (&["--init", "songs/none.wav", "--strength", "0.5"], 1, &["none.wav"]),
        (&["--init", "songs/broken.mp3", "--strength", "0.5"], 1, &["broken.mp3"]),
        (&["--init", "songs/song2.wav", "--keep", "1s-9s"], 2, &["--keep: reaches behind the end", "3.0"]),
        (&["--init", "songs/song2.wav", "--keep", "0s-2s", "--keep", "1s-3s"], 2, &["--keep", "overlap"]),
        (&["--seconds", "-1"], 2, &["--seconds"]),
        (&["--seconds", "1", "--loop"], 2, &["--seconds", "at least 2.05"]),
        (&["--guidance", "-2"], 2, &["sample.guidance"]),
        (&["--guidance-interval", "0.8,0.2"], 2, &["sample.guidance_interval"]),
        (&["--rescale", "2"], 2, &["sample.rescale"]),
    ] {
        bad(sample(folder, "out", arguments), code, needles);
    }
    good(
        train_tiny(folder, "--data data/mine --steps 2 --out runs/b --set text.mode=none").output().unwrap(),
    );
    let mut deaf = program(folder);
    deaf.args(["sample", "--checkpoint", "runs/b", "--out", "out", "--prompt", "beeps"]);
    bad(deaf.output().unwrap(), 2, &["--prompt", "trained without captions"]);
}
