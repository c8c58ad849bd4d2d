//! Conversions between f32 and the narrower formats, without branches: loops over them become vector instructions.
//! Each takes a format's bits from the low bits of a word, whatever stands above.

/// Of `.f16`, exact.
#[inline(always)]
pub fn single_from_half(bits: u32) -> f32 {
    widen::<10, 5>(bits, true)
}

/// Of `.e5m2`, exact.
#[inline(always)]
pub fn single_from_e5m2(bits: u32) -> f32 {
    single_from_half(bits << 8)
}

/// Of `.e4m3`, exact. It has no infinities, and one NaN of each sign.
#[inline(always)]
pub fn single_from_e4m3(bits: u32) -> f32 {
    let value = widen::<3, 4>(bits, false);
    if bits & 0x7f == 0x7f { f32::from_bits(CANONICAL_NAN) } else { value }
}

/// Of `.bf16`, exact.
#[inline(always)]
pub fn single_from_bf16(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// Of `.tf32`: the low 13 bits are ignored.
#[inline(always)]
pub fn single_from_tf32(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}

/// A format of a sign, so many bits of exponent and of fraction; `has_infinities` where the greatest exponent is that of
/// infinities and NaNs. Subnormal numbers are never operands: those are slow on some machines.
#[inline(always)]
fn widen<const FRACTION: u32, const EXPONENT: u32>(bits: u32, has_infinities: bool) -> f32 {
    let width = FRACTION + EXPONENT;
    let rebias = (127 - ((1 << (EXPONENT - 1)) - 1)) << 23;
    let sign = (bits >> width & 1) << 31;
    let magnitude = (bits & ((1 << width) - 1)) << (23 - FRACTION);
    let normal = magnitude + rebias;
    // An exponent field of 0 means that of 1 without the leading 1.
    let leading = rebias + (1 << 23);
    let subnormal = (f32::from_bits(magnitude + leading) - f32::from_bits(leading)).to_bits();
    let special = normal | 0xff << 23;
    let mut absolute = if magnitude < 1 << 23 { subnormal } else { normal };
    if has_infinities && magnitude >= ((1 << EXPONENT) - 1) << 23 {
        absolute = special;
    }
    f32::from_bits(sign | absolute)
}

/// What NaNs become in results of `.f32`.
pub const CANONICAL_NAN: u32 = 0x7fff_ffff;

/// The bits of a result, all NaNs the same.
#[inline(always)]
pub fn bits_of_single(value: f32) -> u32 {
    if value.is_nan() { CANONICAL_NAN } else { value.to_bits() }
}

/// To `.f16`, rounded to nearest, ties to even; NaN becomes 0x7fff.
#[inline(always)]
pub fn half_from_single(value: f32) -> u32 {
    let bits = value.to_bits();
    let (sign, magnitude) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
    // 2^16 and above would overflow; from 65520 on, rounding carries into the exponent of infinity.
    let clamped = if magnitude > 0x4780_0000 { 0x4780_0000 } else { magnitude };
    let normal = clamped.wrapping_sub(112 << 23).wrapping_add(0xfff + (clamped >> 13 & 1)) >> 13;
    // A unit in the last place of 0.5 is the least subnormal number of f16.
    let subnormal = (f32::from_bits(clamped) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let rounded = if magnitude < 113 << 23 { subnormal } else { normal };
    if magnitude > 0x7f80_0000 { 0x7fff } else { sign | rounded }
}
