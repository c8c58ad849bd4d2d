//! Which element of a matrix stands where in a warp's registers.
//!
//! One rule gives all fragments of `mma.sync` in the PTX ISA. With `g = lane / 4` and `t = lane % 4` (the ISA's groupID
//! and threadID_in_group), and P elements a register:
//!
//! - A: a register covers 8 rows and 4 P columns; row `g` of them, column `P t + part`. Registers go down the rows
//!   first, then to the next columns.
//! - B: a register covers 4 P rows and 8 columns; row `P t + part`, column `g`. Registers go down the rows.
//! - C, D: two elements (one register of `.f16`, two of 32 or 64 bits) cover 8 rows and 8 columns; row `g`, columns
//!   `2 t` and `2 t + 1`. They go down the rows.
//!
//! The fragments of `wmma` are opaque in PTX. Here they follow the same rule, A going down all its rows first, B and C
//! taking 8 columns after the other.

use super::format::Format;

/// What a fragment is in a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A
    Left,
    /// B
    Right,
    /// C, D
    Accumulator,
}

/// A matrix as a warp holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What it is in the product.
    pub role: Role,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// What its elements are.
    pub format: Format,
    /// Registers a lane.
    pub registers: u32,
}

impl Fragment {
    /// One that holds each element once. Rows and columns are multiples of 8, or of what a register holds.
    pub const fn new(role: Role, rows: u32, columns: u32, format: Format) -> Fragment {
        let registers = rows * columns / (32 * format.parts());
        Fragment { role, rows, columns, format, registers }
    }

    /// The same in more registers: behind [`Fragment::distinct_registers`] the elements repeat.
    pub const fn in_registers(self, registers: u32) -> Fragment {
        Fragment { registers, ..self }
    }

    /// Bits of a register: 64 for `.f64`, else 32.
    pub const fn register_bits(&self) -> u32 {
        self.format.register_bits()
    }

    /// Elements a register.
    pub const fn parts(&self) -> u32 {
        self.format.parts()
    }

    /// Registers that hold every element once; register `r` holds what `r % distinct_registers()` holds.
    pub const fn distinct_registers(&self) -> u32 {
        self.rows * self.columns / (32 * self.parts())
    }

    /// Row and column of an element: part `part` (from the low bits) of register `register` of lane `lane`.
    pub const fn element(&self, lane: u32, register: u32, part: u32) -> (u32, u32) {
        let (group, thread) = (lane / 4 % 8, lane % 4);
        let register = register % self.distinct_registers();
        let word = thread * self.parts() + part;
        match self.role {
            Role::Left => {
                let down = self.rows / 8;
                (register % down * 8 + group, register / down * 4 * self.parts() + word)
            }
            Role::Right => {
                let down = self.rows / (4 * self.parts());
                (register % down * 4 * self.parts() + word, register / down * 8 + group)
            }
            Role::Accumulator => {
                let (element, down) = (register * self.parts() + part, self.rows / 8);
                (element / 2 % down * 8 + group, element / 2 / down * 8 + thread * 2 + element % 2)
            }
        }
    }
}
