//! Repairs a WAV header in passing, so that a recording cut short, or streamed by a program that could not
//! go back and fill in the sizes, gives the sound that it holds. The file itself is never changed: the
//! corrected sizes are laid over what is read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

/// Chunk headers looked at before giving up the search for the `data` chunk.
const MAX_CHUNKS: usize = 256;
/// What streaming writers put where they do not know the size.
const UNKNOWN_SIZE: u32 = u32::MAX;

/// A file with a few bytes replaced while reading.
pub(crate) struct PatchedFile {
    file: File,
    position: u64,
    length_bytes: u64,
    patches: Vec<(u64, [u8; 4])>,
}

impl PatchedFile {
    /// Wraps `file`, which is `length_bytes` long and stands at its beginning. The second value is a
    /// warning for the user where the header promised more sound than the file holds.
    pub(crate) fn new(mut file: File, length_bytes: u64) -> io::Result<(Self, Option<String>)> {
        let (patches, warning) = repair(&mut file, length_bytes)?.unwrap_or_default();
        file.rewind()?;
        Ok((Self { file, position: 0, length_bytes, patches }, warning))
    }
}

impl Read for PatchedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        for (at, bytes) in &self.patches {
            for (offset, &byte) in (*at..).zip(bytes) {
                if (self.position..self.position + count as u64).contains(&offset) {
                    buffer[(offset - self.position) as usize] = byte;
                }
            }
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for PatchedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.file.seek(to)?;
        Ok(self.position)
    }
}

impl MediaSource for PatchedFile {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length_bytes)
    }
}

type Repair = (Vec<(u64, [u8; 4])>, Option<String>);

/// Finds the `data` chunk and compares its size and the RIFF's with the file's. `None`: not a WAV, or
/// nothing to repair.
fn repair(file: &mut File, length_bytes: u64) -> io::Result<Option<Repair>> {
    let Some((riff_size, data_at, data_size)) = find_data_chunk(file, length_bytes)? else { return Ok(None) };
    let present = length_bytes.saturating_sub(data_at).min(u64::from(UNKNOWN_SIZE - 1)) as u32;
    let streamed = data_size == UNKNOWN_SIZE || (data_size == 0 && riff_size < 12);
    let cut = !streamed && data_size > present;
    let riff_too_short = u64::from(riff_size) + 8 < data_at + u64::from(data_size);
    if !(streamed || cut || riff_too_short) {
        return Ok(None);
    }
    let size = if streamed || cut { present } else { data_size };
    let warning = match (data_size, cut) {
        (_, true) => {
            Some(format!("cut short: the header promises {data_size} bytes of sound, {present} are there"))
        }
        (0, _) if present > 0 => {
            Some(format!("the header says 0 bytes of sound; used the {present} that follow"))
        }
        _ => None,
    };
    let patches = vec![(4, UNKNOWN_SIZE.to_le_bytes()), (data_at - 4, size.to_le_bytes())];
    Ok(Some((patches, warning)))
}

/// RIFF size, position of the first sound byte, and the size that the `data` chunk claims.
fn find_data_chunk(file: &mut File, length_bytes: u64) -> io::Result<Option<(u32, u64, u32)>> {
    let mut header = [0; 12];
    if length_bytes < 12 {
        return Ok(None);
    }
    file.read_exact(&mut header)?;
    if &header[..4] != b"RIFF" || &header[8..] != b"WAVE" {
        return Ok(None);
    }
    let riff_size = little_endian(&header[4..8]);
    let mut at = 12;
    for _ in 0..MAX_CHUNKS {
        if at + 8 > length_bytes {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header[..8])?;
        let size = little_endian(&header[4..8]);
        if &header[..4] == b"data" {
            return Ok(Some((riff_size, at + 8, size)));
        }
        at += 8 + u64::from(size) + u64::from(size & 1);
    }
    Ok(None)
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}
