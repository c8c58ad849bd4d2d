//! Small recordings and a small representation for the data set's tests.
#![allow(dead_code)] // Each test file uses its own part.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use dit_engine::audio::config::{Kind, RepresentationConfig};
use dit_engine::dataset::PrepareOptions;
use dit_engine::dataset::config::{CutConfig, DatasetConfig};
use dit_engine::dataset::table::TableOptions;

pub const RATE: u32 = 8000;
/// 16 frames of 128 samples.
pub const SEGMENT_SAMPLES: usize = 2048;

/// A decaying tone with noise, `segments` segments long, at `level` of full scale; `seed` makes it unlike others.
pub fn write_song(path: &Path, segments: f64, level: f64, seed: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let frequency = 200.0 + 37.0 * f64::from(seed % 50);
    let mut noise = u64::from(seed) + 1;
    for n in 0..(segments * SEGMENT_SAMPLES as f64) as usize {
        noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let hiss = (noise >> 40) as f64 / f64::from(1 << 24) - 0.5;
        let time = n as f64 / f64::from(RATE);
        let value = level * (0.6 * (TAU * frequency * time).sin() + 0.2 * hiss);
        writer.write_sample((value * 32767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// `source` into `out`, 16 mel bands of 16 frames.
pub fn options(source: &Path, out: &Path) -> PrepareOptions {
    let representation = RepresentationConfig {
        representation: Kind::Mel,
        sample_rate: RATE,
        image: [16, 16],
        n_fft: 512,
        hop: 128,
        mel_bands: 16,
        ..RepresentationConfig::default()
    };
    PrepareOptions {
        sources: vec![PathBuf::from(source)],
        out: PathBuf::from(out),
        config: DatasetConfig { representation, cut: CutConfig::default() },
        validation: 0.3,
        tables: TableOptions::default(),
        strict: false,
        prune: false,
    }
}

/// A song as the bytes of a WAV file.
pub fn song_bytes(segments: f64, seed: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("song.wav");
    write_song(&path, segments, 0.8, seed);
    std::fs::read(path).unwrap()
}
