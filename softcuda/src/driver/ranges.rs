//! Sets of addresses.

/// Ranges of addresses, from the first byte to the one behind the last; sorted, none touching another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Ranges {
        let mut all: Vec<(u64, u64)> = ranges.into_iter().filter(|(start, end)| start < end).collect();
        if !all.is_sorted() {
            all.sort_unstable();
        }
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (start, end) in all {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Ranges(merged)
    }
}

impl Ranges {
    /// From a bit a 4-byte word.
    pub fn from_words(base: u64, words: &[u64]) -> impl Iterator<Item = (u64, u64)> {
        let mut at = 0u64;
        let end = words.len() as u64 * 64;
        // The next word from `at` on whose bit is `set`.
        let find = move |mut at: u64, set: bool| {
            while at < end {
                let bits = words[(at / 64) as usize];
                let bits = (if set { bits } else { !bits }) >> (at % 64);
                if bits != 0 {
                    return at + u64::from(bits.trailing_zeros());
                }
                at = (at / 64 + 1) * 64;
            }
            end
        };
        std::iter::from_fn(move || {
            let start = find(at, true);
            (start < end).then(|| {
                at = find(start, false);
                (base + start * 4, base + at * 4)
            })
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// The first address that both hold.
    pub fn meets(&self, other: &Ranges) -> Option<u64> {
        let (few, many) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        few.iter().find_map(|(start, end)| {
            let at = many.0.partition_point(|range| range.1 <= start);
            many.0.get(at).filter(|range| range.0 < end).map(|range| range.0.max(start))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(ranges: &[(u64, u64)]) -> Vec<u64> {
        let mut all: Vec<u64> = ranges.iter().flat_map(|(start, end)| *start..*end).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    proptest! {
        #[test]
        fn they_hold_what_they_were_made_of(list in prop::collection::vec((0u64..60, 0u64..60), 0..12)) {
            let ranges: Ranges = list.iter().copied().collect();
            let valid: Vec<_> = list.into_iter().filter(|(start, end)| start < end).collect();
            prop_assert_eq!(members(&ranges.0), members(&valid));
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }

        #[test]
        fn the_first_common_address_is_found(
            a in prop::collection::vec((0u64..60, 0u64..60), 0..8),
            b in prop::collection::vec((0u64..60, 0u64..60), 0..8),
        ) {
            let (a, b): (Ranges, Ranges) = (a.into_iter().collect(), b.into_iter().collect());
            let common = members(&a.0).into_iter().find(|at| members(&b.0).contains(at));
            prop_assert_eq!(a.meets(&b), common);
        }

        #[test]
        fn bits_become_ranges(words in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 0..4)) {
            let ranges: Ranges = Ranges::from_words(1000, &words).collect();
            let set = (0..words.len() as u64 * 64).filter(|at| words[*at as usize / 64] >> (at % 64) & 1 != 0);
            let bytes: Vec<u64> = set.flat_map(|at| 1000 + at * 4..1004 + at * 4).collect();
            prop_assert_eq!(members(&ranges.0), bytes);
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
