//! What instructions mean. One file a family; an instruction stands in one place: the arm of its family's `decode`
//! that reads its suffixes and answers with what it does.
//!
//! Most instructions do the same to every lane and touch nothing but registers. Their families say what one lane does,
//! as a closure over [`Element`]s handed to a [`Maps`]; the interpreter's `Maps` makes a loop over 32 lanes of it, that
//! of the tests calls it on the values of a table.

use crate::lower::{Emit, Lowered, Lowerer};
use crate::machine::registers::{File, Registers, Source, blend};
use crate::model::counters::Class;
use crate::ptx::ast;

pub mod async_copy;
pub mod atomic;
pub mod barrier;
pub mod bulk;
pub mod carry;
pub mod convert;
pub mod data;
pub mod float;
pub mod integer;
pub mod matrix;
pub mod mbarrier;
pub mod memory;
pub mod print;
pub mod tensor;
pub mod warp;

#[cfg(test)]
pub mod testing;

/// What a register holds in a lane: `bool` for predicates, `u32` for everything up to 32 bits (narrow values have zeros
/// above), `u64` for 64 bits. Floats are their bits.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// The bits, zero-extended.
    fn to_bits(self) -> u64;
    /// From the low bits.
    fn from_bits(bits: u64) -> Self;
    /// The file of registers that holds such values.
    const FILE: File;
    /// What a register holds, all lanes.
    fn load(registers: &Registers, source: Source) -> [Self; 32];
    /// Sets the lanes of the mask.
    fn store(registers: &mut Registers, slot: u32, values: &[Self; 32], mask: u32);
}

impl Element for bool {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }
    fn from_bits(bits: u64) -> Self {
        bits & 1 != 0
    }
    const FILE: File = File::Predicate;
    #[inline(always)]
    fn load(registers: &Registers, source: Source) -> [bool; 32] {
        let mask = registers.mask(source);
        std::array::from_fn(|lane| mask >> lane & 1 != 0)
    }
    #[inline(always)]
    fn store(registers: &mut Registers, slot: u32, values: &[bool; 32], mask: u32) {
        let bits = values.iter().enumerate().fold(0, |bits, (lane, &value)| bits | u32::from(value) << lane);
        let register = &mut registers.predicates[slot as usize];
        *register = (*register & !mask) | (bits & mask);
    }
}

impl Element for u32 {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }
    fn from_bits(bits: u64) -> Self {
        bits as u32
    }
    const FILE: File = File::Narrow;
    #[inline(always)]
    fn load(registers: &Registers, source: Source) -> [u32; 32] {
        registers.narrow[source.slot as usize]
    }
    #[inline(always)]
    fn store(registers: &mut Registers, slot: u32, values: &[u32; 32], mask: u32) {
        blend(&mut registers.narrow[slot as usize], values, mask);
    }
}

impl Element for u64 {
    fn to_bits(self) -> u64 {
        self
    }
    fn from_bits(bits: u64) -> Self {
        bits
    }
    const FILE: File = File::Wide;
    #[inline(always)]
    fn load(registers: &Registers, source: Source) -> [u64; 32] {
        registers.wide[source.slot as usize]
    }
    #[inline(always)]
    fn store(registers: &mut Registers, slot: u32, values: &[u64; 32], mask: u32) {
        blend(&mut registers.wide[slot as usize], values, mask);
    }
}

/// How an instruction counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Its class.
    pub class: Class,
    /// Floating-point operations a lane in f32 and below: 1 for an addition, 2 for a fused multiply-add, twice that for
    /// packed pairs.
    pub flops: u32,
    /// Floating-point operations a lane in f64.
    pub double_flops: u32,
}

impl Work {
    /// Of an instruction that does no floating-point arithmetic.
    pub const fn of(class: Class) -> Work {
        Work { class, flops: 0, double_flops: 0 }
    }

    /// With so many operations in f32 and below.
    pub const fn flops(class: Class, flops: u32) -> Work {
        Work { class, flops, double_flops: 0 }
    }

    /// With so many operations in f64.
    pub const fn double(class: Class, double_flops: u32) -> Work {
        Work { class, flops: 0, double_flops }
    }
}

/// Takes what one lane does. The number is that of the inputs: operands behind the destination, in the order written.
/// An operand is read as what the closure takes: a register or constant of up to 32 bits as `u32` (also where the
/// instruction's type is 16 or 8 bits: the closure sees zeros above, and must leave zeros above), 64 bits as `u64`.
///
/// Closures must not panic, whatever the bits.
pub trait Maps: Sized {
    /// What decoding gives.
    type Output;
    /// What takes closures that are seldom run.
    type Rare: Maps<Output = Self::Output>;
    /// For instructions that no inner loop is made of: smaller code, called lane by lane.
    fn rarely(self) -> Self::Rare;
    /// `d, a`
    fn map1<A: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output;
    /// `d, a, b`
    fn map2<A: Element, B: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output;
    /// `d, a, b, c`
    fn map3<A: Element, B: Element, C: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, C) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output;
    /// `d, a, b, c, e`
    fn map4<A: Element, B: Element, C: Element, E: Element, R: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, C, E) -> R + Copy + Send + Sync + 'static,
    ) -> Self::Output;
    /// `p|q, a, b`: two predicates (`setp`); where only one is written, the second result is dropped.
    fn compare2<A: Element, B: Element>(
        self,
        work: Work,
        f: impl Fn(A, B) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Self::Output;
    /// `p|q, a, b, c`: the same with a third input (`setp.lt.and.f32 p|q, a, b, c`; a `!c` is already negated).
    fn compare3<A: Element, B: Element>(
        self,
        work: Work,
        f: impl Fn(A, B, bool) -> (bool, bool) + Copy + Send + Sync + 'static,
    ) -> Self::Output;
}

/// The value of an integer operand written as a constant (`lop3`'s table).
pub fn immediate(instruction: &ast::Instruction, index: usize) -> Option<i64> {
    match instruction.operands.get(index) {
        Some(ast::Operand::Integer(value)) => Some(*value),
        _ => None,
    }
}

/// Makes the steps of an instruction; `None` if no family knows it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &ast::Instruction) -> Option<Lowered> {
    type Family = fn(&mut Lowerer<'_>, &ast::Instruction) -> Option<Lowered>;
    const FAMILIES: [Family; 11] = [
        bulk::lower,
        data::lower,
        memory::lower,
        atomic::lower,
        barrier::lower,
        warp::lower,
        matrix::lower,
        async_copy::lower,
        mbarrier::lower,
        carry::lower,
        plain,
    ];
    FAMILIES.iter().find_map(|family| family(lowerer, instruction))
}

/// Instructions that do the same to every lane.
fn plain(lowerer: &mut Lowerer<'_>, instruction: &ast::Instruction) -> Option<Lowered> {
    integer::decode(instruction, Emit { lowerer, instruction })
        .or_else(|| float::decode(instruction, Emit { lowerer, instruction }))
        .or_else(|| convert::decode(instruction, Emit { lowerer, instruction }))
}

/// Calls of functions that the driver provides (`vprintf`, `__assertfail`); `None` for any other.
pub fn call(
    lowerer: &mut Lowerer<'_>,
    instruction: &ast::Instruction,
    name: &str,
    results: &[ast::Operand],
    arguments: &[ast::Operand],
) -> Option<Lowered> {
    print::call(lowerer, instruction, name, results, arguments)
}
