//! Tests of all forms against arithmetic with as many bits as it takes.

mod approximations;
mod comparisons;
mod operations;
pub mod reference;

use crate::isa::testing::{Lane, Single, instruction};
use crate::isa::{Work, convert};

/// What an instruction does: `lane("add.rz.f32 d, a, b")`.
pub fn lane(text: &str) -> Lane {
    decoded(text).unwrap_or_else(|| panic!("not known: {text}")).1
}

/// What an instruction decodes to.
pub fn decoded(text: &str) -> Option<(Work, Lane)> {
    let instruction = instruction(text);
    super::decode(&instruction, Single).or_else(|| convert::decode(&instruction, Single))
}

/// Operands' names for so many inputs.
pub fn operands(inputs: usize) -> &'static str {
    ["d", "d, a", "d, a, b", "d, a, b, c"][inputs]
}

#[test]
fn every_form_that_nvcc_wrote_is_known() {
    let list = include_str!("../../../../tests/ptx/opcodes.txt");
    let mut known = 0;
    for name in list.lines().map(|line| line.split_whitespace().next().unwrap()) {
        let parts: Vec<&str> = name.split('.').collect();
        let float = ["f16", "f16x2", "bf16", "bf16x2", "f32", "f64"];
        let inputs = match parts[0] {
            "cvt" if name == "cvt.rn.f16x2.f32" || name == "cvt.rn.bf16x2.f32" => 2,
            "cvt" => 1,
            _ if !parts.iter().any(|part| float.contains(part)) => continue,
            "neg" | "abs" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "testp" => 1,
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" | "set" | "setp" => 2,
            "fma" | "mad" | "selp" | "slct" => 3,
            "ld" | "st" | "mov" | "atom" | "mma" | "wmma" => continue,
            other => panic!("{other}"),
        };
        assert!(decoded(&format!("{name} {}", operands(inputs))).is_some(), "{name}");
        known += 1;
    }
    assert_eq!(known, 119);
}
