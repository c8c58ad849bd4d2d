//! Repairs a WAV header in passing, so that a recording cut short, or streamed by a program that could not
//! go back and fill in the sizes, gives the sound that it holds. The file itself is never changed: the
//! corrected sizes are laid over what is read.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

use super::input::Stream;

/// Chunks looked at, at most.
const MAX_CHUNKS: usize = 256;
/// What streaming writers put where they do not know the size.
const UNKNOWN_SIZE: u32 = u32::MAX;

/// A file with a few bytes replaced while reading.
pub(crate) struct PatchedFile {
    file: Box<dyn Stream>,
    position: u64,
    length_bytes: u64,
    patches: Vec<(u64, [u8; 4])>,
}

impl PatchedFile {
    /// Wraps `file`, which is `length_bytes` long and stands at its beginning. The second value is a
    /// warning for the user where the header promised more sound than the file holds.
    pub(crate) fn new(mut file: Box<dyn Stream>, length_bytes: u64) -> io::Result<(Self, Option<String>)> {
        let (patches, warning) = repair(&mut *file, length_bytes)?.unwrap_or_default();
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

/// Compares the sizes of the `data` chunk and the RIFF with the file's. `None`: not a WAV, or nothing to repair.
fn repair(file: &mut dyn Stream, length_bytes: u64) -> io::Result<Option<Repair>> {
    let Some((riff_bytes, chunks)) = chunks(file, length_bytes)? else { return Ok(None) };
    let Some(data) = chunks.iter().find(|chunk| &chunk.name == b"data") else { return Ok(None) };
    let (present, warning) = data.present(riff_bytes, length_bytes);
    let riff_too_short = u64::from(riff_bytes) + 8 < data.at + u64::from(data.bytes);
    if present == data.bytes && !riff_too_short {
        return Ok(None);
    }
    let patches = vec![(4, UNKNOWN_SIZE.to_le_bytes()), (data.at - 4, present.to_le_bytes())];
    Ok(Some((patches, warning)))
}

/// A chunk of a WAV file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// What it holds: "fmt ", "data", ...
    pub(crate) name: [u8; 4],
    /// Position of its content in the file.
    pub(crate) at: u64,
    /// Length of its content, as it claims.
    pub(crate) bytes: u32,
}

impl Chunk {
    /// How much of the `data` chunk there is, and a warning for the user where that is not what its header says.
    pub(crate) fn present(&self, riff_bytes: u32, length_bytes: u64) -> (u32, Option<String>) {
        let claimed = self.bytes;
        let present = length_bytes.saturating_sub(self.at).min(u64::from(UNKNOWN_SIZE - 1)) as u32;
        match claimed {
            UNKNOWN_SIZE => (present, None),
            0 if riff_bytes < 12 && present == 0 => (0, None),
            0 if riff_bytes < 12 => {
                (present, Some(format!("the header says 0 bytes of sound; used the {present} that follow")))
            }
            _ if claimed > present => {
                let warning =
                    format!("cut short: the header promises {claimed} bytes of sound, {present} are there");
                (present, Some(warning))
            }
            _ => (claimed, None),
        }
    }
}

/// The size that the RIFF claims, and its first chunks. `None`: not a WAV.
pub(crate) fn chunks(file: &mut dyn Stream, length_bytes: u64) -> io::Result<Option<(u32, Vec<Chunk>)>> {
    let mut header = [0; 12];
    if length_bytes < 12 {
        return Ok(None);
    }
    file.rewind()?;
    file.read_exact(&mut header)?;
    if &header[..4] != b"RIFF" || &header[8..] != b"WAVE" {
        return Ok(None);
    }
    let riff_bytes = little_endian(&header[4..8]);
    let mut chunks = Vec::new();
    let mut at = 12;
    while chunks.len() < MAX_CHUNKS && at + 8 <= length_bytes {
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header[..8])?;
        let chunk = Chunk {
            name: [header[0], header[1], header[2], header[3]],
            at: at + 8,
            bytes: little_endian(&header[4..8]),
        };
        chunks.push(chunk);
        // An odd length is followed by a byte of padding.
        at = chunk.at + u64::from(chunk.bytes) + u64::from(chunk.bytes & 1);
    }
    Ok(Some((riff_bytes, chunks)))
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}
