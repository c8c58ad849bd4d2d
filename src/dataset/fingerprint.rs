//! Whether two recordings are the same music: a thousand bits that survive another codec, rate or level.
//!
//! A recording is divided into slots of equal length. A bit says whether the energy of a band, compared with the band
//! above, rises or falls from one slot to the next (Haitsma and Kalker 2002, over slots instead of short frames).
//! Of unrelated recordings half of the bits differ.

use crate::audio::examine::BANDS;

/// Slots of a recording that is long enough.
const SLOTS: usize = 64;
/// Frames that a slot has at least: a shift by an encoder's delay is small beside it.
const MIN_FRAMES_A_SLOT: usize = 2;
/// Shorter recordings have too few bits to be told apart.
const MIN_SLOTS: usize = 12;
/// Energies below this part of the loudest are an encoder's leftovers.
const FLOOR: f64 = 1e-5;
/// Part of the bits that may differ. Unrelated recordings differ in half of them.
const MAX_DISTANCE: f64 = 0.25;
/// Lengths that may differ, in seconds: padding.
const MAX_SECONDS: f64 = 0.7;

/// Bits and length of one recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Fingerprint {
    words: Vec<u64>,
    bits: usize,
    seconds: f64,
}

impl Fingerprint {
    /// Of the energies of frames of equal length; `None` for what is too short or has no sound that changes.
    pub fn of_energies(frames: &[[f32; BANDS]], seconds: f64) -> Option<Self> {
        let slots = SLOTS.min(frames.len() / MIN_FRAMES_A_SLOT);
        if slots < MIN_SLOTS {
            return None;
        }
        let mut pooled = vec![[0.0_f64; BANDS]; slots];
        for (n, frame) in frames.iter().enumerate() {
            let slot = &mut pooled[n * slots / frames.len()];
            slot.iter_mut().zip(frame).for_each(|(sum, &energy)| *sum += f64::from(energy));
        }
        let loudest = pooled.iter().flatten().fold(0.0_f64, |loudest, &energy| loudest.max(energy));
        if !loudest.is_finite() || loudest <= 0.0 {
            return None;
        }
        pooled.iter_mut().flatten().for_each(|energy| *energy = (*energy / loudest + FLOOR).ln());
        let slope = |slot: &[f64; BANDS], band: usize| slot[band] - slot[band + 1];
        let pairs = pooled.windows(2);
        let bits: Vec<bool> = pairs
            .flat_map(|pair| (0..BANDS - 1).map(|band| slope(&pair[1], band) > slope(&pair[0], band)))
            .collect();
        let word = |bits: &[bool]| bits.iter().fold(0_u64, |word, &bit| word << 1 | u64::from(bit));
        Some(Self { words: bits.chunks(64).map(word).collect(), bits: bits.len(), seconds })
    }

    /// Part of the bits that differ; 1 for recordings of different length.
    pub fn distance(&self, other: &Self) -> f64 {
        if self.bits != other.bits || (self.seconds - other.seconds).abs() > MAX_SECONDS {
            return 1.0;
        }
        let differ: u32 = self.words.iter().zip(&other.words).map(|(a, b)| (a ^ b).count_ones()).sum();
        f64::from(differ) / self.bits as f64
    }
}

/// Pairs of places in `prints` that are the same music, each place in one pair as the second at most, with their
/// distance. In the order of lengths, so that only neighbours are compared.
pub fn same_music(prints: &[Option<Fingerprint>]) -> Vec<(usize, usize, f64)> {
    let mut order: Vec<(usize, &Fingerprint)> =
        prints.iter().enumerate().filter_map(|(at, print)| Some((at, print.as_ref()?))).collect();
    order.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
    let mut pairs = Vec::new();
    for (n, (at, print)) in order.iter().enumerate() {
        let shorter =
            order[..n].iter().rev().take_while(|(_, other)| print.seconds - other.seconds <= MAX_SECONDS);
        let same = shorter.map(|(other, p)| (*other, print.distance(p))).find(|(_, d)| *d <= MAX_DISTANCE);
        pairs.extend(same.map(|(other, distance)| (other.min(*at), other.max(*at), distance)));
    }
    pairs.sort_by_key(|&(first, second, _)| (first, second));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Energies that change at random from slot to slot.
    fn music(seed: u64, frames: usize, level: f32, noise: f32) -> Vec<[f32; BANDS]> {
        let draw = |at: u64| {
            let mixed =
                (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
            ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 24) as f32
        };
        let energy = |frame: usize, band: usize| {
            let at = (frame / 8 * BANDS + band) as u64;
            level * ((4.0 * draw(at)).exp() + noise * draw(at + 77_777 * frame as u64))
        };
        (0..frames).map(|frame| std::array::from_fn(|band| energy(frame, band))).collect()
    }

    #[test]
    fn the_same_music_is_near_at_any_level_and_other_music_is_far() {
        let of =
            |seed, level, noise, seconds| Fingerprint::of_energies(&music(seed, 640, level, noise), seconds);
        let one = of(1, 1.0, 0.0, 64.0).unwrap();
        assert_eq!(one.distance(&of(1, 0.01, 0.0, 64.05).unwrap()), 0.0);
        let near = one.distance(&of(1, 3.0, 2.0, 64.0).unwrap());
        assert!(near < MAX_DISTANCE, "{near}");
        for seed in 2..40 {
            let far = one.distance(&of(seed, 1.0, 0.0, 64.0).unwrap());
            assert!((0.4..0.6).contains(&far), "{far}");
        }
        assert_eq!(one.distance(&of(1, 1.0, 0.0, 70.0).unwrap()), 1.0);
        assert_eq!(Fingerprint::of_energies(&music(1, 10, 1.0, 0.0), 1.0), None);
        assert_eq!(Fingerprint::of_energies(&[[0.0; BANDS]; 100], 10.0), None);
        let prints = [of(1, 1.0, 0.0, 64.0), None, of(5, 1.0, 0.0, 64.0), of(1, 0.5, 0.5, 64.1)];
        let pairs: Vec<(usize, usize)> = same_music(&prints).into_iter().map(|(a, b, _)| (a, b)).collect();
        assert_eq!(pairs, [(0, 3)]);
    }
}
