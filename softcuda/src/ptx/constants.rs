//! Constant expressions, folded. The rules are those of the PTX ISA's table "Constant Expression Evaluation Rules" with
//! ptxas's own reading where it differs: `%` gives an unsigned number, `& ^ |` give what their operands agree on, and
//! shifts count modulo 64.

use super::ParseError;
use super::ast::Operand;
use super::lexer::{Kind, Token, WARP_SIZE};
use super::parser::Parser;

/// A folded constant. Numbers are 64 bits wide until they are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Constant {
    /// `.s64` or `.u64`; which one decides how it is compared, divided and shifted.
    Integer {
        /// The bits.
        value: u64,
        /// `.u64`
        unsigned: bool,
    },
    /// The bits of `0f3F800000`, which only stands alone.
    Single(u32),
    /// `.f64`
    Double(f64),
}

impl From<Constant> for Operand {
    fn from(constant: Constant) -> Operand {
        match constant {
            Constant::Integer { value, .. } => Operand::Integer(value.cast_signed()),
            Constant::Single(bits) => Operand::F32(bits),
            Constant::Double(value) => Operand::F64(value.to_bits()),
        }
    }
}

impl Parser<'_> {
    /// A whole expression, also `a ? b : c`; `what` completes the error where there is none.
    pub(super) fn constant(&mut self, what: &str) -> Result<Constant, ParseError> {
        self.nested(|parser| parser.conditional(what))
    }

    /// An expression that has to be an integer: a size, an offset.
    pub(super) fn integer(&mut self, what: &str) -> Result<i64, ParseError> {
        let start = self.token;
        match self.constant(what)? {
            Constant::Integer { value, .. } => Ok(value.cast_signed()),
            _ => Err(start.error(format!("{what} is an integer"))),
        }
    }

    fn conditional(&mut self, what: &str) -> Result<Constant, ParseError> {
        let condition = self.binary(1, what)?;
        let question = self.token;
        if !self.accept("?")? {
            return Ok(condition);
        }
        let when_true = self.constant("a constant")?;
        self.expect(":", "of `a ? b : c`")?;
        let when_false = self.constant("a constant")?;
        match (condition, when_true, when_false) {
            (
                Constant::Integer { value, .. },
                Constant::Integer { value: yes, unsigned: a },
                Constant::Integer { value: no, unsigned: b },
            ) => Ok(Constant::Integer { value: if value != 0 { yes } else { no }, unsigned: a || b }),
            _ => Err(question.error("`a ? b : c` is for integers")),
        }
    }

    /// Operators that bind at least as tightly as `tightness`; those of one tightness group to the left.
    fn binary(&mut self, tightness: u8, what: &str) -> Result<Constant, ParseError> {
        let mut left = self.unary(what)?;
        while let Some(found) = tightness_of(&self.token).filter(|&found| found >= tightness) {
            let operator = self.advance()?;
            let right = self.binary(found + 1, "a constant")?;
            left = apply(operator.text, left, right).map_err(|message| operator.error(message))?;
        }
        Ok(left)
    }

    fn unary(&mut self, what: &str) -> Result<Constant, ParseError> {
        let token = self.token;
        match (token.kind, token.text) {
            (Kind::Symbol, "+" | "-" | "!" | "~") => {
                self.advance()?;
                let operand = self.nested(|parser| parser.unary("a constant"))?;
                apply_unary(token.text, operand).map_err(|message| token.error(message))
            }
            (Kind::Symbol, "(") => {
                self.advance()?;
                self.parenthesised(token)
            }
            _ => self.primary(what),
        }
    }

    /// Behind a `(`: an expression in parentheses, or a cast and what it casts.
    fn parenthesised(&mut self, open: Token) -> Result<Constant, ParseError> {
        let Some(ty) = self.token.dotted() else {
            let inner = self.constant("a constant")?;
            self.expect(")", "behind a constant")?;
            return Ok(inner);
        };
        let unsigned = match ty {
            "u64" => true,
            "s64" => false,
            _ => return Err(self.unexpected("`.s64` or `.u64`")),
        };
        self.advance()?;
        self.expect(")", "behind a cast")?;
        match self.nested(|parser| parser.unary("a constant"))? {
            Constant::Integer { value, .. } => Ok(Constant::Integer { value, unsigned }),
            _ => Err(open.error(ONLY_INTEGERS)),
        }
    }

    fn primary(&mut self, what: &str) -> Result<Constant, ParseError> {
        let constant = match self.token.kind {
            Kind::Integer { value, unsigned } => Constant::Integer { value, unsigned },
            Kind::Single(bits) => Constant::Single(bits),
            Kind::Double(value) => Constant::Double(value),
            Kind::Word if self.token.text == WARP_SIZE => Constant::Integer { value: 32, unsigned: false },
            // `.5` looks like a suffix.
            Kind::Dotted => Constant::Double(self.token.text.parse().map_err(|_| self.unexpected(what))?),
            _ => return Err(self.unexpected(what)),
        };
        self.advance()?;
        Ok(constant)
    }
}

