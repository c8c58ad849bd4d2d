//! Which forms exist: what ptxas 13.0 takes for sm_75, sm_80, sm_89 and sm_90, and what it refuses.

use super::super::Mma;
use super::super::matrix::MatrixMove;
use super::super::wmma::Wmma;
use super::{mma_counts, product};
use crate::isa::testing::instruction;
use crate::ptx::ast::{Instruction, Statement};

/// Suffixes behind `mma.sync.aligned`, and the least target.
pub const MMA: [(&str, u32); 41] = [
    ("m16n8k8.row.col.f16.f16.f16.f16", 75),
    ("m16n8k8.row.col.f32.f16.f16.f32", 75),
    ("m16n8k16.row.col.f16.f16.f16.f16", 80),
    ("m16n8k16.row.col.f32.f16.f16.f32", 80),
    ("m16n8k8.row.col.f32.bf16.bf16.f32", 80),
    ("m16n8k16.row.col.f32.bf16.bf16.f32", 80),
    ("m16n8k4.row.col.f32.tf32.tf32.f32", 80),
    ("m16n8k8.row.col.f32.tf32.tf32.f32", 80),
    ("m8n8k16.row.col.s32.s8.s8.s32", 75),
    ("m8n8k16.row.col.satfinite.s32.s8.u8.s32", 75),
    ("m16n8k16.row.col.s32.u8.s8.s32", 80),
    ("m16n8k16.row.col.satfinite.s32.u8.u8.s32", 80),
    ("m16n8k32.row.col.s32.s8.s8.s32", 80),
    ("m16n8k32.row.col.s32.s8.u8.s32", 80),
    ("m16n8k32.row.col.s32.u8.s8.s32", 80),
    ("m16n8k32.row.col.s32.u8.u8.s32", 80),
    ("m16n8k32.row.col.satfinite.s32.s8.s8.s32", 80),
    ("m16n8k32.row.col.satfinite.s32.u8.u8.s32", 80),
    ("m8n8k32.row.col.s32.s4.u4.s32", 75),
    ("m8n8k32.row.col.satfinite.s32.u4.s4.s32", 75),
    ("m16n8k32.row.col.s32.s4.s4.s32", 80),
    ("m16n8k32.row.col.satfinite.s32.s4.u4.s32", 80),
    ("m16n8k64.row.col.s32.u4.u4.s32", 80),
    ("m16n8k64.row.col.satfinite.s32.s4.s4.s32", 80),
    ("m8n8k4.row.col.f64.f64.f64.f64", 80),
    ("m8n8k4.row.col.rn.f64.f64.f64.f64", 80),
    ("m8n8k4.row.col.f64.f64.f64.f64.rn", 80),
    ("m16n8k4.row.col.f64.f64.f64.f64", 90),
    ("m16n8k8.row.col.f64.f64.f64.f64", 90),
    ("m16n8k16.row.col.f64.f64.f64.f64", 90),
    ("m8n8k128.row.col.s32.b1.b1.s32.xor.popc", 75),
    ("m8n8k128.row.col.s32.b1.b1.s32.and.popc", 80),
    ("m16n8k128.row.col.s32.b1.b1.s32.xor.popc", 80),
    ("m16n8k128.row.col.s32.b1.b1.s32.and.popc", 80),
    ("m16n8k256.row.col.s32.b1.b1.s32.xor.popc", 80),
    ("m16n8k256.row.col.s32.b1.b1.s32.and.popc", 80),
    ("m16n8k32.row.col.f32.e4m3.e5m2.f32", 89),
    ("m16n8k32.row.col.f16.e4m3.e4m3.f16", 89),
    ("m16n8k32.row.col.f32.e5m2.e4m3.f32", 89),
    ("m16n8k16.row.col.f32.e5m2.e5m2.f32", 89),
    ("m16n8k16.row.col.f16.e4m3.e5m2.f16", 89),
];

