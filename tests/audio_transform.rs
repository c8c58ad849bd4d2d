//! The STFT against a textbook f64 DFT, Griffin-Lim, the mel filters, and what every representation keeps
//! of a piece of music.

use std::f64::consts::{PI, TAU};

use dit_engine::Error;
use dit_engine::audio::config::{Kind, Mix, Window};
use dit_engine::audio::griffin_lim::{InitialPhase, griffin_lim};
use dit_engine::audio::mel::{MelFilters, hz_from_mel, mel_from_hz};
use dit_engine::audio::representation::build;
use dit_engine::audio::stft::Stft;
use dit_engine::audio::{ANYTHING, Normalizer, RepresentationConfig, Statistics};
use proptest::prelude::*;
use realfft::num_complex::Complex32;

/// Numerical Recipes' generator: tests share no random numbers with the engine.
fn noise(seed: u32, samples: usize) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(samples).collect()
}

/// Plucked notes of a chord sequence: eight harmonics each, exponential decay, below 6 kHz, with the soft
/// attack of a real string (a jump would have energy at the Nyquist frequency, which images leave out).
fn notes(samples: usize, rate: u32) -> Vec<f32> {
    let pitches = [220.0, 277.18, 329.63, 440.0, 261.63, 392.0];
    let mut sound = vec![0.0f32; samples];
    for (index, pitch) in pitches.iter().cycle().take(samples * 3 / rate as usize + 1).enumerate() {
        let start = index * rate as usize / 3;
        for (t, sample) in sound.iter_mut().skip(start).enumerate() {
            let seconds = t as f64 / f64::from(rate);
            let harmonics = (1..=8).map(|h| f64::from(h) * pitch).filter(|hz| *hz < 6000.0);
            let value: f64 = harmonics.map(|hz| (TAU * hz * seconds).sin() * pitch / hz).sum();
            let attack = (0.5 * PI * (seconds / 0.01).min(1.0)).sin().powi(2);
            *sample += (0.1 * attack * value * (-4.0 * seconds).exp()) as f32;
        }
    }
    sound
}

/// Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, equation 3).
fn si_sdr(reference: &[f32], estimate: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let gain = dot(reference, estimate) / dot(reference, reference);
    let wanted = gain * gain * dot(reference, reference);
    let rest: f64 =
        reference.iter().zip(estimate).map(|(&r, &e)| (gain * f64::from(r) - f64::from(e)).powi(2)).sum();
    10.0 * (wanted / rest).log10()
}

/// Log-spectral distance in dB between two log magnitude images `[rows, width]` (natural logarithms).
fn log_spectral_distance(a: &[f32], b: &[f32], width: usize) -> f64 {
    let rows = a.len() / width;
    let db = 20.0 / std::f64::consts::LN_10;
    let frame = |t: usize| {
        let squares = (0..rows).map(|h| (db * f64::from(a[h * width + t] - b[h * width + t])).powi(2));
        (squares.sum::<f64>() / rows as f64).sqrt()
    };
    (0..width).map(frame).sum::<f64>() / width as f64
}

fn textbook_window(window: Window, n: usize, length: usize) -> f64 {
    let phase = n as f64 / length as f64;
    match window {
        Window::Hann => (PI * phase).sin().powi(2),
        Window::Hamming => 0.54 - 0.46 * (TAU * phase).cos(),
        Window::Blackman => 0.42 - 0.5 * (TAU * phase).cos() + 0.08 * (2.0 * TAU * phase).cos(),
    }
}

