//! `wmma` from memory to memory.

use super::super::format::{Format, Shape};
use super::super::wmma::{Order, Transfer, Wmma};
use super::super::{Lanes, Mma};
use super::multiply::{Matrix, check_product, through_registers};
use super::names::WMMA;
use super::{Random, product, vector};
use crate::isa::testing::instruction;

fn multiplication(suffixes: &str, counts: [u32; 4]) -> Mma {
    match Wmma::parse(&product(&format!("wmma.mma.{suffixes}"), counts)) {
        Some(Wmma::Multiply(mma)) => mma,
        other => panic!("{suffixes}: {other:?}"),
    }
}

#[test]
fn products_are_sums_of_products() {
    for (suffixes, counts, _) in WMMA {
        check_product(&multiplication(suffixes, counts), suffixes);
    }
}

/// Of a form's load or store of one fragment.
fn transfer(letter: &str, order: &str, shape: Shape, name: &str, registers: u32) -> Option<Transfer> {
    let Shape { m, n, k } = shape;
    let suffixes = format!("{letter}.sync.aligned.{order}.m{m}n{n}k{k}.global.{name}");
    let registers = vector("r", registers);
    let text = match letter {
        "d" => format!("wmma.store.{suffixes} [%rd1], {registers}, %r99"),
        _ => format!("wmma.load.{suffixes} {registers}, [%rd1], %r99"),
    };
    match Wmma::parse(&instruction(&text))? {
        Wmma::Load(transfer) if letter != "d" => Some(transfer),
        Wmma::Store(transfer) if letter == "d" => Some(transfer),
        other => panic!("{text}: {other:?}"),
    }
}

/// The name of a format, as the last suffix of a load.
fn format_name(format: Format) -> String {
    format!("{format:?}").to_lowercase()
}

/// An element of a matrix in memory, of any number of bits.
fn element_in(memory: &[u8], bits: u32, index: u64) -> u64 {
    let from = index * u64::from(bits);
    (0..u64::from(bits)).fold(0, |element, bit| {
        let (byte, shift) = ((from + bit) / 8, (from + bit) % 8);
        element | u64::from(memory[byte as usize] >> shift & 1) << bit
    })
}

/// Each fragment of each form in both orders, with gaps between its rows: what lies in memory at a row and column is the
/// element of that row and column.
#[test]
fn transfers_move_the_elements() {
    let mut random = Random(6);
    let mut moved = 0;
    for (suffixes, counts, _) in WMMA {
        let mma = multiplication(suffixes, counts);
        for (letter, fragment) in [("a", mma.a), ("b", mma.b), ("c", mma.c), ("d", mma.d)] {
            for (order, is_row) in [("row", true), ("col", false)] {
                let name = format_name(fragment.format);
                let found = transfer(letter, order, mma.shape, &name, fragment.registers);
                let Some(transfer) = found else {
                    // Elements below a byte lie in the order in which registers hold them.
                    assert!(
                        fragment.format.bits() < 8 && (letter == "a") != is_row,
                        "{suffixes} {letter} {order}"
                    );
                    continue;
                };
                assert_eq!(transfer.fragment, fragment);
                assert_eq!(transfer.order, if is_row { Order::RowMajor } else { Order::ColumnMajor });
                assert_eq!(transfer.default_stride(), if is_row { fragment.columns } else { fragment.rows });
                assert_eq!(transfer.alignment(), fragment.registers * fragment.register_bits() / 8);
                assert!(transfer.minimum_target() <= mma.minimum_target());
                let bits = fragment.format.bits();
                let stride = u64::from(transfer.default_stride() + 128 / bits.min(32));
                let memory: Vec<u8> =
                    (0..33 * stride * u64::from(bits) / 8).map(|_| random.word() as u8).collect();
                let mut registers = vec![[0u64; 32]; fragment.registers as usize];
                let size = transfer.access_bytes();
                for lane in 0..32 {
                    for (register, access, row, column) in transfer.elements(lane) {
                        assert_eq!((row, column), transfer.element(lane, register, access));
                        let offset = transfer.offset(lane, register, access, stride) as usize;
                        assert_eq!(offset as u32 % size, 0);
                        let bytes = &memory[offset..offset + size as usize];
                        let piece = bytes.iter().rev().fold(0, |piece, byte| piece << 8 | u64::from(*byte));
                        registers[register as usize][lane as usize] |= piece << (access * size * 8);
                    }
                }
                transfer.repeat(&mut registers);
                let expected = Matrix::new(fragment.rows, fragment.columns, |row, column| {
                    let (major, minor) = if is_row { (row, column) } else { (column, row) };
                    element_in(&memory, bits, u64::from(major) * stride + u64::from(minor))
                });
                assert_eq!(registers, expected.to_registers(&fragment), "{suffixes} {letter} {order}");
                moved += 1;
            }
        }
    }
    assert!(moved > 200, "{moved}");
}