/// What it refuses, and the last one, of sm_70, which is left out.
const NOT_MMA: [&str; 17] = [
    "m16n8k8.row.col.f16.f16.f16.f32",
    "m16n8k16.row.col.f32.f16.f16.f16",
    "m16n8k16.row.row.f32.f16.f16.f32",
    "m16n8k16.row.col.satfinite.f32.f16.f16.f32",
    "m16n8k16.row.col.rn.f32.f16.f16.f32",
    "m16n8k16.row.col.f32.f16.bf16.f32",
    "m16n8k16.row.col.f16.bf16.bf16.f16",
    "m16n8k17.row.col.f32.f16.f16.f32",
    "m16n8k16.row.col.f32.tf32.tf32.f32",
    "m16n8k32.row.col.s32.s8.u4.s32",
    "m8n8k128.row.col.s32.b1.b1.s32",
    "m8n8k128.row.col.s32.b1.b1.s32.xor.and.popc",
    "m8n8k128.row.col.s32.b1.b1.s32.xor",
    "m16n8k32.row.col.f16.e4m3.e5m2.f32",
    "m16n8k16.row.col.zz.f32.f16.f16.f32",
    "m16n8k16.f32.f16.f16.f32",
    "m8n8k4.row.col.f16.f16.f16.f16",
];

#[test]
fn mma_forms() {
    for (suffixes, target) in MMA {
        let name = format!("mma.sync.aligned.{suffixes}");
        let counts @ [d, a, b, c] = mma_counts(&name);
        let mma = Mma::parse(&product(&name, counts)).expect(&name);
        assert_eq!(mma.minimum_target(), target, "{name}");
        assert_eq!([mma.d, mma.a, mma.b, mma.c].map(|fragment| fragment.registers), [d, a, b, c]);
        assert_eq!(mma.is_double(), name.contains("f64"));
        assert_eq!(mma.is_tf32(), name.contains("tf32"));
        assert_eq!(mma.is_saturating, name.contains("satfinite"));
        for wrong in [[d + 1, a, b, c], [d, a - 1, b, c], [d, a, b + 1, c], [d, a, b, c + 1]] {
            assert_eq!(Mma::parse(&product(&name, wrong)), None, "{name} {wrong:?}");
        }
    }
    for suffixes in NOT_MMA {
        let name = format!("mma.sync.aligned.{suffixes}");
        assert_eq!(Mma::parse(&product(&name, mma_counts(&name))), None, "{name}");
    }
    let unsynchronised = product("mma.m16n8k8.row.col.f16.f16.f16.f16", [2, 2, 1, 2]);
    assert_eq!(Mma::parse(&unsynchronised), None);
    let flops = |name| Mma::parse(&product(name, mma_counts(name))).unwrap().flops();
    assert_eq!(flops("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"), 4096);
}

/// Register counts as ptxas wants them: D, A, B, C.
pub const WMMA: [(&str, [u32; 4], u32); 27] = [
    ("sync.aligned.col.row.m16n16k16.f16.f16", [4, 8, 8, 4], 75),
    ("sync.aligned.row.col.m16n16k16.f16.f32", [4, 8, 8, 8], 75),
    ("sync.aligned.row.row.m16n16k16.f32.f16", [8, 8, 8, 4], 75),
    ("sync.aligned.col.col.m16n16k16.f32.f32", [8, 8, 8, 8], 75),
    ("sync.aligned.row.col.m32n8k16.f16.f16", [4, 8, 8, 4], 75),
    ("sync.aligned.row.col.m32n8k16.f16.f32", [4, 8, 8, 8], 75),
    ("sync.aligned.row.col.m32n8k16.f32.f32", [8, 8, 8, 8], 75),
    ("sync.aligned.row.col.m8n32k16.f16.f16", [4, 8, 8, 4], 75),
    ("sync.aligned.row.col.m8n32k16.f32.f16", [8, 8, 8, 4], 75),
    ("sync.aligned.row.col.m8n32k16.f32.f32", [8, 8, 8, 8], 75),
    ("sync.aligned.row.col.m16n16k16.f32.bf16.bf16.f32", [8, 4, 4, 8], 80),
    ("sync.aligned.row.col.m32n8k16.f32.bf16.bf16.f32", [8, 8, 2, 8], 80),
    ("sync.aligned.row.col.m8n32k16.f32.bf16.bf16.f32", [8, 2, 8, 8], 80),
    ("sync.aligned.row.col.m16n16k16.s32.s8.s8.s32", [8, 2, 2, 8], 75),
    ("sync.aligned.row.col.m16n16k16.s32.u8.u8.s32.satfinite", [8, 2, 2, 8], 75),
    ("sync.aligned.row.col.m32n8k16.s32.s8.s8.s32", [8, 4, 1, 8], 75),
    ("sync.aligned.row.col.m32n8k16.s32.u8.u8.s32", [8, 4, 1, 8], 75),
    ("sync.aligned.row.col.m8n32k16.s32.s8.s8.s32", [8, 1, 4, 8], 75),
    ("sync.aligned.row.col.m8n32k16.s32.u8.u8.s32.satfinite", [8, 1, 4, 8], 75),
    ("sync.aligned.row.row.m16n16k8.f32.tf32.tf32.f32", [8, 4, 4, 8], 80),
    ("sync.aligned.row.row.m8n8k4.f64.f64.f64.f64", [2, 1, 1, 2], 80),
    ("sync.aligned.row.row.m8n8k4.f64.f64.f64.f64.rn", [2, 1, 1, 2], 80),
    ("sync.aligned.row.col.m8n8k4.rn.f64.f64.f64.f64", [2, 1, 1, 2], 80),
    ("sync.aligned.row.col.m8n8k32.s32.s4.s4.s32", [2, 1, 1, 2], 75),
    ("sync.aligned.row.col.m8n8k32.s32.u4.u4.s32", [2, 1, 1, 2], 75),
    ("xor.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32", [2, 1, 1, 2], 75),
    ("and.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32", [2, 1, 1, 2], 80),
];

