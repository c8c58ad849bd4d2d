//! The demo corpus from outside: what the captions say is measured in the audio, with textbook code that shares
//! nothing with the synthesis.

use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use dit_engine::dataset::demo::{DemoOptions, compose};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

type Row = BTreeMap<String, String>;

struct Track {
    /// The first of the track's rows.
    row: Row,
    captions: Vec<String>,
    samples: Vec<f64>,
    spectrogram: Spectrogram,
}

/// Power, `[frame][bin]`.
struct Spectrogram {
    frames: Vec<Vec<f64>>,
    hop: usize,
    bin_hz: f64,
}

impl Track {
    fn is(&self, column: &str, value: &str) -> bool {
        self.row[column] == value
    }

    fn bpm(&self) -> f64 {
        self.row["tempo_bpm"].parse().unwrap()
    }
}

/// Length of the songs that are measured: half the default, to be quick.
const SECONDS: usize = 12;

/// The default corpus, shortened, composed and measured once for all tests.
fn corpus() -> &'static [Track] {
    static CORPUS: OnceLock<Vec<Track>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let options = DemoOptions { seconds: SECONDS as f64, ..DemoOptions::default() };
        compose(folder.path(), &options, &mut |_, _| ()).unwrap();
        let mut by_file: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows(folder.path()) {
            by_file.entry(row["file_name"].clone()).or_default().push(row);
        }
        let files: Vec<(String, Vec<Row>)> = by_file.into_iter().collect();
        let track = |(file, rows): &(String, Vec<Row>)| {
            let mut wav = hound::WavReader::open(folder.path().join(file)).unwrap();
            assert_eq!(
                (wav.spec().channels, wav.spec().sample_rate, wav.spec().bits_per_sample),
                (1, 16_000, 16)
            );
            let samples: Vec<f64> = wav.samples::<i16>().map(|x| f64::from(x.unwrap()) / 32_768.0).collect();
            let captions = rows.iter().map(|row| row["caption"].clone()).collect();
            let spectrogram = spectrogram(&samples, 16_000.0, 1024, 256);
            Track { row: rows[0].clone(), captions, samples, spectrogram }
        };
        files.par_iter().map(track).collect()
    })
}

fn rows(folder: &Path) -> Vec<Row> {
    let mut table = csv::Reader::from_path(folder.join("metadata.csv")).unwrap();
    table.deserialize().map(|row| row.unwrap()).collect()
}

/// Every file of a folder with the hash of its content.
fn fingerprint(folder: &Path) -> BTreeMap<String, String> {
    let files = ["", "audio"].iter().flat_map(|sub| fs::read_dir(folder.join(sub)).unwrap());
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            (path.strip_prefix(folder).unwrap().display().to_string(), hash(&fs::read(&path).unwrap()))
        })
        .collect()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hann window, Fourier transform, power.
fn spectrogram(samples: &[f64], rate_hz: f64, size: usize, hop: usize) -> Spectrogram {
    let window: Vec<f64> = (0..size).map(|i| 0.5 - 0.5 * (2.0 * PI * i as f64 / size as f64).cos()).collect();
    let fourier = realfft::RealFftPlanner::<f64>::new().plan_fft_forward(size);
    let frames = samples.windows(size).step_by(hop).map(|frame| {
        let mut windowed: Vec<f64> = frame.iter().zip(&window).map(|(x, w)| x * w).collect();
        let mut bins = fourier.make_output_vec();
        fourier.process(&mut windowed, &mut bins).unwrap();
        bins.iter().map(|bin| bin.norm_sqr()).collect()
    });
    Spectrogram { frames: frames.collect(), hop, bin_hz: rate_hz / size as f64 }
}

/// Mean frequency, weighted with magnitude.
fn centroid_hz(spectrogram: &Spectrogram) -> f64 {
    let (mut weighted, mut total) = (0.0, 0.0);
    for frame in &spectrogram.frames {
        for (bin, power) in frame.iter().enumerate() {
            weighted += power.sqrt() * bin as f64 * spectrogram.bin_hz;
            total += power.sqrt();
        }
    }
    weighted / total
}

/// How much like noise the band of 1.5 to 4 kHz is: geometric over arithmetic mean of the power (1 is white noise,
/// 0 a tone), averaged over frames by their power, so that the loudest moments, the strokes, count most.
fn noisiness(spectrogram: &Spectrogram) -> f64 {
    let band = (1500.0 / spectrogram.bin_hz) as usize..(4000.0 / spectrogram.bin_hz) as usize;
    let (mut weighted, mut total) = (0.0, 0.0);
    for frame in &spectrogram.frames {
        let power: Vec<f64> = frame[band.clone()].iter().map(|power| power + 1e-9).collect();
        let mean = power.iter().sum::<f64>() / power.len() as f64;
        let geometric = (power.iter().map(|power| power.ln()).sum::<f64>() / power.len() as f64).exp();
        weighted += geometric;
        total += mean;
    }
    weighted / total
}

