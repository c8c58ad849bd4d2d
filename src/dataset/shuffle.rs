//! Order without state: the n-th element of a permutation as a pure function of (seed, n), so that a
//! resumed run needs to know nothing but its step.
//!
//! The permutation is a four-round Feistel network over the smallest even number of bits that holds the
//! range, with cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", method 3);
//! the round function is SplitMix64's finalizer (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
//! number generators").

const ROUNDS: u64 = 4;

/// SplitMix64's output function: 64 well-mixed bits of a counter.
pub fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random bits addressed by a seed and two coordinates (such as step and index in the batch).
pub fn random_at(seed: u64, a: u64, b: u64) -> u64 {
    mix(mix(mix(seed) ^ a) ^ b)
}

/// A number in `0..range` (0 for an empty range) from random bits, by Lemire's multiplication; the bias is
/// below `range / 2^64`.
pub fn below(bits: u64, range: u64) -> u64 {
    ((u128::from(bits) * u128::from(range)) >> 64) as u64
}

/// Where `index` goes in the permutation of `0..len` that `key` names. `index` must be below `len`.
pub fn permuted(key: u64, len: u64, index: u64) -> u64 {
    let half_bits = (64 - len.saturating_sub(1).leading_zeros()).div_ceil(2).max(1);
    let mut value = index;
    loop {
        value = feistel(key, half_bits, value);
        // The network permutes a power of four of up to 4 * len values; those outside the range are walked on.
        if value < len {
            return value;
        }
    }
}

fn feistel(key: u64, half_bits: u32, value: u64) -> u64 {
    let mask = (1 << half_bits) - 1;
    let (mut left, mut right) = (value >> half_bits, value & mask);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ (random_at(key, round, right) & mask));
    }
    left << half_bits | right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gives_a_permutation_and_keys_give_different_ones() {
        for len in [1, 2, 3, 4, 5, 16, 17, 31, 100, 1000] {
            let mut seen: Vec<u64> = (0..len).map(|i| permuted(7, len, i)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }
        let order = |key| (0..100).map(|i| permuted(key, 100, i)).collect::<Vec<_>>();
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn positions_are_close_to_uniform() {
        // Where element 0 lands over 10,000 keys: chi-square with 9 degrees of freedom, 27.9 at p = 0.001.
        let mut counts = [0.0_f64; 10];
        for key in 0..10_000 {
            counts[permuted(key, 10, 0) as usize] += 1.0;
        }
        let chi_square: f64 = counts.iter().map(|count| (count - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 27.9, "{chi_square}");
    }
}