const NOT_WMMA: [(&str, [u32; 4]); 6] = [
    ("sync.aligned.row.col.m16n16k16.f32.f32.satfinite", [8, 8, 8, 8]),
    ("sync.aligned.row.col.m16n16k16.f32.f16.f16.f32", [8, 8, 8, 8]),
    ("sync.aligned.row.col.m16n16k16.s32.u8.s8.s32", [8, 2, 2, 8]),
    ("sync.aligned.row.col.m16n8k16.f32.f32", [4, 8, 8, 4]),
    ("sync.aligned.row.row.m8n8k32.s32.s4.s4.s32", [2, 1, 1, 2]),
    ("sync.aligned.row.col.m16n16k16.f32.f32", [8, 4, 4, 8]),
];

#[test]
fn wmma_forms() {
    for (suffixes, counts, target) in WMMA {
        let name = format!("wmma.mma.{suffixes}");
        let Some(Wmma::Multiply(mma)) = Wmma::parse(&product(&name, counts)) else { panic!("{name}") };
        assert_eq!([mma.d, mma.a, mma.b, mma.c].map(|fragment| fragment.registers), counts);
        assert_eq!(mma.minimum_target(), target, "{name}");
    }
    for (suffixes, counts) in NOT_WMMA {
        assert_eq!(Wmma::parse(&product(&format!("wmma.mma.{suffixes}"), counts)), None, "{suffixes}");
    }
}

/// Instructions of a text, also those in blocks.
fn instructions(statements: &[Statement], found: &mut Vec<Instruction>) {
    for statement in statements {
        match statement {
            Statement::Instruction(instruction) => found.push(instruction.clone()),
            Statement::Block(inside) => instructions(inside, found),
            _ => {}
        }
    }
}

#[test]
fn all_that_nvcc_emits_is_known() {
    let mut known = 0;
    for name in ["mma_gemm", "mma_shapes", "wmma", "turing", "hopper"] {
        let path = format!("{}/tests/ptx/{name}.ptx", env!("CARGO_MANIFEST_DIR"));
        let module = crate::ptx::parse(&std::fs::read(path).unwrap()).unwrap();
        let mut found = Vec::new();
        for body in module.functions.iter().filter_map(|function| function.body.as_ref()) {
            instructions(body, &mut found);
        }
        for instruction in found {
            let is_parsed = match instruction.opcode.as_str() {
                "mma" => Mma::parse(&instruction).is_some(),
                "wmma" => Wmma::parse(&instruction).is_some(),
                "ldmatrix" | "stmatrix" | "movmatrix" => MatrixMove::parse(&instruction).is_some(),
                _ => continue,
            };
            assert!(is_parsed, "{name}: {}", instruction.full_name());
            known += 1;
        }
    }
    assert!(known > 80, "{known}");
}

#[test]
fn other_instructions_are_none_of_these() {
    let other = instruction("add.s32 %r1, %r2, %r3");
    assert_eq!((Mma::parse(&other), Wmma::parse(&other), MatrixMove::parse(&other)), (None, None, None));
}