/// A fragment holds each element as often as every other.
#[test]
fn fragments_are_complete() {
    for (suffixes, counts, _) in WMMA {
        let mma = multiplication(suffixes, counts);
        for fragment in [mma.a, mma.b, mma.c, mma.d] {
            let mut times = vec![0; (fragment.rows * fragment.columns) as usize];
            for lane in 0..32 {
                for index in 0..fragment.registers * fragment.parts() {
                    let (row, column) =
                        fragment.element(lane, index / fragment.parts(), index % fragment.parts());
                    times[(row * fragment.columns + column) as usize] += 1;
                }
            }
            let copies = fragment.registers / fragment.distinct_registers();
            assert!(times.iter().all(|count| *count == copies), "{suffixes} {:?}", fragment.role);
        }
    }
}

/// The accumulators of one shape number their elements alike in f16 and in f32, as `fragment::x` in CUDA does.
#[test]
fn accumulators_agree() {
    let half = multiplication("sync.aligned.row.col.m16n16k16.f16.f32", [4, 8, 8, 8]);
    for (lane, index) in (0..32).flat_map(|lane| (0..8).map(move |index| (lane, index))) {
        assert_eq!(half.d.element(lane, index / 2, index % 2), half.c.element(lane, index, 0));
    }
}

#[test]
fn identity_times_b_is_b() {
    let mma = multiplication("sync.aligned.row.col.m16n16k16.f32.f32", [8, 8, 8, 8]);
    let one = |holds| u64::from(half::f16::from_f32(f32::from(u8::from(holds))).to_bits());
    let half = |number: u32| half::f16::from_f32(number as f32);
    let a = Matrix::new(16, 16, |row, column| one(row == column));
    let b = Matrix::new(16, 16, |row, column| u64::from(half(16 * row + column).to_bits()));
    let c = Matrix::new(16, 16, |_, _| 0);
    let d = through_registers(&mma, &a, &b, &c);
    for (row, column) in (0..256).map(|index| (index / 16, index % 16)) {
        assert_eq!(f32::from_bits(d.at(row, column) as u32), (16 * row + column) as f32);
    }
}

#[test]
fn other_forms_are_refused() {
    let refused = |text: &str| assert_eq!(Wmma::parse(&instruction(text)), None, "{text}");
    let eight = vector("r", 8);
    let load = |suffixes: &str| format!("wmma.load.{suffixes} {eight}, [%rd1], 16");
    assert!(Wmma::parse(&instruction(&load("a.sync.aligned.row.m16n16k16.shared.f16"))).is_some());
    assert!(Wmma::parse(&instruction(&load("a.sync.aligned.m16n16k16.row.shared::cta.f16"))).is_some());
    for suffixes in [
        "d.sync.aligned.row.m16n16k16.f16",
        "a.sync.aligned.row.m16n16k16.f32",
        "a.sync.aligned.m16n16k16.f16",
        "a.sync.aligned.row.m16n16k16.bf16",
        "a.aligned.row.m16n16k16.f16",
        "a.sync.aligned.row.m16n8k16.f16",
        "c.sync.aligned.row.m16n16k16.f16",
        "a.sync.aligned.row.m16n16k16.local.f16",
    ] {
        refused(&load(suffixes));
    }
    refused(&format!("wmma.store.d.sync.aligned.row.m16n16k16.f32 {eight}, [%rd1]"));
    refused(&format!("wmma.store.d.sync.aligned.row.m16n16k16.f32 [%rd1], {}", vector("r", 4)));
    refused(&format!("wmma.load.a.sync.aligned.row.m16n16k16.f16 {eight}, [%rd1], 16, 16"));
}

/// Loads of fragments that repeat fill all registers.
#[test]
fn repeated_registers() {
    let shape = Shape { m: 32, n: 8, k: 16 };
    let transfer = transfer("b", "col", shape, "f16", 8).unwrap();
    let mut registers: [Lanes<u32>; 8] = std::array::from_fn(|register| [register as u32; 32]);
    transfer.repeat(&mut registers);
    assert_eq!(registers.map(|register| register[0]), [0, 1, 0, 1, 0, 1, 0, 1]);
}
