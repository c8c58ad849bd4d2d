//! Formats of matrix elements, and the shapes of matrix products.

/// What an element of a matrix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `.f16`
    F16,
    /// `.bf16`
    Bf16,
    /// `.tf32`: the upper 19 bits of a 32-bit register; the others are ignored.
    Tf32,
    /// `.f32`
    F32,
    /// `.f64`
    F64,
    /// `.e4m3`
    E4m3,
    /// `.e5m2`
    E5m2,
    /// `.s32`
    S32,
    /// `.s8`
    S8,
    /// `.u8`
    U8,
    /// `.s4`
    S4,
    /// `.u4`
    U4,
    /// `.b1`
    B1,
}

impl Format {
    /// From the suffix without its dot.
    pub fn parse(name: &str) -> Option<Format> {
        Some(match name {
            "f16" => Format::F16,
            "bf16" => Format::Bf16,
            "tf32" => Format::Tf32,
            "f32" => Format::F32,
            "f64" => Format::F64,
            "e4m3" => Format::E4m3,
            "e5m2" => Format::E5m2,
            "s32" => Format::S32,
            "s8" => Format::S8,
            "u8" => Format::U8,
            "s4" => Format::S4,
            "u4" => Format::U4,
            "b1" => Format::B1,
            _ => return None,
        })
    }

    /// Bits of an element.
    pub const fn bits(self) -> u32 {
        match self {
            Format::F64 => 64,
            Format::Tf32 | Format::F32 | Format::S32 => 32,
            Format::F16 | Format::Bf16 => 16,
            Format::E4m3 | Format::E5m2 | Format::S8 | Format::U8 => 8,
            Format::S4 | Format::U4 => 4,
            Format::B1 => 1,
        }
    }

    /// Bits of the registers that hold it: 64 for `.f64`, else 32.
    pub const fn register_bits(self) -> u32 {
        if matches!(self, Format::F64) { 64 } else { 32 }
    }

    /// Elements a register.
    pub const fn parts(self) -> u32 {
        self.register_bits() / self.bits()
    }
}

/// The shape of a product: `m x k` times `k x n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of A, C, D.
    pub m: u32,
    /// Columns of B, C, D.
    pub n: u32,
    /// Columns of A, rows of B.
    pub k: u32,
}

impl Shape {
    /// From the suffix without its dot: `m16n8k16`.
    pub fn parse(name: &str) -> Option<Shape> {
        let (m, rest) = name.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        Some(Shape { m: m.parse().ok()?, n: n.parse().ok()?, k: k.parse().ok()? })
    }
}
