//! What the corpus holds, decided before a note is written: the attributes of every song, balanced against each
//! other, so that "fast" or "bright" or "with drums" can be learnt, and measured, apart from the genre.

use super::genres::{Accompaniment, GENRES, Genre};
use super::instruments::Instrument;
use super::random::Random;
use super::theory::{Key, Mode};

/// One song's attributes: all that its captions say.
#[derive(Clone, Debug)]
pub(super) struct Song {
    pub index: usize,
    pub genre: &'static Genre,
    pub key: Key,
    pub tempo_bpm: u32,
    pub bright: bool,
    pub drums: bool,
    pub lead: Instrument,
    pub chords: (Instrument, Accompaniment),
    pub artist: &'static str,
    pub title: String,
    /// Number of the song's own stream of random numbers.
    pub seed: u64,
}

/// Songs from this tempo up are the fast half.
pub(super) const FAST_FROM_BPM: u32 = 108;

/// Invented, and chosen so that the data set's split (by the hash of the artist) cuts well wherever it cuts: the
/// hashes lie one in each twelfth of the range. A tenth for validation takes the fourth and the ninth, and their
/// eight songs are one of each genre, with every attribute half and half.
const ARTISTS: [&str; 12] = [
    "Tin Lantern",
    "The Quiet Gears",
    "The Idle Looms",
    "The Night Ferry",
    "Cobalt Choir",
    "Juno Petrel",
    "Odd Numbers Club",
    "Copper Meadow",
    "Wren Ashdown",
    "Paper Satellites",
    "Blue Protractor",
    "North Window",
];

const NOUNS: [&str; 24] = [
    "Harbour",
    "Staircase",
    "Orchard",
    "Signal",
    "Lantern",
    "Tram",
    "Kitchen",
    "Glacier",
    "Library",
    "Arcade",
    "Balcony",
    "Comet",
    "Railway",
    "Garden",
    "Mirror",
    "Tide",
    "Clockwork",
    "Valley",
    "Window",
    "Meadow",
    "Engine",
    "Letter",
    "Forest",
    "Carousel",
];

impl Song {
    /// The tempo in a word: slow below 90 bpm, fast from 125.
    pub fn tempo_word(&self) -> &'static str {
        match self.tempo_bpm {
            0..90 => "slow",
            90..125 => "medium",
            _ => "fast",
        }
    }

    /// The feeling that mode, tempo and brightness add up to.
    pub fn mood(&self) -> &'static str {
        let fast = self.tempo_bpm >= FAST_FROM_BPM;
        match (self.key.mode.is_minor(), fast, self.bright) {
            (false, true, true) => "joyful",
            (false, true, false) => "lively",
            (false, false, true) => "serene",
            (false, false, false) => "warm",
            (true, true, true) => "urgent",
            (true, true, false) => "menacing",
            (true, false, true) => "wistful",
            (true, false, false) => "melancholic",
        }
    }

    /// Lead, chords and bass, each instrument once.
    pub fn instruments(&self) -> Vec<&'static str> {
        let mut names = vec![self.lead.name()];
        for name in [self.chords.0.name(), self.genre.bass.0.name()] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The WAV's name in the audio folder.
    pub fn file_name(&self) -> String {
        format!("{:04}_{}.wav", self.index, self.genre.name.replace(' ', "_"))
    }
}

/// The attributes of song `index`. They do not depend on how many songs there are.
///
/// Fast, bright and drums are three bits. A genre gets the eight combinations in pairs of complements (each bit
/// once on and once off), starting from another pair than its neighbours: so every two rounds are balanced within
/// each genre. Minor is the bits' parity, turned round for the second four genres: so every sixteen songs are each
/// combination of the four attributes once, and no two attributes go together.
pub(super) fn song(index: usize, seed: u64) -> Song {
    let mut random = Random::new(seed, 2 * index as u64);
    let (number, round) = (index % GENRES.len(), index / GENRES.len());
    let genre = &GENRES[number];
    let pair = (round / 2 + number) % 4;
    let complement = (round + number / 4) % 2 == 1;
    let bits = if complement { 7 - pair } else { pair };
    let (fast, bright, drums) = (bits & 1 == 1, bits & 2 == 2, bits & 4 == 4);
    let minor = (bits.count_ones() as usize + number / 4) % 2 == 1;
    // A golden-ratio sequence fills the range of tempi evenly, however many songs there are.
    let share = (index as f64 * 0.618_033_988_75).fract();
    let tempo_bpm = if fast { 116.0 + 52.0 * share } else { 60.0 + 40.0 * share };
    let modes = match minor {
        false => [Mode::Major, Mode::Major, Mode::Lydian, Mode::Mixolydian],
        true => [Mode::Minor, Mode::Minor, Mode::Minor, Mode::Dorian],
    };
    // Round by round a fifth higher, each genre from another tonic.
    let tonic = ((7 * round + 5 * number) % 12) as i32;
    let adjective = if bright { ["Silver", "Open", "Glass"] } else { ["Velvet", "Deep", "Amber"] };
    Song {
        index,
        genre,
        key: Key { tonic, mode: *random.pick(&modes) },
        tempo_bpm: tempo_bpm as u32,
        bright,
        drums,
        lead: genre.leads[round / 2 % 2],
        chords: *random.pick(&genre.chords),
        artist: ARTISTS[(index + 5 * (index / ARTISTS.len())) % ARTISTS.len()],
        title: format!("{} {}", random.pick(&adjective), NOUNS[index * 7 % NOUNS.len()]),
        seed: 2 * index as u64 + 1,
    }
}
