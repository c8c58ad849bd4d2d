//! From a song's attributes to its notes: form, chords, bass and drums. Every part plays from the first bar to the
//! last, because training cuts songs into pieces, and a caption must be true of each.

use super::drums::{Drum, Hit};
use super::genres::{Accompaniment, BassLine, Groove};
use super::instruments::Note;
use super::melody;
use super::plan::Song;
use super::random::Random;

/// The notes of a song, on the clock.
pub(super) struct Score {
    pub lead: Vec<Note>,
    pub chords: Vec<Note>,
    pub bass: Vec<Note>,
    pub drums: Vec<Hit>,
}

/// An event within a bar, in beats: start, length, MIDI number, velocity.
pub(super) type Event = (f64, f64, i32, f32);

/// Lowest note of the chords, of the bass and of the melody's tonic; a bright song lies higher.
struct Register {
    chords: i32,
    bass: i32,
    lead: i32,
}

/// Beats to seconds: tempo and swing.
struct Clock {
    beat_s: f64,
    swing: f64,
}

impl Clock {
    fn seconds(&self, beats: f64) -> f64 {
        let (whole, part) = (beats.floor(), beats - beats.floor());
        let bent = if part < 0.5 {
            part * 2.0 * self.swing
        } else {
            self.swing + (part - 0.5) * 2.0 * (1.0 - self.swing)
        };
        (whole + bent) * self.beat_s
    }

    fn note(&self, bar_start: f64, (start, length, midi, velocity): Event) -> Note {
        let start_s = self.seconds(bar_start + start);
        let end_s = self.seconds(bar_start + start + length);
        Note { start_s, length_s: end_s - start_s, midi, velocity }
    }
}

/// Writes the song, `seconds` long.
pub(super) fn write(song: &Song, seconds: f64, random: &mut Random) -> Score {
    let beats = song.genre.beats_in_bar;
    let clock = Clock { beat_s: 60.0 / f64::from(song.tempo_bpm), swing: song.genre.swing };
    let bars = (seconds / (clock.beat_s * beats as f64)).ceil() as usize;
    let register = if song.bright {
        Register { chords: 58, bass: 33, lead: 69 }
    } else {
        Register { chords: 48, bass: 28, lead: 55 }
    };
    let roots = roots(song, bars, random);
    let tune = melody::write(song, &roots, register.lead, random);
    let mut score = Score { lead: vec![], chords: vec![], bass: vec![], drums: vec![] };
    for bar in 0..bars {
        let start = (bar * beats) as f64;
        let next_root = roots[(bar + 1).min(bars - 1)];
        let chord = song.key.chord(roots[bar], song.genre.chord_tones, register.chords);
        let swell = if bar % 4 == 3 { 1.1 } else { 1.0 };
        let place =
            |(at, length, midi, velocity): Event| clock.note(start, (at, length, midi, velocity * swell));
        score.lead.extend(tune[bar].iter().copied().map(place));
        score.chords.extend(chords(song.chords.1, beats, bar, &chord).into_iter().map(place));
        let line = bass(song, roots[bar], next_root, bar, register.bass, random);
        score.bass.extend(line.into_iter().map(place));
        if song.drums {
            score.drums.extend(drums(song.genre.groove, bar).into_iter().map(|(at, drum, velocity)| Hit {
                start_s: clock.seconds(start + at),
                drum,
                velocity: velocity * (0.92 + 0.16 * random.unit() as f32),
            }));
        }
    }
    score
}

/// The root of each bar: one four-chord turn twice, another twice, and so on; home at the end.
fn roots(song: &Song, bars: usize, random: &mut Random) -> Vec<i32> {
    let (verse, bridge) = (song.key.progression(random), song.key.progression(random));
    let turn = |bar: usize| if (bar / 8).is_multiple_of(2) { verse } else { bridge };
    (0..bars).map(|bar| if bar + 1 == bars { 0 } else { turn(bar)[bar % 4] }).collect()
}

