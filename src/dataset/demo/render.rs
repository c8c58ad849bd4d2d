//! From a score to samples: every part on its own track, the tracks balanced by measured level, then the room,
//! the song's tone and its final loudness.

use super::drums::strike;
use super::effects::{echo, finish, level_to, master, muffle, overdrive, reverb, tone};
use super::instruments::{Instrument, Note};
use super::plan::Song;
use super::random::Random;
use super::score::Score;

/// Level of the finished song, root mean square: -16 dBFS.
const LOUDNESS: f32 = 0.158;

/// How far an electric guitar's chords are pushed into the overdrive.
const DRIVE: f32 = 16.0;

/// The song's samples, `samples` of them, within -1..1.
pub(super) fn render(
    song: &Song,
    score: &Score,
    samples: usize,
    rate_hz: f64,
    random: &mut Random,
) -> Vec<f32> {
    let mut track = |instrument: Instrument, notes: &[Note], level: f32| {
        let openness = if song.bright { 1.8 } else { 0.6 };
        let mut track = vec![0.0; samples];
        for &note in notes {
            instrument.play(note, openness, rate_hz, random, &mut track);
        }
        level_to(&mut track, level);
        track
    };
    let mut lead = track(song.lead, &score.lead, 0.10);
    let mut chords = track(song.chords.0, &score.chords, 0.08);
    let bass = track(song.genre.bass.0, &score.bass, 0.08);
    if song.chords.0 == Instrument::ElectricGuitar {
        overdrive(&mut chords, DRIVE);
        level_to(&mut chords, 0.08);
    }
    if song.genre.echo > 0.0 {
        // A dotted eighth: three quarters of a beat.
        let delay = (0.75 * 60.0 / f64::from(song.tempo_bpm) * rate_hz) as usize;
        echo(&mut lead, delay, song.genre.echo);
    }
    let mut mix: Vec<f32> = lead.iter().zip(&chords).map(|(lead, chords)| lead + chords).collect();
    if song.genre.reverb > 0.0 {
        let mut wet = reverb(&mix, rate_hz);
        level_to(&mut wet, 0.1 * song.genre.reverb);
        mix.iter_mut().zip(&wet).for_each(|(x, wet)| *x += wet);
    }
    mix.iter_mut().zip(&bass).for_each(|(x, bass)| *x += bass);
    tone(&mut mix, song.bright, rate_hz);
    level_to(&mut mix, 0.16);
    if song.drums {
        let mut drums = vec![0.0; samples];
        for &hit in &score.drums {
            strike(hit, rate_hz, random, &mut drums);
        }
        muffle(&mut drums, song.bright, rate_hz);
        level_to(&mut drums, if song.bright { 0.13 } else { 0.1 });
        mix.iter_mut().zip(&drums).for_each(|(x, drums)| *x += drums);
    }
    master(&mut mix, LOUDNESS);
    finish(&mut mix, rate_hz);
    mix
}
