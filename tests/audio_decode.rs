//! Files in: what decodes, what is mended with a warning, what is refused with which words, and that the
//! resampled sound is aligned to the sample.

use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use dit_engine::Result;
use dit_engine::audio::config::Mix;
use dit_engine::audio::{AudioReader, load};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

/// A WAV header and `data`, with every field free to lie.
struct Wav {
    tag: u16,
    channels: u16,
    rate: u32,
    bits: u16,
    riff_size: Option<u32>,
    data_size: Option<u32>,
    /// Chunks between the header and the sound.
    extra: Vec<u8>,
}

const MONO: Wav =
    Wav { tag: 1, channels: 1, rate: 22_050, bits: 16, riff_size: None, data_size: None, extra: Vec::new() };

impl Wav {
    fn bytes(&self, data: &[u8]) -> Vec<u8> {
        let block = (self.channels.max(1) * self.bits / 8).max(1);
        let mut format = Vec::new();
        format.extend([self.tag.to_le_bytes(), self.channels.to_le_bytes()].concat());
        format.extend(self.rate.to_le_bytes());
        format.extend(self.rate.wrapping_mul(block.into()).to_le_bytes());
        format.extend([block.to_le_bytes(), self.bits.to_le_bytes()].concat());
        let mut body = b"WAVEfmt \x10\0\0\0".to_vec();
        body.extend(format);
        body.extend(&self.extra);
        body.extend(b"data");
        body.extend(self.data_size.unwrap_or(data.len() as u32).to_le_bytes());
        body.extend(data);
        let riff_size = self.riff_size.unwrap_or(body.len() as u32);
        [b"RIFF".as_slice(), &riff_size.to_le_bytes(), &body].concat()
    }
}

fn pcm16(samples: impl IntoIterator<Item = f64>) -> Vec<u8> {
    samples.into_iter().flat_map(|x| ((x * 32767.0).round() as i16).to_le_bytes()).collect()
}

fn float32(samples: impl IntoIterator<Item = f32>) -> Vec<u8> {
    samples.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn tone(frames: usize) -> impl Iterator<Item = f64> {
    (0..frames).map(|n| 0.3 * (TAU * 330.0 * n as f64 / 22_050.0).sin())
}

fn place(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name)
}

/// Everything, with the warnings.
fn read_all(path: &Path, rate: u32, mix: Mix) -> Result<(Vec<Vec<f32>>, Vec<String>)> {
    let mut reader = AudioReader::open(path, rate, mix)?;
    let mut sound = Vec::new();
    while reader.read(10_000, &mut sound)? > 0 {}
    Ok((sound, reader.warnings().to_vec()))
}

/// The words with which a file is refused, with its path in front.
fn refusal(path: &Path) -> String {
    let message =
        read_all(path, 16_000, Mix::Mono).expect_err(&format!("{} is accepted", path.display())).to_string();
    assert!(message.contains(&*path.to_string_lossy()), "the file is not named: {message}");
    assert!(!message.contains('\n'));
    message
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32).sqrt()
}

/// A tone burst at `t` seconds: smooth, and far from both Nyquist frequencies.
fn burst(seconds: f64) -> f64 {
    0.5 * (-((seconds - 0.5) / 0.1).powi(2)).exp() * (TAU * 1234.5 * seconds).sin()
}

#[test]
fn resampling_is_aligned_and_of_exact_length() {
    let folder = tempdir().unwrap();
    for (source, target) in [
        (44_100, 16_000),
        (48_000, 22_050),
        (22_050, 44_100),
        (8_000, 16_000),
        (16_000, 16_000),
        (11_025, 16_000),
        (44_101, 16_000),
        (192_000, 16_000),
    ] {
        let frames = source as usize + 17;
        let data = float32((0..frames).map(|n| burst(n as f64 / f64::from(source)) as f32));
        let path = place(&folder, "burst.wav", &Wav { tag: 3, rate: source, bits: 32, ..MONO }.bytes(&data));
        let (sound, warnings) = read_all(&path, target, Mix::Mono).unwrap();
        let expected = (frames as f64 * f64::from(target) / f64::from(source)).round() as usize;
        assert_eq!(sound[0].len(), expected, "{source} -> {target}");
        assert!(warnings.is_empty(), "{warnings:?}");
        for (n, &sample) in sound[0].iter().enumerate() {
            let error = f64::from(sample) - burst(n as f64 / f64::from(target));
            assert!(error.abs() < 1e-5, "{source} -> {target}: sample {n} is off by {error:e}");
        }
    }
}

