//! `wmma.load`, `wmma.store`, `wmma.mma`. How a fragment lies in registers is open in PTX; here as [`super::layout`]
//! says. `.f16` fragments of A and B have 8 registers whatever the shape: behind the distinct ones they repeat.

use super::format::{Format, Shape};
use super::layout::{Fragment, Role};
use super::mma::{Mma, Suffixes};
use super::{Lanes, vector_length};
use crate::ptx::ast::{Instruction, Operand};

/// Each row (or column) in memory starts at a multiple of this: so must the stride be.
pub const STRIDE_BYTES: u32 = 16;

/// One of the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wmma {
    /// `wmma.load.a`, `.b`, `.c`: operands `{registers}, [address]` and perhaps the stride.
    Load(Transfer),
    /// `wmma.store.d`: operands `[address], {registers}` and perhaps the stride.
    Store(Transfer),
    /// `wmma.mma`: operands D, A, B, C.
    Multiply(Mma),
}

impl Wmma {
    /// Of an instruction; `None` if this is none of them, or a form that no target from sm_75 to sm_90 has.
    pub fn parse(instruction: &Instruction) -> Option<Wmma> {
        if instruction.opcode != "wmma" {
            return None;
        }
        match instruction.suffixes.first()?.as_str() {
            "mma" => Mma::parse_wmma(instruction).map(Wmma::Multiply),
            "load" => Transfer::parse(instruction, 1).map(Wmma::Load),
            "store" => Transfer::parse(instruction, 0).map(Wmma::Store),
            _ => None,
        }
    }
}

/// A fragment of A or B in the registers that `wmma` has for it.
pub(super) fn stretched(fragment: Fragment) -> Fragment {
    if fragment.format == Format::F16 { fragment.in_registers(8) } else { fragment }
}

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `.row`
    RowMajor,
    /// `.col`
    ColumnMajor,
}

/// A fragment's way to or from memory: for each register, [`Transfer::accesses`] pieces of
/// [`Transfer::access_bytes`], the first in the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What is moved.
    pub fragment: Fragment,
    /// How it lies in memory.
    pub order: Order,
    /// The least target that has it.
    target: u32,
}

impl Transfer {
    fn parse(instruction: &Instruction, address: usize) -> Option<Transfer> {
        let suffixes = without_space(instruction.suffixes.get(2..)?);
        let suffixes = Suffixes::parse(&suffixes)?;
        let ([format], [order]) = (&suffixes.formats[..], &suffixes.layouts[..]) else { return None };
        let shape @ Shape { m, n, k } = suffixes.shape?;
        let is_load = address == 1;
        let (role, [rows, columns]) = match (is_load, instruction.suffixes.get(1)?.as_str()) {
            (true, "a") => (Role::Left, [m, k]),
            (true, "b") => (Role::Right, [k, n]),
            (true, "c") | (false, "d") => (Role::Accumulator, [m, n]),
            _ => return None,
        };
        let target = transfer_target(shape, role, *format)?;
        let fragment = Fragment::new(role, rows, columns, *format);
        let fragment = if role == Role::Accumulator { fragment } else { stretched(fragment) };
        let order = if order == "row" { Order::RowMajor } else { Order::ColumnMajor };
        let transfer = Transfer { fragment, order, target };
        let is_possible = fragment.format.bits() >= 8 || transfer.is_contiguous();
        let operands = &instruction.operands;
        let fits = matches!(operands.len(), 2 | 3)
            && matches!(operands[address], Operand::Address(_))
            && vector_length(operands.get(1 - address)) == Some(fragment.registers);
        (is_possible && fits).then_some(transfer)
    }

    /// The least `.target` that has the instruction.
    pub const fn minimum_target(&self) -> u32 {
        self.target
    }

    /// Whether the elements of a register are neighbours in memory.
    const fn is_contiguous(&self) -> bool {
        match self.fragment.role {
            Role::Left | Role::Accumulator => matches!(self.order, Order::RowMajor),
            Role::Right => matches!(self.order, Order::ColumnMajor),
        }
    }