/// The definition, term by term: frame `t`, bin `k`.
fn textbook_bin(x: &[f32], n_fft: usize, hop: usize, window: Window, t: usize, k: usize) -> (f64, f64) {
    let reflect = |n: i64| {
        let last = x.len() as i64 - 1;
        let mut n = n;
        while n < 0 || n > last {
            n = if n < 0 { -n } else { 2 * last - n };
        }
        f64::from(x[n as usize])
    };
    let start = (t * hop + hop / 2) as i64 - n_fft as i64 / 2;
    (0..n_fft).fold((0.0, 0.0), |(re, im), n| {
        let value = textbook_window(window, n, n_fft) * reflect(start + n as i64);
        let angle = -TAU * ((k * n) % n_fft) as f64 / n_fft as f64;
        (re + value * angle.cos(), im + value * angle.sin())
    })
}

#[test]
fn stft_is_the_textbook_transform() {
    for (n_fft, hop, window, frames) in
        [(64, 16, Window::Hann, 7), (60, 15, Window::Hamming, 5), (126, 63, Window::Blackman, 3)]
    {
        let signal = noise(n_fft as u32, frames * hop);
        let stft = Stft::new(n_fft, hop, window);
        let mut spectrum = vec![Complex32::new(f32::NAN, f32::NAN); 3];
        stft.forward(&signal, &mut spectrum, &mut stft.scratch());
        assert_eq!(spectrum.len(), frames * stft.bins());
        for (index, value) in spectrum.iter().enumerate() {
            let (t, k) = (index / stft.bins(), index % stft.bins());
            let (re, im) = textbook_bin(&signal, n_fft, hop, window, t, k);
            let error = (f64::from(value.re) - re).hypot(f64::from(value.im) - im);
            assert!(error < 1e-6 * n_fft as f64, "n_fft {n_fft} frame {t} bin {k}: off by {error:e}");
        }
    }
}

#[test]
fn parseval_holds_for_every_frame() {
    let (n_fft, hop) = (512, 128);
    let signal = noise(3, 40 * hop);
    let stft = Stft::new(n_fft, hop, Window::Hann);
    let mut spectrum = Vec::new();
    stft.forward(&signal, &mut spectrum, &mut stft.scratch());
    for t in 4..36 {
        let start = t * hop + hop / 2 - n_fft / 2;
        let windowed = |n: usize| textbook_window(Window::Hann, n, n_fft) * f64::from(signal[start + n]);
        let in_time: f64 = (0..n_fft).map(|n| windowed(n).powi(2)).sum();
        let power = |k: usize| f64::from(spectrum[t * stft.bins() + k].norm_sqr());
        let both_sides = power(0) + power(n_fft / 2) + 2.0 * (1..n_fft / 2).map(power).sum::<f64>();
        let error = (both_sides / n_fft as f64 / in_time - 1.0).abs();
        assert!(error < 1e-5, "frame {t}: {error:e}");
    }
}

#[test]
fn griffin_lim_comes_closer_with_every_iteration_count_and_repeats_its_bits() {
    let (n_fft, hop) = (512, 128);
    let stft = Stft::new(n_fft, hop, Window::Hann);
    let mut scratch = stft.scratch();
    let (mut spectrum, mut again) = (Vec::new(), Vec::new());
    stft.forward(&notes(100 * hop, 16_000), &mut spectrum, &mut scratch);
    let magnitude: Vec<f32> = spectrum.iter().map(|x| x.norm()).collect();
    // Spectral convergence: ||mag - |STFT(x)|| / ||mag||, in dB.
    let mut convergence = |iterations, phase| {
        let mut signal = Vec::new();
        griffin_lim(&stft, &magnitude, iterations, phase, &mut signal, &mut scratch);
        stft.forward(&signal, &mut again, &mut scratch);
        let error: f64 = magnitude.iter().zip(&again).map(|(&m, x)| f64::from(m - x.norm()).powi(2)).sum();
        let total: f64 = magnitude.iter().map(|&m| f64::from(m).powi(2)).sum();
        (10.0 * (error / total).log10(), signal)
    };
    let phase = InitialPhase::Random(5);
    let reached: Vec<f64> = [0, 4, 16, 64].iter().map(|&n| convergence(n, phase).0).collect();
    assert!(reached.windows(2).all(|pair| pair[1] < pair[0] - 1.0), "{reached:?}");
    assert!(reached[3] < -20.0, "{reached:?}");
    assert_eq!(convergence(8, phase).1, convergence(8, phase).1);
    assert_ne!(convergence(8, phase).1, convergence(8, InitialPhase::Random(6)).1);
    assert!(convergence(8, InitialPhase::Zero).0 < -5.0);
}

