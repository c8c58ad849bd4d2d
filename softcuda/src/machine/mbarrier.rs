//! The word of an mbarrier: what arrivals and transactions make of it. Its layout is this machine's own; programs must not
//! look inside.
//!
//! | bits | |
//! |---|---|
//! | 0 to 19 | arrivals that a phase needs |
//! | 20 to 39 | arrivals that the present phase still waits for |
//! | 40 to 60 | bytes that it still waits for, plus 2^20: copies may end before they are expected |
//! | 61 | parity of the present phase |
//! | 62, 63 | 1, 0: the word is an mbarrier |

/// The greatest count of arrivals or of bytes.
pub const MOST: u32 = (1 << 20) - 1;

const BYTES_BIAS: i64 = 1 << 20;

/// What may be done to an mbarrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Arrivals, after an expectation of bytes.
    Arrive {
        /// How many at once.
        count: u32,
        /// Bytes to expect first.
        expect: u32,
        /// Further phases need that many fewer.
        drop: bool,
        /// The caller says that this does not complete the phase.
        incomplete: bool,
    },
    /// Bytes to wait for.
    Expect(u32),
    /// Bytes that have come.
    Complete(u32),
    /// One more arrival to wait for.
    Await,
}

/// An mbarrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbarrier {
    /// Arrivals that a phase needs.
    pub expected: u32,
    /// Arrivals that the present phase waits for.
    pub pending: u32,
    /// Bytes that it waits for.
    pub bytes: i64,
    /// Parity of the present phase.
    pub parity: bool,
}

impl Mbarrier {
    /// At the start of its first phase; the count is from 1 to [`MOST`].
    pub fn new(count: u32) -> Mbarrier {
        Mbarrier { expected: count, pending: count, bytes: 0, parity: false }
    }

    /// From its word; `None` if that is no mbarrier.
    pub fn from_word(word: u64) -> Option<Mbarrier> {
        let field = |at: u32| (word >> at) as u32 & MOST;
        (word >> 62 == 1).then(|| Mbarrier {
            expected: field(0),
            pending: field(20),
            bytes: (word >> 40 & ((1 << 21) - 1)) as i64 - BYTES_BIAS,
            parity: word >> 61 & 1 != 0,
        })
    }

    /// Its word.
    pub fn to_word(self) -> u64 {
        let bytes = (self.bytes + BYTES_BIAS) as u64 & ((1 << 21) - 1);
        u64::from(self.expected & MOST)
            | u64::from(self.pending & MOST) << 20
            | bytes << 40
            | u64::from(self.parity) << 61
            | 1 << 62
    }

    /// After a change, and whether that completed the phase.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the instruction.
    pub fn after(self, change: Change) -> Result<(Mbarrier, bool), String> {
        let mut next = self;
        match change {
            Change::Arrive { count, expect, drop, incomplete } => {
                next.bytes += i64::from(expect);
                if count == 0 || count > self.pending {
                    return Err(format!(
                        "arrives {count} times at an mbarrier that waits for {} more arrivals",
                        self.pending
                    ));
                }
                next.pending -= count;
                if drop {
                    // Who drops is among those that are expected.
                    next.expected = self.expected.saturating_sub(count);
                }
                if incomplete && next.pending == 0 {
                    return Err("completes a phase, which .noComplete says it does not".to_string());
                }
            }
            Change::Expect(bytes) => next.bytes += i64::from(bytes),
            Change::Complete(bytes) => next.bytes -= i64::from(bytes),
            Change::Await => {
                if self.pending == MOST {
                    return Err(format!("makes an mbarrier wait for more than {MOST} arrivals"));
                }
                next.pending += 1;
            }
        }
        if next.bytes.unsigned_abs() > u64::from(MOST) {
            return Err(format!("brings the bytes that an mbarrier waits for to {}", next.bytes));
        }
        // An expectation alone completes nothing.
        let moves = matches!(change, Change::Arrive { .. } | Change::Complete(_));
        let completes = moves && next.pending == 0 && next.bytes == 0;
        if completes {
            next.pending = next.expected;
            next.parity = !next.parity;
        }
        Ok((next, completes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: Change = Change::Arrive { count: 1, expect: 0, drop: false, incomplete: false };

    #[test]
    fn a_phase_ends_with_its_last_arrival_and_last_byte() {
        let start = Mbarrier::new(2);
        let expecting = Change::Arrive { count: 1, expect: 64, drop: false, incomplete: false };
        let (one, done) = start.after(expecting).unwrap();
        assert!(!done && one.pending == 1 && one.bytes == 64);
        let (two, done) = one.after(ONE).unwrap();
        assert!(!done && !two.parity);
        let (half, done) = two.after(Change::Complete(48)).unwrap();
        assert!(!done);
        let (next, done) = half.after(Change::Complete(16)).unwrap();
        assert!(done);
        assert_eq!(next, Mbarrier { parity: true, ..start });
        // Bytes may come before they are expected.
        let (early, done) = next.after(Change::Complete(16)).unwrap();
        assert!(!done && early.bytes == -16);
        let (early, _) =
            early.after(Change::Arrive { count: 2, expect: 0, drop: false, incomplete: false }).unwrap();
        let (met, done) = early.after(Change::Expect(16)).unwrap();
        assert!(!done && met.bytes == 0, "an expectation completes nothing");
    }

    #[test]
    fn those_who_drop_are_not_awaited_again() {
        let drop = Change::Arrive { count: 3, expect: 0, drop: true, incomplete: false };
        let (one, _) = Mbarrier::new(4).after(drop).unwrap();
        let (two, done) = one.after(ONE).unwrap();
        assert!(done && two.pending == 1 && two.expected == 1);
    }

    #[test]
    fn misuse_is_told() {
        let arrive = |count| Change::Arrive { count, expect: 0, drop: false, incomplete: false };
        let start = Mbarrier::new(2);
        assert!(start.after(arrive(3)).unwrap_err().contains("arrives 3 times"));
        assert!(start.after(arrive(0)).is_err());
        assert!(start.after(Change::Expect(MOST + 1)).is_err());
        let incomplete = Change::Arrive { count: 2, expect: 0, drop: false, incomplete: true };
        assert!(start.after(incomplete).unwrap_err().contains(".noComplete"));
        assert_eq!(Mbarrier::from_word(0), None);
        assert_eq!(Mbarrier::from_word(0xcbcb_cbcb_cbcb_cbcb), None, "what nobody has written");
    }

    proptest! {
        #[test]
        fn words_hold_everything(
            expected in 0..=MOST, pending in 0..=MOST, bytes in -i64::from(MOST)..=i64::from(MOST), parity: bool,
        ) {
            let mbarrier = Mbarrier { expected, pending, bytes, parity };
            prop_assert_eq!(Mbarrier::from_word(mbarrier.to_word()), Some(mbarrier));
        }
    }
}
