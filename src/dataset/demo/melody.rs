//! The tune, by a small grammar. A motif is a bar's rhythm and a contour of steps. A phrase is four bars,
//! A A' B C: the motif, the motif again from the next chord, an answer with the contour turned over, and a cadence.
//! Strong beats are pulled to the nearest tone of their chord; everything else moves by steps of the scale.

use super::genres::Density;
use super::plan::Song;
use super::random::Random;
use super::score::Event;
use super::theory::nearest_chord_tone;

/// A rhythm: start and length of its notes, in beats.
type Rhythm = &'static [(f64, f64)];

/// Bars of four beats.
const SPARSE: &[Rhythm] = &[
    &[(0.0, 1.5), (2.0, 1.5)],
    &[(0.0, 1.0), (1.5, 0.5), (2.0, 1.8)],
    &[(0.0, 2.0), (2.5, 0.5), (3.0, 1.0)],
];
const LYRICAL: &[Rhythm] = &[
    &[(0.0, 1.0), (1.0, 0.5), (1.5, 0.5), (2.0, 1.0), (3.0, 1.0)],
    &[(0.0, 1.5), (1.5, 0.5), (2.0, 1.0), (3.0, 0.5), (3.5, 0.5)],
    &[(0.0, 0.5), (0.5, 0.5), (1.0, 1.0), (2.0, 1.5), (3.5, 0.5)],
];
const BUSY: &[Rhythm] = &[
    &[
        (0.0, 0.5),
        (0.5, 0.5),
        (1.0, 0.25),
        (1.25, 0.25),
        (1.5, 0.5),
        (2.0, 0.5),
        (2.5, 0.5),
        (3.0, 0.5),
        (3.5, 0.5),
    ],
    &[(0.0, 0.75), (0.75, 0.75), (1.5, 0.5), (2.0, 0.75), (2.75, 0.75), (3.5, 0.5)],
    &[
        (0.0, 0.5),
        (0.75, 0.25),
        (1.0, 0.5),
        (1.5, 0.5),
        (2.0, 0.5),
        (2.75, 0.25),
        (3.0, 0.5),
        (3.5, 0.25),
        (3.75, 0.25),
    ],
];
/// Bars of three.
const WALTZ: &[Rhythm] = &[
    &[(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)],
    &[(0.0, 2.0), (2.0, 1.0)],
    &[(0.0, 1.5), (1.5, 0.5), (2.0, 0.5), (2.5, 0.5)],
];

/// Lowest and highest degree of the tune.
const LOWEST: i32 = -2;
const HIGHEST: i32 = 9;

struct Motif {
    rhythm: Rhythm,
    /// Steps from note to note, in degrees.
    contour: Vec<i32>,
}

impl Motif {
    fn new(rhythms: &[Rhythm], random: &mut Random) -> Self {
        let rhythm = *random.pick(rhythms);
        let contour = rhythm.iter().map(|_| *random.pick(&[1, 1, 1, -1, -1, -1, 2, -2, 0, 4, -3])).collect();
        Motif { rhythm, contour }
    }

    /// The motif from a tone of the chord on `root`, `direction` 1 as it is or -1 turned over.
    fn place(&self, from: i32, root: i32, direction: i32) -> Vec<(f64, f64, i32)> {
        let mut degree = nearest_chord_tone(from, root);
        let notes = self.rhythm.iter().zip(&self.contour).map(|(&(start, length), &step)| {
            let strong = start.fract() == 0.0 && (start as usize).is_multiple_of(2);
            let sounded = if strong { nearest_chord_tone(degree, root) } else { degree };
            let step = direction * step;
            degree = sounded + if (LOWEST..=HIGHEST).contains(&(sounded + step)) { step } else { -step };
            (start, length, sounded)
        });
        notes.collect()
    }
}

/// One list of events a bar; `floor` is the MIDI number at or above which the tonic lies.
pub(super) fn write(song: &Song, roots: &[i32], floor: i32, random: &mut Random) -> Vec<Vec<Event>> {
    let waltz = song.genre.beats_in_bar == 3;
    let rhythms = match song.genre.density {
        _ if waltz => WALTZ,
        Density::Sparse => SPARSE,
        Density::Lyrical => LYRICAL,
        Density::Busy => BUSY,
    };
    let cadence: Rhythm = if waltz { &[(0.0, 2.5)] } else { &[(0.0, 1.0), (1.0, 1.0), (2.0, 1.7)] };
    let mut theme = Motif::new(rhythms, random);
    let mut answer = Motif::new(rhythms, random);
    let mut from = 4;
    let mut bars = Vec::with_capacity(roots.len());
    for (bar, &root) in roots.iter().enumerate() {
        if bar > 0 && bar % 16 == 0 {
            (theme, answer) = (answer, Motif::new(rhythms, random));
        }
        let notes = match bar % 4 {
            _ if bar + 1 == roots.len() => vec![(0.0, cadence[cadence.len() - 1].1, 7)],
            0 => theme.place(4, root, 1),
            1 => theme.place(from, root, 1),
            2 => answer.place(from, root, -1),
            _ => Motif { rhythm: cadence, contour: vec![-1, -1, 0] }.place(from, root, 1),
        };
        from = notes.last().map_or(4, |&(_, _, degree)| degree);
        let sung = notes.into_iter().map(|(start, length, degree)| {
            let accent = if start == 0.0 { 0.95 } else { 0.75 };
            let velocity = accent + 0.1 * random.unit() as f32;
            (start, 0.92 * length, song.key.midi(degree, floor), velocity)
        });
        bars.push(sung.collect());
    }
    bars
}