/// Autocorrelation of the onset strength (rise of log power, over all bins) at the first four multiples of a beat.
fn pulse_at(onsets: &[f64], frames_per_beat: f64) -> f64 {
    let at = |lag: f64| {
        let (whole, part) = (lag as usize, lag.fract());
        let correlation = |lag: usize| onsets.iter().zip(&onsets[lag..]).map(|(a, b)| a * b).sum::<f64>();
        correlation(whole) * (1.0 - part) + correlation(whole + 1) * part
    };
    (1..=4).map(|beat| at(f64::from(beat) * frames_per_beat)).sum()
}

fn onsets(spectrogram: &Spectrogram) -> Vec<f64> {
    let log = |frame: &Vec<f64>| frame.iter().map(|power| (1.0 + 1000.0 * power.sqrt()).ln()).collect();
    let logs: Vec<Vec<f64>> = spectrogram.frames.iter().map(log).collect();
    let rise = |pair: &[Vec<f64>]| {
        pair[0].iter().zip(&pair[1]).map(|(before, after)| (after - before).max(0.0)).sum::<f64>()
    };
    let rises: Vec<f64> = logs.windows(2).map(rise).collect();
    let mean = rises.iter().sum::<f64>() / rises.len() as f64;
    rises.iter().map(|rise| rise - mean).collect()
}

/// The chance that a value of the first group is above one of the second: the area under the ROC curve.
fn separation(above: &[f64], below: &[f64]) -> f64 {
    let wins = above.iter().flat_map(|a| below.iter().map(move |b| f64::from(u8::from(a > b)))).sum::<f64>();
    wins / (above.len() * below.len()) as f64
}

fn measured(column: &str, value: &str, measure: impl Fn(&Spectrogram) -> f64) -> Vec<f64> {
    corpus().iter().filter(|track| track.is(column, value)).map(|track| measure(&track.spectrogram)).collect()
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let options = DemoOptions { songs: 8, seconds: 3.0, ..DemoOptions::default() };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    compose(folders[0].path(), &options, &mut |_, _| ()).unwrap();
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    single.install(|| compose(folders[1].path(), &options, &mut |_, _| ()).unwrap());
    assert_eq!(fingerprint(folders[0].path()), fingerprint(folders[1].path()));
    compose(folders[2].path(), &DemoOptions { seed: 1, ..options }, &mut |_, _| ()).unwrap();
    let (first, other) = (fingerprint(folders[0].path()), fingerprint(folders[2].path()));
    assert!(first.iter().all(|(file, hash)| other[file] != *hash), "another seed, the same song");
}

#[test]
fn the_bytes_are_those_of_this_version_on_every_machine() {
    // If this fails because the sound was changed on purpose, raise VERSION in dataset/demo, so that corpora on
    // disk are composed anew, and put the new hash here. It must not depend on the machine.
    let folder = tempfile::tempdir().unwrap();
    let options = DemoOptions { songs: 16, seconds: 5.0, ..DemoOptions::default() };
    compose(folder.path(), &options, &mut |_, _| ()).unwrap();
    let files: Vec<String> = fingerprint(folder.path()).into_values().collect();
    assert_eq!(
        hash(files.concat().as_bytes()),
        "616f6415ee04e233042d334a0a3628d7a1aa25783d03de50a47d75de06b508c6"
    );
}

