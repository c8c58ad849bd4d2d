//! Conversions: `cvt`.

use super::float::Modes;
use super::float::exact::Exact;
use super::float::format::{Brain, Double, E4m3, E5m2, Format, Half, Rounding, Single, Tensor};
use super::{Element, Maps, Work};
use crate::model::counters::Class;
use crate::ptx::ast::{self, Type};

#[cfg(test)]
mod tests;

const WORK: Work = Work::of(Class::Convert);

/// An integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Integer {
    signed: bool,
    bits: u32,
}

impl Integer {
    fn read(ty: Type) -> Option<Integer> {
        match ty {
            Type::Signed(bits @ (8 | 16 | 32 | 64)) => Some(Integer { signed: true, bits }),
            Type::Unsigned(bits @ (8 | 16 | 32 | 64)) => Some(Integer { signed: false, bits }),
            _ => None,
        }
    }

    /// The bits that a value has.
    const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The value, of which the low bits are given, in 64 bits.
    #[inline(always)]
    fn extend(self, bits: u64) -> u64 {
        let shift = 64 - self.bits;
        if self.signed {
            (bits << shift).cast_signed().wrapping_shr(shift) as u64
        } else {
            bits & self.mask()
        }
    }

    /// The value.
    #[inline(always)]
    fn value(self, bits: u64) -> i128 {
        let extended = self.extend(bits);
        if self.signed { extended.cast_signed().into() } else { extended.into() }
    }

    /// The smallest and the largest value.
    fn range(self) -> (i128, i128) {
        let values = 1i128 << (self.bits - u32::from(self.signed));
        (if self.signed { -values } else { 0 }, values - 1)
    }

    /// The nearest value, as its bits.
    #[inline(always)]
    fn clamp(self, value: i128) -> u64 {
        let (least, greatest) = self.range();
        value.clamp(least, greatest) as u64 & self.mask()
    }

    /// The bits of a number without a fraction: clamped; NaN gives `nan`.
    #[inline(always)]
    fn of_float(self, value: f64, nan: u64) -> u64 {
        let (least, greatest) = self.range();
        let bits = if self.signed {
            (value as i64).clamp(least as i64, greatest as i64) as u64
        } else {
            (value as u64).min(greatest as u64)
        };
        if value.is_nan() { nan } else { bits & self.mask() }
    }
}

/// A number without a fraction.
#[inline(always)]
fn integral(value: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest | Rounding::Away => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// How a conversion between formats goes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Conversion {
    /// `.rni` and the like: to a number without a fraction.
    integral: Option<Rounding>,
    /// `.ftz` of an f32 operand.
    flush: bool,
    /// Of the result.
    modes: Modes,
    /// `.satfinite`: the largest number rather than infinity
    finite: bool,
}

impl Conversion {
    /// To the nearest, with nothing else: as a constant, so that what a lane does has no branches.
    const NEAREST: Conversion =
        Conversion { integral: None, flush: false, modes: Modes::PLAIN, finite: false };

    /// The usual one to tf32, likewise.
    const AWAY: Conversion =
        Conversion { modes: Modes { rounding: Rounding::Away, ..Modes::PLAIN }, ..Conversion::NEAREST };

    /// The operand's bits, of which a register may hold more.
    #[inline(always)]
    fn operand<S: Format>(self, bits: S::Bits) -> S::Bits {
        let bits = bits & S::MASK;
        if self.flush { S::flush(bits) } else { bits }
    }

    /// The operand's value, exactly, then without a fraction if so asked.
    #[inline(always)]
    fn open<S: Format>(self, bits: S::Bits) -> f64 {
        let value = S::widen(self.operand::<S>(bits));
        match self.integral {
            Some(rounding) => integral(value, rounding),
            None => value,
        }
    }

    /// The result of a value, given its rounded bits.
    #[inline(always)]
    fn close<D: Format>(self, bits: D::Bits, is_nan: bool) -> D::Bits {
        let infinite = (bits & !D::SIGN == D::INFINITY) & !is_nan;
        let bits = if self.finite & infinite { bits & D::SIGN | D::LARGEST } else { bits };
        self.modes.close::<D>(bits)
    }

