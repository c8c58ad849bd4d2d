//! `ldmatrix`, `stmatrix`, `movmatrix` by the ISA's words: thread `l` receives from row `l / 4` the elements
//! `2 (l % 4)` and the next, with `.trans` from that column.

use super::super::matrix::{Direction, MatrixMove, Row, row_address_lane, transpose_register};
use super::{Random, vector};
use crate::isa::testing::instruction;
use proptest::prelude::*;

fn parse(text: &str) -> Option<MatrixMove> {
    MatrixMove::parse(&instruction(text))
}

/// An element of a matrix among rows of two elements a word.
fn element(rows: &[Row], matrix: usize, row: usize, column: usize) -> u32 {
    rows[8 * matrix + row][column / 2] >> (16 * (column % 2)) & 0xffff
}

#[test]
fn loads_and_stores_by_element() {
    let mut random = Random(5);
    for (count, transpose) in [(1, false), (2, false), (4, false), (1, true), (2, true), (4, true)] {
        let form = format!("sync.aligned.m8n8.x{count}{}.shared.b16", if transpose { ".trans" } else { "" });
        let load = parse(&format!("ldmatrix.{form} {}, [%rd1]", vector("r", count))).unwrap();
        assert_eq!(load, MatrixMove { direction: Direction::Load, count, transpose });
        let store = parse(&format!("stmatrix.{form} [%rd1], {}", vector("r", count))).unwrap();
        assert_eq!(store, MatrixMove { direction: Direction::Store, count, transpose });
        assert_eq!((load.minimum_target(), store.minimum_target()), (75, 90));
        let rows: Vec<Row> = (0..load.rows()).map(|_| std::array::from_fn(|_| random.word())).collect();
        let mut registers = vec![[0; 32]; count as usize];
        load.distribute(&rows, &mut registers);
        for (matrix, register) in registers.iter().enumerate() {
            for (lane, word) in register.iter().enumerate() {
                let (group, first) = (lane / 4, lane % 4 * 2);
                let pair = if transpose {
                    [element(&rows, matrix, first, group), element(&rows, matrix, first + 1, group)]
                } else {
                    [element(&rows, matrix, group, first), element(&rows, matrix, group, first + 1)]
                };
                assert_eq!(*word, pair[0] | pair[1] << 16, "{form}, matrix {matrix}, lane {lane}");
            }
        }
        let mut back = vec![[0; 4]; rows.len()];
        store.collect(&registers, &mut back);
        assert_eq!(back, rows, "{form}");
    }
}

/// "threads 0-7 for the first matrix, 8-15, 16-23, 24-31 for the next ones."
#[test]
fn lanes_with_the_addresses() {
    let lanes = [(0, 0, 0), (0, 7, 7), (1, 0, 8), (2, 3, 19), (3, 7, 31)];
    assert!(lanes.iter().all(|&(matrix, row, lane)| row_address_lane(matrix, row) == lane));
}

#[test]
fn a_register_transposed() {
    assert!(parse("movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r2").is_some());
    // Element (r, c) is 10 r + c.
    let register = std::array::from_fn(|lane| {
        let first = (lane / 4 * 10 + lane % 4 * 2) as u32;
        first | (first + 1) << 16
    });
    let transposed = transpose_register(&register);
    assert_eq!(transposed[..5], [0x000a_0000, 0x001e_0014, 0x0032_0028, 0x0046_003c, 0x000b_0001]);
    assert_eq!(transposed[31], 67 | 77 << 16);
}

#[test]
fn other_forms_are_refused() {
    for (text, is_known) in [
        ("ldmatrix.sync.aligned.m8n8.x1.b16 {%r0}, [%rd1]", true),
        ("ldmatrix.sync.aligned.m8n8.x1.shared::cta.b16 {%r0}, [%r1]", true),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.trans.b16 {%r0}, [%r1]", true),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r0, [%r1]", false),
        ("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0}, [%r1]", false),
        ("ldmatrix.sync.aligned.m8n8.shared.b16 {%r0}, [%r1]", false),
        ("ldmatrix.sync.aligned.m8n8.x1.global.b16 {%r0}, [%r1]", false),
        ("ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r0, %r1}, [%r2]", false),
        ("ldmatrix.aligned.m8n8.x1.shared.b16 {%r0}, [%r1]", false),
        ("stmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r1]", false),
        ("movmatrix.sync.aligned.m8n8.b16 %r0, %r1", false),
        ("movmatrix.sync.aligned.m8n8.trans.b16 {%r0}, {%r1}", false),
        ("movmatrix.sync.aligned.m8n8.x1.trans.b16 %r0, %r1", false),
    ] {
        assert_eq!(parse(text).is_some(), is_known, "{text}");
    }
}

proptest! {
    #[test]
    fn transposing_twice_changes_nothing(words in proptest::array::uniform32(any::<u32>())) {
        prop_assert_eq!(transpose_register(&transpose_register(&words)), words);
    }
}
