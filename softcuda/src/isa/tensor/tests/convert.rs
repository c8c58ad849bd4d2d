//! Conversions, in plain Rust and in the machine's vectors, against the crate `half` and the formats' definitions.

use super::super::convert::{half_from_single, single_from_e4m3, single_from_e5m2, single_from_tf32};
use super::super::vectors::{IS_PLAIN, Portable, Task, Vectors, dispatch};
use super::Random;
use half::f16;

/// `f16` pairs widened, by the set of instructions in use.
struct Widen<'a>(&'a [u32; 8], &'a mut [[f32; 8]; 2]);

impl Task for Widen<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, vectors: V) {
        *self.1 = vectors.widen_halves(self.0);
    }
}

/// Pairs narrowed.
struct Narrow<'a>([&'a [f32; 8]; 2], &'a mut [u32; 8]);

impl Task for Narrow<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, vectors: V) {
        *self.1 = vectors.narrow_halves(self.0[0], self.0[1]);
    }
}

/// Runs a check with the machine's instructions and with none.
fn both(check: impl Fn()) {
    check();
    IS_PLAIN.set(true);
    check();
    IS_PLAIN.set(false);
}

#[test]
fn every_half_is_widened_exactly() {
    both(|| {
        for first in (0..0x1_0000u32).step_by(16) {
            let words =
                std::array::from_fn(|place| (first + place as u32) | (first + 8 + place as u32) << 16);
            let mut wide = [[0.0; 8]; 2];
            dispatch(Widen(&words, &mut wide));
            for (index, value) in wide.as_flattened().iter().enumerate() {
                let half = f16::from_bits((first + index as u32) as u16);
                assert!(
                    value.to_bits() == half.to_f32().to_bits() || half.is_nan() && value.is_nan(),
                    "{half}"
                );
            }
        }
    });
}

/// Every f16 and the numbers around it and around the middle to the next, of both signs, and some more.
fn singles() -> Vec<f32> {
    let mut values = vec![65504.0, 65519.996, 65520.0, 65536.0, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE];
    values.extend([1, 2, 0x7f_ffff].map(f32::from_bits));
    for bits in 0..0x7c00 {
        let (value, next) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits + 1).to_f32());
        let middle = if next.is_finite() { (value + next) / 2.0 } else { 65520.0 };
        values.extend([
            value,
            value.next_up(),
            value.next_down().abs(),
            middle,
            middle.next_up(),
            middle.next_down(),
        ]);
    }
    let mut random = Random(2);
    values.extend((0..100_000).map(|_| f32::from_bits(random.word())).filter(|value| !value.is_nan()));
    values.iter().flat_map(|value| [*value, -value]).collect()
}

#[test]
fn singles_are_narrowed_to_the_nearest_half() {
    let values = singles();
    both(|| {
        for pair in values.as_chunks::<16>().0 {
            let (low, high) = (pair.first_chunk::<8>().unwrap(), pair.last_chunk::<8>().unwrap());
            let mut words = [0; 8];
            dispatch(Narrow([low, high], &mut words));
            for (value, half) in low.iter().zip(words).chain(high.iter().zip(words.map(|word| word >> 16))) {
                assert_eq!(half & 0xffff, u32::from(f16::from_f32(*value).to_bits()), "{value:e}");
            }
        }
    });
    assert_eq!(half_from_single(f32::from_bits(0xffc1_2345)), 0x7fff);
    let nans = [f32::from_bits(0x7fff_ffff); 8];
    both(|| {
        let mut words = [0; 8];
        dispatch(Narrow([&nans, &nans], &mut words));
        assert_eq!(words, [0x7fff_7fff; 8]);
    });
}

/// A format of 8 bits by its definition.
fn value_of(bits: u32, exponent_bits: i32, fraction_bits: i32) -> f64 {
    let bits = bits as i32;
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    let exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
    let bias = (1 << (exponent_bits - 1)) - 1;
    let (leading, exponent) = if exponent == 0 { (0.0, 1 - bias) } else { (1.0, exponent - bias) };
    let sign = if bits >> 7 & 1 == 1 { -1.0 } else { 1.0 };
    sign * (leading + fraction) * 2f64.powi(exponent)
}

#[test]
fn eight_bits_are_widened_exactly() {
    for bits in 0..256 {
        let (e4m3, e5m2) = (single_from_e4m3(bits | 0xabc00), single_from_e5m2(bits | 0xabc00));
        match bits & 0x7f {
            0x7f => assert!(e4m3.is_nan()),
            _ => assert_eq!(f64::from(e4m3), value_of(bits, 4, 3), "{bits:x}"),
        }
        match bits & 0x7f {
            0x7d.. => assert!(e5m2.is_nan()),
            0x7c => assert_eq!(e5m2, if bits & 0x80 == 0 { f32::INFINITY } else { f32::NEG_INFINITY }),
            _ => assert_eq!(f64::from(e5m2), value_of(bits, 5, 2), "{bits:x}"),
        }
    }
    // The greatest ones, as the formats' paper names them.
    assert_eq!((single_from_e4m3(0x7e), single_from_e5m2(0x7b)), (448.0, 57344.0));
}

#[test]
fn tf32_has_ten_bits_of_fraction() {
    assert_eq!(single_from_tf32(0x3f80_1fff), 1.0);
    assert_eq!(single_from_tf32(0x3f80_2000), 1.0 + 2f32.powi(-10));
    assert_eq!(single_from_tf32(0xff80_0001), f32::NEG_INFINITY);
}

/// Transposed by the set of instructions in use.
struct Transpose<'a>(&'a [u32; 32], &'a mut [[u32; 8]; 4]);

impl Task for Transpose<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, vectors: V) {
        *self.1 = vectors.transpose(self.0);
    }
}

#[test]
fn machines_transpose_alike() {
    let register = std::array::from_fn(|lane| lane as u32);
    let mut rows = [[0; 8]; 4];
    dispatch(Transpose(&register, &mut rows));
    assert_eq!(rows[1], [1, 9, 17, 25, 5, 13, 21, 29]);
    assert_eq!(rows, Portable.transpose(&register));
}
