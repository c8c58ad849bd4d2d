//! Matrix products: `mma.sync`, and what `wmma.mma` shares with it.

use super::arithmetic::{self, Arithmetic, Population, Single, Whole};
use super::format::{Format, Shape};
use super::inputs::{Bf16, Bits, Double, Float8, Half, Input, Integer, Tf32};
use super::layout::{Fragment, Role};
use super::multiply::Product;
use super::{Lanes, vector_length};
use crate::ptx::ast::Instruction;
use std::array::from_fn;
use std::borrow::Borrow;

/// A product of matrices in a warp's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mma {
    /// Its shape.
    pub shape: Shape,
    /// A as the warp holds it.
    pub a: Fragment,
    /// B.
    pub b: Fragment,
    /// C.
    pub c: Fragment,
    /// D.
    pub d: Fragment,
    /// `.satfinite`
    pub is_saturating: bool,
    /// `.and.popc` rather than `.xor.popc`, for `.b1`.
    pub is_and: bool,
    /// The least `.target` that has it.
    target: u32,
}

/// What the suffixes of `mma.sync` and `wmma.mma` say.
#[derive(Default)]
pub(super) struct Suffixes {
    pub(super) shape: Option<Shape>,
    /// In the order written.
    pub(super) formats: Vec<Format>,
    /// `row` or `col`: of A, of B.
    pub(super) layouts: Vec<String>,
    is_saturating: bool,
    is_rounding: bool,
    is_and: bool,
    is_xor: bool,
    is_population: bool,
}

impl Suffixes {
    /// Of an instruction whose suffixes from `first` on are these; `None` for one that is not known.
    pub(super) fn parse(suffixes: &[String]) -> Option<Suffixes> {
        let mut found = Suffixes::default();
        let mut modes = 0;
        for suffix in suffixes {
            match suffix.as_str() {
                "sync" | "aligned" => modes += 1,
                "row" | "col" => found.layouts.push(suffix.clone()),
                "satfinite" => found.is_saturating = true,
                "rn" => found.is_rounding = true,
                "and" => found.is_and = true,
                "xor" => found.is_xor = true,
                "popc" => found.is_population = true,
                name => match (Format::parse(name), Shape::parse(name)) {
                    (Some(format), _) => found.formats.push(format),
                    (None, Some(shape)) => found.shape = Some(shape),
                    _ => return None,
                },
            }
        }
        (modes == 2).then_some(found)
    }

    /// Whether the modifiers go with the format of A.
    fn fit(&self, a: Format) -> bool {
        let is_integer = matches!(a, Format::S8 | Format::U8 | Format::S4 | Format::U4);
        let is_bits = a == Format::B1;
        (!self.is_saturating || is_integer)
            && (!self.is_rounding || a == Format::F64)
            && self.is_population == is_bits
            && (self.is_and != self.is_xor) == is_bits
            && !(self.is_and && self.is_xor)
    }
}

/// The least target with this `mma.sync`.
fn mma_target(shape: Shape, [a, b]: [Format; 2], is_and: bool) -> Option<u32> {
    use Format::*;
    Some(match (a, b, (shape.m, shape.n, shape.k)) {
        (F16, F16, (16, 8, 8)) => 75,
        (F16, F16, (16, 8, 16)) | (Bf16, Bf16, (16, 8, 8 | 16)) | (Tf32, Tf32, (16, 8, 4 | 8)) => 80,
        (E4m3 | E5m2, E4m3 | E5m2, (16, 8, 16 | 32)) => 89,
        (S8 | U8, S8 | U8, (8, 8, 16)) | (S4 | U4, S4 | U4, (8, 8, 32)) => 75,
        (S8 | U8, S8 | U8, (16, 8, 16 | 32)) | (S4 | U4, S4 | U4, (16, 8, 32 | 64)) => 80,
        (B1, B1, (8, 8, 128)) if !is_and => 75,
        (B1, B1, (8, 8, 128) | (16, 8, 128 | 256)) | (F64, F64, (8, 8, 4)) => 80,
        (F64, F64, (16, 8, 4 | 8 | 16)) => 90,
        _ => return None,
    })
}

/// The least target with this `wmma.mma`.
fn wmma_target(shape: Shape, [a, b]: [Format; 2], is_and: bool) -> Option<u32> {
    use Format::*;
    let is_sixteen_deep = matches!((shape.m, shape.n, shape.k), (16, 16, 16) | (32, 8, 16) | (8, 32, 16));
    Some(match (a, b, (shape.m, shape.n, shape.k)) {
        (F16, F16, _) | (S8, S8, _) | (U8, U8, _) if is_sixteen_deep => 75,
        (Bf16, Bf16, _) if is_sixteen_deep => 80,
        (Tf32, Tf32, (16, 16, 8)) | (F64, F64, (8, 8, 4)) => 80,
        (S4, S4, (8, 8, 32)) | (U4, U4, (8, 8, 32)) => 75,
        (B1, B1, (8, 8, 128)) => {
            if is_and {
                80
            } else {
                75
            }
        }
        _ => return None,
    })
}

