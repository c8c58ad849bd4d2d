//! TensorBoard event files: scalars, images, audio and text, without TensorFlow.
//!
//! A file is a row of TFRecords (length, masked crc32c of the length, data, masked crc32c of the data; the
//! framing of TensorFlow's `record_writer.cc`), each of which holds one `Event` (`event.proto`, `summary.proto`,
//! `tensor.proto`). The few fields that are needed are encoded by hand; numbers of fields stand in the module `field`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::files::create_folder;

/// Writes one event file. A run that is resumed opens a new one beside the older ones.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    out: BufWriter<File>,
}

/// Size and kind of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    pub channels: u32,
}

/// Length and kind of a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioShape {
    /// Frames a second.
    pub sample_rate_hz: u32,
    /// Samples a frame.
    pub channels: u32,
    /// Frames in all.
    pub frames: u64,
}

impl TensorBoard {
    /// Creates `folder` and in it `events.out.tfevents.<unix time>.<host>`. `first_step` is the first step that will be
    /// written (0 for a new run): TensorBoard drops what older files of the folder hold from there on.
    ///
    /// # Errors
    /// [`Error::Io`] with the folder or the file.
    pub fn create(folder: &Path, first_step: u64) -> Result<Self> {
        create_folder(folder)?;
        let (path, file) = create_new(folder)?;
        let mut writer = Self { path, out: BufWriter::new(file) };
        writer.write(Event::at(0).bytes(field::EVENT_FILE_VERSION, b"brain.Event:2"))?;
        let start = Message::default().number(field::SESSION_STATUS, field::SESSION_START);
        writer.write(Event::at(first_step).message(field::EVENT_SESSION_LOG, start))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file that is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Scalars of one step, `(tag, value)`: `("loss/train", 0.1)`. What stands before the slash groups charts.
    ///
    /// # Errors
    /// [`Error::Io`] with the file, as for all that follow.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<()> {
        let summary = values.iter().fold(Message::default(), |summary, (tag, value)| {
            summary.message(field::SUMMARY_VALUE, tagged(tag).float(field::VALUE_SCALAR, *value))
        });
        self.summary(step, summary)
    }

    /// A picture: the bytes of a PNG file.
    pub fn image(&mut self, step: u64, tag: &str, png: &[u8], shape: ImageShape) -> Result<()> {
        let image = Message::default()
            .number(field::IMAGE_HEIGHT, shape.height.into())
            .number(field::IMAGE_WIDTH, shape.width.into())
            .number(field::IMAGE_CHANNELS, shape.channels.into())
            .bytes(field::IMAGE_BYTES, png);
        self.value(step, tagged(tag).message(field::VALUE_IMAGE, image))
    }

    /// A sound: the bytes of a WAV file.
    pub fn audio(&mut self, step: u64, tag: &str, wav: &[u8], shape: AudioShape) -> Result<()> {
        let audio = Message::default()
            .float(field::AUDIO_SAMPLE_RATE, shape.sample_rate_hz as f32)
            .number(field::AUDIO_CHANNELS, shape.channels.into())
            .number(field::AUDIO_FRAMES, shape.frames)
            .bytes(field::AUDIO_BYTES, wav)
            .bytes(field::AUDIO_CONTENT_TYPE, b"audio/wav");
        self.value(step, tagged(tag).message(field::VALUE_AUDIO, audio))
    }

    /// A text, shown as Markdown.
    pub fn text(&mut self, step: u64, tag: &str, markdown: &str) -> Result<()> {
        let plugin = Message::default().bytes(field::PLUGIN_NAME, b"text");
        let metadata = Message::default().message(field::METADATA_PLUGIN, plugin);
        // No shape: a tensor of rank 0.
        let tensor = Message::default()
            .number(field::TENSOR_TYPE, field::TENSOR_TYPE_STRING)
            .message(field::TENSOR_SHAPE, Message::default())
            .bytes(field::TENSOR_STRINGS, markdown.as_bytes());
        self.value(
            step,
            tagged(tag).message(field::VALUE_TENSOR, tensor).message(field::VALUE_METADATA, metadata),
        )
    }

