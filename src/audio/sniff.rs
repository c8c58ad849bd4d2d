//! What a file is by its first bytes, for the files that we cannot decode: the user shall read "this is
//! Opus, convert it" and not "no suitable format reader found".

use std::path::Path;

/// Bytes of the file's beginning that [`refusal`] wants to see.
pub(crate) const HEAD_BYTES: usize = 4096;

/// Formats that exist, hold sound and have no decoder here: where their mark stands, the mark, their name.
const SOUND_WITHOUT_DECODER: [(usize, &[u8], &str); 15] = [
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA (Windows Media, ASF)"),
    (0, b"wvpk", "WavPack"),
    (0, b"\x0b\x77", "AC-3 (Dolby Digital)"),
    (0, b".snd", "AU (Sun audio)"),
    (0, b"RF64", "RF64 (WAV beyond 4 GB)"),
    (0, b"BW64", "BW64 (WAV beyond 4 GB)"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"TTA1", "TTA"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"DSD ", "DSD"),
    (0, b"#!AMR", "AMR"),
    (0, b".RMF", "RealAudio"),
    (4, b"ftypaax", "Audible AAX"),
];

/// Files that are no sound at all.
const NO_SOUND: [(&[u8], &str); 10] = [
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"MThd", "a MIDI file (notes, no sound)"),
    (b"\x00\x05\x16\x07", "an AppleDouble file (macOS metadata, no sound)"),
    (b"\x7fELF", "a program"),
    (b"PAR1", "a parquet table"),
];

/// Why a file that begins with `head` is refused without trying a decoder, or `None`.
pub(crate) fn refusal(path: &Path, head: &[u8]) -> Option<String> {
    if let Some((_, _, name)) = SOUND_WITHOUT_DECODER
        .iter()
        .find(|(at, mark, _)| head.get(*at..).is_some_and(|h| h.starts_with(mark)))
    {
        return Some(unsupported(path, name));
    }
    if head.starts_with(b"OggS") {
        let codecs: [(&[u8], &str); 2] = [(b"OpusHead", "Opus"), (b"Speex   ", "Speex")];
        let found = codecs.iter().find(|(mark, _)| head.windows(mark.len()).any(|bytes| bytes == *mark));
        return found.map(|(_, name)| unsupported(path, name));
    }
    if let Some((_, name)) = NO_SOUND.iter().find(|(mark, _)| head.starts_with(mark)) {
        return Some(format!("is {name}, not audio"));
    }
    if head.starts_with(b"version https") {
        return Some("is a Git LFS pointer, not audio; fetch the content with git lfs pull".into());
    }
    if looks_like_text(head) {
        return Some("is text, not audio (an error page saved under an audio name?)".into());
    }
    (head.len() >= 64 && head.iter().all(|&byte| byte == 0))
        .then(|| "begins with zero bytes only: not audio, or a download that never arrived".into())
}

/// "NAME is not supported; convert it, e.g. with ...".
pub(crate) fn unsupported(path: &Path, name: &str) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    if [".tar#", ".zip#", ".parquet#"].iter().any(|mark| path.to_string_lossy().contains(mark)) {
        return format!("{name} is not supported; convert it to FLAC or Ogg Vorbis before it is packed");
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{name} is not supported; convert it, e.g. with: ffmpeg -i '{file}' '{stem}.flac'")
}

fn looks_like_text(head: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    head.len() >= 16 && head.iter().all(printable)
}