#[test]
fn the_mel_scale_is_slaneys_and_neighbouring_filters_sum_to_one() {
    // librosa.hz_to_mel([60, 1000, 4000, 8000]), its documented values and the break point.
    for (hz, mel) in [(60.0, 0.9), (1000.0, 15.0), (4000.0, 35.163_76), (8000.0, 45.245_64)] {
        assert!((mel_from_hz(hz) - mel).abs() < 1e-4, "{hz} Hz is {} mel", mel_from_hz(hz));
        assert!((hz_from_mel(mel_from_hz(hz)) - hz).abs() < 1e-6);
    }
    let filters = MelFilters::new(80, 1024, 16_000);
    let step = mel_from_hz(8000.0) / 81.0;
    let point = |b: usize| hz_from_mel(b as f64 * step);
    for bin in 0..filters.bins() {
        let hz = bin as f64 * 16_000.0 / 1024.0;
        for band in 0..80 {
            let rise = (hz - point(band)) / (point(band + 1) - point(band));
            let fall = (point(band + 2) - hz) / (point(band + 2) - point(band + 1));
            let triangle = rise.min(fall).max(0.0);
            let weight = f64::from(filters.weight(band, bin));
            assert!((weight - triangle).abs() < 1e-5, "band {band} bin {bin}: {weight} is not {triangle}");
        }
        if hz > point(1) && hz < point(80) {
            let sum: f32 = (0..80).map(|band| filters.weight(band, bin)).sum();
            assert!((sum - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn the_mel_inverse_is_non_negative_and_solves_the_equation() {
    let (frames, filters) = (13, MelFilters::new(64, 1024, 16_000));
    let magnitude: Vec<f32> = noise(9, filters.bins() * frames).iter().map(|x| x.abs().powi(4)).collect();
    let mel = filters.apply(&magnitude, frames);
    let found = filters.invert(&mel, frames);
    assert!(found.iter().all(|&s| s >= 0.0 && s.is_finite()));
    let reached = filters.apply(&found, frames);
    let error: f32 = mel.iter().zip(&reached).map(|(a, b)| (a - b).powi(2)).sum();
    let total: f32 = mel.iter().map(|a| a * a).sum();
    assert!(error < 1e-4 * total, "relative residual {}", (error / total).sqrt());
    // Where no exact solution exists (an impossible comb of bands), least squares still beats its start.
    let comb: Vec<f32> =
        (0..64 * frames).map(|index| if index / frames % 8 == 0 { 1.0 } else { 0.0 }).collect();
    let found = filters.invert(&comb, frames);
    assert!(found.iter().all(|&s| (0.0..=2.0).contains(&s)));
}

fn config(kind: Kind, mix: Mix) -> RepresentationConfig {
    let base = RepresentationConfig { representation: kind, mix, image: [512, 250], ..Default::default() };
    match kind {
        Kind::Mel => RepresentationConfig { image: [80, 250], ..base },
        Kind::Seed => RepresentationConfig {
            image: [412, 16],
            n_fft: 8192,
            hop: 4096,
            window: Window::Blackman,
            ..base
        },
        _ => base,
    }
}

#[test]
fn complex_keeps_the_sound() {
    for compression in [1.0, 0.5, 0.3] {
        let config = RepresentationConfig { compression, ..config(Kind::Complex, Mix::Stereo) };
        let representation = build(&config).unwrap();
        assert_eq!(
            (representation.channels(), representation.height(), representation.width()),
            (4, 512, 250)
        );
        let left = notes(representation.segment_samples(), 16_000);
        let right: Vec<f32> = left.iter().rev().map(|x| 0.5 * x).collect();
        let audio = vec![left, right];
        let decoded = representation.decode(&representation.encode(&audio).unwrap()).unwrap();
        for (reference, estimate) in audio.iter().zip(&decoded) {
            let ratio = si_sdr(reference, estimate);
            println!("complex, compression {compression}: SI-SDR {ratio:.1} dB");
            assert!(ratio > 100.0, "compression {compression}: {ratio:.1} dB");
        }
    }
}

/// Log-spectral distance after one round trip through `kind`, measured in log magnitude.
fn round_trip_distance(kind: Kind, iterations: usize) -> f64 {
    let change =
        |kind| RepresentationConfig { griffin_lim_iterations: iterations, ..config(kind, Mix::Mono) };
    let (ruler, representation) = (build(&change(Kind::Logmag)).unwrap(), build(&change(kind)).unwrap());
    let audio = [notes(ruler.segment_samples(), 16_000)];
    let image = representation.encode(&audio).unwrap();
    assert_eq!(image, representation.encode(&audio).unwrap(), "encoding repeats its bits");
    let decoded = representation.decode(&image).unwrap();
    log_spectral_distance(&ruler.encode(&audio).unwrap(), &ruler.encode(&decoded).unwrap(), 250)
}

#[test]
fn log_magnitude_and_mel_lose_little_more_than_the_phase() {
    // Real clips gave 2.0 dB (32 iterations), 1.6 (64), and 6.4 through 128 mel bands.
    let (few, many) = (round_trip_distance(Kind::Logmag, 32), round_trip_distance(Kind::Logmag, 64));
    println!("log magnitude: {few:.2} dB after 32 iterations, {many:.2} after 64");
    let mel = round_trip_distance(Kind::Mel, 32);
    println!("mel: {mel:.2} dB");
    assert!(few < 3.0 && many < few, "{few} {many}");
    assert!(mel < 8.0, "{mel}");
}

#[test]
fn the_seeds_image_has_its_shape_and_keeps_the_spectrum_roughly() {
    let representation = build(&config(Kind::Seed, Mix::Mono)).unwrap();
    assert_eq!((representation.channels(), representation.height(), representation.width()), (2, 412, 16));
    let audio = [notes(representation.segment_samples(), 16_000)];
    let image = representation.encode(&audio).unwrap();
    let again = representation.encode(&representation.decode(&image).unwrap()).unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let similarity = dot(&image, &again) / (dot(&image, &image) * dot(&again, &again)).sqrt();
    println!("seed: cosine similarity of the images {similarity:.3}");
    assert!(similarity > 0.8, "{similarity}");
    // A sine in the middle of a row: its five bins of the Blackman window's main lobe (1 in the middle, then
    // 0.25/0.42 and 0.04/0.42) add up, a row being 4097/412 bins wide.
    let (row, hz) = (100, (100.5 * 4097.0 / 412.0 - 0.5f64).round() * 16_000.0 / 8192.0);
    let sine = |n: usize| (TAU * hz * n as f64 / 16_000.0).sin() as f32;
    let audio = [(0..representation.segment_samples()).map(sine).collect()];
    let db = representation.magnitude_db(&representation.encode(&audio).unwrap());
    let expected = 20.0 * ((1.0 + 2.0 * (0.25 + 0.04) / 0.42) * 412.0 / 4097.0f32).log10();
    assert!((db[row * 16 + 8] - expected).abs() < 0.1, "{} dB is not {expected}", db[row * 16 + 8]);
}

#[test]
fn silence_and_wild_images_stay_finite_and_nan_stays_visible() {
    for kind in [Kind::Complex, Kind::Logmag, Kind::Mel, Kind::Seed] {
        let representation = build(&config(kind, Mix::Mono)).unwrap();
        let silence = [vec![0.0; representation.segment_samples()]];
        let image = representation.encode(&silence).unwrap();
        assert!(image.iter().all(|x| x.is_finite()), "{kind:?}");
        let decoded = representation.decode(&image).unwrap();
        assert!(decoded[0].iter().all(|x| x.abs() < 1e-4), "{kind:?} makes sound of silence");
        assert!(representation.magnitude_db(&image).iter().all(|&db| (-100.1..=-90.0).contains(&db)));
        let wild: Vec<f32> = noise(1, image.len()).iter().map(|x| 300.0 * x).collect();
        assert!(representation.decode(&wild).unwrap()[0].iter().all(|x| x.is_finite()), "{kind:?}");
        let mut broken = image.clone();
        broken[37] = f32::NAN;
        assert!(representation.decode(&broken).unwrap()[0].iter().any(|x| x.is_nan()), "{kind:?} hides NaN");
        assert!(representation.encode(&[vec![0.0; 5]]).is_err());
        assert!(representation.decode(&image[1..]).is_err());
    }
}

#[test]
fn a_full_scale_sine_has_magnitude_one() {
    for kind in [Kind::Complex, Kind::Logmag] {
        let representation = build(&config(kind, Mix::Mono)).unwrap();
        let sine = |n: usize| (TAU * 64.0 * n as f64 / 1024.0).sin() as f32;
        let audio = [(0..representation.segment_samples()).map(sine).collect()];
        let db = representation.magnitude_db(&representation.encode(&audio).unwrap());
        let (row, column) = (64, 100);
        assert!(db[row * 250 + column].abs() < 0.01, "{kind:?}: {} dB", db[row * 250 + column]);
    }
}

#[test]
fn bad_configurations_name_the_key_and_the_right_value() {
    let refuse = |change: fn(&mut RepresentationConfig), key: &str, hint: &str| {
        let mut config = RepresentationConfig::default();
        change(&mut config);
        match build(&config).map(|_| ()) {
            Err(Error::Config { key: found, problem }) => {
                assert_eq!(found, key);
                assert!(problem.contains(hint), "{problem}");
            }
            other => panic!("{key}: {other:?}"),
        }
    };
    refuse(|c| c.image = [256, 256], "data.image", "[512, W]");
    refuse(|c| c.image = [512, 0], "data.image", "W > 0");
    refuse(|c| c.image = [512, usize::MAX], "data.image", "lower W");
    refuse(|c| c.n_fft = 1023, "data.n_fft", "even");
    refuse(|c| c.n_fft = 0, "data.n_fft", "16");
    refuse(|c| c.hop = 0, "data.hop", "512");
    refuse(|c| c.hop = 1024, "data.hop", "512");
    refuse(|c| c.sample_rate = 0, "data.sample_rate", "Hz");
    refuse(|c| c.compression = f32::NAN, "data.compression", "above 0");
    refuse(|c| c.compression = 0.0, "data.compression", "above 0");
    refuse(|c| c.griffin_lim_iterations = usize::MAX, "data.griffin_lim_iterations", "10000");
    let crowded = |c: &mut RepresentationConfig| {
        (c.representation, c.mel_bands, c.image) = (Kind::Mel, 500, [500, 256]);
    };
    refuse(crowded, "data.mel_bands", "fewer bands");
}

#[test]
fn statistics_merge_to_the_textbook_mean_and_deviation() {
    let (rows, width) = (6, 11);
    let images: Vec<Vec<f32>> = (0..9).map(|seed| noise(seed, rows * width)).collect();
    let (mut one, mut halves) = (Statistics::new(rows), [Statistics::new(rows), Statistics::new(rows)]);
    for (index, image) in images.iter().enumerate() {
        one.push(image).unwrap();
        halves[index % 2].push(image).unwrap();
    }
    let [mut merged, other] = halves;
    merged.merge(&other).unwrap();
    for normalizer in [one.finish(), merged.finish()] {
        for row in 0..rows {
            let values: Vec<f64> =
                images.iter().flat_map(|i| &i[row * width..][..width]).map(|&x| f64::from(x)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
            assert!((f64::from(normalizer.mean[row]) - mean).abs() < 1e-6);
            assert!((f64::from(normalizer.deviation[row]) - variance.sqrt()).abs() < 1e-6);
            let extreme = |larger: fn(f64, f64) -> f64| values.iter().copied().reduce(larger).unwrap() as f32;
            assert_eq!(normalizer.range[row], [extreme(f64::min), extreme(f64::max)]);
        }
    }
    assert!(one.push(&[0.0; 7]).is_err());
    assert!(one.merge(&Statistics::new(5)).is_err());
}

#[test]
fn images_are_limited_to_what_there_was_in_each_row_if_that_is_known() {
    let mut statistics = Statistics::new(2);
    statistics.push(&[-1.0, 0.5, 2.0, 3.0, 7.0, 4.0]).unwrap();
    let normalizer = statistics.finish();
    let mut images = [-9.0, 0.0, 9.0, 9.0, 5.0, -9.0, 2.5, -1.5, 1.0, 3.5, 2.5, 7.5];
    normalizer.limit(&mut images, 3).unwrap();
    assert_eq!(images, [-1.0, 0.0, 2.0, 7.0, 5.0, 3.0, 2.0, -1.0, 1.0, 3.5, 3.0, 7.0]);

    // A part whose range nobody kept: the whole has none, and everything stays.
    let mut older = Statistics::from_parts(3, vec![0.0; 2], vec![1.0; 2], vec![ANYTHING; 2]).unwrap();
    older.merge(&statistics).unwrap();
    let mut image = [-9.0, 0.0, 9.0, 9.0, 5.0, -9.0];
    older.finish().limit(&mut image, 3).unwrap();
    assert_eq!(image, [-9.0, 0.0, 9.0, 9.0, 5.0, -9.0]);
    assert!(older.finish().range.is_empty());
}

#[test]
fn a_constant_row_does_not_blow_up() {
    let mut statistics = Statistics::new(2);
    let image: Vec<f32> = [vec![-11.5; 50], noise(2, 50)].concat();
    statistics.push(&image).unwrap();
    let normalizer = statistics.finish();
    assert!(normalizer.deviation[0] > 1e-3, "the next image need not be constant there");
    let mut normalized = image.clone();
    normalizer.apply(&mut normalized, 50).unwrap();
    assert!(normalized.iter().all(|x| x.abs() < 5.0));
    normalizer.undo(&mut normalized, 50).unwrap();
    assert!(image.iter().zip(&normalized).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(normalizer.apply(&mut normalized[1..], 50).is_err());
    let json = serde_json::to_string(&normalizer).unwrap();
    assert_eq!(serde_json::from_str::<Normalizer>(&json).unwrap(), normalizer);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// The inverse is exact for every size, window and hop that a configuration may have.
    #[test]
    fn the_inverse_is_exact(
        half in 8usize..300, divide in 2usize..9, frames in 1usize..40, seed: u32,
        window in prop_oneof![Just(Window::Hann), Just(Window::Hamming), Just(Window::Blackman)],
    ) {
        let (n_fft, hop) = (2 * half, 2 * half / divide);
        let stft = Stft::new(n_fft, hop, window);
        let mut scratch = stft.scratch();
        let signal = noise(seed, frames * hop);
        let (mut spectrum, mut again) = (Vec::new(), vec![f32::NAN; 3]);
        stft.forward(&signal, &mut spectrum, &mut scratch);
        stft.inverse(&spectrum, &mut again, &mut scratch);
        prop_assert_eq!(again.len(), signal.len());
        for (a, b) in signal.iter().zip(&again) {
            prop_assert!((a - b).abs() < 3e-6, "{} is not {}", b, a);
        }
    }
}
