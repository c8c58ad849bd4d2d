//! One file's sound, block by block, as symphonia gives it: opened by content, guarded against everything
//! that a hostile file can do short of the operating system's own failures.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use symphonia::core::audio::{Channels, GenericAudioBufferRef};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions, CODEC_ID_NULL_AUDIO, well_known};
use symphonia::core::codecs::{CodecParameters, audio::AudioCodecParameters};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::units::Duration;

use super::decode::SourceInfo;
use super::gaps::Frames;
use super::input::Input;
use super::riff::PatchedFile;
use super::sniff;
use super::tags::read_tags;
use crate::error::{Error, Result};

/// Sample rates that exist, in hertz; outside, a header is lying.
const SAMPLE_RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=768_000;
/// More channels than any recording has.
const MAX_CHANNELS: usize = 32;
/// A sample above this is not a loud recording but garbage read as floating point.
const MAX_SAMPLE: f32 = 1e4;
/// Packets in a row that may fail before the rest of the file is given up.
const MAX_CONSECUTIVE_ERRORS: usize = 200;

/// An open file and its decoder.
pub(crate) struct Source {
    input: Input,
    path: PathBuf,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    channels: Option<Channels>,
    /// What the file says about itself.
    pub(crate) info: SourceInfo,
    declared_frames: Option<u64>,
    length_is_estimated: bool,
    decoded_frames: u64,
    /// Frames after the declared end, which the decoder drops.
    left_out_frames: u64,
    skipped_packets: usize,
    /// For MPEG streams, whose packets are the file's bytes.
    frames: Option<Frames>,
    streams: usize,
    ended: bool,
    /// What the user should know about this file.
    pub(crate) warnings: Vec<String>,
}

impl Source {
    /// Opens `input`; the first block is not decoded yet.
    pub(crate) fn open(input: &Input) -> Result<Self> {
        let (file, warning) = open_stream(input)?;
        let mut source = guarded(input.path(), || Self::probe(input, file))?;
        source.warnings.extend(warning);
        Ok(source)
    }

    fn probe(input: &Input, file: PatchedFile) -> Result<Self> {
        let path = input.path();
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(Box::new(file), MediaSourceStreamOptions::default());
        let probe = symphonia::default::get_probe();
        let mut format = probe
            .probe(&hint, stream, Default::default(), Default::default())
            .map_err(|error| Error::audio(path, probe_failure(&error)))?;
        let (track, parameters) = audio_track(path, format.as_ref())?;
        let container = format.format_info().short_name;
        let length_is_estimated = length_is_estimated(container, &track);
        let declared_frames = track.num_frames.filter(|_| !length_is_estimated);
        let track_id = track.id;
        let decoder = make_decoder(path, &parameters)?;
        let mut info = SourceInfo {
            codec: decoder.codec_info().short_name.to_owned(),
            container: container.to_owned(),
            sample_rate: parameters.sample_rate.unwrap_or(0),
            channels: parameters.channels.as_ref().map_or(0, Channels::count),
            declared_seconds: declared_seconds(&track),
            ..SourceInfo::default()
        };
        if parameters.sample_rate.is_some() {
            check_rate(path, info.sample_rate)?;
        }
        if parameters.channels.is_some() {
            check_channels(path, info.channels)?;
        }
        read_tags(format.as_mut(), &mut info);
        let (input, path, channels) = (input.clone(), path.to_path_buf(), None);
        let (decoded_frames, skipped_packets, ended, warnings) = (0, 0, false, Vec::new());
        Ok(Self {
            input,
            path,
            format,
            decoder,
            track_id,
            channels,
            info,
            declared_frames,
            length_is_estimated,
            decoded_frames,
            left_out_frames: 0,
            skipped_packets,
            frames: ["mp1", "mp2", "mp3"].contains(&container).then(Frames::default),
            streams: 1,
            ended,
            warnings,
        })
    }

    /// Decodes the next block into `planes` (one vector a channel, replaced). `false` at the end.
    ///
    /// # Errors
    /// [`Error::Audio`] for samples that are no sound (NaN, infinite, absurdly large), for a header that
    /// lies about rate or channels, and for a decoder that crashed.
    pub(crate) fn next_block(&mut self, planes: &mut Vec<Vec<f32>>) -> Result<bool> {
        let path = self.path.clone();
        let more = !self.ended && guarded(&path, || self.decode_block(planes))?;
        if !more && !self.ended {
            self.ended = true;
            self.say_what_is_missing();
        }
        Ok(more)
    }

    /// The channel layout; known once a block is decoded.
    pub(crate) fn channels(&self) -> &Channels {
        self.channels.as_ref().unwrap_or(&Channels::None)
    }

