//! What the tests share: instructions by name, and numbers.

mod convert;
mod layout;
mod matrix;
mod multiply;
mod names;
mod timing;
mod wmma;

use super::format::{Format, Shape};
use crate::isa::testing::instruction;
use crate::ptx::ast::Instruction;

/// `%x0, %x1, ...` in braces, so many.
pub fn vector(name: &str, count: u32) -> String {
    let registers: Vec<String> = (0..count).map(|index| format!("%{name}{index}")).collect();
    format!("{{{}}}", registers.join(", "))
}

/// An instruction with so many registers for D, A, B and C.
pub fn product(name: &str, counts: [u32; 4]) -> Instruction {
    let [d, a, b, c] = counts;
    let operands = [vector("d", d), vector("a", a), vector("b", b), vector("c", c)];
    instruction(&format!("{name} {}", operands.join(", ")))
}

/// Registers of an `mma.sync`'s D, A, B and C, from what its name says: every element once.
pub fn mma_counts(name: &str) -> [u32; 4] {
    let suffixes: Vec<&str> = name.split('.').collect();
    let Shape { m, n, k } = suffixes.iter().find_map(|suffix| Shape::parse(suffix)).unwrap();
    let formats: Vec<Format> = suffixes.iter().filter_map(|suffix| Format::parse(suffix)).collect();
    let registers = |index: usize, elements: u32| {
        let format: Format = formats[index];
        let bits = if format == Format::F64 { 64 } else { 32 };
        elements * format.bits() / bits / 32
    };
    [registers(0, m * n), registers(1, m * k), registers(2, k * n), registers(3, m * n)]
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn word(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }
}