const ONLY_INTEGERS: &str = "this operator is for integers";

/// How tightly a binary operator binds: the order of C.
fn tightness_of(token: &Token) -> Option<u8> {
    if token.kind != Kind::Symbol {
        return None;
    }
    Some(match token.text {
        "||" => 1,
        "&&" => 2,
        "|" => 3,
        "^" => 4,
        "&" => 5,
        "==" | "!=" => 6,
        "<" | "<=" | ">" | ">=" => 7,
        "<<" | ">>" => 8,
        "+" | "-" => 9,
        "*" | "/" | "%" => 10,
        _ => return None,
    })
}

fn truth(value: bool) -> Constant {
    Constant::Integer { value: value.into(), unsigned: false }
}

fn apply_unary(operator: &str, operand: Constant) -> Result<Constant, &'static str> {
    match (operator, operand) {
        ("+", Constant::Integer { .. } | Constant::Double(_)) => Ok(operand),
        ("-", Constant::Integer { value, unsigned }) => {
            Ok(Constant::Integer { value: value.wrapping_neg(), unsigned })
        }
        ("-", Constant::Double(value)) => Ok(Constant::Double(-value)),
        ("!", Constant::Integer { value, .. }) => Ok(truth(value == 0)),
        ("~", Constant::Integer { value, .. }) => Ok(Constant::Integer { value: !value, unsigned: true }),
        (_, Constant::Single(_)) => Err(SINGLE_ALONE),
        _ => Err(ONLY_INTEGERS),
    }
}

const SINGLE_ALONE: &str = "a number such as `0f3F800000` stands alone, not in an expression";

fn apply(operator: &str, left: Constant, right: Constant) -> Result<Constant, &'static str> {
    match (left, right) {
        (Constant::Integer { value: a, unsigned: x }, Constant::Integer { value: b, unsigned: y }) => {
            integers(operator, (a, x), (b, y))
        }
        (Constant::Double(a), Constant::Double(b)) => doubles(operator, a, b),
        (Constant::Single(_), _) | (_, Constant::Single(_)) => Err(SINGLE_ALONE),
        _ => Err("an integer and a float do not mix in an expression"),
    }
}

fn integers(operator: &str, left: (u64, bool), right: (u64, bool)) -> Result<Constant, &'static str> {
    let ((a, left_unsigned), (b, right_unsigned)) = (left, right);
    let unsigned = left_unsigned || right_unsigned;
    let usual = |value| Constant::Integer { value, unsigned };
    let bits = |value| Constant::Integer { value, unsigned: true };
    let order = if unsigned { a.cmp(&b) } else { a.cast_signed().cmp(&b.cast_signed()) };
    Ok(match operator {
        "/" | "%" if b == 0 => return Err(DIVISION_BY_ZERO),
        "*" => usual(a.wrapping_mul(b)),
        "/" if unsigned => usual(a / b),
        "/" => usual(a.cast_signed().wrapping_div(b.cast_signed()).cast_unsigned()),
        "%" => bits(a % b),
        "+" => usual(a.wrapping_add(b)),
        "-" => usual(a.wrapping_sub(b)),
        "<<" => Constant::Integer { value: a << (b % 64), unsigned: left_unsigned },
        ">>" if left_unsigned => bits(a >> (b % 64)),
        ">>" => Constant::Integer { value: (a.cast_signed() >> (b % 64)).cast_unsigned(), unsigned: false },
        "&" => usual(a & b),
        "^" => usual(a ^ b),
        "|" => usual(a | b),
        "&&" => truth(a != 0 && b != 0),
        "||" => truth(a != 0 || b != 0),
        _ => truth(comparison(operator, order)),
    })
}

const DIVISION_BY_ZERO: &str = "division by zero";