#[test]
fn what_the_new_rate_cannot_hold_is_gone() {
    let folder = tempdir().unwrap();
    let data = float32((0..88_200).map(|n| (TAU * 8_080.0 * f64::from(n) / 44_100.0).sin() as f32));
    let path = place(&folder, "high.wav", &Wav { tag: 3, rate: 44_100, bits: 32, ..MONO }.bytes(&data));
    let (sound, _) = read_all(&path, 16_000, Mix::Mono).unwrap();
    let middle = &sound[0][4_000..28_000];
    assert!(rms(middle) < 1e-5, "the alias of 8,080 Hz is left at {}", rms(middle));
}

#[test]
fn small_reads_give_the_same_bits_as_one_large_read() {
    let folder = tempdir().unwrap();
    let data = pcm16(tone(30_000));
    let path = place(&folder, "tone.wav", &MONO.bytes(&data));
    let (whole, _) = read_all(&path, 16_000, Mix::Stereo).unwrap();
    let mut reader = AudioReader::open(&path, 16_000, Mix::Stereo).unwrap();
    let mut pieces: Vec<Vec<f32>> = Vec::new();
    for size in [1usize, 7, 333, 1024, 5000].iter().cycle() {
        let before = pieces.first().map_or(0, Vec::len);
        let count = reader.read(*size, &mut pieces).unwrap();
        assert_eq!(pieces[0].len(), before + count);
        if count < *size {
            break;
        }
    }
    assert_eq!(pieces, whole);
    assert_eq!(reader.read(100, &mut pieces).unwrap(), 0);
    assert!(reader.read(1, &mut vec![Vec::new(); 3]).is_err());
    let first = load(&path, 16_000, Mix::Mono, Some(0.5)).unwrap();
    assert_eq!((first.channels[0].len(), first.sample_rate), (8_000, 16_000));
}

#[test]
fn channels_are_mixed_as_documented() {
    let folder = tempdir().unwrap();
    let frames =
        |values: &[f32], count: usize| float32(values.iter().copied().cycle().take(count * values.len()));
    let mixed = |channels: u16, values: &[f32], mix| {
        // Channel mask 0x3f is FL FR FC LFE BL BR.
        let bytes = Wav { tag: 3, channels, bits: 32, ..MONO }.bytes(&frames(values, 100));
        let (sound, _) = read_all(&place(&folder, "mix.wav", &bytes), 22_050, mix).unwrap();
        sound.iter().map(|channel| channel[50]).collect::<Vec<f32>>()
    };
    let close = |got: Vec<f32>, expected: &[f32]| {
        let same = got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(same, "{got:?} is not {expected:?}");
    };
    close(mixed(1, &[0.25], Mix::Mono), &[0.25]);
    close(mixed(1, &[0.25], Mix::Stereo), &[0.25, 0.25]);
    close(mixed(2, &[0.5, 0.1], Mix::Mono), &[0.3]);
    close(mixed(2, &[0.5, 0.1], Mix::Stereo), &[0.5, 0.1]);
    // 5.1: the LFE (fourth) is left out; each side is (side + 0.707 centre + 0.707 rear) / 2.414.
    let surround = [0.8, 0.2, 0.4, 0.9, 0.6, 0.0];
    close(mixed(6, &surround, Mix::Mono), &[0.4]);
    let half = std::f32::consts::FRAC_1_SQRT_2;
    let total = 1.0 + 2.0 * half;
    let left = (0.8 + half * 0.4 + half * 0.6) / total;
    close(mixed(6, &surround, Mix::Stereo), &[left, (0.2 + half * 0.4) / total]);
}

