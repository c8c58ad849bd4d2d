//! TensorBoard event files: TFRecord framing around hand-encoded protobuf messages.
//!
//! A record is `length u64, masked crc32c(length), data, masked crc32c(data)`, little-endian. The messages
//! (tensorflow/core/util/event.proto, framework/summary.proto) are few enough to be written field by field.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::render::SoundFacts;

/// Writes the events of one run (or of one resumption of it) into one file.
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Creates `FOLDER/events.out.tfevents.SECONDS.dit-engine.NUMBER`, a name that is not taken.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path) -> Result<EventWriter> {
        let seconds = now().as_secs();
        for number in 0u32.. {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.dit-engine.{number}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut writer = EventWriter { path, file };
                    let mut event = Message::default();
                    event.double(1, now().as_secs_f64());
                    event.bytes(3, b"brain.Event:2");
                    writer.record(&event.0)?;
                    return Ok(writer);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io("create", path)(error)),
            }
        }
        unreachable!("some number is free")
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Scalars of a step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            entry.float(2, *value);
            summary.bytes(1, &entry.0);
        }
        self.event(step, &summary)
    }

    /// A picture (PNG, with its size in pixels) of a step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn image(&mut self, step: u64, tag: &str, png: &[u8], [width, height]: [u32; 2]) -> Result<()> {
        const RGB: u64 = 3;
        let mut image = Message::default();
        image.varint(1, u64::from(height));
        image.varint(2, u64::from(width));
        image.varint(3, RGB);
        image.bytes(4, png);
        self.value(step, tag, 4, &image)
    }

    /// A sound (WAV) of a step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn audio(&mut self, step: u64, tag: &str, wav: &[u8], sound: SoundFacts) -> Result<()> {
        let mut audio = Message::default();
        audio.float(1, sound.sample_rate as f32);
        audio.varint(2, sound.channels as u64);
        audio.varint(3, sound.frames as u64);
        audio.bytes(4, wav);
        audio.bytes(5, b"audio/wav");
        self.value(step, tag, 6, &audio)
    }

    fn value(&mut self, step: u64, tag: &str, field: u32, message: &Message) -> Result<()> {
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.bytes(field, &message.0);
        let mut summary = Message::default();
        summary.bytes(1, &entry.0);
        self.event(step, &summary)
    }

    fn event(&mut self, step: u64, summary: &Message) -> Result<()> {
        let mut event = Message::default();
        event.double(1, now().as_secs_f64());
        event.varint(2, step);
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked_crc(data).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io("write", &self.path))
    }
}

/// TFRecord's masked CRC-32C: rotated right by 15, plus a constant.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A protobuf message under construction: each field is a key (number, wire type) and a value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u32, wire: u32) {
        self.raw_varint(u64::from(field << 3 | wire));
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

#[cfg(test)]
#[path = "tensorboard_tests.rs"]
mod tests;
