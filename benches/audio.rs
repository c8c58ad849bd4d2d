//! Audio, one thread. Criterion's "elem/s" is seconds of sound a second: times real time.
//!
//! `AUDIO_BENCH_FILE=song.mp3 cargo bench --bench audio` also decodes a file of yours.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dit_engine::audio::config::{Kind, Mix, Window};
use dit_engine::audio::mel::MelFilters;
use dit_engine::audio::representation::build;
use dit_engine::audio::stft::Stft;
use dit_engine::audio::wav::{SampleFormat, WavNotes, write};
use dit_engine::audio::{AudioReader, Representation, RepresentationConfig};

const SECONDS: usize = 20;

fn sound(seconds: usize, rate: usize) -> Vec<f32> {
    let chirp = |n: usize| (n as f32 * 0.01 + (n as f32 * 1e-4).sin() * 50.0).sin() * 0.3;
    (0..seconds * rate).map(chirp).collect()
}

fn transforms(criterion: &mut Criterion) {
    let (seconds, rate, stft) = (4, 44_100, Stft::new(1024, 256, Window::Hann));
    let (mut scratch, mut spectrum, mut signal) = (stft.scratch(), Vec::new(), sound(seconds, rate));
    let mut group = criterion.benchmark_group("44.1 kHz mono, 1024/256");
    group.throughput(Throughput::Elements(seconds as u64));
    group
        .bench_function("stft", |b| b.iter(|| stft.forward(black_box(&signal), &mut spectrum, &mut scratch)));
    group.bench_function("istft", |b| {
        b.iter(|| stft.inverse(black_box(&spectrum), &mut signal, &mut scratch))
    });
}

fn representations(criterion: &mut Criterion) {
    let seconds = 4;
    let mut group = criterion.benchmark_group("16 kHz mono, 1024/256, 4 s");
    group.throughput(Throughput::Elements(seconds as u64));
    for (kind, rows) in [(Kind::Complex, 512), (Kind::Logmag, 512), (Kind::Mel, 80)] {
        let config = RepresentationConfig { representation: kind, image: [rows, 250], ..Default::default() };
        let representation = build(&config).expect("a valid configuration");
        let audio = [sound(seconds, 16_000)];
        let image = representation.encode(&audio).expect("the right size");
        group.bench_function(format!("{kind:?} encode"), |b| {
            b.iter(|| representation.encode(black_box(&audio)))
        });
        group.bench_function(format!("{kind:?} decode"), |b| {
            b.iter(|| representation.decode(black_box(&image)))
        });
    }
    let filters = MelFilters::new(80, 1024, 16_000);
    let mel = filters.apply(&vec![0.1; filters.bins() * 250], 250);
    group.bench_function("mel inverse", |b| b.iter(|| filters.invert(black_box(&mel), 250)));
}

/// Decodes, mixes to mono, resamples to 16 kHz and encodes a whole file; returns the seconds of sound.
fn prepare(path: &Path, representation: &dyn Representation) -> f64 {
    let mut reader = AudioReader::open(path, 16_000, Mix::Mono).expect("an audio file");
    let (segment, mut frames, mut audio) = (representation.segment_samples(), 0, Vec::new());
    while reader.read(segment, &mut audio).expect("sound") == segment {
        black_box(representation.encode(&audio).expect("the right size"));
        audio.iter_mut().for_each(Vec::clear);
        frames += segment;
    }
    frames as f64 / 16_000.0
}

fn files(criterion: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("audio-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let wav = folder.join("stereo.wav");
    let channels = [sound(SECONDS, 44_100), sound(SECONDS, 44_100)];
    write(&wav, &channels, 44_100, SampleFormat::Pcm16, &WavNotes::default()).expect("a writable folder");
    let own = std::env::var_os("AUDIO_BENCH_FILE").map(PathBuf::from);
    let representation = build(&RepresentationConfig::default()).expect("the default is valid");
    let mut group = criterion.benchmark_group("file to images");
    for path in own.iter().chain([&wav]) {
        group.throughput(Throughput::Elements(prepare(path, representation.as_ref()) as u64));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        group.bench_function(name, |b| b.iter(|| prepare(path, representation.as_ref())));
    }
    group.finish();
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

criterion_group! {
    name = audio;
    config = Criterion::default().sample_size(20);
    targets = transforms, representations, files
}
criterion_main!(audio);