    #[inline(always)]
    fn apply<S: Format, D: Format>(self, bits: S::Bits) -> D::Bits {
        if S::MANTISSA <= Single::MANTISSA && D::MANTISSA < Single::MANTISSA && self.integral.is_none() {
            let value = S::single(self.operand::<S>(bits));
            return self.close::<D>(D::narrow_single(value, self.modes.rounding), value.is_nan());
        }
        let value = self.open::<S>(bits);
        let rounded = if D::MANTISSA == Double::MANTISSA {
            D::Bits::from_bits(value.to_bits())
        } else {
            D::narrow(value, self.modes.rounding)
        };
        self.close::<D>(rounded, value.is_nan())
    }

    /// From f32 to tf32 in the place of an f32.
    #[inline(always)]
    fn tensor(self, bits: u32) -> u32 {
        let bits = self.apply::<Single, Tensor>(bits);
        if Tensor::is_nan(bits) { Single::NAN } else { bits << 13 }
    }

    /// From one format to another.
    fn one<S: Format, D: Format, M: Maps>(self, maps: M) -> M::Output {
        match self {
            Conversion::NEAREST => maps.map1(WORK, |a: S::Bits| Conversion::NEAREST.apply::<S, D>(a)),
            _ => maps.rarely().map1(WORK, move |a: S::Bits| self.apply::<S, D>(a)),
        }
    }

    /// From one format to any.
    fn to<S: Format, M: Maps>(self, to: Type, maps: M) -> Option<M::Output> {
        Some(match to {
            Type::F64 => self.one::<S, Double, M>(maps),
            Type::F32 => self.one::<S, Single, M>(maps),
            Type::F16 => self.one::<S, Half, M>(maps),
            Type::Bf16 => self.one::<S, Brain, M>(maps),
            _ => return None,
        })
    }

    /// From two f32, the first of which becomes the upper part.
    fn pair<D: Format<Bits = u32>, M: Maps>(self, maps: M) -> M::Output {
        let both = |conversion: Conversion, a: u32, b: u32| {
            join::<D>([conversion.apply::<Single, D>(b), conversion.apply::<Single, D>(a)])
        };
        match self {
            Conversion::NEAREST => maps.map2(WORK, move |a: u32, b: u32| both(Conversion::NEAREST, a, b)),
            _ => maps.rarely().map2(WORK, move |a: u32, b: u32| both(self, a, b)),
        }
    }

    /// From a packed pair to another.
    fn halves<S: Format<Bits = u32>, D: Format<Bits = u32>, M: Maps>(self, maps: M) -> M::Output {
        maps.rarely().map1(WORK, move |a: u32| join::<D>(split::<S>(a).map(|half| self.apply::<S, D>(half))))
    }

    /// To an f8 format.
    fn to_f8<D: Format<Bits = u32>, M: Maps>(self, from: &str, maps: M) -> Option<M::Output> {
        Some(match from {
            "f32" => self.pair::<D, M>(maps),
            "f16x2" => self.halves::<Half, D, M>(maps),
            "bf16x2" => self.halves::<Brain, D, M>(maps),
            _ => return None,
        })
    }
}

/// A packed pair of its low and high part.
#[inline(always)]
fn join<F: Format<Bits = u32>>([low, high]: [u32; 2]) -> u32 {
    low | high << (F::MANTISSA + F::EXPONENT + 1)
}

/// The low and high part of a packed pair.
#[inline(always)]
fn split<F: Format<Bits = u32>>(pair: u32) -> [u32; 2] {
    [pair & F::MASK, pair >> (F::MANTISSA + F::EXPONENT + 1) & F::MASK]
}

/// What a conversion does, `None` where its form is not known.
pub fn decode<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let suffixes = &instruction.suffixes;
    match (instruction.opcode.as_str(), suffixes.as_slice()) {
        ("cvt", [pack, rest @ ..]) if pack == "pack" => decode_pack(rest, maps),
        ("cvt", [modifiers @ .., to, from]) => {
            if let (Some(to), Some(from)) = (Type::parse(to), Type::parse(from)) {
                decode_types(modifiers, to, from, maps)
            } else {
                decode_f8(modifiers, to, from, maps)
            }
        }
        _ => None,
    }
}

/// The width of the integers that a conversion gives, where they are signed: a wider register gets them sign-extended.
pub fn sign_extended_from(instruction: &ast::Instruction) -> Option<u32> {
    match instruction.types()[..] {
        [Type::Signed(bits), _] if instruction.opcode == "cvt" && !instruction.has("pack") => Some(bits),
        _ => None,
    }
}

