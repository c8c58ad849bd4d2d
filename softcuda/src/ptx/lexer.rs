//! Text to tokens. A token borrows its text; comments and white space vanish here.

use super::ParseError;

/// The one word that is a constant.
pub(super) const WARP_SIZE: &str = "WARP_SZ";

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// `ld`, `%r1`, `$L__BB0_2`, `_`
    Word,
    /// `.global`, `.shared::cta`, `.2d`: see [`Token::dotted`].
    Dotted,
    /// `12`, `0x1F`, `017`, `0b11`, `7U`
    Integer {
        /// As 64 bits.
        value: u64,
        /// It has the suffix `U`, or does not fit a signed 64-bit number.
        unsigned: bool,
    },
    /// `0f3F800000`: the bits.
    Single(u32),
    /// `0d3FF0000000000000`, `1.5`, `1e-3`
    Double(f64),
    /// `"kernel.cu"`: the text has its quotes.
    String,
    /// One of [`SYMBOLS`] or a single character.
    Symbol,
    /// Behind the last one.
    End,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    /// As written.
    pub text: &'a str,
    pub line: u32,
    pub column: u32,
}

impl<'a> Token<'a> {
    /// `global` for `.global`; `None` for anything that has no dot in front.
    pub fn dotted(&self) -> Option<&'a str> {
        if self.kind == Kind::Dotted { self.text.get(1..) } else { None }
    }

    /// A word that stands for something else than a number.
    pub fn is_name(&self) -> bool {
        self.kind == Kind::Word && self.text != WARP_SIZE
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    pub fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError { line: self.line, column: self.column, message: message.into() }
    }

    /// For an error: the token in backticks, shortened.
    pub fn quoted(&self) -> String {
        if self.kind == Kind::End {
            return "end of text".to_string();
        }
        let short: String = self.text.chars().take(40).collect();
        let more = if short.len() < self.text.len() { "..." } else { "" };
        format!("`{short}{more}`")
    }
}

/// Symbols of two characters.
const SYMBOLS: [&[u8; 2]; 8] = [b"<<", b">>", b"<=", b">=", b"==", b"!=", b"&&", b"||"];

