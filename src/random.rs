//! Random numbers without state: any number of any stream by its address alone, the same words on every
//! device. Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"),
//! normal numbers by Box and Muller 1958.
//!
//! Words are the same bits everywhere. The functions here use only additions, products, fused products,
//! roots and bit operations, so normal numbers are the same bits on every CPU too; another device may
//! differ from them by a few units in the last place.

use std::array::from_fn;

use crate::backend::NoiseKey;

/// Multipliers of the two halves of the counter (Salmon et al. 2011, table 2; Random123's philox.h).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key after each round: the golden ratio and sqrt(3) - 1.
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;
/// Words a block.
pub const BLOCK_WORDS: usize = 4;
/// Blocks that [`normal_lanes`] makes at once: two AVX2 registers of words.
pub const LANES: usize = 16;
/// Numbers that [`normal_lanes`] makes at once.
pub const LANE_NUMBERS: usize = LANES * BLOCK_WORDS;

/// The four words of block `block` of stream `key`: Philox4x32-10 with key = (low, high half of the seed) and
/// counter = (block, purpose, low half of the step, high half of the step).
pub fn block(key: NoiseKey, block: u32) -> [u32; 4] {
    philox([[block], [key.purpose as u32], [low(key.step)], [high(key.step)]], key.seed).map(|[word]| word)
}

/// Word `index` of the stream: word `index % 4` of block `index / 4`. A stream has 2^34 words, then it repeats.
pub fn word(key: NoiseKey, index: u64) -> u32 {
    block(key, block_of(index))[(index % 4) as usize]
}