/// `cvt.sat.u16.s32`
fn decode_types<M: Maps>(modifiers: &[String], to: Type, from: Type, maps: M) -> Option<M::Output> {
    let has = |suffix: &str| modifiers.iter().any(|s| s == suffix);
    let integral =
        [("rni", Rounding::Nearest), ("rzi", Rounding::Zero), ("rmi", Rounding::Down), ("rpi", Rounding::Up)]
            .into_iter()
            .find_map(|(suffix, rounding)| has(suffix).then_some(rounding));
    let modes = |allowed: &str| Modes::read(modifiers, allowed);
    match (Integer::read(to), Integer::read(from)) {
        (Some(to), Some(from)) => integers(maps, to, from, modes("sat")?.sat),
        (Some(to), None) => {
            let modes = modes("rni rzi rmi rpi ftz sat")?;
            let rounding = integral.unwrap_or(Rounding::Zero);
            float_to_integer(maps, to, from, rounding, modes.ftz)
        }
        (None, Some(from)) => integer_to_float(maps, to, from, modes("rn rz rm rp ftz sat")?),
        (None, None) => {
            let modes = modes("rni rzi rmi rpi rn rz rm rp rna ftz sat relu satfinite")?;
            let flush = modes.ftz && from == Type::F32;
            let finite = has("satfinite");
            let modes = Modes { ftz: modes.ftz && to == Type::F32, ..modes };
            let conversion = Conversion { integral, flush, modes, finite };
            float_to_float(maps, to, from, conversion)
        }
    }
}

fn integers<M: Maps>(maps: M, to: Integer, from: Integer, sat: bool) -> Option<M::Output> {
    /// From operands and to results of these widths.
    fn between<A: Element, R: Element, M: Maps>(maps: M, to: Integer, from: Integer, sat: bool) -> M::Output {
        if sat {
            maps.rarely().map1(WORK, move |a: A| R::from_bits(to.clamp(from.value(a.to_bits()))))
        } else {
            maps.map1(WORK, move |a: A| R::from_bits(from.extend(a.to_bits()) & to.mask()))
        }
    }
    Some(match (to.bits == 64, from.bits == 64, sat) {
        (true, false, false) if from.bits == 32 && from.signed => {
            maps.map1(WORK, |a: u32| i64::from(a.cast_signed()).cast_unsigned())
        }
        (true, false, false) if from.bits == 32 => maps.map1(WORK, |a: u32| u64::from(a)),
        (false, true, false) if to.bits == 32 => maps.map1(WORK, |a: u64| a as u32),
        (false, false, _) => between::<u32, u32, M>(maps, to, from, sat),
        (false, true, _) => between::<u64, u32, M>(maps, to, from, sat),
        (true, false, _) => between::<u32, u64, M>(maps, to, from, sat),
        (true, true, _) => between::<u64, u64, M>(maps, to, from, sat),
    })
}

fn float_to_integer<M: Maps>(
    maps: M,
    to: Integer,
    from: Type,
    rounding: Rounding,
    ftz: bool,
) -> Option<M::Output> {
    /// From a format.
    fn convert<S: Format, M: Maps>(maps: M, to: Integer, conversion: Conversion) -> M::Output {
        let wide = to.bits == 64;
        // NaN gives zero, or where either type has 64 bits the integer with only its highest bit set.
        let nan = if wide || S::MANTISSA == Double::MANTISSA { 1 << (to.bits - 1) } else { 0 };
        if wide {
            maps.rarely().map1(WORK, move |a: S::Bits| to.of_float(conversion.open::<S>(a), nan))
        } else {
            maps.rarely().map1(WORK, move |a: S::Bits| to.of_float(conversion.open::<S>(a), nan) as u32)
        }
    }
    let conversion = Conversion { integral: Some(rounding), flush: ftz, modes: Modes::PLAIN, finite: false };
    Some(match from {
        Type::F32 if to.bits == 32 && rounding == Rounding::Zero => {
            // Truncates and clamps; what `.ftz` flushes would be zero anyway.
            if to.signed {
                maps.map1(WORK, |a: u32| (f32::from_bits(a) as i32).cast_unsigned())
            } else {
                maps.map1(WORK, |a: u32| f32::from_bits(a) as u32)
            }
        }
        Type::F64 => convert::<Double, M>(maps, to, conversion),
        Type::F32 => convert::<Single, M>(maps, to, conversion),
        Type::F16 => convert::<Half, M>(maps, to, conversion),
        Type::Bf16 => convert::<Brain, M>(maps, to, conversion),
        _ => return None,
    })
}

