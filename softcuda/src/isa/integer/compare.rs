//! `setp` and `set`.

use super::{Lane, PREDICATE};
use crate::isa::Maps;

/// Types that are equal or not whatever their sign.
macro_rules! equality {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in [
            "b16" | "u16" | "s16" => u16, "b32" | "u32" | "s32" => u32, "b64" | "u64" | "s64" => u64,
        ] => $body)
    };
}

/// Types that `lo`, `ls`, `hi` and `hs` compare.
macro_rules! unsigned {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["u16" => u16, "u32" => u32, "u64" => u64] => $body)
    };
}

pub(super) fn decode<M: Maps>(opcode: &str, suffixes: &[&str], maps: M) -> Option<M::Output> {
    let (operator, result, ty) = match (opcode, suffixes) {
        ("setp", [operator, ty]) => (operator, Answer::Predicates(None), ty),
        ("setp", [operator, logic, ty]) => (operator, Answer::Predicates(Some(Logic::parse(logic)?)), ty),
        ("set", [operator, result, ty]) => (operator, Answer::Value(truth(result)?, None), ty),
        ("set", [operator, logic, result, ty]) => {
            (operator, Answer::Value(truth(result)?, Some(Logic::parse(logic)?)), ty)
        }
        _ => return None,
    };
    match *operator {
        "eq" => equality!(*ty, T => result.of(maps, |a: T, b: T| a == b)),
        "ne" => equality!(*ty, T => result.of(maps, |a: T, b: T| a != b)),
        "lt" => integers!(*ty, T => result.of(maps, |a: T, b: T| a < b)),
        "le" => integers!(*ty, T => result.of(maps, |a: T, b: T| a <= b)),
        "gt" => integers!(*ty, T => result.of(maps, |a: T, b: T| a > b)),
        "ge" => integers!(*ty, T => result.of(maps, |a: T, b: T| a >= b)),
        "lo" => unsigned!(*ty, T => result.of(maps, |a: T, b: T| a < b)),
        "ls" => unsigned!(*ty, T => result.of(maps, |a: T, b: T| a <= b)),
        "hi" => unsigned!(*ty, T => result.of(maps, |a: T, b: T| a > b)),
        "hs" => unsigned!(*ty, T => result.of(maps, |a: T, b: T| a >= b)),
        _ => None,
    }
}

/// What `set` gives for true.
fn truth(ty: &str) -> Option<u32> {
    match ty {
        "u32" | "s32" => Some(!0),
        "f32" => Some(1f32.to_bits()),
        _ => None,
    }
}

/// What becomes of a comparison.
#[derive(Clone, Copy)]
enum Answer {
    /// It and its contrary, each combined with a third operand.
    Predicates(Option<Logic>),
    /// These bits, or 0.
    Value(u32, Option<Logic>),
}

impl Answer {
    fn of<M: Maps, T: Lane>(
        self,
        maps: M,
        test: impl Fn(T, T) -> bool + Copy + Send + Sync + 'static,
    ) -> M::Output {
        let test = move |a, b| test(T::read(a), T::read(b));
        let value = |holds: bool, truth: u32| u32::from(holds).wrapping_neg() & truth;
        match self {
            Answer::Predicates(None) => maps.compare2(PREDICATE, move |a, b| (test(a, b), !test(a, b))),
            Answer::Predicates(Some(logic)) => maps.compare3(PREDICATE, move |a, b, c| {
                (logic.combine(test(a, b), c), logic.combine(!test(a, b), c))
            }),
            Answer::Value(truth, None) => maps.rarely().map2(PREDICATE, move |a, b| value(test(a, b), truth)),
            Answer::Value(truth, Some(logic)) => {
                maps.rarely().map3(PREDICATE, move |a, b, c: bool| value(logic.combine(test(a, b), c), truth))
            }
        }
    }
}

/// `and`, `or`, `xor` without a branch.
#[derive(Clone, Copy)]
struct Logic {
    /// Whether two trues are true.
    both: bool,
    /// Whether a true and a false are true.
    one: bool,
}

impl Logic {
    fn parse(name: &str) -> Option<Logic> {
        match name {
            "and" => Some(Logic { both: true, one: false }),
            "or" => Some(Logic { both: true, one: true }),
            "xor" => Some(Logic { both: false, one: true }),
            _ => None,
        }
    }

    #[inline(always)]
    fn combine(self, a: bool, b: bool) -> bool {
        (a & b & self.both) | ((a ^ b) & self.one)
    }
}
