//! Moves of 8 x 8 matrices of 16-bit elements: `ldmatrix`, `stmatrix`, `movmatrix`.

use super::{Lanes, vector_length};
use crate::ptx::ast::{Instruction, Operand};

/// Bytes of a matrix's row; each lies in shared memory at an address of its own, which is a multiple of this.
pub const ROW_BYTES: u32 = 16;

/// A row of a matrix: 8 elements, two a word.
pub type Row = [u32; 4];

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `ldmatrix`: shared memory to registers.
    Load,
    /// `stmatrix`: registers to shared memory.
    Store,
    /// `movmatrix`: a register to another.
    Move,
}

/// One of the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixMove {
    /// Which of them.
    pub direction: Direction,
    /// Matrices: 1, 2 or 4; as many registers.
    pub count: u32,
    /// `.trans`
    pub transpose: bool,
}

impl MatrixMove {
    /// Of an instruction; `None` if this is none of them or has an unknown form. (Those of `.b8` need sm_100.)
    pub fn parse(instruction: &Instruction) -> Option<MatrixMove> {
        let (direction, registers) = match instruction.opcode.as_str() {
            "ldmatrix" => (Direction::Load, instruction.operands.first()),
            "stmatrix" => (Direction::Store, instruction.operands.get(1)),
            "movmatrix" => (Direction::Move, None),
            _ => return None,
        };
        if !["sync", "aligned", "m8n8", "b16"].iter().all(|suffix| instruction.has(suffix)) {
            return None;
        }
        let mut parsed = MatrixMove { direction, count: 0, transpose: false };
        for suffix in &instruction.suffixes {
            match suffix.as_str() {
                "sync" | "aligned" | "m8n8" | "b16" => {}
                "x1" => parsed.count = 1,
                "x2" => parsed.count = 2,
                "x4" => parsed.count = 4,
                "trans" => parsed.transpose = true,
                "shared" | "shared::cta" if direction != Direction::Move => {}
                _ => return None,
            }
        }
        let [first, second] = &instruction.operands[..] else { return None };
        let fits = match (direction, first, second) {
            (Direction::Load, _, Operand::Address(_)) | (Direction::Store, Operand::Address(_), _) => {
                parsed.count > 0 && vector_length(registers) == Some(parsed.count)
            }
            (Direction::Move, Operand::Name(_), Operand::Name(_)) => {
                let fits = parsed.count == 0 && parsed.transpose;
                parsed.count = 1;
                fits
            }
            _ => false,
        };
        fits.then_some(parsed)
    }

    /// The least `.target` that has the instruction.
    pub const fn minimum_target(&self) -> u32 {
        match self.direction {
            Direction::Load | Direction::Move => 75,
            Direction::Store => 90,
        }
    }

    /// Rows in all: 8 a matrix.
    pub const fn rows(&self) -> u32 {
        8 * self.count
    }

    /// Registers from rows: row `r` of matrix `m` is `rows[8 * m + r]`, and matrix `m` becomes register `m`.
    ///
    /// # Panics
    /// If there are fewer than [`MatrixMove::rows`] rows or `count` registers.
    pub fn distribute(&self, rows: &[Row], registers: &mut [Lanes<u32>]) {
        for matrix in 0..self.count as usize {
            let rows: &[Row; 8] = rows[8 * matrix..].first_chunk().expect("8 rows a matrix");
            registers[matrix] = if self.transpose { flatten(&transposed(rows)) } else { flatten(rows) };
        }
    }

    /// The reverse of [`MatrixMove::distribute`]: the rows that `stmatrix` writes.
    ///
    /// # Panics
    /// As that.
    pub fn collect(&self, registers: &[Lanes<u32>], rows: &mut [Row]) {
        for matrix in 0..self.count as usize {
            let found = unflatten(&registers[matrix]);
            let found = if self.transpose { transposed(&found) } else { found };
            rows[8 * matrix..8 * matrix + 8].copy_from_slice(&found);
        }
    }
}

/// The lane whose address is that of a matrix's row. With fewer than 4 matrices the addresses of the other lanes are
/// not used.
pub const fn row_address_lane(matrix: u32, row: u32) -> u32 {
    8 * matrix + row
}

/// What `movmatrix` does to a register.
pub fn transpose_register(register: &Lanes<u32>) -> Lanes<u32> {
    flatten(&transposed(&unflatten(register)))
}

fn flatten(rows: &[Row; 8]) -> Lanes<u32> {
    std::array::from_fn(|lane| rows[lane / 4][lane % 4])
}

fn unflatten(register: &Lanes<u32>) -> [Row; 8] {
    std::array::from_fn(|row| std::array::from_fn(|word| register[4 * row + word]))
}

fn transposed(rows: &[Row; 8]) -> [Row; 8] {
    let element = |row: usize, column: usize| rows[row][column / 2] >> (16 * (column % 2)) & 0xffff;
    std::array::from_fn(|row| {
        std::array::from_fn(|word| element(2 * word, row) | element(2 * word + 1, row) << 16)
    })
}