#[test]
fn opposite_channels_do_not_become_silence() {
    let folder = tempdir().unwrap();
    let data = pcm16(tone(22_050).flat_map(|x| [x, -x]));
    let path = place(&folder, "antiphase.wav", &Wav { channels: 2, ..MONO }.bytes(&data));
    let (mono, warnings) = read_all(&path, 22_050, Mix::Mono).unwrap();
    assert!((rms(&mono[0]) - 0.3 / 2f32.sqrt()).abs() < 1e-3);
    assert!(warnings.iter().any(|warning| warning.contains("cancel")), "{warnings:?}");
    let (stereo, warnings) = read_all(&path, 22_050, Mix::Stereo).unwrap();
    assert!((stereo[0][100] + stereo[1][100]).abs() < 1e-4 && warnings.is_empty());
    // Ordinary stereo, and a silent channel beside music, are mixed.
    let data = pcm16(tone(22_050).flat_map(|x| [x, 0.0]));
    let path = place(&folder, "left_only.wav", &Wav { channels: 2, ..MONO }.bytes(&data));
    let (mono, warnings) = read_all(&path, 22_050, Mix::Mono).unwrap();
    assert!((rms(&mono[0]) - 0.15 / 2f32.sqrt()).abs() < 1e-3 && warnings.is_empty());
}

#[test]
fn lying_headers_are_mended_with_a_warning() {
    let folder = tempdir().unwrap();
    let whole = pcm16(tone(66_150));
    let cut = &whole[..whole.len() * 6 / 10 + 1];
    let promised = Some(whole.len() as u32);
    let cases = [
        (
            "streamed.wav",
            Wav { riff_size: Some(u32::MAX), data_size: Some(u32::MAX), ..MONO },
            &whole[..],
            66_150,
            "",
        ),
        ("size_0.wav", Wav { riff_size: Some(0), data_size: Some(0), ..MONO }, &whole[..], 66_150, "0 bytes"),
        (
            "cut.wav",
            Wav { riff_size: Some(whole.len() as u32 + 36), data_size: promised, ..MONO },
            cut,
            39_690,
            "cut short",
        ),
        ("cut_riff_mended.wav", Wav { data_size: promised, ..MONO }, cut, 39_690, "cut short"),
        ("short_riff.wav", Wav { riff_size: Some(50), ..MONO }, &whole[..], 66_150, ""),
    ];
    for (name, wav, data, frames, warning) in cases {
        let path = place(&folder, name, &wav.bytes(data));
        let (sound, warnings) =
            read_all(&path, 22_050, Mix::Mono).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(sound[0].len(), frames, "{name}");
        assert_eq!(warnings.len(), usize::from(!warning.is_empty()), "{name}: {warnings:?}");
        assert!(warnings.iter().all(|text| text.contains(warning)), "{name}: {warnings:?}");
    }
}