/// Walks over the text. Cheap to copy, which is how one looks ahead.
#[derive(Clone, Copy)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Byte that comes next.
    at: usize,
    line: u32,
    /// Byte at which the line begins.
    line_start: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Lexer { text, at: 0, line: 1, line_start: 0 }
    }

    /// The next token; [`Kind::End`] again and again at the end.
    pub fn next(&mut self) -> Result<Token<'a>, ParseError> {
        self.skip_blanks()?;
        let start = self.at;
        let mut token = self.token_from(start);
        let Some(first) = self.byte(0) else { return Ok(token) };
        token.kind = match first {
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => self.word(),
            b'%' | b'$' if self.byte(1).is_some_and(in_word) => self.word(),
            b'.' if self.byte(1).is_some_and(in_word) => self.dotted(),
            b'0'..=b'9' => self.number(token)?,
            b'"' => self.string(token)?,
            _ => self.symbol(token, first)?,
        };
        token.text = self.since(start);
        Ok(token)
    }

    fn token_from(&self, start: usize) -> Token<'a> {
        let column = u32::try_from(start - self.line_start).unwrap_or(u32::MAX).saturating_add(1);
        Token { kind: Kind::End, text: "", line: self.line, column }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// What was read from `start` on. Tokens begin and end at ASCII characters, so this is never the default.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|&byte| !wanted(byte)).unwrap_or(rest.len());
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        while let Some(byte) = self.byte(0) {
            match byte {
                b'\n' => self.newline(),
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'/' if self.byte(1) == Some(b'/') => self.skip_while(|byte| byte != b'\n'),
                b'/' if self.byte(1) == Some(b'*') => self.skip_block_comment()?,
                // What the C preprocessor leaves behind: `# 1 "file"`.
                b'#' if self.at == self.line_start => self.skip_while(|byte| byte != b'\n'),
                _ => break,
            }
        }
        Ok(())
    }

    fn newline(&mut self) {
        self.at += 1;
        self.line = self.line.saturating_add(1);
        self.line_start = self.at;
    }

    fn skip_block_comment(&mut self) -> Result<(), ParseError> {
        let opening = self.token_from(self.at);
        self.at += 2;
        loop {
            self.skip_while(|byte| byte != b'*' && byte != b'\n');
            match self.byte(0) {
                Some(b'\n') => self.newline(),
                Some(_) if self.byte(1) == Some(b'/') => break,
                Some(_) => self.at += 1,
                None => return Err(opening.error("this comment is not closed")),
            }
        }
        self.at += 2;
        Ok(())
    }

    fn word(&mut self) -> Kind {
        self.at += 1;
        self.skip_while(in_word);
        Kind::Word
    }

    /// `.mbarrier::arrive::one` is one token, as it is one suffix.
    fn dotted(&mut self) -> Kind {
        self.at += 1;
        self.skip_while(in_word);
        while self.byte(0) == Some(b':') && self.byte(1) == Some(b':') && self.byte(2).is_some_and(in_word) {
            self.at += 2;
            self.skip_while(in_word);
        }
        Kind::Dotted
    }

    fn string(&mut self, opening: Token) -> Result<Kind, ParseError> {
        self.at += 1;
        self.skip_while(|byte| byte != b'"' && byte != b'\n');
        if self.byte(0) != Some(b'"') {
            return Err(opening.error("this string is not closed"));
        }
        self.at += 1;
        Ok(Kind::String)
    }

    fn symbol(&mut self, token: Token, first: u8) -> Result<Kind, ParseError> {
        if !first.is_ascii_graphic() {
            let character = self.text.get(self.at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
            return Err(token.error(format!("{character:?} has no place in PTX")));
        }
        let double = self.byte(1).is_some_and(|second| SYMBOLS.contains(&&[first, second]));
        self.at += if double { 2 } else { 1 };
        Ok(Kind::Symbol)
    }

    /// A number is everything up to the next character that cannot belong to one, and then has to be well-formed.
    fn number(&mut self, token: Token) -> Result<Kind, ParseError> {
        let start = self.at;
        self.skip_while(in_word);
        if !is_prefixed(self.since(start)) {
            self.finish_decimal();
        }
        let text = self.since(start);
        number(text).ok_or_else(|| {
            let shown = Token { text, kind: Kind::Symbol, ..token }.quoted();
            token.error(format!("{shown} is not a number, or too large a one"))
        })
    }

    /// The dot and the exponent's sign of `1.5e-3`, which a word does not have.
    fn finish_decimal(&mut self) {
        if self.byte(0) == Some(b'.') {
            self.at += 1;
            self.skip_while(in_word);
        }
        let exponent = matches!(self.text.as_bytes()[self.at - 1], b'e' | b'E');
        if exponent && matches!(self.byte(0), Some(b'+' | b'-')) {
            self.at += 1;
            self.skip_while(in_word);
        }
    }
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

/// `0x..`, `0b..`, `0f..`, `0d..`
fn is_prefixed(text: &str) -> bool {
    matches!(text.as_bytes(), [b'0', b'x' | b'X' | b'b' | b'B' | b'f' | b'F' | b'd' | b'D', ..])
}

fn number(text: &str) -> Option<Kind> {
    match text.as_bytes() {
        [b'0', b'f' | b'F', digits @ ..] => {
            u32::try_from(hexadecimal(text, digits, 8)?).ok().map(Kind::Single)
        }
        [b'0', b'd' | b'D', digits @ ..] => {
            hexadecimal(text, digits, 16).map(|bits| Kind::Double(f64::from_bits(bits)))
        }
        _ => integer(text).or_else(|| decimal(text)),
    }
}

/// The bits of a float, which are written in full.
fn hexadecimal(text: &str, digits: &[u8], want: usize) -> Option<u64> {
    if digits.len() != want || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(text.get(2..)?, 16).ok()
}

fn integer(text: &str) -> Option<Kind> {
    let (digits, suffix) = match text.strip_suffix('U') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', b'b' | b'B', ..] => (digits.get(2..)?, 2),
        [b'0', _, ..] => (digits, 8),
        _ => (digits, 10),
    };
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(Kind::Integer { value, unsigned: suffix || i64::try_from(value).is_err() })
}