#[test]
fn a_finished_corpus_is_reused_and_an_unfinished_or_other_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let compose = |songs: usize| {
        let options = DemoOptions { songs, seconds: 2.0, ..DemoOptions::default() };
        let mut calls = vec![];
        compose(folder.path(), &options, &mut |done, of| calls.push((done, of))).unwrap();
        calls
    };
    assert_eq!(compose(3), [(1, 3), (2, 3), (3, 3)]);
    let three = fingerprint(folder.path());
    assert_eq!(three.len(), 5, "three songs, the table and the stamp: {three:?}");
    assert_eq!(compose(3), [(3, 3)], "a second call had nothing to do");
    fs::write(folder.path().join("audio/0001_techno.wav"), b"RIFF").unwrap();
    assert_eq!(compose(3).len(), 3, "a broken file");
    assert_eq!(fingerprint(folder.path()), three);
    let stamp = fs::read_to_string(folder.path().join("demo.json")).unwrap();
    fs::write(folder.path().join("demo.json"), stamp.replace("true", "false")).unwrap();
    assert_eq!(compose(2).len(), 2, "left unfinished, then other options");
    assert_eq!(fingerprint(folder.path()).len(), 4, "the third song is cleared away");
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let good = DemoOptions::default();
    for (options, key) in [
        (DemoOptions { songs: 0, ..good.clone() }, "demo.songs"),
        (DemoOptions { seconds: f64::NAN, ..good.clone() }, "demo.seconds"),
        (DemoOptions { sample_rate: 1, ..good.clone() }, "demo.sample_rate"),
    ] {
        let error = compose(folder.path(), &options, &mut |_, _| ()).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn songs_are_loud_enough_and_do_not_clip() {
    for track in corpus() {
        let name = &track.row["file_name"];
        assert_eq!(track.samples.len(), SECONDS * 16_000);
        let power = track.samples.iter().map(|x| x * x).sum::<f64>() / track.samples.len() as f64;
        let dbfs = 10.0 * power.log10();
        assert!((-18.0..-14.0).contains(&dbfs), "{name}: {dbfs:.1} dBFS");
        let peak = track.samples.iter().fold(0.0_f64, |peak, x| peak.max(x.abs()));
        assert!((0.4..0.99).contains(&peak), "{name}: peak {peak:.2}");
        let mean = track.samples.iter().sum::<f64>() / track.samples.len() as f64;
        assert!(mean.abs() < 1e-3, "{name}: offset {mean}");
        // No hole of half a second before the fade-out.
        let quietest = track.samples[..(SECONDS - 2) * 16_000]
            .chunks(8000)
            .map(|half| (half.iter().map(|x| x * x).sum::<f64>() / 8000.0).sqrt())
            .fold(f64::INFINITY, f64::min);
        assert!(quietest > 0.02, "{name}: falls silent, {quietest:.4}");
        assert!(
            track.samples[SECONDS * 16_000 - 100..].iter().all(|x| x.abs() < 1e-3),
            "{name}: ends with a click"
        );
    }
}

#[test]
fn the_beat_is_where_the_caption_says() {
    for track in corpus() {
        let strength = onsets(&track.spectrogram);
        let frames_per_minute = 60.0 * 16_000.0 / track.spectrogram.hop as f64;
        // Around the claim only: whether a listener taps quarters or eighths is a matter of taste, and a metre has
        // pulses at simple ratios (3/4, 4/5, 5/4, 4/3) as well.
        let candidates = (-36..=36).map(|step| track.bpm() * (1.0 + 0.005 * f64::from(step)));
        let pulse = |bpm: f64| pulse_at(&strength, frames_per_minute / bpm);
        let best = candidates.max_by(|&a, &b| pulse(a).total_cmp(&pulse(b))).unwrap();
        let claim = track.bpm();
        assert!(
            (best / claim - 1.0).abs() < 0.015,
            "{}: {best:.1} bpm, said {claim}",
            track.row["file_name"]
        );
    }
}

#[test]
fn bright_and_dark_drums_and_no_drums_are_heard() {
    let (bright, dark) =
        (measured("brightness", "bright", centroid_hz), measured("brightness", "dark", centroid_hz));
    let least_bright = bright.iter().copied().fold(f64::INFINITY, f64::min);
    let least_dark = dark.iter().copied().fold(0.0, f64::max);
    assert!(
        least_bright > least_dark,
        "centroids: bright from {least_bright:.0} Hz, dark to {least_dark:.0} Hz"
    );
    let (with, without) = (measured("drums", "yes", noisiness), measured("drums", "no", noisiness));
    let area = separation(&with, &without);
    assert!(area > 0.95, "drums are told from no drums in {area:.3} of all pairs");
}

#[test]
fn the_notes_belong_to_the_key() {
    let tonics = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
    let mut right = 0;
    for track in corpus() {
        let (tonic, mode) = track.row["key"].split_once(' ').unwrap();
        // Every mode is a major scale that starts elsewhere: the semitones from that scale's first note up to the tonic.
        let shift = match mode {
            "major" => 0,
            "dorian" => 2,
            "lydian" => 5,
            "mixolydian" => 7,
            "minor" => 9,
            other => panic!("unknown mode {other}"),
        };
        let said = (tonics.iter().position(|name| *name == tonic).unwrap() + 12 - shift) % 12;
        let mut chroma = [0.0; 12];
        for frame in &track.spectrogram.frames {
            for (bin, power) in frame.iter().enumerate() {
                let hz = bin as f64 * track.spectrogram.bin_hz;
                if (200.0..1500.0).contains(&hz) {
                    let midi = 69.0 + 12.0 * (hz / 440.0).log2();
                    chroma[midi.round() as usize % 12] += power.sqrt();
                }
            }
        }
        let share =
            |first: usize| [0, 2, 4, 5, 7, 9, 11].iter().map(|step| chroma[(first + step) % 12]).sum::<f64>();
        let heard = (0..12).max_by(|&a, &b| share(a).total_cmp(&share(b))).unwrap();
        right += usize::from(heard == said);
    }
    // Chance is 4 of 48.
    assert!(right >= 36, "the scale is the strongest of twelve in {right} of {} songs", corpus().len());
}

#[test]
fn captions_agree_with_the_table() {
    for track in corpus() {
        let (row, captions) = (&track.row, &track.captions);
        assert_eq!(captions.len(), 3);
        let word = match track.bpm() as u32 {
            0..90 => "slow",
            90..125 => "medium",
            _ => "fast",
        };
        for caption in captions {
            let genre = row["genre"].as_str();
            assert!(caption.contains(genre) && caption.contains(word), "{caption}");
            assert!(caption.contains(row["brightness"].as_str()), "{caption}");
            assert_eq!(caption.contains("with drums"), track.is("drums", "yes"), "{caption}");
            assert_eq!(caption.contains("no drums"), track.is("drums", "no"), "{caption}");
        }
        assert!(
            captions[0].contains(&row["key"]) && captions[0].contains(&format!("{} bpm", row["tempo_bpm"]))
        );
        assert!(row["instruments"].split("; ").all(|name| captions[0].contains(name)), "{captions:?}");
        assert_eq!(row["licence"], "CC0-1.0");
    }
}

#[test]
fn attributes_are_balanced_and_independent() {
    let tracks = corpus();
    let minor = |track: &&Track| track.row["key"].ends_with("minor") || track.row["key"].ends_with("dorian");
    let fast = |track: &&Track| track.bpm() >= 108.0;
    let bright = |track: &&Track| track.is("brightness", "bright");
    let drums = |track: &&Track| track.is("drums", "yes");
    let attributes: [&dyn Fn(&&Track) -> bool; 4] = [&minor, &fast, &bright, &drums];
    for (i, first) in attributes.iter().enumerate() {
        assert_eq!(tracks.iter().filter(first).count(), 24, "attribute {i}");
        for (j, second) in attributes.iter().enumerate().filter(|(j, _)| *j != i) {
            assert_eq!(tracks.iter().filter(first).filter(second).count(), 12, "attributes {i} and {j}");
        }
    }
    let mut genres: BTreeMap<&str, Vec<&Track>> = BTreeMap::new();
    tracks.iter().for_each(|track| genres.entry(&track.row["genre"]).or_default().push(track));
    assert_eq!(genres.len(), 8);
    for (genre, songs) in &genres {
        assert_eq!(songs.len(), 6);
        for (i, attribute) in attributes.iter().enumerate() {
            assert_eq!(songs.iter().filter(|song| attribute(song)).count(), 3, "{genre}, attribute {i}");
        }
    }
    for word in ["slow", "medium tempo", "fast"] {
        let said = tracks.iter().filter(|track| track.captions[1].contains(&format!(", {word},"))).count();
        assert!(said >= 8, "{word}: {said} songs");
    }
}

#[test]
fn a_split_by_the_artists_hash_is_balanced() {
    // What dataset/split does, written out: a share of the artists by SHA-256 of their lower-case name.
    let position = |artist: &str| {
        let digest = Sha256::digest(format!("artist {}", artist.to_lowercase()).as_bytes());
        f64::from(u32::from_be_bytes(digest[..4].try_into().unwrap())) / 2_f64.powi(32)
    };
    for (share, songs) in [(0.07, 4), (0.1, 8), (0.2, 12)] {
        let held_out: Vec<&Track> =
            corpus().iter().filter(|track| position(&track.row["artist"]) < share).collect();
        assert_eq!(held_out.len(), songs, "validation share {share}");
        if songs == 8 {
            let genres: std::collections::BTreeSet<&str> =
                held_out.iter().map(|track| track.row["genre"].as_str()).collect();
            assert_eq!(genres.len(), 8);
            assert_eq!(held_out.iter().filter(|track| track.is("drums", "yes")).count(), 4);
            assert_eq!(held_out.iter().filter(|track| track.is("brightness", "bright")).count(), 4);
        }
    }
}