/// One bar of accompaniment on a chord given from the bottom up.
fn chords(pattern: Accompaniment, beats: usize, bar: usize, chord: &[i32]) -> Vec<Event> {
    let strike = |at: f64, length: f64, velocity: f32| {
        // A chord's tones share its loudness.
        let each = velocity / (chord.len() as f32).sqrt();
        chord.iter().map(move |&midi| (at, length, midi, each)).collect::<Vec<Event>>()
    };
    let eighths = 2 * beats;
    let accent = |at: usize, each: usize| if at.is_multiple_of(each) { 0.9 } else { 0.65 };
    match pattern {
        Accompaniment::Held => strike(0.0, beats as f64 - 0.05, 0.8),
        Accompaniment::Arpeggio => (0..eighths)
            .map(|at| {
                // Up to the octave and down again.
                let tones = chord.len();
                let step = at % (2 * tones);
                let tone = if step <= tones { step } else { 2 * tones - step };
                let midi = if tone == tones { chord[0] + 12 } else { chord[tone] };
                (at as f64 / 2.0, 0.55, midi, accent(at, 2))
            })
            .collect(),
        Accompaniment::FastArpeggio => {
            (0..4 * beats).map(|at| (at as f64 / 4.0, 0.24, chord[at % chord.len()], accent(at, 4))).collect()
        }
        Accompaniment::Alberti => (0..eighths)
            .map(|at| (at as f64 / 2.0, 0.55, chord[[0, 2, 1, 2][at % 4]], accent(at, 4)))
            .collect(),
        Accompaniment::Stabs => (0..beats).flat_map(|beat| strike(beat as f64 + 0.5, 0.22, 0.9)).collect(),
        Accompaniment::Strum => {
            (0..eighths).flat_map(|at| strike(at as f64 / 2.0, 0.42, accent(at, 2))).collect()
        }
        Accompaniment::OomPah => (1..beats).flat_map(|beat| strike(beat as f64, 0.5, 0.75)).collect(),
        Accompaniment::Comping if bar.is_multiple_of(2) => {
            [strike(0.0, 1.2, 0.8), strike(1.5, 1.8, 0.7)].concat()
        }
        Accompaniment::Comping => {
            [strike(0.5, 0.9, 0.7), strike(2.0, 0.6, 0.8), strike(3.5, 0.4, 0.6)].concat()
        }
    }
}

/// One bar of bass; `floor` is the lowest MIDI number of a root.
fn bass(song: &Song, root: i32, next: i32, bar: usize, floor: i32, random: &mut Random) -> Vec<Event> {
    let beats = song.genre.beats_in_bar;
    let fold = |degree: i32| floor + (song.key.midi(degree, 0) - floor).rem_euclid(12);
    let (low, fifth) = (fold(root), fold(root + 4));
    match song.genre.bass.1 {
        BassLine::Pulse => {
            (0..beats).map(|beat| (beat as f64, 0.4, low, if beat == 0 { 0.9 } else { 0.75 })).collect()
        }
        BassLine::Halves => vec![(0.0, 1.9, low, 0.9), (2.0, 1.9, fifth, 0.7)],
        BassLine::Eighths => (0..2 * beats)
            .map(|at| (at as f64 / 2.0, 0.46, low, if at % 2 == 0 { 0.9 } else { 0.7 }))
            .collect(),
        BassLine::OffBeat => (0..4 * beats)
            .filter(|at| at % 4 != 0)
            .map(|at| (at as f64 / 4.0, 0.2, low, if at % 4 == 2 { 0.95 } else { 0.65 }))
            .collect(),
        BassLine::Walking => {
            let approach = fold(next) + *random.pick(&[-1, 1, 2, -2]);
            let third = fold(root + 2);
            let middle = *random.pick(&[[third, fifth], [fifth, third], [fifth, low + 12]]);
            [low, middle[0], middle[1], approach]
                .into_iter()
                .zip(0..)
                .map(|(midi, at)| (f64::from(at), 0.9, midi, 0.85))
                .collect()
        }
        BassLine::Downbeat => vec![(0.0, 1.1, if bar.is_multiple_of(2) { low } else { fifth }, 0.95)],
        BassLine::Octaves => {
            (0..2 * beats).map(|at| (at as f64 / 2.0, 0.4, low + 12 * (at as i32 % 2), 0.8)).collect()
        }
        BassLine::Syncopated => vec![(0.0, 1.3, low, 0.95), (1.5, 0.8, low, 0.75), (2.5, 1.2, fifth, 0.8)],
    }
}