fn integer_to_float<M: Maps>(maps: M, to: Type, from: Integer, modes: Modes) -> Option<M::Output> {
    /// To a format.
    fn convert<D: Format, M: Maps>(maps: M, from: Integer, modes: Modes) -> M::Output {
        if from.bits == 64 {
            maps.rarely().map1(WORK, move |a: u64| {
                let value = from.value(a);
                let exact = Exact::integer(value < 0, value.unsigned_abs() as u64);
                modes.close::<D>(exact.round::<D>(modes.rounding))
            })
        } else {
            maps.rarely().map1(WORK, move |a: u32| {
                let value = from.extend(a.into()).cast_signed() as f64;
                modes.close::<D>(D::narrow(value, modes.rounding))
            })
        }
    }
    let plain = Modes { ftz: false, ..modes } == Modes::PLAIN;
    Some(match to {
        Type::F32 if plain && from == (Integer { signed: true, bits: 32 }) => {
            maps.map1(WORK, |a: u32| (a.cast_signed() as f32).to_bits())
        }
        Type::F32 if plain && from == (Integer { signed: false, bits: 32 }) => {
            maps.map1(WORK, |a: u32| (a as f32).to_bits())
        }
        Type::F64 => convert::<Double, M>(maps, from, modes),
        Type::F32 => convert::<Single, M>(maps, from, modes),
        Type::F16 => convert::<Half, M>(maps, from, modes),
        Type::Bf16 => convert::<Brain, M>(maps, from, modes),
        _ => return None,
    })
}

fn float_to_float<M: Maps>(maps: M, to: Type, from: Type, conversion: Conversion) -> Option<M::Output> {
    match (to, from) {
        (Type::F16x2, Type::F32) => Some(conversion.pair::<Half, M>(maps)),
        (Type::Bf16x2, Type::F32) => Some(conversion.pair::<Brain, M>(maps)),
        (Type::Tf32, Type::F32) => Some(match conversion {
            Conversion::AWAY => maps.map1(WORK, |a: u32| Conversion::AWAY.tensor(a)),
            _ => maps.map1(WORK, move |a: u32| conversion.tensor(a)),
        }),
        (to, Type::F64) => conversion.to::<Double, M>(to, maps),
        (to, Type::F32) => conversion.to::<Single, M>(to, maps),
        (to, Type::F16) => conversion.to::<Half, M>(to, maps),
        (to, Type::Bf16) => conversion.to::<Brain, M>(to, maps),
        _ => None,
    }
}

/// `cvt.rn.satfinite.e4m3x2.f32`, `cvt.rn.f16x2.e5m2x2`
fn decode_f8<M: Maps>(modifiers: &[String], to: &str, from: &str, maps: M) -> Option<M::Output> {
    let modes = Modes::read(modifiers, "rn satfinite relu")?;
    let finite = modifiers.iter().any(|suffix| suffix == "satfinite");
    let conversion = Conversion { integral: None, flush: false, modes, finite };
    match (to, from) {
        ("e4m3x2", from) if finite => conversion.to_f8::<E4m3, M>(from, maps),
        ("e5m2x2", from) if finite => conversion.to_f8::<E5m2, M>(from, maps),
        ("f16x2", "e4m3x2") if !finite => Some(conversion.halves::<E4m3, Half, M>(maps)),
        ("f16x2", "e5m2x2") if !finite => Some(conversion.halves::<E5m2, Half, M>(maps)),
        _ => None,
    }
}

/// `cvt.pack.sat.s8.s32.b32 d, a, b, c`: `a` and `b` in the low bits, the rest from `c`.
fn decode_pack<M: Maps>(suffixes: &[String], maps: M) -> Option<M::Output> {
    let [sat, to, from, rest @ ..] = suffixes else { return None };
    let signed = to.starts_with('s');
    let bits = to.strip_prefix(['s', 'u'])?.parse().ok()?;
    let (to, from) = (Integer { signed, bits }, Integer::read(Type::parse(from)?)?);
    if sat != "sat" || from != (Integer { signed: true, bits: 32 }) {
        return None;
    }
    let both = move |a: u32, b: u32| {
        let clamp = |x: u32| to.clamp(from.value(x.into()));
        clamp(b) | clamp(a) << bits
    };
    match (bits, rest) {
        (16, []) => Some(maps.rarely().map2(WORK, move |a: u32, b: u32| both(a, b) as u32)),
        (2 | 4 | 8, [c]) if c == "b32" => Some(
            maps.rarely()
                .map3(WORK, move |a: u32, b: u32, c: u32| (both(a, b) | u64::from(c) << (2 * bits)) as u32),
        ),
        _ => None,
    }
}
