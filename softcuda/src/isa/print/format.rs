//! C's `printf`, as the device has it: `%[flags][width][.precision][size]conversion`.

use super::number;

/// Arguments beyond the format, at most (CUDA programming guide, "Formatted Output").
const MOST_ARGUMENTS: u32 = 32;
/// Width and precision are cut to this.
const MOST: usize = 1 << 16;

/// Where arguments come from.
pub trait Arguments {
    /// What may go wrong.
    type Failure;
    /// The next argument, of 4 or 8 bytes.
    fn value(&mut self, bytes: u32) -> Result<u64, Self::Failure>;
    /// The string at an address: up to its end, or so many bytes.
    fn string(&mut self, address: u64, most: usize) -> Result<Vec<u8>, Self::Failure>;
}

/// Size modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Byte,
    Short,
    Word,
    Long,
}

/// One conversion.
#[derive(Clone, Debug, Default)]
pub struct Specification {
    /// `-`
    pub left: bool,
    /// `+`
    pub plus: bool,
    /// A space.
    pub space: bool,
    /// `#`
    pub alternative: bool,
    /// `0`
    pub zeros: bool,
    /// Characters at least.
    pub width: usize,
    /// `.precision`
    pub precision: Option<usize>,
}

impl Specification {
    /// The sign of a number.
    pub fn sign(&self, negative: bool) -> &'static str {
        match () {
            () if negative => "-",
            () if self.plus => "+",
            () if self.space => " ",
            () => "",
        }
    }

    /// Fills up to the width: a prefix stays in front of zeros.
    pub fn pad(&self, prefix: &str, body: &[u8], zeros: bool, out: &mut Vec<u8>) {
        let missing = self.width.saturating_sub(prefix.len() + body.len());
        let fill = |out: &mut Vec<u8>, with: u8| out.resize(out.len() + missing, with);
        if !self.left && !zeros {
            fill(out, b' ');
        }
        out.extend_from_slice(prefix.as_bytes());
        if !self.left && zeros {
            fill(out, b'0');
        }
        out.extend_from_slice(body);
        if self.left {
            fill(out, b' ');
        }
    }
}

/// Reads a format.
struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn number(&mut self) -> usize {
        let mut value = 0usize;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = (value * 10 + usize::from(digit - b'0')).min(MOST);
            self.at += 1;
        }
        value
    }

    fn size(&mut self) -> Size {
        match (self.peek(), self.text.get(self.at + 1)) {
            (Some(b'h'), Some(b'h')) => {
                self.at += 2;
                Size::Byte
            }
            (Some(b'h'), _) => {
                self.at += 1;
                Size::Short
            }
            (Some(b'l'), second) => {
                self.at += 1 + usize::from(second == Some(&b'l'));
                Size::Long
            }
            (Some(b'j' | b'z' | b't'), _) => {
                self.at += 1;
                Size::Long
            }
            _ => Size::Word,
        }
    }
}

/// The text, and how many arguments went into it. What is no conversion is printed as it stands.
///
/// # Errors
/// What reading an argument gave.
pub fn format<A: Arguments>(text: &[u8], arguments: &mut A) -> Result<(Vec<u8>, u32), A::Failure> {
    let mut out = Vec::new();
    let mut used = 0;
    let mut cursor = Cursor { text, at: 0 };
    while let Some(byte) = cursor.peek() {
        cursor.at += 1;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let start = cursor.at - 1;
        if cursor.take(b'%') {
            out.push(b'%');
            continue;
        }
        if used >= MOST_ARGUMENTS {
            out.push(b'%');
            continue;
        }
        if !conversion(&mut cursor, arguments, &mut used, &mut out)? {
            out.extend_from_slice(&text[start..cursor.at]);
        }
    }
    Ok((out, used))
}

/// What stands behind a `%`; false for what is no conversion.
fn conversion<A: Arguments>(
    cursor: &mut Cursor<'_>,
    arguments: &mut A,
    used: &mut u32,
    out: &mut Vec<u8>,
) -> Result<bool, A::Failure> {
    let mut next = |arguments: &mut A, bytes: u32| {
        *used += 1;
        arguments.value(bytes)
    };
    let mut how = Specification::default();
    loop {
        match cursor.peek() {
            Some(b'-') => how.left = true,
            Some(b'+') => how.plus = true,
            Some(b' ') => how.space = true,
            Some(b'#') => how.alternative = true,
            Some(b'0') => how.zeros = true,
            _ => break,
        }
        cursor.at += 1;
    }
    if cursor.take(b'*') {
        let width = next(arguments, 4)? as u32 as i32;
        how.left |= width < 0;
        how.width = (width.unsigned_abs() as usize).min(MOST);
    } else {
        how.width = cursor.number();
    }
    if cursor.take(b'.') {
        how.precision = if cursor.take(b'*') {
            usize::try_from(next(arguments, 4)? as u32 as i32).ok().map(|precision| precision.min(MOST))
        } else {
            Some(cursor.number())
        };
    }
    let size = cursor.size();
    let Some(letter) = cursor.peek() else { return Ok(false) };
    cursor.at += 1;
    let bytes = if size == Size::Long { 8 } else { 4 };
    match letter {
        b'd' | b'i' => {
            let value = next(arguments, bytes)?;
            let value = match size {
                Size::Byte => i64::from(value as i8),
                Size::Short => i64::from(value as i16),
                Size::Word => i64::from(value as i32),
                Size::Long => value as i64,
            };
            number::integer(&how, how.sign(value < 0), value.unsigned_abs(), b'd', out);
        }
        b'u' | b'o' | b'x' | b'X' => {
            let value = next(arguments, bytes)?;
            let value = match size {
                Size::Byte => u64::from(value as u8),
                Size::Short => u64::from(value as u16),
                Size::Word => u64::from(value as u32),
                Size::Long => value,
            };
            number::integer(&how, "", value, letter, out);
        }
        b'e' | b'E' | b'f' | b'F' | b'g' | b'G' | b'a' | b'A' => {
            number::float(&how, f64::from_bits(next(arguments, 8)?), letter, out);
        }
        b'c' => how.pad("", &[next(arguments, 4)? as u8], false, out),
        b's' => {
            let address = next(arguments, 8)?;
            let most = how.precision.unwrap_or(usize::MAX);
            let string = match address {
                // As glibc, which the driver hands the text to.
                0 if most >= 6 => b"(null)".to_vec(),
                0 => Vec::new(),
                _ => arguments.string(address, most)?,
            };
            how.pad("", &string, false, out);
        }
        b'p' => match next(arguments, 8)? {
            0 => how.pad("", b"(nil)", false, out),
            pointer => {
                let how = Specification { alternative: true, ..how };
                number::integer(&how, how.sign(false), pointer, b'x', out);
            }
        },
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
