//! Scales, keys and chords, counted in scale degrees: 0 is the tonic, 7 the tonic an octave higher, so that
//! whatever moves by degrees stays in the key, whichever mode it is.

use super::random::Random;

/// The modes used, each the white keys from another note on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Major,
    Lydian,
    Mixolydian,
    Minor,
    Dorian,
}

impl Mode {
    /// Semitones of the seven degrees above the tonic.
    fn semitones(self) -> [i32; 7] {
        match self {
            Mode::Major => [0, 2, 4, 5, 7, 9, 11],
            Mode::Lydian => [0, 2, 4, 6, 7, 9, 11],
            Mode::Mixolydian => [0, 2, 4, 5, 7, 9, 10],
            Mode::Minor => [0, 2, 3, 5, 7, 8, 10],
            Mode::Dorian => [0, 2, 3, 5, 7, 9, 10],
        }
    }

    /// Whether the third is minor.
    pub fn is_minor(self) -> bool {
        self.semitones()[2] == 3
    }

    fn name(self) -> &'static str {
        match self {
            Mode::Major => "major",
            Mode::Lydian => "lydian",
            Mode::Mixolydian => "mixolydian",
            Mode::Minor => "minor",
            Mode::Dorian => "dorian",
        }
    }

    /// Four-chord turns by the degree of their roots, without diminished chords; each starts or ends at home and
    /// uses what sets the mode apart (the II of lydian, the VII of mixolydian, the IV of dorian).
    fn progressions(self) -> &'static [[i32; 4]] {
        match self {
            Mode::Major => &[[0, 4, 5, 3], [0, 5, 3, 4], [1, 4, 0, 5], [0, 3, 0, 4], [0, 2, 3, 4]],
            Mode::Lydian => &[[0, 1, 4, 0], [0, 1, 5, 4], [0, 4, 1, 0]],
            Mode::Mixolydian => &[[0, 6, 3, 0], [0, 3, 6, 3], [0, 4, 3, 6]],
            Mode::Minor => &[[0, 5, 2, 6], [0, 3, 6, 2], [0, 5, 3, 4], [0, 6, 5, 4], [0, 3, 0, 4]],
            Mode::Dorian => &[[0, 3, 0, 6], [0, 2, 3, 6], [0, 3, 6, 0]],
        }
    }
}

/// A tonic and a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Pitch class of the tonic, 0 = C to 11 = B.
    pub tonic: i32,
    pub mode: Mode,
}

impl Key {
    /// `D minor`, `F# mixolydian`; the names of black keys are those most used for a tonic.
    pub fn name(self) -> String {
        let tonics = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
        format!("{} {}", tonics[self.tonic as usize], self.mode.name())
    }

    /// MIDI number of a scale degree, counted from the first tonic at or above `floor`.
    pub fn midi(self, degree: i32, floor: i32) -> i32 {
        let tonic = floor + (self.tonic - floor).rem_euclid(12);
        tonic + 12 * degree.div_euclid(7) + self.mode.semitones()[degree.rem_euclid(7) as usize]
    }

    /// A turn of four chords that suits the mode.
    pub fn progression(self, random: &mut Random) -> [i32; 4] {
        *random.pick(self.mode.progressions())
    }

    /// The chord on the degree `root`, each tone folded into the octave from `floor` up, ascending: neighbouring
    /// chords then share or nearly share their tones, which is what voice leading asks for.
    pub fn chord(self, root: i32, tones: usize, floor: i32) -> Vec<i32> {
        let fold = |degree: i32| floor + (self.midi(degree, 0) - floor).rem_euclid(12);
        let mut chord: Vec<i32> = (0..tones as i32).map(|third| fold(root + 2 * third)).collect();
        chord.sort_unstable();
        chord
    }
}

/// The tone of the triad on `root` that is nearest to `degree`, the lower one of two.
pub(super) fn nearest_chord_tone(degree: i32, root: i32) -> i32 {
    let is_tone = |degree: i32| matches!((degree - root).rem_euclid(7), 0 | 2 | 4);
    [0, -1, 1].into_iter().map(|step| degree + step).find(|&near| is_tone(near)).unwrap_or(degree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_chords_and_chord_tones() {
        let d_minor = Key { tonic: 2, mode: Mode::Minor };
        assert_eq!(d_minor.name(), "D minor");
        assert_eq!([0, 2, 6, 7, -1].map(|degree| d_minor.midi(degree, 60)), [62, 65, 72, 74, 60]);
        assert_eq!(d_minor.chord(5, 3, 60), [62, 65, 70], "B flat major, folded: D F Bb");
        assert_eq!([0, 1, 3, 5, 6].map(|degree| nearest_chord_tone(degree, 0)), [0, 0, 2, 4, 7]);
    }

    #[test]
    fn no_progression_uses_a_diminished_chord() {
        for mode in [Mode::Major, Mode::Lydian, Mode::Mixolydian, Mode::Minor, Mode::Dorian] {
            let key = Key { tonic: 0, mode };
            for &root in mode.progressions().iter().flatten() {
                assert_eq!(
                    key.midi(root + 4, 60) - key.midi(root, 60),
                    7,
                    "{mode:?} {root}: not a perfect fifth"
                );
            }
        }
    }
}