#[test]
fn hostile_wavs_are_refused_with_the_reason() {
    let folder = tempdir().unwrap();
    let sound = pcm16(tone(2_000));
    let float = Wav { tag: 3, bits: 32, ..MONO };
    let mut hurt: Vec<f32> = tone(2_000).map(|x| x as f32).collect();
    hurt[1_999] = f32::NAN;
    let absurd = |value: f32| float.bytes(&float32([0.1, value, 0.1]));
    let refused = [
        ("nan.wav", float.bytes(&float32(hurt)), "no sound (the first is NaN)"),
        ("inf.wav", absurd(f32::NEG_INFINITY), "no sound (the first is -inf)"),
        ("huge.wav", absurd(1e30), "no sound"),
        ("no_samples.wav", MONO.bytes(&[]), "no samples"),
        ("rate_0.wav", Wav { rate: 0, ..MONO }.bytes(&sound), "sample rate of 0 Hz"),
        ("rate_1.wav", Wav { rate: 1, ..MONO }.bytes(&sound), "sample rate of 1 Hz"),
        ("rate_4g.wav", Wav { rate: u32::MAX, ..MONO }.bytes(&sound), "4294967295 Hz"),
        ("channels_0.wav", Wav { channels: 0, ..MONO }.bytes(&sound), "channel"),
        ("channels_65535.wav", Wav { channels: 65_535, ..MONO }.bytes(&sound), "channel"),
        ("channels_40.wav", Wav { channels: 40, ..MONO }.bytes(&sound), "channel"),
        ("bits_0.wav", Wav { bits: 0, ..MONO }.bytes(&sound), "bits"),
        ("header_only.wav", MONO.bytes(&sound)[..30].to_vec(), "header"),
    ];
    for (name, bytes, reason) in refused {
        let message = refusal(&place(&folder, name, &bytes));
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn what_is_no_audio_or_has_no_decoder_is_said() {
    let folder = tempdir().unwrap();
    let head = |mark: &[u8]| [mark, &[7; 300]].concat();
    let cases: [(&str, Vec<u8>, &str); 16] = [
        ("empty.mp3", Vec::new(), "empty"),
        ("text.mp3", b"this is not an mp3 file\n".repeat(400), "text"),
        ("page.mp3", b"<!DOCTYPE html><html><body>404 not found</body></html>".to_vec(), "text"),
        (
            "pointer.flac",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n".to_vec(),
            "Git LFS",
        ),
        ("picture.flac", head(b"\x89PNG\r\n\x1a\n"), "PNG"),
        ("._resource.ogg", head(b"\0\x05\x16\x07\0\x02\0\0"), "AppleDouble"),
        ("zeros.wav", vec![0; 70_000], "zero bytes"),
        ("a.wma", head(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "WMA (Windows Media, ASF) is not supported"),
        ("a.wv", head(b"wvpk"), "WavPack is not supported"),
        ("a.ac3", head(b"\x0b\x77"), "AC-3"),
        ("a.au", head(b".snd"), "AU"),
        ("a.wav", head(b"RF64\xff\xff\xff\xffWAVE"), "RF64"),
        ("a.ogg", head(b"OggS\0\x02\0\0\0\0\0\0\0\0OpusHead"), "ffmpeg -i 'a.ogg' 'a.flac'"),
        (
            "random.ogg",
            (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            "no audio format",
        ),
        ("cut.ogg", fs::read(fixture("tone.ogg")).unwrap()[..58].to_vec(), "header"),
        ("folder.ogg/", Vec::new(), "regular file"),
    ];
    for (name, bytes, reason) in cases {
        let path = match name.strip_suffix('/') {
            Some(name) => {
                fs::create_dir(folder.path().join(name)).unwrap();
                folder.path().join(name)
            }
            None => place(&folder, name, &bytes),
        };
        let message = refusal(&path);
        assert!(message.contains(reason), "{message}");
    }
    for name in ["tone.opus", "opus.webm"] {
        let message = refusal(&fixture(name));
        assert!(message.contains("Opus is not supported; convert it"), "{message}");
    }
    assert!(refusal(&folder.path().join("missing.wav")).contains("cannot open"));
}

#[cfg(unix)]
#[test]
fn endless_files_are_refused_at_once() {
    use std::os::unix::fs::symlink;
    let folder = tempdir().unwrap();
    let fifo = folder.path().join("fifo.wav");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (device, loops) = (folder.path().join("zero.wav"), folder.path().join("loop.wav"));
    symlink("/dev/zero", &device).unwrap();
    symlink("loop.wav", &loops).unwrap();
    let sparse = folder.path().join("sparse.wav");
    fs::File::create(&sparse).unwrap().set_len(3 << 30).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let reasons = [fifo, device, sparse, loops].map(|path| refusal(&path));
        tell.send(reasons).unwrap();
    });
    let reasons = told.recv_timeout(Duration::from_secs(10)).expect("one of them was read to its end");
    for (message, reason) in reasons.iter().zip(["regular file", "regular file", "zero bytes", "cannot open"])
    {
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn loud_float_recordings_are_scaled_and_ordinary_overshoot_is_not() {
    let folder = tempdir().unwrap();
    let float = Wav { tag: 3, bits: 32, ..MONO };
    let peaks = |gain: f64| {
        let path =
            place(&folder, "loud.wav", &float.bytes(&float32(tone(30_000).map(|x| (x * gain) as f32))));
        let (sound, warnings) = read_all(&path, 22_050, Mix::Mono).unwrap();
        (sound[0].iter().fold(0.0f32, |peak, x| peak.max(x.abs())), warnings)
    };
    let (peak, warnings) = peaks(100.0);
    assert!((peak - 1.0).abs() < 1e-3 && warnings[0].contains("30.0"), "{peak} {warnings:?}");
    let (peak, warnings) = peaks(5.0);
    assert!((peak - 1.5).abs() < 1e-3 && warnings.is_empty(), "{peak} {warnings:?}");
}

#[test]
fn every_codec_decodes_whatever_the_name_says() {
    let folder = tempdir().unwrap();
    let cases = [
        ("tone.mp3", "mp3", 1),
        ("tone.ogg", "vorbis", 1),
        ("tone.flac", "flac", 1),
        ("tone.m4a", "aac", 1),
        ("tone_alac.m4a", "alac", 0),
        ("tone.aac", "aac", 0),
        ("tone.mka", "vorbis", 0),
        ("tone.mp2", "mp2", 0),
        ("video.mp4", "aac", 0),
    ];
    for (name, codec, tagged) in cases {
        let path = place(&folder, "wrong.wav", &fs::read(fixture(name)).unwrap());
        let mut reader =
            AudioReader::open(&path, 16_000, Mix::Mono).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut sound = Vec::new();
        while reader.read(1_000, &mut sound).unwrap() > 0 {}
        let info = reader.info();
        assert_eq!((info.codec.as_str(), info.sample_rate, info.channels), (codec, 22_050, 1), "{name}");
        let seconds = sound[0].len() as f32 / 16_000.0;
        assert!((1.0..1.15).contains(&seconds), "{name}: {seconds} s");
        // 440 Hz crosses zero upwards 440 times a second.
        let crossings =
            sound[0][4_000..12_000].windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
        assert!((219..=221).contains(&crossings), "{name}: {} Hz", 2 * crossings);
        assert!((0.2..0.5).contains(&rms(&sound[0][4_000..12_000])), "{name}");
        assert!(reader.warnings().is_empty(), "{name}: {:?}", reader.warnings());
        if tagged == 1 {
            let tags = [&info.title, &info.artist, &info.album, &info.genre]
                .map(|tag| tag.as_deref().unwrap_or("-"));
            assert_eq!(tags, ["Tone", "Nobody", "Fixtures", "Test"], "{name}");
        }
    }
}

#[test]
fn damage_in_the_middle_is_not_called_a_file_cut_short() {
    let folder = tempdir().unwrap();
    let mut bytes = fs::read(fixture("tone.flac")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2].iter_mut().for_each(|byte| *byte ^= 0x55);
    let (_, warnings) = read_all(&place(&folder, "hurt.flac", &bytes), 22_050, Mix::Mono).unwrap();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.ends_with("s could be decoded: damaged or cut short"), "{warning}");
}

/// symphonia resynchronises without a word. Tags before and after the frames are no damage.
#[test]
fn garbage_between_mp3_frames_is_told() {
    let folder = tempdir().unwrap();
    let garbage: Vec<u8> =
        (0..3_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x7f).collect();
    for name in ["tone.mp3", "vbr.mp3", "tone.mp2"] {
        let bytes = fs::read(fixture(name)).unwrap();
        let tag = [b"TAG".as_slice(), &[b'x'; 125]].concat();
        let fine = [&garbage, &bytes[..], &tag].concat();
        let (_, warnings) = read_all(&place(&folder, name, &fine), 22_050, Mix::Mono).unwrap();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        let (front, back) = bytes.split_at(bytes.len() / 2);
        let hurt = place(&folder, name, &[front, &garbage, back].concat());
        let (_, warnings) = read_all(&hurt, 22_050, Mix::Mono).unwrap();
        let told = warnings.iter().any(|warning| warning.contains("bytes between its frames are no sound"));
        assert!(told, "{name}: {warnings:?}");
    }
}

#[test]
fn damaged_compressed_files_give_what_they_hold_and_say_so() {
    let folder = tempdir().unwrap();
    // Two thirds of this short Ogg are its headers.
    for (name, percent) in [("tone.mp3", 60), ("tone.ogg", 85), ("tone.flac", 60), ("tone.m4a", 60)] {
        let bytes = fs::read(fixture(name)).unwrap();
        let cut = place(&folder, name, &bytes[..bytes.len() * percent / 100]);
        match read_all(&cut, 22_050, Mix::Mono) {
            Ok((sound, warnings)) => {
                assert!(
                    sound[0].len() < 21_000 && !warnings.is_empty(),
                    "{name}: {} {warnings:?}",
                    sound[0].len()
                );
            }
            // The index of an m4a stands at its end.
            Err(error) => assert!(name == "tone.m4a" && !error.to_string().is_empty(), "{name}: {error}"),
        }
    }
    let tone = fs::read(fixture("tone.mp3")).unwrap();
    let glued = place(&folder, "glued.mp3", &[&tone[..], &tone, &tone].concat());
    let (_, warnings) = read_all(&glued, 22_050, Mix::Mono).unwrap();
    assert!(warnings.iter().any(|text| text.contains("2.2 s after the end")), "{warnings:?}");
    let [first, second, same] =
        ["tone.ogg", "other_rate.ogg", "tone.ogg"].map(|name| fs::read(fixture(name)).unwrap());
    let chained = place(&folder, "chained.ogg", &[first.clone(), second].concat());
    let (sound, warnings) = read_all(&chained, 22_050, Mix::Mono).unwrap();
    assert_eq!(sound[0].len(), 22_050);
    assert!(warnings.iter().any(|text| text.contains("from 22050 to 8000 Hz")), "{warnings:?}");
    let chained = place(&folder, "same.ogg", &[first, same].concat());
    let (sound, warnings) = read_all(&chained, 22_050, Mix::Mono).unwrap();
    assert_eq!(sound[0].len(), 44_100);
    assert!(warnings.iter().any(|text| text.contains("chained")), "{warnings:?}");
}

#[test]
fn a_length_that_was_only_guessed_does_not_cut_the_sound() {
    let (sound, warnings) = read_all(&fixture("vbr.mp3"), 16_000, Mix::Mono).unwrap();
    assert!((31_000..36_000).contains(&sound[0].len()), "{} of 32000 frames", sound[0].len());
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn readers_can_be_sent_to_other_threads() {
    fn check<T: Send>() {}
    check::<AudioReader>();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes change, reading ends, without a panic and without a sample that is no sound.
    #[test]
    fn no_damage_crashes_the_reader(
        name in prop_oneof![Just("tone.mp3"), Just("tone.ogg"), Just("tone.flac"), Just("tone.m4a"), Just("wav")],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        kept in 0.05f64..1.0,
    ) {
        let folder = tempdir().unwrap();
        let mut bytes = match name {
            "wav" => MONO.bytes(&pcm16(tone(3_000))),
            name => fs::read(fixture(name)).unwrap(),
        };
        for (at, value) in changes {
            // Half of the changes go to the headers, where they hurt most.
            let length = if value % 2 == 0 { bytes.len().min(120) } else { bytes.len() };
            let at = at.index(length);
            bytes[at] = value;
        }
        bytes.truncate((bytes.len() as f64 * kept) as usize);
        let path = place(&folder, "damaged", &bytes);
        match read_all(&path, 16_000, Mix::Mono) {
            Ok((sound, _)) => prop_assert!(sound[0].iter().all(|x| x.is_finite())),
            Err(error) => prop_assert!(error.to_string().contains("damaged")),
        }
    }
}