/// Whether sums of products of `a` can be held so.
fn sums_in(a: Format, sum: Format) -> bool {
    use Format::*;
    match a {
        F16 | E4m3 | E5m2 => matches!(sum, F16 | F32),
        Bf16 | Tf32 => sum == F32,
        F64 => sum == F64,
        _ => sum == S32,
    }
}

impl Mma {
    /// Of an `mma.sync.aligned`; `None` if this is no such instruction, or one that no target from sm_75 to sm_90 has, or
    /// its operands do not fit, or it is one left out: the form of sm_70, `m8n8k4` on f16.
    pub fn parse(instruction: &Instruction) -> Option<Mma> {
        if instruction.opcode != "mma" {
            return None;
        }
        let suffixes = Suffixes::parse(&instruction.suffixes)?;
        let [d, a, b, c] = suffixes.formats[..].try_into().ok()?;
        if suffixes.layouts != ["row", "col"] || c != d {
            return None;
        }
        let target = mma_target(suffixes.shape?, [a, b], suffixes.is_and)?;
        Mma::new(&suffixes, [d, a, b, c], target)?.with_operands(instruction)
    }

    /// Of a `wmma.mma`, in the fragments of [`super::wmma`].
    pub(super) fn parse_wmma(instruction: &Instruction) -> Option<Mma> {
        let suffixes = Suffixes::parse(instruction.suffixes.get(1..)?)?;
        let formats = match suffixes.formats[..] {
            [d, c] => [d, Format::F16, Format::F16, c],
            [_, Format::F16, Format::F16, _] => return None,
            [d, a, b, c] => [d, a, b, c],
            _ => return None,
        };
        if suffixes.layouts.len() != 2 {
            return None;
        }
        let target = wmma_target(suffixes.shape?, [formats[1], formats[2]], suffixes.is_and)?;
        let is_narrow = matches!(formats[1], Format::S4 | Format::U4 | Format::B1);
        if is_narrow && suffixes.layouts != ["row", "col"] {
            return None;
        }
        let mut mma = Mma::new(&suffixes, formats, target)?;
        mma.a = super::wmma::stretched(mma.a);
        mma.b = super::wmma::stretched(mma.b);
        mma.with_operands(instruction)
    }

    fn new(suffixes: &Suffixes, [d, a, b, c]: [Format; 4], target: u32) -> Option<Mma> {
        if !suffixes.fit(a) || !sums_in(a, c) || !sums_in(a, d) {
            return None;
        }
        let shape @ Shape { m, n, k } = suffixes.shape?;
        Some(Mma {
            shape,
            a: Fragment::new(Role::Left, m, k, a),
            b: Fragment::new(Role::Right, k, n, b),
            c: Fragment::new(Role::Accumulator, m, n, c),
            d: Fragment::new(Role::Accumulator, m, n, d),
            is_saturating: suffixes.is_saturating,
            is_and: suffixes.is_and,
            target,
        })
    }

    /// Itself, if the instruction's operands are the fragments.
    fn with_operands(self, instruction: &Instruction) -> Option<Mma> {
        let fragments = [self.d, self.a, self.b, self.c];
        let fits = |(index, fragment): (usize, &Fragment)| {
            vector_length(instruction.operands.get(index)) == Some(fragment.registers)
        };
        let has_four = instruction.operands.len() == fragments.len();
        (has_four && fragments.iter().enumerate().all(fits)).then_some(self)
    }

    /// Operations of the warp: a multiplication and an addition for each element of A and column of B. (Integers too.)
    pub const fn flops(&self) -> u64 {
        2 * self.shape.m as u64 * self.shape.n as u64 * self.shape.k as u64
    }

    /// Whether A and B are `.tf32`.
    pub fn is_tf32(&self) -> bool {
        self.a.format == Format::Tf32
    }

    /// Whether the registers are of 64 bits: [`Mma::multiply_double`] is to be called.
    pub fn is_double(&self) -> bool {
        self.a.format == Format::F64
    }

    /// The least `.target` that has the instruction: 75 for sm_75.
    pub const fn minimum_target(&self) -> u32 {
        self.target
    }