/// A number in (0, 1): `((word >> 8) | 1) * 2^-24`, exactly; that is the odd multiples of 2^-24, so neither 0
/// nor 1 can come, and x is as likely as 1 - x.
#[inline(always)]
pub fn uniform(word: u32) -> f32 {
    // Through i32, because AVX2 has no conversion from u32; the value is below 2^24, so nothing changes.
    ((word >> 8) | 1) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// Uniform number `index` of a stream: [`uniform`] of its word.
pub fn uniform_at(key: NoiseKey, index: u64) -> f32 {
    uniform(word(key, index))
}

/// Two independent standard normal numbers: with `r = sqrt(-2 ln uniform(words[0]))` and
/// `a = 2 pi uniform(words[1])`, `[r cos(a), r sin(a)]` (Box and Muller 1958). None is larger than 5.77.
#[inline(always)]
pub fn normal_pair(words: [u32; 2]) -> [f32; 2] {
    let radius = (-2.0 * ln(uniform(words[0]))).sqrt();
    let (sine, cosine) = sin_cos(words[1]);
    [radius * cosine, radius * sine]
}

/// Number `index` of the stream's normal numbers: words 0 and 1 of a block give its numbers 0 and 1, words 2
/// and 3 its numbers 2 and 3.
pub fn normal(key: NoiseKey, index: u64) -> f32 {
    let words = block(key, block_of(index));
    let pair = if index % 4 < 2 { [words[0], words[1]] } else { [words[2], words[3]] };
    normal_pair(pair)[(index % 2) as usize]
}

/// The block that holds word `index`.
#[inline(always)]
pub fn block_of(index: u64) -> u32 {
    (index / BLOCK_WORDS as u64) as u32
}

/// The normal numbers of [`LANES`] blocks from `first_block` on, in order, into `out`. To be called inside a
/// dispatch on the instruction set.
#[inline(always)]
pub fn normal_lanes(out: &mut [f32; LANE_NUMBERS], key: NoiseKey, first_block: u32) {
    let counter = [
        from_fn(|lane| first_block.wrapping_add(lane as u32)),
        [key.purpose as u32; LANES],
        [low(key.step); LANES],
        [high(key.step); LANES],
    ];
    let words = philox(counter, key.seed);
    // Lane after lane in registers first, then one transposition: each loop vectorises by itself.
    let mut numbers = [[0.0; LANES]; BLOCK_WORDS];
    for pair in 0..2 {
        for lane in 0..LANES {
            let [even, odd] = normal_pair([words[2 * pair][lane], words[2 * pair + 1][lane]]);
            numbers[2 * pair][lane] = even;
            numbers[2 * pair + 1][lane] = odd;
        }
    }
    for (lane, block) in out.chunks_exact_mut(BLOCK_WORDS).enumerate() {
        for (number, lanes) in block.iter_mut().zip(&numbers) {
            *number = lanes[lane];
        }
    }
}

/// Philox4x32-10 on `N` counters at once.
#[inline(always)]
fn philox<const N: usize>(mut counter: [[u32; N]; 4], seed: u64) -> [[u32; N]; 4] {
    let mut key = [low(seed), high(seed)];
    for _ in 0..ROUNDS {
        let [c0, c1, c2, c3] = counter;
        for lane in 0..N {
            let product0 = u64::from(c0[lane]) * u64::from(MULTIPLIERS[0]);
            let product1 = u64::from(c2[lane]) * u64::from(MULTIPLIERS[1]);
            counter[0][lane] = high(product1) ^ c1[lane] ^ key[0];
            counter[1][lane] = low(product1);
            counter[2][lane] = high(product0) ^ c3[lane] ^ key[1];
            counter[3][lane] = low(product0);
        }
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

#[inline(always)]
fn low(x: u64) -> u32 {
    x as u32
}

#[inline(always)]
fn high(x: u64) -> u32 {
    (x >> 32) as u32
}

/// ln(x) for normal positive x, to about 1 ulp: `x = 2^e m`, m in [sqrt(1/2), sqrt(2)), and a polynomial in
/// `f = m - 1` (coefficients of Cephes' logf, Moshier 1989). No branch, so that a loop vectorises.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF_BITS: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    /// ln 2 in two parts; products of the first with exponents are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Subtracting sqrt(1/2)'s bits makes the exponent field count from m = sqrt(1/2).
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let exponent = (shifted as i32 >> 23) as f32;
    let mantissa = f32::from_bits((shifted & 0x007F_FFFF).wrapping_add(SQRT_HALF_BITS));
    let f = mantissa - 1.0;
    let square = f * f;
    let mut p = 7.037_683_6e-2_f32;
    p = p.mul_add(f, -1.151_461e-1);
    p = p.mul_add(f, 1.167_699_9e-1);
    p = p.mul_add(f, -1.242_014_1e-1);
    p = p.mul_add(f, 1.424_932_3e-1);
    p = p.mul_add(f, -1.666_805_8e-1);
    p = p.mul_add(f, 2.000_071_5e-1);
    p = p.mul_add(f, -2.499_999_4e-1);
    p = p.mul_add(f, 3.333_333e-1);
    let tail = exponent.mul_add(LN_2_LOW, p * f * square);
    exponent.mul_add(LN_2_HIGH, square.mul_add(-0.5, tail) + f)
}

/// (sin, cos) of `2 pi uniform(word)`, absolute error below 1.2e-7: the nearest quarter turn is taken off in
/// whole numbers, polynomials do the rest, |angle| <= pi/4 (coefficients of Cephes' sinf and cosf, Moshier 1989).
#[inline(always)]
fn sin_cos(word: u32) -> (f32, f32) {
    const QUARTER_BITS: u32 = 22;
    const RADIANS: f32 = std::f32::consts::TAU / 16_777_216.0;
    let turns = ((word >> 8) | 1) as i32;
    let quarter = (turns + (1 << (QUARTER_BITS - 1))) >> QUARTER_BITS;
    let angle = (turns - (quarter << QUARTER_BITS)) as f32 * RADIANS;
    let square = angle * angle;
    let mut s = -1.951_529_6e-4_f32;
    s = s.mul_add(square, 8.332_161e-3);
    s = s.mul_add(square, -1.666_665_5e-1);
    let s = (s * square).mul_add(angle, angle);
    let mut c = 2.443_315_7e-5_f32;
    c = c.mul_add(square, -1.388_731_6e-3);
    c = c.mul_add(square, 4.166_664_6e-2);
    let c = (c * square).mul_add(square, square.mul_add(-0.5, 1.0));
    let (sine, cosine) = if quarter & 1 == 0 { (s, c) } else { (c, s) };
    // Quarters 2 and 3 have a negative sine, quarters 1 and 2 a negative cosine.
    (flip(sine, quarter & 2), flip(cosine, (quarter + 1) & 2))
}

/// `x`, negated when `two` is 2 rather than 0.
#[inline(always)]
fn flip(x: f32, two: i32) -> f32 {
    f32::from_bits(x.to_bits() ^ ((two as u32) << 30))
}

#[cfg(test)]
#[path = "random_tests.rs"]
mod tests;
