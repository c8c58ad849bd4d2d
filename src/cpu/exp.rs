//! exp, written so that a loop over it vectorises: no branch, no table, no call.

/// Below this exp is less than half of the smallest subnormal: 0.
const LOWEST: f32 = -104.0;
/// Above 88.73 exp is larger than every finite f32.
const HIGHEST: f32 = 89.0;
/// 1.5 * 2^23: adding it to a number below 2^22 rounds that number to an integer, in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has so few digits that its products with integers below 2^8 are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `e^x` to about 1 ulp, subnormal results included; exp(-inf) = 0, exp(inf) = inf, exp(NaN) = NaN.
///
/// Cody and Waite 1980: `x = n ln 2 + r` with |r| <= ln 2 / 2, `e^x = 2^n e^r`, and a polynomial for `e^r`
/// (coefficients of Cephes' expf, Moshier 1989).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Not f32::max and min: those turn NaN into a number.
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut p = 1.987_569_2e-4_f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5.0e-1);
    let e_r = p.mul_add(r * r, r) + 1.0;
    // 2^n in two factors, because n runs from -150 to 128 and one f32 holds only 2^-126 to 2^127.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    e_r * power_of_two(half) * power_of_two(n - half)
}

/// `2^n` for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Error in units of the last place of the exact value.
    fn ulps(got: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        let ulp = (f64::from(nearest.next_up()) - f64::from(nearest)).abs();
        ((f64::from(got) - exact) / ulp).abs()
    }

    #[test]
    fn within_an_ulp_or_so_of_f64() {
        let mut worst = 0.0_f64;
        for i in -1_040_000..=887_000 {
            let x = i as f32 * 1e-4;
            worst = worst.max(ulps(exp(x), f64::from(x).exp()));
        }
        assert!(worst < 1.5, "{worst} ulp");
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(-104.0), 0.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::MAX), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }
}
