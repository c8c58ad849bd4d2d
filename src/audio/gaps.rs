//! What lies between the frames of an MPEG stream and is no frame: symphonia's reader passes over it without a word
//! and does not say where in the file a packet was. First and last packet are found again in the file; what is between
//! them and in no packet is the gap.

use std::io::{Read, Result, SeekFrom};

use super::input::Stream;

/// Bytes searched at a time.
const CHUNK_BYTES: u64 = 1 << 16;

/// The frames that came so far.
#[derive(Default)]
pub(crate) struct Frames {
    first: Vec<u8>,
    last: Vec<u8>,
    total_bytes: u64,
}

impl Frames {
    /// Counts a frame, given with its header as it lies in the file.
    pub(crate) fn add(&mut self, frame: &[u8]) {
        if self.first.is_empty() {
            self.first.extend_from_slice(frame);
        }
        self.last.clear();
        self.last.extend_from_slice(frame);
        self.total_bytes += frame.len() as u64;
    }

    /// Bytes of `file` between the first and the last frame that belong to none. Two places are read: the beginning up
    /// to the first frame, the end back to the last.
    pub(crate) fn gap_bytes(&self, file: &mut dyn Stream, length_bytes: u64) -> Result<u64> {
        let chunks = (0..length_bytes.div_ceil(CHUNK_BYTES)).map(|chunk| chunk * CHUNK_BYTES);
        let first = find(file, &self.first, chunks.clone(), |hits| hits.next())?;
        let last = find(file, &self.last, chunks.rev(), |hits| hits.last())?;
        let span_bytes = first.zip(last).map_or(0, |(first, last)| last + self.last.len() as u64 - first);
        Ok(span_bytes.saturating_sub(self.total_bytes))
    }
}

/// The place of `frame` in the first of `chunks` that has it: the one of its hits that `choose` takes.
fn find(
    file: &mut dyn Stream,
    frame: &[u8],
    chunks: impl Iterator<Item = u64>,
    choose: impl Fn(&mut dyn Iterator<Item = usize>) -> Option<usize>,
) -> Result<Option<u64>> {
    let Some(overlap) = frame.len().checked_sub(1) else { return Ok(None) };
    let mut bytes = Vec::new();
    for start in chunks {
        bytes.clear();
        file.seek(SeekFrom::Start(start))?;
        Read::take(&mut *file, CHUNK_BYTES + overlap as u64).read_to_end(&mut bytes)?;
        let windows = bytes.windows(frame.len()).enumerate();
        let mut hits = windows.filter(|(_, window)| *window == frame).map(|(at, _)| at);
        if let Some(at) = choose(&mut hits) {
            return Ok(Some(start + at as u64));
        }
    }
    Ok(None)
}
