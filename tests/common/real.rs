//! A number type for references: the same textbook loop gives the truth in f64 and the naive result in f32.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// What textbook formulas need of a number.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;

    /// `function` evaluated in f64 and rounded once, as a good mathematical library does.
    fn map(self, function: impl Fn(f64) -> f64) -> Self {
        Self::from_f64(function(self.to_f64()))
    }

    /// 0
    fn zero() -> Self {
        Self::from_f64(0.0)
    }

    /// A count as a number.
    fn count(n: usize) -> Self {
        Self::from_f64(n as f64)
    }
}

impl Real for f32 {
    fn from_f64(x: f64) -> Self {
        x as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn from_f64(x: f64) -> Self {
        x
    }

    fn to_f64(self) -> f64 {
        self
    }
}
