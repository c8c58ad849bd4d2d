//! The demo corpus: short songs that the program composes and synthesises itself, with captions that are true
//! because they are made from the same attributes as the sound. For `train` without `--data`, and for tests of
//! whether a prompt is followed. Written in the Hugging Face AudioFolder layout:
//!
//! ```text
//! FOLDER/metadata.csv            one row a caption, several rows a song
//! FOLDER/audio/0000_ambient.wav  16-bit mono
//! FOLDER/demo.json               written last: the options, by which a finished corpus is recognised
//! ```

mod caption;
mod drums;
mod effects;
mod genres;
mod instruments;
mod math;
mod melody;
mod oscillators;
mod plan;
mod random;
mod render;
mod score;
mod theory;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{create_folder, write_bytes_atomic};
use plan::Song;
use random::Random;

/// Raised whenever the same options would give other bytes: older corpora are then composed anew.
const VERSION: u32 = 1;

/// What to compose. The same options give the same bytes, on any machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoOptions {
    /// How many songs; multiples of 16 are exactly balanced.
    pub songs: usize,
    /// Length of each song.
    pub seconds: f64,
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Other seeds give other songs with the same balance.
    pub seed: u64,
}

impl Default for DemoOptions {
    fn default() -> Self {
        DemoOptions { songs: 48, seconds: 24.0, sample_rate: 16_000, seed: 0 }
    }
}

impl DemoOptions {
    fn check(&self) -> Result<()> {
        if !(1..=9999).contains(&self.songs) {
            return Err(Error::config("demo.songs", format!("{} is not between 1 and 9999", self.songs)));
        }
        if !(2.0..=600.0).contains(&self.seconds) {
            return Err(Error::config("demo.seconds", format!("{} is not between 2 and 600", self.seconds)));
        }
        if !(8000..=96_000).contains(&self.sample_rate) {
            let problem = format!("{} Hz is not between 8000 and 96000", self.sample_rate);
            return Err(Error::config("demo.sample_rate", problem));
        }
        Ok(())
    }

    fn songs(&self) -> Vec<Song> {
        (0..self.songs).map(|index| plan::song(index, self.seed)).collect()
    }

    fn samples(&self) -> usize {
        (self.seconds * f64::from(self.sample_rate)).round() as usize
    }
}

/// What `demo.json` says. It is written before the first song and again after the last, so that whatever lies in
/// the folder after a kill is known, and can be cleared away.
#[derive(PartialEq, Serialize, Deserialize)]
struct Stamp {
    version: u32,
    options: DemoOptions,
    finished: bool,
}

impl Stamp {
    fn path(folder: &Path) -> PathBuf {
        folder.join("demo.json")
    }

    fn read(folder: &Path) -> Option<Stamp> {
        serde_json::from_slice(&fs::read(Stamp::path(folder)).ok()?).ok()
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = Stamp::path(folder);
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| Error::format(&path, error.to_string()))?;
        write_bytes_atomic(&path, &text)
    }
}

/// Composes the corpus into `folder`, on all cores. `progress` is told how many songs are done, of how many.
/// A corpus that is already there with the same options is left as it is; one with other options is replaced.
///
/// # Errors
/// [`Error::Config`] for options out of range, [`Error::Io`] for what the system refuses.
pub fn compose(folder: &Path, options: &DemoOptions, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
    options.check()?;
    let songs = options.songs();
    let mut stamp = Stamp { version: VERSION, options: options.clone(), finished: true };
    let found = Stamp::read(folder);
    if found.as_ref() == Some(&stamp) && is_complete(folder, options, &songs) {
        progress(songs.len(), songs.len());
        return Ok(());
    }
    create_folder(&folder.join("audio"))?;
    for stale in found.map_or(vec![], |old| old.options.songs()) {
        remove(&wav_path(folder, &stale))?;
    }
    stamp.finished = false;
    stamp.write(folder)?;
    write_songs(folder, options, &songs, progress)?;
    write_bytes_atomic(&folder.join("metadata.csv"), &metadata(&songs)?)?;
    stamp.finished = true;
    stamp.write(folder)
}

fn wav_path(folder: &Path, song: &Song) -> PathBuf {
    folder.join("audio").join(song.file_name())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether every file is there with its length: a WAV header of 44 bytes and two bytes a sample.
fn is_complete(folder: &Path, options: &DemoOptions, songs: &[Song]) -> bool {
    let wav_bytes = 44 + 2 * options.samples() as u64;
    folder.join("metadata.csv").is_file()
        && songs
            .iter()
            .all(|song| fs::metadata(wav_path(folder, song)).is_ok_and(|file| file.len() == wav_bytes))
}

fn write_songs(
    folder: &Path,
    options: &DemoOptions,
    songs: &[Song],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    let (sender, finished) = mpsc::channel();
    std::thread::scope(|scope| {
        let workers = scope.spawn(move || {
            songs.par_iter().try_for_each_with(sender, |sender, song| {
                write_bytes_atomic(
                    &wav_path(folder, song),
                    &wav(&synthesise(song, options), options.sample_rate),
                )?;
                // Nobody listens any more only if the caller has gone.
                let _ = sender.send(());
                Ok(())
            })
        });
        for (done, ()) in finished.iter().enumerate() {
            progress(done + 1, songs.len());
        }
        workers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn synthesise(song: &Song, options: &DemoOptions) -> Vec<f32> {
    let mut random = Random::new(options.seed, song.seed);
    let score = score::write(song, options.seconds, &mut random);
    render::render(song, &score, options.samples(), f64::from(options.sample_rate), &mut random)
}

/// A canonical WAV file: 44 bytes of header, then 16-bit mono samples.
fn wav(samples: &[f32], rate_hz: u32) -> Vec<u8> {
    let data_bytes = 2 * samples.len() as u32;
    let mut bytes = Vec::with_capacity(44 + data_bytes as usize);
    bytes.extend(b"RIFF");
    bytes.extend((36 + data_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    // Chunk size, then PCM, one channel, rate, bytes a second, bytes a frame, bits a sample.
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend([1_u16, 1].map(u16::to_le_bytes).concat());
    bytes.extend([rate_hz, 2 * rate_hz].map(u32::to_le_bytes).concat());
    bytes.extend([2_u16, 16].map(u16::to_le_bytes).concat());
    bytes.extend(b"data");
    bytes.extend(data_bytes.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|x| ((x * 32_767.0).round() as i16).to_le_bytes()));
    bytes
}

fn metadata(songs: &[Song]) -> Result<Vec<u8>> {
    let in_memory = |error: csv::Error| Error::format("metadata.csv", error.to_string());
    let mut table = csv::Writer::from_writer(vec![]);
    let header = ["file_name", "caption", "genre", "tempo_bpm", "key", "instruments", "drums", "brightness"];
    table.write_record(header.iter().chain(&["artist", "title", "licence"])).map_err(in_memory)?;
    for song in songs {
        for caption in caption::captions(song) {
            let row = [
                format!("audio/{}", song.file_name()),
                caption,
                song.genre.name.into(),
                song.tempo_bpm.to_string(),
                song.key.name(),
                song.instruments().join("; "),
                if song.drums { "yes" } else { "no" }.into(),
                caption::brightness(song).into(),
                song.artist.into(),
                song.title.clone(),
                "CC0-1.0".into(),
            ];
            table.write_record(&row).map_err(in_memory)?;
        }
    }
    table.into_inner().map_err(|error| Error::format("metadata.csv", error.to_string()))
}