/// Rust's own syntax is a superset of PTX's; what it has besides are names (`inf`), which do not begin with a digit.
fn decimal(text: &str) -> Option<Kind> {
    let written_as_float = text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    text.parse().ok().filter(|_| written_as_float).map(Kind::Double)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let mut lexer = Lexer::new(text);
        std::iter::from_fn(|| lexer.next().ok().map(|t| t.kind).filter(|&kind| kind != Kind::End)).collect()
    }

    fn texts(text: &str) -> Vec<&str> {
        let mut lexer = Lexer::new(text);
        std::iter::from_fn(|| lexer.next().ok().filter(|t| t.kind != Kind::End).map(|t| t.text)).collect()
    }

    fn error(text: &str) -> String {
        let mut lexer = Lexer::new(text);
        loop {
            match lexer.next() {
                Err(error) => return error.to_string(),
                Ok(token) => assert_ne!(token.kind, Kind::End, "{text} has no error"),
            }
        }
    }

    fn signed(value: u64) -> Kind {
        Kind::Integer { value, unsigned: false }
    }

    fn unsigned(value: u64) -> Kind {
        Kind::Integer { value, unsigned: true }
    }

    #[test]
    fn integers_have_four_bases_and_a_sign_of_their_own() {
        assert_eq!(kinds("0 19 017 0x1f 0X1F 0b101"), [0, 19, 15, 31, 31, 5].map(signed));
        assert_eq!(kinds("7U 0U 0xFFU 9223372036854775808"), [7, 0, 255, 1 << 63].map(unsigned));
        assert_eq!(kinds("9223372036854775807"), [signed(i64::MAX as u64)]);
    }

    #[test]
    fn floats_are_bits_or_decimals() {
        assert_eq!(kinds("0f3F800000 0F3f800000"), [Kind::Single(0x3F80_0000); 2]);
        assert_eq!(kinds("0d3FF8000000000000 1.5 15e-1 0.15E+1 1.5e0"), [Kind::Double(1.5); 5]);
        assert_eq!(kinds("2. 0.5 0e0 1e3"), [2.0, 0.5, 0.0, 1000.0].map(Kind::Double));
    }

    #[test]
    fn malformed_numbers_are_refused_whole() {
        let floats = ["0f3F80000", "0f3F8000000", "0fG0000000", "0d3FF", "1e", "1e+", "1.5x"];
        let integers = ["08", "0x", "0xG", "0b2", "12ab", "1u", "1UU", "18446744073709551616"];
        for text in floats.into_iter().chain(integers) {
            assert_eq!(
                error(text),
                format!("line 1, column 1: `{text}` is not a number, or too large a one")
            );
        }
    }

    #[test]
    fn words_may_begin_with_percent_dollar_or_underscore() {
        assert_eq!(
            texts("ld %r1 $L__BB0_2 _ _Z3fooPf a$b"),
            ["ld", "%r1", "$L__BB0_2", "_", "_Z3fooPf", "a$b"]
        );
        assert_eq!(texts("5 % 3%r"), ["5", "%", "3", "%r"], "a lone % is the remainder");
    }

    #[test]
    fn a_suffix_with_colons_is_one_token() {
        let text = "cp.async.ca.shared::cta.L2::128B.2d lab: .mbarrier::arrive::one";
        let want =
            ["cp", ".async", ".ca", ".shared::cta", ".L2::128B", ".2d", "lab", ":", ".mbarrier::arrive::one"];
        assert_eq!(texts(text), want);
    }

    #[test]
    fn comments_are_blanks_and_lines_are_counted_through_them() {
        let mut lexer = Lexer::new("a // b\n/* c\n * d **/ e/**/f");
        let tokens =
            [lexer.next(), lexer.next(), lexer.next()].map(|t| t.map(|t| (t.text, t.line, t.column)));
        assert_eq!(tokens, [Ok(("a", 1, 1)), Ok(("e", 3, 10)), Ok(("f", 3, 15))]);
        assert_eq!(error("a\n /* b"), "line 2, column 2: this comment is not closed");
        assert_eq!(texts("# 1 \"a.cu\"\nb"), ["b"]);
    }

    #[test]
    fn strings_end_on_their_line() {
        assert_eq!(texts("\"a b//\u{fffd}\" 1"), ["\"a b//\u{fffd}\"", "1"]);
        assert_eq!(error("  \"a\n\""), "line 1, column 3: this string is not closed");
    }

    #[test]
    fn foreign_characters_are_named() {
        assert_eq!(error("add \u{fc}"), "line 1, column 5: 'ü' has no place in PTX");
        assert_eq!(error("a\0"), "line 1, column 2: '\\0' has no place in PTX");
    }

    #[test]
    fn symbols_are_as_long_as_they_can_be() {
        assert_eq!(texts("<<<=&&&!=!p a|b"), ["<<", "<=", "&&", "&", "!=", "!", "p", "a", "|", "b"]);
    }
}
