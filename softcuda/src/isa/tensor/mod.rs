//! Matrix instructions, which a whole warp executes together: `mma.sync`, `wmma`, `ldmatrix`, `stmatrix`, `movmatrix`.
//! What each lane's registers hold, and the arithmetic; reading registers and memory is the interpreter's.
//!
//! A warp holds a matrix in pieces of 8 x 16 bytes: one 32-bit register of its 32 lanes is such a piece in row-major
//! order, lane `4 g + t` having word `t` of row `g`. [`layout`] says where the pieces stand in the matrix, [`matrix`]
//! moves them, [`multiply`] multiplies them.

pub mod arithmetic;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
pub mod convert;
pub mod format;
pub mod inputs;
pub mod layout;
pub mod matrix;
pub mod mma;
pub mod multiply;
pub mod vectors;
pub mod wmma;

#[cfg(test)]
mod tests;

pub use mma::Mma;

use crate::ptx::ast::Operand;

/// A register of a warp: a word for each lane.
pub type Lanes<W> = [W; 32];

/// How many registers an operand in braces has.
fn vector_length(operand: Option<&Operand>) -> Option<u32> {
    match operand {
        Some(Operand::Vector(registers)) => u32::try_from(registers.len()).ok(),
        _ => None,
    }
}