fn comparison(operator: &str, order: std::cmp::Ordering) -> bool {
    match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn doubles(operator: &str, a: f64, b: f64) -> Result<Constant, &'static str> {
    Ok(match operator {
        "/" if b == 0.0 => return Err(DIVISION_BY_ZERO),
        "+" => Constant::Double(a + b),
        "-" => Constant::Double(a - b),
        "*" => Constant::Double(a * b),
        "/" => Constant::Double(a / b),
        "==" => truth(a == b),
        "!=" => truth(a != b),
        "<" => truth(a < b),
        "<=" => truth(a <= b),
        ">" => truth(a > b),
        ">=" => truth(a >= b),
        _ => return Err(ONLY_INTEGERS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(text: &str) -> Result<Constant, String> {
        let mut parser = Parser::new(text).map_err(|error| error.to_string())?;
        let constant = parser.constant("a constant").map_err(|error| error.to_string())?;
        assert_eq!(parser.token.kind, Kind::End, "{text} is read to its end");
        Ok(constant)
    }

    fn integer(text: &str) -> i64 {
        match fold(text) {
            Ok(Constant::Integer { value, .. }) => value.cast_signed(),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// The values are what ptxas 13.0 put into a cubin for `.global .s64 x[1] = {...}`.
    #[test]
    fn integers_fold_as_ptxas_folds_them() {
        let cases = [
            ("-7 % 3", 0),
            ("7 % -3", 7),
            ("-7/2", -3),
            ("-7/2U", 9_223_372_036_854_775_804),
            ("-1 >> 1", -1),
            ("-1U >> 1", i64::MAX),
            ("-1 >> 1U", -1),
            ("1<<64", 1),
            ("1<<65", 2),
            ("1 << -1", i64::MIN),
            ("-8>>70", -1),
            ("(.u64)-8 >> 70", 288_230_376_151_711_743),
            ("-1 > 0", 0),
            ("-1 > 0U", 1),
            ("(.u64) -1 > 0", 1),
            ("-1 == 18446744073709551615", 1),
            ("!5", 0),
            ("!0", 1),
            ("~0", -1),
            ("5 && 0", 0),
            ("0||7", 1),
            ("1 ? 2 : 3", 2),
            ("0?1:0?2:3", 3),
            ("1 ? 2U : -1", 2),
            ("2+3*4", 14),
            ("7 - 3 - 2", 2),
            ("1|2^3&4", 3),
            ("5 == 5 == 1", 1),
            ("1 < 2 < 3", 1),
            ("(.s64)18446744073709551615", -1),
            ("(.s64) 5 + 3", 8),
            ("(1?2:3)+1", 3),
            ("-(2)", -2),
            ("+3", 3),
            ("- -3", 3),
            ("(~5 & 3) > -1", 0),
            ("(-7 % 3) > -1", 0),
            ("(-7 % 3) - 1 > 0", 1),
            ("(-1 & -1) > 0", 0),
            ("(-1 ^ 0) > 0", 0),
            ("(-1 | 0U) > 0", 1),
            ("(!0) - 2 > 0", 0),
            ("(1<<1U) - 3 > 0", 0),
            ("(1U<<1) - 3 > 0", 1),
            ("(1 ? 2U : 1) - 3 > 0", 1),
            ("(1U>2U)-2>0", 0),
            ("1.5 < 2.5", 1),
            ("1.5 == 1.5", 1),
            ("WARP_SZ-1", 31),
        ];
        for (text, want) in cases {
            assert_eq!(integer(text), want, "{text}");
        }
    }

    #[test]
    fn comparisons_and_bit_operators_know_their_neighbours() {
        let cases = [
            ("3 <= 3", 1),
            ("3 >= 4", 0),
            ("3 != 3", 0),
            ("6 ^ 3", 5),
            ("6 | 1", 7),
            ("6 & 3", 2),
            ("2.5 >= 2.5", 1),
        ];
        for (text, want) in cases {
            assert_eq!(integer(text), want, "{text}");
        }
        assert_eq!(integer("(-9223372036854775807-1)/-1"), i64::MIN, "wraps, where ptxas crashes");
    }

    #[test]
    fn doubles_fold_among_themselves() {
        for (text, want) in [("1.5+2.5", 4.0), ("3.0/2.0", 1.5), ("-.5", -0.5), ("2.*(1.5 - 4e0)", -5.0)] {
            assert_eq!(fold(text), Ok(Constant::Double(want)), "{text}");
        }
        assert_eq!(fold("0f3F800000"), Ok(Constant::Single(0x3F80_0000)));
    }

    #[test]
    fn what_does_not_fold_says_why() {
        let cases = [
            ("1/0", "line 1, column 2: division by zero"),
            ("4 % 0", "line 1, column 3: division by zero"),
            ("1.0/0.0", "line 1, column 4: division by zero"),
            ("1.5+2", "line 1, column 4: an integer and a float do not mix in an expression"),
            (
                "-0f3F800000",
                "line 1, column 1: a number such as `0f3F800000` stands alone, not in an expression",
            ),
            ("!1.5", "line 1, column 1: this operator is for integers"),
            ("1.0 & 1.0", "line 1, column 5: this operator is for integers"),
            ("(.s64)1.5", "line 1, column 1: this operator is for integers"),
            ("1.0 ? 2 : 3", "line 1, column 5: `a ? b : c` is for integers"),
            ("(.f64)1", "line 1, column 2: unexpected `.f64`, expected `.s64` or `.u64`"),
            ("(1", "line 1, column 3: unexpected end of text, expected `)` behind a constant"),
            ("1 ? 2", "line 1, column 6: unexpected end of text, expected `:` of `a ? b : c`"),
            ("1 + ;", "line 1, column 5: unexpected `;`, expected a constant"),
        ];
        for (text, want) in cases {
            assert_eq!(fold(text), Err(want.to_string()), "{text}");
        }
    }

    #[test]
    fn nesting_ends_in_an_error_and_not_in_a_full_stack() {
        for deep in ["-", "(", "!", "1?", "1?2:", "(.u64)"] {
            let error = fold(&deep.repeat(100_000)).expect_err(deep);
            assert!(error.ends_with("nested more than 64 deep"), "{deep}: {error}");
        }
        assert_eq!(integer(&format!("{}7{}", "(".repeat(20), ")".repeat(20))), 7);
    }
}
