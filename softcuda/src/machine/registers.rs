//! The registers of a warp: 32 lanes each, in three files by width.

/// A file of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// `.pred`: a bit a lane.
    Predicate,
    /// Up to 32 bits.
    Narrow,
    /// 64 bits.
    Wide,
}

/// Where an instruction reads a value. Constants and special registers are registers too, set before a warp starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Index in its file.
    pub slot: u32,
    /// Predicates only: `!p`.
    pub inverted: bool,
}

/// All registers of a warp.
#[derive(Clone, Debug, PartialEq)]
pub struct Registers {
    /// Predicates: bit i is lane i.
    pub predicates: Vec<u32>,
    /// Registers of up to 32 bits.
    pub narrow: Vec<[u32; 32]>,
    /// Registers of 64 bits.
    pub wide: Vec<[u64; 32]>,
}

impl Registers {
    /// A predicate's lanes.
    #[inline(always)]
    pub fn mask(&self, source: Source) -> u32 {
        self.predicates[source.slot as usize] ^ if source.inverted { u32::MAX } else { 0 }
    }
}

/// Sets the lanes of a mask.
#[inline(always)]
pub fn blend<T: Copy>(to: &mut [T; 32], values: &[T; 32], mask: u32) {
    if mask == u32::MAX {
        *to = *values;
    } else {
        for lane in 0..32 {
            if mask >> lane & 1 != 0 {
                to[lane] = values[lane];
            }
        }
    }
}

/// The lanes of a mask, lowest first.
#[inline(always)]
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            lane
        })
    })
}