    fn decode_block(&mut self, planes: &mut Vec<Vec<f32>>) -> Result<bool> {
        let mut failures = 0;
        while failures < MAX_CONSECUTIVE_ERRORS {
            let mut packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(false),
                Err(SymphoniaError::ResetRequired) => {
                    if self.start_next_stream().is_err() {
                        return Ok(false);
                    }
                    continue;
                }
                Err(SymphoniaError::IoError(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                    return Err(Error::Io { action: "read", path: self.path.clone(), source: error });
                }
                Err(SymphoniaError::DecodeError(_)) => {
                    failures += 1;
                    self.skipped_packets += 1;
                    continue;
                }
                Err(_) => return Ok(false),
            };
            if packet.track_id != self.track_id {
                continue;
            }
            if let Some(frames) = &mut self.frames {
                frames.add(&packet.data);
            }
            if self.length_is_estimated {
                packet.trim_end = Duration::ZERO;
            }
            match self.decoder.decode(&packet) {
                // What a packet after the declared end has trimmed counts from that end on.
                Ok(block) if block.is_empty() => self.left_out_frames = packet.trim_end.get(),
                Ok(block) => {
                    match take_block(&self.path, &block, &mut self.info, &mut self.channels, planes)? {
                        Taken::Fits => {
                            self.decoded_frames += planes[0].len() as u64;
                            return Ok(true);
                        }
                        Taken::OtherStream(what) => {
                            self.warnings
                                .push(format!("{what} in the middle; the part after that is left out"));
                            return Ok(false);
                        }
                    }
                }
                Err(_) => {
                    failures += 1;
                    self.skipped_packets += 1;
                }
            }
        }
        self.warnings.push(format!("gave up after {MAX_CONSECUTIVE_ERRORS} undecodable packets in a row"));
        Ok(false)
    }

    /// Chained Ogg: another stream begins, with its own headers.
    fn start_next_stream(&mut self) -> Result<()> {
        self.warnings.push("several streams are chained in this file".into());
        let (track, parameters) = audio_track(&self.path, self.format.as_ref())?;
        self.track_id = track.id;
        self.declared_frames = None;
        self.streams += 1;
        self.decoder = make_decoder(&self.path, &parameters)?;
        Ok(())
    }

    fn say_what_is_missing(&mut self) {
        if self.skipped_packets > 0 {
            self.warnings.push(format!("{} damaged packets were skipped", self.skipped_packets));
        }
        let gap_bytes = self.gap_bytes();
        if gap_bytes > 0 {
            self.warnings
                .push(format!("{gap_bytes} bytes between its frames are no sound: damaged; skipped"));
        }
        let rate = f64::from(self.info.sample_rate.max(1));
        let (declared, decoded) = (self.declared_frames.unwrap_or(0) as f64, self.decoded_frames as f64);
        if self.info.container == "ogg" && self.declared_frames.is_none() && self.streams == 1 {
            let seconds = decoded / rate;
            self.warnings.push(format!(
                "{seconds:.1} s could be decoded: damaged or cut short, its last page is not whole"
            ));
        }
        if self.left_out_frames as f64 > rate {
            let seconds = self.left_out_frames as f64 / rate;
            self.warnings
                .push(format!("{seconds:.1} s after the end that its header declares were left out"));
        }
        // Encoder padding makes lengths differ by some thousand frames in healthy files.
        if declared - decoded > (0.01 * declared).max(0.1 * rate) {
            let (decoded, declared) = (decoded / rate, declared / rate);
            self.warnings
                .push(format!("{decoded:.1} s of {declared:.1} s could be decoded: damaged or cut short"));
        }
    }

    /// What an MPEG stream holds between its frames. That the file cannot be read once more is no reason to complain.
    fn gap_bytes(&self) -> u64 {
        let Some(frames) = &self.frames else { return 0 };
        let Ok((mut stream, length_bytes)) = self.input.open() else { return 0 };
        frames.gap_bytes(&mut *stream, length_bytes).unwrap_or(0)
    }
}

enum Taken {
    Fits,
    OtherStream(String),
}

/// Checks a decoded block and copies it out; the first one decides what the stream is.
fn take_block(
    path: &Path,
    block: &GenericAudioBufferRef<'_>,
    info: &mut SourceInfo,
    channels: &mut Option<Channels>,
    planes: &mut Vec<Vec<f32>>,
) -> Result<Taken> {
    let (rate, layout) = (block.spec().rate(), block.spec().channels());
    check_rate(path, rate)?;
    check_channels(path, block.num_planes())?;
    match channels {
        None => {
            *channels = Some(layout.clone());
            info.sample_rate = rate;
            info.channels = block.num_planes();
        }
        Some(_) if rate != info.sample_rate => {
            let before = info.sample_rate;
            return Ok(Taken::OtherStream(format!("the sample rate changes from {before} to {rate} Hz")));
        }
        Some(_) if block.num_planes() != info.channels => {
            let (before, after) = (info.channels, block.num_planes());
            return Ok(Taken::OtherStream(format!("the channel count changes from {before} to {after}")));
        }
        Some(_) => {}
    }
    block.copy_to_vecs_planar::<f32>(planes);
    let absurd = planes.iter().flatten().find(|sample| !(-MAX_SAMPLE..=MAX_SAMPLE).contains(*sample));
    match absurd {
        Some(sample) => {
            Err(Error::audio(path, format!("holds samples that are no sound (the first is {sample})")))
        }
        None => Ok(Taken::Fits),
    }
}