/// One bar of drums: beat, drum, velocity. Every fourth bar ends with a fill.
fn drums(groove: Groove, bar: usize) -> Vec<(f64, Drum, f32)> {
    use Drum::*;
    let each = |times: &[f64], drum: Drum, velocity: f32| {
        times.iter().map(|&at| (at, drum, velocity)).collect::<Vec<_>>()
    };
    let eighths = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5];
    let mut hits = match groove {
        Groove::Soft => [
            each(&[0.0, 2.0], Kick, 0.7),
            each(&[1.0, 3.0], Brush, 0.7),
            each(&[0.5, 1.5, 2.5, 3.5], ClosedHat, 0.5),
        ],
        Groove::FourOnTheFloor => [
            each(&[0.0, 1.0, 2.0, 3.0], Kick, 1.0),
            each(&[0.5, 1.5, 2.5, 3.5], OpenHat, 0.7),
            each(&[1.0, 3.0], Snare, 0.5),
        ],
        Groove::Backbeat => [
            each(&[0.0, 2.0, 2.5], Kick, 0.95),
            each(&[1.0, 3.0], Snare, 0.9),
            each(&eighths, ClosedHat, 0.55),
        ],
        Groove::Waltz => {
            [each(&[0.0], Kick, 0.8), each(&[1.0, 2.0], Brush, 0.8), each(&[0.0, 2.5], ClosedHat, 0.4)]
        }
        Groove::Swing => [
            each(&[0.0, 1.0, 1.5, 2.0, 3.0, 3.5], OpenHat, 0.5),
            each(&[1.0, 3.0], Brush, 0.6),
            each(&[0.0, 2.0], Kick, 0.5),
        ],
        Groove::BoomBap => [
            each(&[0.0, 1.75, 2.5], Kick, 0.95),
            each(&[1.0, 3.0], Snare, 0.85),
            each(&eighths, ClosedHat, 0.5),
        ],
        Groove::March => [
            each(&[0.0, 2.0], Kick, 0.8),
            each(&[1.0, 1.5, 1.75, 3.0], Snare, 0.55),
            each(&[0.0], OpenHat, 0.4),
        ],
    }
    .concat();
    if bar % 4 == 3 && groove != Groove::Waltz {
        hits.extend(each(&[3.5, 3.75], Snare, 0.5));
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    #[test]
    fn bars_are_full_and_in_key() {
        for index in 0..16 {
            let song = plan::song(index, 0);
            let score = write(&song, 20.0, &mut Random::new(0, song.seed));
            let scale: Vec<i32> = (0..7).map(|degree| song.key.midi(degree, 0) % 12).collect();
            for note in score.lead.iter().chain(&score.chords) {
                assert!(
                    scale.contains(&(note.midi % 12)),
                    "song {index}: {note:?} is not in {}",
                    song.key.name()
                );
                assert!(note.length_s > 0.0 && note.velocity > 0.0);
            }
            let bar_s = song.genre.beats_in_bar as f64 * 60.0 / f64::from(song.tempo_bpm);
            for part in [&score.lead, &score.chords, &score.bass] {
                for bar in 0..(20.0 / bar_s) as usize {
                    let (from, to) = (bar as f64 * bar_s - 1e-9, (bar + 1) as f64 * bar_s - 1e-9);
                    assert!(
                        part.iter().any(|note| note.start_s >= from && note.start_s < to),
                        "song {index} bar {bar}"
                    );
                }
            }
            assert_eq!(score.drums.is_empty(), !song.drums);
        }
    }
}
