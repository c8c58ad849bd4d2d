//! Event files, read back by a reader that shares nothing with the writer: frames, checksums, protobuf.

use std::path::Path;

use dit_engine::train::tensorboard::{AudioShape, ImageShape, TensorBoard};

/// crc32c one bit at a time (Castagnoli polynomial, reflected).
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

/// TensorFlow's mask, as its documentation writes it.
fn masked(data: &[u8]) -> u32 {
    let crc = crc32c(data);
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The data of all records; a wrong checksum or length fails the test.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let file = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let (mut at, mut found) = (0, Vec::new());
    while at < file.len() {
        let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(word(at + 8), masked(&file[at..at + 8]), "checksum of a length");
        let data = &file[at + 12..at + 12 + length];
        assert_eq!(word(at + 12 + length), masked(data), "checksum of the data");
        found.push(data.to_vec());
        at += 16 + length;
    }
    found
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(u64),
    Double(f64),
    Float(f32),
    Bytes(Vec<u8>),
}

use Value::*;

/// A protobuf message as (field, value) in the order of the file.
#[derive(Debug)]
struct Message(Vec<(u64, Value)>);

impl Message {
    fn parse(mut data: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let value = match key & 7 {
                0 => Number(varint(&mut data)),
                1 => Double(f64::from_le_bytes(take(&mut data, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut data) as usize;
                    Bytes(take(&mut data, length).to_vec())
                }
                5 => Float(f32::from_le_bytes(take(&mut data, 4).try_into().unwrap())),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    /// The only value of a field.
    fn only(&self, field: u64) -> &Value {
        let mut all = self.0.iter().filter(|(number, _)| *number == field);
        let value = &all.next().unwrap_or_else(|| panic!("no field {field} in {self:?}")).1;
        assert!(all.next().is_none(), "field {field} twice");
        value
    }

    fn bytes(&self, field: u64) -> &[u8] {
        let Bytes(bytes) = self.only(field) else { panic!("field {field} is no bytes") };
        bytes
    }

    fn message(&self, field: u64) -> Self {
        Self::parse(self.bytes(field))
    }

    /// Field numbers, for "these and no others".
    fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|(number, _)| *number).collect()
    }
}

fn take<'a>(data: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, rest) = data.split_at(length);
    *data = rest;
    head
}

fn varint(data: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(data, 1)[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The file of a writer on which `write` was called: its events.
fn events(first_step: u64, write: impl FnOnce(&mut TensorBoard)) -> Vec<Message> {
    let folder = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::create(folder.path(), first_step).unwrap();
    write(&mut board);
    board.flush().unwrap();
    records(board.path()).iter().map(|record| Message::parse(record)).collect()
}

/// The only value of the only summary that `write` writes, at step 7.
fn value(write: impl FnOnce(&mut TensorBoard)) -> Message {
    let events = events(0, write);
    assert_eq!(events.len(), 3);
    assert_eq!(*events[2].only(2), Number(7));
    events[2].message(5).message(1)
}

#[test]
fn checksum_reference_is_right() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283); // the check value of CRC-32C
}

#[test]
fn a_file_starts_with_its_version_and_the_start_of_the_session() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let events = events(1200, |_| {});
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].bytes(3), b"brain.Event:2");
    let Double(time) = events[0].only(1) else { panic!("no time") };
    assert!((time - now).abs() < 60.0);
    assert_eq!(*events[1].only(2), Number(1200));
    assert_eq!(*events[1].message(7).only(1), Number(1));
}

#[test]
fn scalars_of_a_step_stand_in_one_event() {
    let values = [("loss/train", 0.25), ("loss/smoothed", f32::NAN), ("lr", 1e-4)];
    let events = events(0, |board| board.scalars(u64::from(u32::MAX) + 5, &values).unwrap());
    assert_eq!(*events[2].only(2), Number(u64::from(u32::MAX) + 5));
    let summary = events[2].message(5);
    assert_eq!(summary.0.len(), values.len());
    for ((field, read), (tag, written)) in summary.0.iter().zip(values) {
        let Bytes(read) = read else { panic!("no message") };
        let read = Message::parse(read);
        assert_eq!((*field, read.bytes(1)), (1, tag.as_bytes()));
        let Float(number) = *read.only(2) else { panic!("no float") };
        assert_eq!(number.to_bits(), written.to_bits());
        assert_eq!(read.numbers(), [1, 2]);
    }
}

#[test]
fn images() {
    let png: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let shape = ImageShape { width: 300, height: 20, channels: 3 };
    let value = value(|board| board.image(7, "sample/0", &png, shape).unwrap());
    assert_eq!(value.bytes(1), b"sample/0");
    let image = value.message(4);
    assert_eq!((image.only(1), image.only(2), image.only(3)), (&Number(20), &Number(300), &Number(3)));
    assert_eq!(image.bytes(4), png);
}

#[test]
fn sounds() {
    let shape = AudioShape { sample_rate_hz: 44_100, channels: 2, frames: 220_500 };
    let value = value(|board| board.audio(7, "sample/0", b"RIFF....WAVE", shape).unwrap());
    let audio = value.message(6);
    assert_eq!(
        (audio.only(1), audio.only(2), audio.only(3)),
        (&Float(44_100.0), &Number(2), &Number(220_500))
    );
    assert_eq!((audio.bytes(4), audio.bytes(5)), (&b"RIFF....WAVE"[..], &b"audio/wav"[..]));
}

#[test]
fn texts() {
    let value = value(|board| board.text(7, "config", "| a | b |\nmüde").unwrap());
    assert_eq!(value.message(9).message(1).bytes(1), b"text");
    let tensor = value.message(8);
    assert_eq!(*tensor.only(1), Number(7), "DT_STRING");
    assert!(tensor.message(2).0.is_empty(), "rank 0");
    assert_eq!(tensor.bytes(8), "| a | b |\nmüde".as_bytes());
}

#[test]
fn each_writer_has_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("run").join("tensorboard");
    let first = TensorBoard::create(&folder, 0).unwrap();
    let second = TensorBoard::create(&folder, 10).unwrap();
    assert_ne!(first.path(), second.path());
    let name = first.path().file_name().unwrap().to_str().unwrap();
    let [time, host] =
        name.strip_prefix("events.out.tfevents.").unwrap().splitn(2, '.').collect::<Vec<_>>()[..]
    else {
        panic!("{name}")
    };
    assert!(time.len() == 10 && time.bytes().all(|byte| byte.is_ascii_digit()) && !host.is_empty(), "{name}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    std::fs::write(&file, "").unwrap();
    let message = TensorBoard::create(&file, 0).unwrap_err().to_string();
    assert!(message.contains("taken"), "{message}");
}
