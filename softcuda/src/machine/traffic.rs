//! What accesses cost: sectors of global memory, passes of shared memory.

use super::context::Context;
use super::registers::lanes;

/// Bytes of a sector.
const SECTOR: u64 = 32;

/// Sectors that an access asks for, and the fewest that could hold its bytes.
pub fn sectors(addresses: &[u64; 32], mask: u32, bytes: u32) -> (u64, u64) {
    let mut sorted = [0u64; 32];
    let mut count = 0;
    let mut in_order = true;
    for lane in lanes(mask) {
        sorted[count] = addresses[lane];
        in_order &= count == 0 || sorted[count - 1] <= sorted[count];
        count += 1;
    }
    let sorted = &mut sorted[..count];
    if !in_order {
        sorted.sort_unstable();
    }
    let (mut different, mut found, mut next) = (0, 0, 0);
    let mut last = None;
    for &address in sorted.iter() {
        if last.replace(address) == Some(address) {
            continue;
        }
        different += 1;
        let (first, end) = (address / SECTOR, (address + u64::from(bytes)).div_ceil(SECTOR));
        found += end - first.max(next).min(end);
        next = next.max(end);
    }
    (found, (different * u64::from(bytes)).div_ceil(SECTOR))
}

/// Passes of shared memory without conflicts, and those that conflicts add. Lanes are served in groups that ask for 128
/// bytes at most; a group takes as many passes as the bank with the most different words in it.
pub fn passes(addresses: &[u64; 32], mask: u32, bytes: u32) -> (u64, u64) {
    let words = (bytes / 4).max(1) as usize;
    let group = 32 / words;
    let (mut plain, mut extra) = (0, 0);
    for start in (0..32).step_by(group) {
        let active = mask & (((1u64 << group) - 1) << start) as u32;
        if active == 0 {
            continue;
        }
        plain += 1;
        let mut seen = [0u64; 32];
        let mut count = 0;
        let mut banks = [0u8; 32];
        for lane in lanes(active) {
            for part in 0..words as u64 {
                let word = addresses[lane] / 4 + part;
                let bank = &mut banks[(word % 32) as usize];
                if *bank == 0 || !seen[..count].contains(&word) {
                    *bank += 1;
                    seen[count.min(31)] = word;
                    count = (count + 1).min(32);
                }
            }
        }
        extra += u64::from(banks.iter().copied().max().unwrap_or(1).max(1)) - 1;
    }
    (plain, extra)
}

impl Context<'_> {
    /// Counts the sectors of an access to global memory.
    #[inline(always)]
    pub fn count_sectors(&mut self, addresses: &[u64; 32], bytes: u32) {
        let (found, minimum) = sectors(addresses, self.mask, bytes);
        let count = self.count();
        count.sectors += found;
        count.minimum_sectors += minimum;
    }

    /// Counts the passes of an access to shared memory.
    #[inline(always)]
    pub fn count_passes(&mut self, addresses: &[u64; 32], bytes: u32) {
        let (plain, extra) = passes(addresses, self.mask, bytes);
        let count = self.count();
        count.passes += plain;
        count.conflicts += extra;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_counted_once_and_compared_with_the_bytes() {
        let of =
            |f: fn(u64) -> u64, bytes| sectors(&std::array::from_fn(|lane| f(lane as u64)), u32::MAX, bytes);
        assert_eq!(of(|lane| 4 * lane, 4), (4, 4));
        assert_eq!(of(|lane| 4 * (31 - lane), 4), (4, 4));
        assert_eq!(of(|lane| 4 + 4 * lane, 4), (5, 4));
        assert_eq!(of(|_| 64, 4), (1, 1));
        assert_eq!(of(|lane| 128 * lane, 4), (32, 4));
        assert_eq!(of(|lane| 16 * lane, 16), (16, 16));
        assert_eq!(of(|lane| 16 + 32 * lane, 16), (32, 16));
        assert_eq!(sectors(&[0; 32], 0, 4), (0, 0));
    }

    #[test]
    fn conflicts_are_the_words_that_a_bank_holds_beyond_the_first() {
        let of =
            |f: fn(u64) -> u64, bytes| passes(&std::array::from_fn(|lane| f(lane as u64)), u32::MAX, bytes);
        assert_eq!(of(|lane| 4 * lane, 4), (1, 0));
        assert_eq!(of(|_| 12, 4), (1, 0));
        assert_eq!(of(|lane| 8 * lane, 4), (1, 1));
        assert_eq!(of(|lane| 128 * lane, 4), (1, 31));
        assert_eq!(of(|lane| 132 * lane, 4), (1, 0));
        assert_eq!(of(|lane| lane, 1), (1, 0));
        assert_eq!(of(|lane| 8 * lane, 8), (2, 0));
        assert_eq!(of(|lane| 16 * lane, 16), (4, 0));
        assert_eq!(of(|lane| 128 * lane, 16), (4, 28));
    }
}
