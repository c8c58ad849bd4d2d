//! The genres: which instruments they use and what those play.

use super::instruments::Instrument::{self, *};

/// How the chords are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accompaniment {
    /// Held for the whole bar.
    Held,
    /// One tone after another in eighths, up and down.
    Arpeggio,
    /// The same in sixteenths, up only: the chiptune's chord.
    FastArpeggio,
    /// Low, high, middle, high in eighths.
    Alberti,
    /// Short, off every beat.
    Stabs,
    /// All of it in eighths.
    Strum,
    /// On every beat but the first.
    OomPah,
    /// On one, and off two: the Charleston.
    Comping,
}

/// How the bass moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BassLine {
    /// The root on every beat.
    Pulse,
    /// Root, then fifth, half a bar each.
    Halves,
    /// The root in eighths.
    Eighths,
    /// The root in sixteenths, but never on the beat.
    OffBeat,
    /// A chord tone a beat, and a step into the next root.
    Walking,
    /// The root on one; the other beats are the chords'.
    Downbeat,
    /// Root and its octave in eighths.
    Octaves,
    /// On one, off two, and the fifth off three.
    Syncopated,
}

/// Which pattern the drums play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Groove {
    Soft,
    FourOnTheFloor,
    Backbeat,
    Waltz,
    Swing,
    BoomBap,
    March,
}

/// How many notes the melody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Density {
    Sparse,
    Lyrical,
    Busy,
}

/// One genre, as what its band does.
#[derive(Debug)]
pub(super) struct Genre {
    pub name: &'static str,
    pub beats_in_bar: usize,
    /// Where the second of two eighths falls within the beat: 0.5 is straight.
    pub swing: f64,
    pub leads: [Instrument; 2],
    pub chords: [(Instrument, Accompaniment); 2],
    pub bass: (Instrument, BassLine),
    pub groove: Groove,
    pub density: Density,
    /// Three for triads, four for sevenths.
    pub chord_tones: usize,
    /// How much of the reverberation and of the echo is mixed in.
    pub reverb: f32,
    pub echo: f32,
}

/// All of them. The demo corpus goes round this table, so each has an equal share.
pub(super) const GENRES: [Genre; 8] = [
    Genre {
        name: "ambient",
        beats_in_bar: 4,
        swing: 0.5,
        leads: [Bell, Flute],
        chords: [(Pad, Accompaniment::Held), (ElectricPiano, Accompaniment::Arpeggio)],
        bass: (SynthBass, BassLine::Pulse),
        groove: Groove::Soft,
        density: Density::Sparse,
        chord_tones: 4,
        reverb: 0.5,
        echo: 0.35,
    },
    Genre {
        name: "techno",
        beats_in_bar: 4,
        swing: 0.5,
        leads: [SawLead, SquareLead],
        chords: [(Organ, Accompaniment::Stabs), (Pad, Accompaniment::Held)],
        bass: (SynthBass, BassLine::OffBeat),
        groove: Groove::FourOnTheFloor,
        density: Density::Busy,
        chord_tones: 3,
        reverb: 0.15,
        echo: 0.3,
    },
    Genre {
        name: "chiptune",
        beats_in_bar: 4,
        swing: 0.5,
        leads: [SquareLead, Flute],
        chords: [(SquareLead, Accompaniment::FastArpeggio), (Bell, Accompaniment::Arpeggio)],
        bass: (TriangleBass, BassLine::Octaves),
        groove: Groove::Backbeat,
        density: Density::Busy,
        chord_tones: 3,
        reverb: 0.0,
        echo: 0.15,
    },
    Genre {
        name: "waltz",
        beats_in_bar: 3,
        swing: 0.5,
        leads: [Flute, Strings],
        chords: [(Piano, Accompaniment::OomPah), (Organ, Accompaniment::OomPah)],
        bass: (UprightBass, BassLine::Downbeat),
        groove: Groove::Waltz,
        density: Density::Lyrical,
        chord_tones: 3,
        reverb: 0.25,
        echo: 0.0,
    },
    Genre {
        name: "rock",
        beats_in_bar: 4,
        swing: 0.5,
        leads: [Organ, ElectricGuitar],
        chords: [(ElectricGuitar, Accompaniment::Strum), (Guitar, Accompaniment::Strum)],
        bass: (BassGuitar, BassLine::Eighths),
        groove: Groove::Backbeat,
        density: Density::Lyrical,
        chord_tones: 3,
        reverb: 0.12,
        echo: 0.1,
    },
    Genre {
        name: "jazz",
        beats_in_bar: 4,
        swing: 0.64,
        leads: [Piano, Flute],
        chords: [(ElectricPiano, Accompaniment::Comping), (Guitar, Accompaniment::Comping)],
        bass: (UprightBass, BassLine::Walking),
        groove: Groove::Swing,
        density: Density::Lyrical,
        chord_tones: 4,
        reverb: 0.18,
        echo: 0.0,
    },
    Genre {
        name: "lo-fi hip hop",
        beats_in_bar: 4,
        swing: 0.58,
        leads: [ElectricPiano, Bell],
        chords: [(Piano, Accompaniment::Comping), (Guitar, Accompaniment::Arpeggio)],
        bass: (SynthBass, BassLine::Syncopated),
        groove: Groove::BoomBap,
        density: Density::Sparse,
        chord_tones: 4,
        reverb: 0.2,
        echo: 0.15,
    },
    Genre {
        name: "classical",
        beats_in_bar: 4,
        swing: 0.5,
        leads: [Strings, Flute],
        chords: [(Piano, Accompaniment::Alberti), (Guitar, Accompaniment::Arpeggio)],
        bass: (UprightBass, BassLine::Halves),
        groove: Groove::March,
        density: Density::Lyrical,
        chord_tones: 3,
        reverb: 0.3,
        echo: 0.0,
    },
];
