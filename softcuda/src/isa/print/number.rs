//! Numbers as C prints them.

use super::format::Specification;

/// Digits behind the point that a double can have; all further ones are zeros.
const MOST_DIGITS: usize = 1100;

/// An integer by its magnitude: `d`, `u`, `o`, `x` or `X`.
pub fn integer(how: &Specification, sign: &str, magnitude: u64, letter: u8, out: &mut Vec<u8>) {
    let mut digits = match letter {
        b'o' => format!("{magnitude:o}"),
        b'x' => format!("{magnitude:x}"),
        b'X' => format!("{magnitude:X}"),
        _ => magnitude.to_string(),
    };
    if magnitude == 0 && how.precision == Some(0) {
        digits.clear();
    }
    let least = how.precision.unwrap_or(1);
    digits.insert_str(0, &"0".repeat(least.saturating_sub(digits.len())));
    let base = match letter {
        b'o' if how.alternative && !digits.starts_with('0') => "0",
        b'x' if how.alternative && magnitude != 0 => "0x",
        b'X' if how.alternative && magnitude != 0 => "0X",
        _ => "",
    };
    how.pad(&format!("{sign}{base}"), digits.as_bytes(), how.zeros && how.precision.is_none(), out);
}

/// A double: `e`, `f`, `g`, `a` or their capitals.
pub fn float(how: &Specification, value: f64, letter: u8, out: &mut Vec<u8>) {
    let sign = how.sign(value.is_sign_negative());
    let magnitude = value.abs();
    let kind = letter.to_ascii_lowercase();
    let mut prefix = sign.to_string();
    let mut body = match kind {
        _ if magnitude.is_nan() => "nan".to_string(),
        _ if magnitude.is_infinite() => "inf".to_string(),
        b'f' => fixed(magnitude, how.precision.unwrap_or(6), how.alternative),
        b'e' => scientific(magnitude, how.precision.unwrap_or(6), how.alternative),
        b'g' => general(magnitude, how.precision.unwrap_or(6).max(1), how.alternative),
        _ => {
            prefix += "0x";
            hexadecimal(magnitude, how.precision, how.alternative)
        }
    };
    if letter.is_ascii_uppercase() {
        prefix.make_ascii_uppercase();
        body.make_ascii_uppercase();
    }
    how.pad(&prefix, body.as_bytes(), how.zeros && magnitude.is_finite(), out);
}

/// `ddd.ddd`
fn fixed(magnitude: f64, precision: usize, point: bool) -> String {
    let mut text = format!("{magnitude:.*}", precision.min(MOST_DIGITS));
    text += &"0".repeat(precision.saturating_sub(MOST_DIGITS));
    if precision == 0 && point {
        text.push('.');
    }
    text
}

/// Digits and decimal exponent of `d.ddd` times a power of ten.
fn parts(magnitude: f64, precision: usize) -> (String, i32) {
    let text = format!("{magnitude:.*e}", precision.min(MOST_DIGITS));
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = format!("{digits}{}", "0".repeat(precision.saturating_sub(MOST_DIGITS)));
    (digits, exponent.parse().unwrap_or(0))
}

/// `e+05`
fn exponent(exponent: i32) -> String {
    format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

/// `d.ddde+dd`
fn scientific(magnitude: f64, precision: usize, point: bool) -> String {
    let (mut digits, power) = parts(magnitude, precision);
    if precision == 0 && point {
        digits.push('.');
    }
    digits + &exponent(power)
}

/// The shorter of the two, with so many digits in all.
fn general(magnitude: f64, precision: usize, keep: bool) -> String {
    let (digits, power) = parts(magnitude, precision - 1);
    let strip = |text: &str| {
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
        text.to_string()
    };
    if power < -4 || power >= i32::try_from(precision).unwrap_or(i32::MAX) {
        if keep {
            return scientific(magnitude, precision - 1, true);
        }
        return strip(&digits) + &exponent(power);
    }
    let text = fixed(magnitude, (precision as i64 - 1 - i64::from(power)) as usize, keep);
    if keep { text } else { strip(&text) }
}

/// `1.8p+3`, without its `0x`.
fn hexadecimal(magnitude: f64, precision: Option<usize>, point: bool) -> String {
    const FRACTION: u32 = 52;
    let bits = magnitude.to_bits();
    let fraction = bits & ((1 << FRACTION) - 1);
    let (lead, power) = match (bits >> FRACTION) as i32 {
        0 if fraction == 0 => (0u64, 0),
        0 => (0, -1022),
        biased => (1, biased - 1023),
    };
    let mut significand = lead << FRACTION | fraction;
    let digits = precision.unwrap_or(13).min(13);
    // Ties go to even.
    let dropped = 4 * (13 - digits as u32);
    if dropped > 0 {
        let half = 1u64 << (dropped - 1);
        let odd = significand >> dropped & 1;
        significand = (significand + half - 1 + odd) >> dropped << dropped;
    }
    let mut text = format!("{:013x}", significand & ((1 << FRACTION) - 1));
    text.truncate(digits);
    match precision {
        None => text.truncate(text.trim_end_matches('0').len()),
        Some(precision) => text += &"0".repeat(precision - digits),
    }
    let point = if text.is_empty() && !point { "" } else { "." };
    let sign = if power < 0 { '-' } else { '+' };
    format!("{:x}{point}{text}p{sign}{}", significand >> FRACTION, power.abs())
}
