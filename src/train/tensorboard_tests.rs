//! An independent reader of TFRecord and of the few protobuf messages: bit by bit, its own CRC.

use super::*;

/// CRC-32C (Castagnoli), bit by bit, reflected polynomial 0x82F63B78.
fn crc(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 },
        )
    })
}

fn unmasked(stored: &[u8]) -> u32 {
    let stored = u32::from_le_bytes(stored.try_into().unwrap());
    stored.wrapping_sub(0xA282_EAD8).rotate_left(15)
}

fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(&bytes[8..12]), crc(&bytes[..8]));
        let data = &bytes[12..12 + length];
        assert_eq!(unmasked(&bytes[12 + length..16 + length]), crc(data));
        records.push(data.to_vec());
        bytes = &bytes[16 + length..];
    }
    records
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// (field, value) of a message; numbers as their little-endian bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let len = match key & 7 {
            0 => {
                fields.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, bytes[..len].to_vec()));
        bytes = &bytes[len..];
    }
    fields
}

fn field(message: &[u8], number: u64) -> Vec<u8> {
    fields(message).into_iter().find(|(field, _)| *field == number).unwrap().1
}

#[test]
fn events_are_read_back_by_an_independent_reader() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    let second = EventWriter::create(folder.path()).unwrap();
    assert_ne!(writer.path(), second.path());
    writer.scalars(300, &[("train/loss", 0.25), ("train/lr", 1e-3)]).unwrap();
    writer.image(301, "samples/0", b"png", [7, 500]).unwrap();
    let facts = SoundFacts { sample_rate: 16_000, channels: 1, frames: 32_768 };
    writer.audio(302, "samples/0", &[9; 200], facts).unwrap();

    let records = records(&std::fs::read(writer.path()).unwrap());
    assert_eq!(records.len(), 4);
    assert_eq!(field(&records[0], 3), b"brain.Event:2");
    let step = |record: &[u8]| u64::from_le_bytes(field(record, 2).try_into().unwrap());
    assert_eq!(records[1..].iter().map(|record| step(record)).collect::<Vec<_>>(), [300, 301, 302]);

    let values: Vec<_> = fields(&field(&records[1], 5)).into_iter().map(|(_, value)| value).collect();
    assert_eq!(field(&values[0], 1), b"train/loss");
    assert_eq!(field(&values[0], 2), 0.25f32.to_le_bytes());
    assert_eq!(field(&values[1], 2), 1e-3f32.to_le_bytes());

    let image = field(&field(&field(&records[2], 5), 1), 4);
    assert_eq!(field(&image, 1), 500u64.to_le_bytes());
    assert_eq!(field(&image, 2), 7u64.to_le_bytes());
    assert_eq!(field(&image, 4), b"png");
    let audio = field(&field(&field(&records[3], 5), 1), 6);
    assert_eq!(field(&audio, 1), 16_000f32.to_le_bytes());
    assert_eq!(field(&audio, 3), 32_768u64.to_le_bytes());
    assert_eq!(field(&audio, 4), [9; 200]);
}