/// Opens what a decoder may try: not empty, and not known to be something else.
fn open_stream(input: &Input) -> Result<(PatchedFile, Option<String>)> {
    let path = input.path();
    let (mut file, length_bytes) = input.open()?;
    if length_bytes == 0 {
        return Err(Error::audio(path, "is empty (0 bytes)"));
    }
    let mut head = Vec::new();
    file.by_ref().take(sniff::HEAD_BYTES as u64).read_to_end(&mut head).map_err(Error::io("read", path))?;
    if let Some(reason) = sniff::refusal(path, &head) {
        return Err(Error::audio(path, reason));
    }
    file.rewind().map_err(Error::io("read", path))?;
    PatchedFile::new(file, length_bytes).map_err(Error::io("read", path))
}

/// The track to decode: the default audio track, else the first audio track that has a decoder.
fn audio_track(path: &Path, format: &dyn FormatReader) -> Result<(Track, AudioCodecParameters)> {
    let decodable = |track: &&Track| match &track.codec_params {
        Some(CodecParameters::Audio(audio)) => {
            symphonia::default::get_codecs().get_audio_decoder(audio.codec).is_some()
        }
        _ => false,
    };
    let default = format.default_track(TrackType::Audio);
    let first = format.tracks().iter().find(|track| track.track_type() == Some(TrackType::Audio));
    let track =
        default.filter(decodable).or_else(|| format.tracks().iter().find(decodable)).or(default).or(first);
    match track.map(|track| (track.clone(), track.codec_params.clone())) {
        Some((track, Some(CodecParameters::Audio(audio)))) => Ok((track, audio)),
        _ if format.tracks().is_empty() => Err(Error::audio(path, "holds no track (cut off in its header?)")),
        _ => Err(Error::audio(path, sniff::unsupported(path, "what it holds"))),
    }
}

fn make_decoder(path: &Path, parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>> {
    let made =
        symphonia::default::get_codecs().make_audio_decoder(parameters, &AudioDecoderOptions::default());
    made.map_err(|error| {
        let name = match parameters.codec {
            well_known::CODEC_ID_OPUS => "Opus",
            well_known::CODEC_ID_SPEEX => "Speex",
            well_known::CODEC_ID_WMA => "WMA",
            well_known::CODEC_ID_WAVPACK => "WavPack",
            well_known::CODEC_ID_AC3 | well_known::CODEC_ID_EAC3 => "AC-3 (Dolby Digital)",
            well_known::CODEC_ID_DCA => "DTS",
            well_known::CODEC_ID_TRUEHD => "TrueHD",
            CODEC_ID_NULL_AUDIO => "its codec",
            _ => &format!("this kind of sound ({error})"),
        };
        Error::audio(path, sniff::unsupported(path, name))
    })
}

fn check_rate(path: &Path, rate: u32) -> Result<()> {
    if SAMPLE_RATES_HZ.contains(&rate) {
        return Ok(());
    }
    let (low, high) = (SAMPLE_RATES_HZ.start(), SAMPLE_RATES_HZ.end());
    Err(Error::audio(path, format!("claims a sample rate of {rate} Hz; {low} to {high} Hz are possible")))
}

fn check_channels(path: &Path, channels: usize) -> Result<()> {
    if (1..=MAX_CHANNELS).contains(&channels) {
        return Ok(());
    }
    Err(Error::audio(path, format!("claims {channels} channels; 1 to {MAX_CHANNELS} are possible")))
}

fn probe_failure(error: &SymphoniaError) -> String {
    match error {
        SymphoniaError::Unsupported(what) if what.contains("no suitable format") => {
            "is in no audio format known here (wav, flac, mp3, ogg, m4a, aac, aiff, caf, mka are)".into()
        }
        SymphoniaError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "ends in the middle of its header".into()
        }
        other => format!("cannot be read as audio: {other}"),
    }
}

/// Whether the track's length is symphonia's guess from the first frames' bit rate, as for MP3 without a
/// Xing header with LAME's delay: with a variable bit rate it cuts such a file short.
fn length_is_estimated(container: &str, track: &Track) -> bool {
    container.starts_with("mp") && track.delay.is_none() && track.padding.is_none()
}

fn declared_seconds(track: &Track) -> Option<f64> {
    let rate = track.codec_params.as_ref()?.audio()?.sample_rate.filter(|&rate| rate > 0)?;
    let frames = track.num_frames.filter(|&frames| frames > 0)?;
    Some(frames as f64 / f64::from(rate))
}

/// Runs third-party decoding code; a panic in it is this file's failure, not the program's.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::audio(path, "crashed the decoder: the file is damaged in an unusual way"))
    })
}
