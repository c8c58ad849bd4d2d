//! Files out: WAVs that other programs read back, with the recipe inside, and pictures the right way up.

use std::f32::consts::TAU;
use std::fs;

use dit_engine::audio::config::{Kind, Mix};
use dit_engine::audio::picture::{grid, save, spectrogram};
use dit_engine::audio::wav::{SampleFormat, SoundCheck, WavNotes, read_recipe, write};
use dit_engine::audio::{AudioReader, Normalizer, RepresentationConfig, load};
use dit_engine::render::Renderer;
use tempfile::tempdir;

fn sine(frames: usize, peak: f32) -> Vec<f32> {
    (0..frames).map(|n| peak * (TAU * 0.01 * n as f32).sin()).collect()
}

fn notes() -> WavNotes {
    WavNotes {
        comment: Some("odd length ♫".into()),
        software: Some("dit-engine 0.1.0".into()),
        recipe: Some(r#"{"seed":7}"#.into()),
    }
}

#[test]
fn hound_and_our_own_reader_read_what_we_write() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("out.wav");
    let audio = vec![sine(1001, 0.9), sine(1001, -0.5)];
    write(&path, &audio, 44_100, SampleFormat::Pcm16, &notes()).unwrap();
    let mut reader = hound::WavReader::open(&path).unwrap();
    assert_eq!(
        (reader.spec().channels, reader.spec().sample_rate, reader.spec().bits_per_sample),
        (2, 44_100, 16)
    );
    let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
    assert_eq!(samples.len(), 2002);
    for (frame, pair) in samples.chunks(2).enumerate() {
        for (channel, &sample) in pair.iter().enumerate() {
            let error = f32::from(sample) / 32767.0 - audio[channel][frame];
            assert!(error.abs() <= 0.5001 / 32767.0, "not rounded to the nearest step");
        }
    }
    let mut ours = AudioReader::open(&path, 44_100, Mix::Stereo).unwrap();
    let mut back = Vec::new();
    assert_eq!(ours.read(5000, &mut back).unwrap(), 1001);
    assert!(ours.warnings().is_empty(), "{:?}", ours.warnings());
    write(&path, &audio, 44_100, SampleFormat::Float32, &notes()).unwrap();
    assert_eq!(load(&path, 44_100, Mix::Stereo, None).unwrap().channels, audio);
}