    /// Hands everything to the operating system, so that TensorBoard shows it and a kill cannot take it.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::io("write", &self.path))
    }

    fn value(&mut self, step: u64, value: Message) -> Result<()> {
        self.summary(step, Message::default().message(field::SUMMARY_VALUE, value))
    }

    fn summary(&mut self, step: u64, summary: Message) -> Result<()> {
        self.write(Event::at(step).message(field::EVENT_SUMMARY, summary))
    }

    fn write(&mut self, event: Message) -> Result<()> {
        write_record(&mut self.out, &event.0).map_err(Error::io("write", &self.path))
    }
}

/// A file that did not exist before: a run that is resumed within a second must not overwrite its predecessor.
fn create_new(folder: &Path) -> Result<(PathBuf, File)> {
    let name = format!("events.out.tfevents.{:010}.{}", unix_time_s() as u64, host_name());
    let mut path = folder.join(&name);
    let mut attempt = 0;
    loop {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                attempt += 1;
                path = folder.join(format!("{name}.{attempt}"));
            }
            Err(error) => return Err(Error::io("create", path)(error)),
        }
    }
}

/// Seconds since 1970; 0 if the clock stands before that.
fn unix_time_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// For the name of the file only; "localhost" where the system does not tell it in a file.
fn host_name() -> String {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"].into_iter().find_map(|path| {
        let name = std::fs::read_to_string(path).ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let name: String = name.trim().chars().filter(|&c| plain(c)).collect();
        (!name.is_empty()).then_some(name)
    });
    name.unwrap_or_else(|| "localhost".into())
}

fn write_record(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked_crc(&length).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked_crc(data).to_le_bytes())
}

/// crc32c, turned and shifted, because a crc over data that holds its own crc is weak (TensorFlow's `crc32c.h`).
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Numbers of the fields, with the messages that they belong to.
mod field {
    pub const EVENT_WALL_TIME: u64 = 1;
    pub const EVENT_STEP: u64 = 2;
    pub const EVENT_FILE_VERSION: u64 = 3;
    pub const EVENT_SUMMARY: u64 = 5;
    pub const EVENT_SESSION_LOG: u64 = 7;
    pub const SESSION_STATUS: u64 = 1;
    /// The value START of SessionLog.SessionStatus.
    pub const SESSION_START: u64 = 1;
    pub const SUMMARY_VALUE: u64 = 1;
    pub const VALUE_TAG: u64 = 1;
    pub const VALUE_SCALAR: u64 = 2;
    pub const VALUE_IMAGE: u64 = 4;
    pub const VALUE_AUDIO: u64 = 6;
    pub const VALUE_TENSOR: u64 = 8;
    pub const VALUE_METADATA: u64 = 9;
    pub const IMAGE_HEIGHT: u64 = 1;
    pub const IMAGE_WIDTH: u64 = 2;
    pub const IMAGE_CHANNELS: u64 = 3;
    pub const IMAGE_BYTES: u64 = 4;
    pub const AUDIO_SAMPLE_RATE: u64 = 1;
    pub const AUDIO_CHANNELS: u64 = 2;
    pub const AUDIO_FRAMES: u64 = 3;
    pub const AUDIO_BYTES: u64 = 4;
    pub const AUDIO_CONTENT_TYPE: u64 = 5;
    pub const METADATA_PLUGIN: u64 = 1;
    pub const PLUGIN_NAME: u64 = 1;
    pub const TENSOR_TYPE: u64 = 1;
    pub const TENSOR_SHAPE: u64 = 2;
    pub const TENSOR_STRINGS: u64 = 8;
    /// The value DT_STRING of DataType.
    pub const TENSOR_TYPE_STRING: u64 = 7;
}

/// Starts an `Event`.
struct Event;

impl Event {
    fn at(step: u64) -> Message {
        Message::default().double(field::EVENT_WALL_TIME, unix_time_s()).number(field::EVENT_STEP, step)
    }
}

/// Starts a `Summary.Value`.
fn tagged(tag: &str) -> Message {
    Message::default().bytes(field::VALUE_TAG, tag.as_bytes())
}

/// A protobuf message in its wire format (protobuf.dev/programming-guides/encoding).
#[derive(Default)]
struct Message(Vec<u8>);

/// Wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

impl Message {
    fn number(mut self, field: u64, value: u64) -> Self {
        self.key(field, VARINT);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, FIXED_64);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, FIXED_32);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(self, field: u64, value: Message) -> Self {
        self.bytes(field, &value.0)
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    /// Seven bits a byte, lowest first; the top bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