    /// Pieces of memory a register.
    pub const fn accesses(&self) -> u32 {
        if self.is_contiguous() { 1 } else { self.fragment.parts() }
    }

    /// Bytes of a piece.
    pub const fn access_bytes(&self) -> u32 {
        self.fragment.register_bits() / self.accesses() / 8
    }

    /// Row and column of a piece's first element.
    pub const fn element(&self, lane: u32, register: u32, access: u32) -> (u32, u32) {
        self.fragment.element(lane, register, access)
    }

    /// Bytes from the instruction's address to a piece, `stride` elements from row to row (column to column).
    pub const fn offset(&self, lane: u32, register: u32, access: u32, stride: u64) -> u64 {
        let (row, column) = self.element(lane, register, access);
        let (major, minor) = match self.order {
            Order::RowMajor => (row, column),
            Order::ColumnMajor => (column, row),
        };
        let elements = stride.wrapping_mul(major as u64).wrapping_add(minor as u64);
        elements.wrapping_mul(self.fragment.format.bits() as u64) / 8
    }

    /// A lane's pieces: register, piece, row, column; each element once, registers that repeat others left out (see
    /// [`Transfer::repeat`]).
    pub fn elements(&self, lane: u32) -> impl Iterator<Item = (u32, u32, u32, u32)> + use<> {
        let transfer = *self;
        let accesses = transfer.accesses();
        (0..transfer.fragment.distinct_registers() * accesses).map(move |index| {
            let (register, access) = (index / accesses, index % accesses);
            let (row, column) = transfer.element(lane, register, access);
            (register, access, row, column)
        })
    }

    /// Fills the registers of a loaded fragment that repeat others.
    pub fn repeat<W: Copy>(&self, registers: &mut [Lanes<W>]) {
        let distinct = self.fragment.distinct_registers() as usize;
        for register in distinct..registers.len() {
            registers[register] = registers[register - distinct];
        }
    }

    /// The stride where none is written: rows (columns) without gaps.
    pub const fn default_stride(&self) -> u32 {
        match self.order {
            Order::RowMajor => self.fragment.columns,
            Order::ColumnMajor => self.fragment.rows,
        }
    }

    /// What the address must be a multiple of: the bytes of a lane's fragment.
    pub const fn alignment(&self) -> u32 {
        self.fragment.registers * self.fragment.register_bits() / 8
    }
}

/// Suffixes without the state space.
fn without_space(suffixes: &[String]) -> Vec<String> {
    let is_space = |name: &str| matches!(name, "global" | "shared" | "shared::cta");
    suffixes.iter().filter(|suffix| !is_space(suffix)).cloned().collect()
}

/// The least target with this load or store.
fn transfer_target(shape: Shape, role: Role, format: Format) -> Option<u32> {
    use Format::*;
    let is_accumulator = role == Role::Accumulator;
    Some(match ((shape.m, shape.n, shape.k), format) {
        ((16, 16, 16) | (32, 8, 16) | (8, 32, 16), F16) => 75,
        ((16, 16, 16) | (32, 8, 16) | (8, 32, 16), F32 | S32) if is_accumulator => 75,
        ((16, 16, 16) | (32, 8, 16) | (8, 32, 16), S8 | U8) if !is_accumulator => 75,
        ((16, 16, 16) | (32, 8, 16) | (8, 32, 16), Bf16) if !is_accumulator => 80,
        ((16, 16, 8), Tf32) if !is_accumulator => 80,
        ((16, 16, 8), F32) if is_accumulator => 80,
        ((8, 8, 4), F64) => 80,
        ((8, 8, 32), S4 | U4) | ((8, 8, 128), B1) if !is_accumulator => 75,
        ((8, 8, 32) | (8, 8, 128), S32) if is_accumulator => 75,
        _ => return None,
    })
}