#[test]
fn the_recipe_comes_back_and_equal_input_gives_equal_bytes() {
    let folder = tempdir().unwrap();
    let [first, second, plain] = ["a.wav", "b.wav", "c.wav"].map(|name| folder.path().join(name));
    for path in [&first, &second] {
        write(path, &[sine(333, 0.5)], 16_000, SampleFormat::Pcm16, &notes()).unwrap();
    }
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    assert_eq!(read_recipe(&first).unwrap().as_deref(), Some(r#"{"seed":7}"#));
    write(&plain, &[sine(333, 0.5)], 16_000, SampleFormat::Pcm16, &WavNotes::default()).unwrap();
    assert_eq!(read_recipe(&plain).unwrap(), None);
    fs::write(&plain, b"not a wav at all").unwrap();
    assert!(read_recipe(&plain).unwrap_err().to_string().contains("not a WAV"));
    assert!(read_recipe(&folder.path().join("missing")).is_err());
    let ragged = [sine(5, 0.1), sine(6, 0.1)];
    assert!(write(&plain, &ragged, 16_000, SampleFormat::Pcm16, &WavNotes::default()).is_err());
    assert!(write(&plain, &[], 16_000, SampleFormat::Pcm16, &WavNotes::default()).is_err());
}

#[test]
fn too_loud_is_clipped_not_wrapped() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("loud.wav");
    write(&path, &[vec![1.0, -1.0, 1.7, -9.0, f32::NAN]], 16_000, SampleFormat::Pcm16, &WavNotes::default())
        .unwrap();
    let samples: Vec<i16> = hound::WavReader::open(&path).unwrap().samples().map(Result::unwrap).collect();
    assert_eq!(samples, [32767, -32767, 32767, -32768, 0]);
}

#[test]
fn the_sound_check_says_what_is_wrong() {
    let fine = SoundCheck::of(&[sine(1000, 0.5)]);
    assert!((fine.rms_dbfs + 9.03).abs() < 0.01 && (fine.peak - 0.5).abs() < 1e-4);
    assert!(fine.complaints().is_empty());
    let silent = SoundCheck::of(&[vec![0.0; 100]]);
    assert!(silent.silent && silent.rms_dbfs == f32::NEG_INFINITY);
    assert!(SoundCheck::of(&[]).silent);
    let broken = SoundCheck::of(&[vec![0.5, f32::NAN, f32::INFINITY, 1.0]]);
    assert_eq!((broken.non_finite, broken.peak, broken.clipped_fraction), (2, 1.0, 0.25));
    assert_eq!(broken.complaints().len(), 2);
    assert!(
        SoundCheck::of(&[vec![f32::NAN; 4]])
            .complaints()
            .iter()
            .any(|text| text.contains("4 samples are NaN"))
    );
}

#[test]
fn low_frequencies_are_at_the_bottom_and_loud_is_bright() {
    let (height, width) = (4, 6);
    let mut db = vec![-90.0; height * width];
    db[0] = -10.0; // lowest row, first frame
    db[width * 3 + 5] = f32::NAN;
    let picture = spectrogram(&db, height, width).unwrap();
    assert_eq!((picture.width() % 6, picture.height() % 4), (0, 0));
    assert!(picture.width() >= 512 && picture.width() <= 1024);
    let brightness =
        |x: u32, y: u32| picture.get_pixel(x, y).0.iter().map(|&value| u32::from(value)).sum::<u32>();
    let (right, bottom) = (picture.width() - 1, picture.height() - 1);
    assert!(brightness(0, bottom) > 600);
    assert!(
        [brightness(0, 0), brightness(right, 0), brightness(right, bottom)].iter().all(|&value| value < 20)
    );
    assert!(spectrogram(&db[1..], height, width).is_err());
    assert!(spectrogram(&[], 0, 0).is_err());
    let sheet = grid(&[picture.clone(), picture.clone(), picture.clone()], 2);
    assert!(sheet.width() > 2 * picture.width() && sheet.height() > 2 * picture.height());
    assert!(grid(&[], 3).width() < 100);
    let folder = tempdir().unwrap();
    let path = folder.path().join("picture.png");
    save(&path, &sheet).unwrap();
    assert_eq!(image::open(&path).unwrap().to_rgb8(), sheet);
}

/// Whatever its length: some readers look for the next chunk right behind the last byte of this one.
#[test]
fn a_recipe_of_any_length_leaves_the_sound_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.wav");
    for recipe in ["{}", "[1]"] {
        let notes = WavNotes { recipe: Some(recipe.into()), ..WavNotes::default() };
        write(&path, &[vec![0.5, -0.5]], 8_000, SampleFormat::Pcm16, &notes).unwrap();
        assert_eq!(hound::WavReader::open(&path).unwrap().duration(), 2, "{recipe}");
        assert_eq!(read_recipe(&path).unwrap().as_deref(), Some(recipe));
    }
}

/// Values above those of the data sound as the loudest of the data does.
#[test]
fn a_model_that_errs_is_no_louder_than_its_data() {
    let config = RepresentationConfig {
        representation: Kind::Mel,
        image: [32, 32],
        mel_bands: 32,
        griffin_lim_iterations: 4,
        ..RepresentationConfig::default()
    };
    let free = Normalizer { mean: vec![-4.0; 32], deviation: vec![2.0; 32], range: Vec::new() };
    let limited = Normalizer { range: vec![[-11.0, -2.0]; 32], ..free.clone() };
    let peak = |normalizer: &Normalizer, deviations: f32| {
        let renderer = Renderer::new(&config, normalizer.clone()).unwrap();
        renderer.decode(&[deviations; 32 * 32]).unwrap()[0].check.peak
    };
    assert_eq!(peak(&limited, 3.0), peak(&free, 1.0));
    assert!(peak(&free, 3.0) > 10.0 * peak(&free, 1.0));
}