    /// D from A, B and C in 32-bit registers.
    ///
    /// # Panics
    /// If there are fewer registers than the fragments have, or they are of 64 bits ([`Mma::is_double`]).
    pub fn multiply(
        &self,
        a: &[impl Borrow<Lanes<u32>>],
        b: &[impl Borrow<Lanes<u32>>],
        c: &[impl Borrow<Lanes<u32>>],
        d: &mut [Lanes<u32>],
    ) {
        let mut registers = Registers::new(self, a, b, c, d);
        let [left, right] = [self.a.format, self.b.format];
        let single =
            Single { from_half: self.c.format == Format::F16, to_half: self.d.format == Format::F16 };
        let whole = Whole { is_saturating: self.is_saturating };
        let integer = |format| Integer { is_signed: matches!(format, Format::S8 | Format::S4) };
        let float8 = |format| Float8 { is_e4m3: format == Format::E4m3 };
        match left {
            Format::F16 => registers.multiply::<_, _, _, 2>(Half, Half, single),
            Format::Bf16 => registers.multiply::<_, _, _, 2>(Bf16, Bf16, single),
            Format::Tf32 => registers.multiply::<_, _, _, 1>(Tf32, Tf32, single),
            Format::E4m3 | Format::E5m2 => {
                registers.multiply::<_, _, _, 4>(float8(left), float8(right), single)
            }
            Format::S8 | Format::U8 => registers.multiply::<_, _, _, 4>(integer(left), integer(right), whole),
            Format::S4 | Format::U4 => registers.multiply::<_, _, _, 8>(integer(left), integer(right), whole),
            Format::B1 => registers.multiply::<_, _, _, 1>(Bits, Bits, Population { is_and: self.is_and }),
            Format::F32 | Format::F64 | Format::S32 => panic!("{left:?} is not in 32-bit registers of A"),
        }
    }

    /// D from A, B and C in 64-bit registers.
    ///
    /// # Panics
    /// If there are fewer registers than the fragments have, or they are of 32 bits.
    pub fn multiply_double(
        &self,
        a: &[impl Borrow<Lanes<u64>>],
        b: &[impl Borrow<Lanes<u64>>],
        c: &[impl Borrow<Lanes<u64>>],
        d: &mut [Lanes<u64>],
    ) {
        assert!(self.is_double(), "{:?} is not in 64-bit registers", self.a.format);
        let mut registers = Registers::new(self, a, b, c, d);
        if registers.steps == 4 {
            registers.product::<_, _, _, 1, 4>(Double, Double, arithmetic::Double);
        } else {
            registers.multiply::<_, _, _, 1>(Double, Double, arithmetic::Double);
        }
    }
}

/// What [`Product`] takes, but for the formats. No fragment has more than 8 registers.
struct Registers<'a, W> {
    rows: usize,
    columns: usize,
    /// Registers of B for 8 columns: 1 or 2, in f64 also 4.
    steps: usize,
    a: [&'a Lanes<W>; 8],
    b: [&'a Lanes<W>; 8],
    c: [&'a Lanes<W>; 8],
    d: &'a mut [Lanes<W>],
}

impl<'a, W: Copy + Default> Registers<'a, W> {
    fn new(
        mma: &Mma,
        a: &'a [impl Borrow<Lanes<W>>],
        b: &'a [impl Borrow<Lanes<W>>],
        c: &'a [impl Borrow<Lanes<W>>],
        d: &'a mut [Lanes<W>],
    ) -> Registers<'a, W> {
        let Shape { m, n, .. } = mma.shape;
        Registers {
            rows: m as usize / 8,
            columns: n as usize / 8,
            steps: (mma.b.distinct_registers() / (n / 8)) as usize,
            a: references(a, mma.a),
            b: references(b, mma.b),
            c: references(c, mma.c),
            d: &mut d[..mma.d.registers as usize],
        }
    }

    fn multiply<A, B, S, const PARTS: usize>(&mut self, left: A, right: B, arithmetic: S)
    where
        A: Input<PARTS, Word = W, Value = S::Value>,
        B: Input<PARTS, Word = W, Value = S::Value>,
        S: Arithmetic<Word = W>,
    {
        if self.steps == 1 {
            self.product::<A, B, S, PARTS, 1>(left, right, arithmetic);
        } else {
            self.product::<A, B, S, PARTS, 2>(left, right, arithmetic);
        }
    }

    fn product<A, B, S, const PARTS: usize, const STEPS: usize>(&mut self, left: A, right: B, arithmetic: S)
    where
        A: Input<PARTS, Word = W, Value = S::Value>,
        B: Input<PARTS, Word = W, Value = S::Value>,
        S: Arithmetic<Word = W>,
    {
        let product = Product::<_, _, _, PARTS, STEPS> {
            left,
            right,
            arithmetic,
            rows: self.rows,
            columns: self.columns,
            a: &self.a,
            b: &self.b,
            c: &self.c,
            d: self.d,
        };
        product.compute();
    }
}

/// References to the distinct registers of a fragment; the places behind them repeat the last.
fn references<W>(registers: &[impl Borrow<Lanes<W>>], fragment: Fragment) -> [&Lanes<W>; 8] {
    let registers = &registers[..fragment.registers as usize];
    let last = fragment.distinct_registers() as usize - 1;
    from_fn(|index| registers[index.min(last)].borrow())
}
