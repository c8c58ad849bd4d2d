//! Who accessed a word last, and the rule that makes two accesses a race.
//!
//! Each word of 4 bytes has two records, of its last writer and its last reader; an access is compared with both. A word
//! that is accessed in parts has such records for each of its bytes instead.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use super::memory::{zeroed_bytes, zeroed_records};

/// In the shadow of shared memory: a `cp.async` to the word is under way.
pub const PENDING: u8 = 1 << 4;
/// In the shadow of shared memory: the word came by `cp.async`.
pub const COPIED: u8 = 1 << 5;

/// Blocks are known by so many low bits of their number.
pub const BLOCK_MASK: u64 = (1 << 26) - 1;
/// The bit of a record that says atomic or volatile.
const STRONG: u64 = 1 << 4;
/// Ticks that fit a record; later ones are not checked.
pub const LAST_TICK: u32 = (1 << 22) - 1;

/// An access, as a record holds it: bytes of the word in bits 0 to 3, strong (atomic or volatile) in bit 4, the tick in 5 to
/// 26, the thread in 27 to 36, "and other threads" in 37, the block in 38 to 63. 0 is no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// By a thread of a block, at a tick of its warp. Bytes are added by [`Stamp::on`].
    pub fn new(block: u64, thread: usize, tick: u32, strong: bool) -> Stamp {
        let tick = u64::from(tick.min(LAST_TICK));
        Stamp((block & BLOCK_MASK) << 38 | (thread as u64 & 1023) << 27 | tick << 5 | u64::from(strong) << 4)
    }

    /// The same on these bytes of a word.
    #[inline(always)]
    pub fn on(self, bytes: u8) -> Stamp {
        Stamp(self.0 | u64::from(bytes))
    }

    /// Bytes of the word.
    #[inline(always)]
    pub fn bytes(self) -> u8 {
        self.0 as u8 & 15
    }

    /// Atomic or volatile.
    pub fn strong(self) -> bool {
        self.0 >> 4 & 1 != 0
    }

    /// Tick of its warp.
    pub fn tick(self) -> u32 {
        (self.0 >> 5) as u32 & LAST_TICK
    }

    /// Thread in its block.
    pub fn thread(self) -> usize {
        (self.0 >> 27) as usize & 1023
    }

    /// Other threads did the same at about that time.
    pub fn others(self) -> bool {
        self.0 >> 37 & 1 != 0
    }

    fn and_others(self) -> Stamp {
        Stamp(self.0 | 1 << 37)
    }

    /// Block, its low bits.
    pub fn block(self) -> u64 {
        self.0 >> 38
    }

    /// Whether both are by the same thread.
    #[inline(always)]
    pub fn same_thread(self, other: Stamp) -> bool {
        (self.0 ^ other.0) & !(1 << 37 | 0x7ff_ffff) == 0
    }

    /// Whether both are by the same thread, at the same tick, on the same bytes.
    #[inline(always)]
    fn same(self, other: Stamp) -> bool {
        (self.0 ^ other.0) & !(1 << 37) == 0
    }
}

/// In place of both records of a word: its bytes have their own. No access has no bytes.
const SPLIT: u64 = !(1 << 37 | 15);

/// Records of the words of some memory.
pub struct Records {
    /// Last writer and last reader.
    stamps: Box<[[AtomicU64; 2]]>,
    /// Instructions of those.
    places: Box<[[AtomicU32; 2]]>,
    /// Records of bytes, for words that are [`SPLIT`].
    bytes: OnceLock<Box<Records>>,
    /// Whether several threads of the host use them at once. Of two accesses at the same moment one sees the other then: each
    /// leaves its stamp first, takes what was there by the same instruction, and only then looks at the other kind of access.
    contended: bool,
}

/// Whether a stamp is of another thread than `mine`: its block and thread bits differ.
#[inline(always)]
fn is_foreign(stamp: u64, mine: u64) -> bool {
    stamp != 0 && (stamp ^ mine) & !(1 << 37 | 0x7ff_ffff) != 0
}

/// An access that conflicts with an earlier one.
#[derive(Clone, Copy, Debug)]
pub struct Conflict {
    /// The earlier one.
    pub earlier: Stamp,
    /// Its instruction.
    pub place: u32,
    /// Whether it wrote.
    pub wrote: bool,
}

impl Records {
    /// For so many words, none of them accessed.
    pub fn new(words: usize, contended: bool) -> Records {
        let (stamps, places) = zeroed_records(words);
        Records { stamps, places, bytes: OnceLock::new(), contended }
    }

    /// Leaves a stamp; what was there before, as far as several threads of the host may have left something.
    #[inline(always)]
    fn leave(&self, at: &AtomicU64, stamp: Stamp, seen: Stamp) -> Stamp {
        if self.contended {
            let before = at.swap(stamp.0, Ordering::SeqCst);
            if before == SPLIT {
                at.store(SPLIT, Ordering::SeqCst); // taken apart this moment, and it stays so
            }
            Stamp(before)
        } else {
            at.store(stamp.0, Ordering::Relaxed);
            seen
        }
    }

    /// Where a word was last written, or read; `None` if there are no records.
    pub fn place(&self, word: usize, wrote: bool) -> Option<u32> {
        self.places.get(word).map(|places| places[usize::from(!wrote)].load(Ordering::Relaxed))
    }

    /// Notes where constant data was read: nothing but a write could conflict with that, and a write is told by it alone.
    pub fn note_reader(&self, word: usize, place: u32) {
        self.places[word][1].store(place, Ordering::Relaxed);
    }

    /// A read of a word by `me`; `ordered` says whether an earlier access happened before it.
    #[inline(always)]
    pub fn read(
        &self,
        word: usize,
        me: Stamp,
        place: u32,
        ordered: impl Fn(Stamp) -> bool,
    ) -> Option<Conflict> {
        let wrote = Stamp(self.stamps[word][0].load(Ordering::Relaxed));
        if me.bytes() != 15 || wrote.0 == SPLIT {
            return self.in_parts(word, me, place, false, &|bytes, byte| {
                bytes.read_record(byte, me, place, &ordered)
            });
        }
        self.read_record(word, me, place, &ordered)
    }

    #[inline(always)]
    fn read_record(
        &self,
        word: usize,
        me: Stamp,
        place: u32,
        ordered: &impl Fn(Stamp) -> bool,
    ) -> Option<Conflict> {
        let [writer, reader] = &self.stamps[word];
        let read = Stamp(reader.load(Ordering::Relaxed));
        if !me.same(read) {
            let fresh = read.0 == 0 || me.same_thread(read) || ordered(read);
            let stamp = if fresh { me } else { me.and_others() };
            // A strong read must not hide a weak one that a later strong write would race with.
            if fresh || !me.strong() || read.strong() {
                self.leave(reader, stamp, read);
                self.places[word][1].store(place, Ordering::Relaxed);
            }
        }
        let wrote = Stamp(writer.load(Ordering::SeqCst));
        self.conflict(word, wrote, me, true, ordered)
    }

    /// A write of a word by `me`. `unchanged` says that it writes what is there already, which is no race with a writer.
    #[inline(always)]
    pub fn write(
        &self,
        word: usize,
        me: Stamp,
        place: u32,
        unchanged: bool,
        ordered: impl Fn(Stamp) -> bool,
    ) -> Option<Conflict> {
        let wrote = Stamp(self.stamps[word][0].load(Ordering::Relaxed));
        if me.bytes() != 15 || wrote.0 == SPLIT {
            return self.in_parts(word, me, place, true, &|bytes, byte| {
                bytes.write_record(byte, me, place, unchanged, &ordered)
            });
        }
        self.write_record(word, me, place, unchanged, &ordered)
    }

    #[inline(always)]
    fn write_record(
        &self,
        word: usize,
        me: Stamp,
        place: u32,
        unchanged: bool,
        ordered: &impl Fn(Stamp) -> bool,
    ) -> Option<Conflict> {
        let [writer, reader] = &self.stamps[word];
        let wrote = Stamp(writer.load(Ordering::Relaxed));
        let mut conflict = None;
        if !me.same(wrote) {
            if !unchanged {
                conflict = self.conflict(word, wrote, me, true, ordered);
            }
            // A strong write must not hide a weak one before it that others' strong ones would race with.
            if !me.strong() || !me.same(Stamp(wrote.0 | STRONG)) {
                let before = self.leave(writer, me, wrote);
                if before.0 != wrote.0 && conflict.is_none() && !unchanged {
                    conflict = self.conflict(word, before, me, true, ordered);
                }
                self.places[word][0].store(place, Ordering::Relaxed);
            }
        }
        let read = Stamp(reader.load(Ordering::SeqCst));
        if conflict.is_none() && !unchanged {
            conflict = self.conflict(word, read, me, false, ordered);
        }
        conflict
    }

    /// An access to a word of which parts are told apart: one by one, to its bytes.
    #[inline(never)]
    fn in_parts(
        &self,
        word: usize,
        me: Stamp,
        place: u32,
        write: bool,
        each: &dyn Fn(&Records, usize) -> Option<Conflict>,
    ) -> Option<Conflict> {
        let bytes = self.bytes.get_or_init(|| Box::new(Records::new(4 * self.stamps.len(), self.contended)));
        for (which, stamp) in self.stamps[word].iter().enumerate() {
            let stamp = stamp.swap(SPLIT, Ordering::Relaxed);
            if stamp == SPLIT {
                continue;
            }
            let before = self.places[word][which].load(Ordering::Relaxed);
            for byte in 4 * word..4 * word + 4 {
                bytes.stamps[byte][which].store(stamp, Ordering::Relaxed);
                bytes.places[byte][which].store(before, Ordering::Relaxed);
            }
        }
        self.places[word][usize::from(!write)].store(place, Ordering::Relaxed);
        let touched = (0..4).filter(|byte| me.bytes() >> byte & 1 != 0);
        touched.fold(None, |conflict, byte| {
            let found = each(bytes, 4 * word + byte);
            conflict.or(found)
        })
    }

    /// Reads by the 32 lanes of a warp, `words` each, from the one with stamp `me` (lane 0) on. `false`, and nothing done, if
    /// any word was accessed otherwise than by its lane at this tick.
    #[inline(always)]
    pub fn read_run(&self, first: usize, words: usize, me: Stamp, place: u32) -> bool {
        let run = &self.stamps[first..first + 32 * words];
        let (mut foreign, mut readers, mut changed) = (0, 0, 0);
        for (lane, group) in run.chunks_exact(words).enumerate() {
            let mine = me.0 + ((lane as u64) << 27);
            for [writer, reader] in group {
                let (writer, reader) = (writer.load(Ordering::Relaxed), reader.load(Ordering::Relaxed));
                // Nobody but the lane's thread may have written: the block and thread bits.
                foreign |= if writer == 0 { 0 } else { (writer ^ mine) & !(1 << 37 | 0x7ff_ffff) };
                readers |= reader;
                changed |= (reader ^ mine) & !(1 << 37);
            }
        }
        if foreign != 0 || (changed != 0 && readers != 0) {
            return false;
        }
        if changed == 0 {
            return true;
        }
        let places = &self.places[first..first + 32 * words];
        for (lane, (group, places)) in run.chunks_exact(words).zip(places.chunks_exact(words)).enumerate() {
            let mine = me.0 + ((lane as u64) << 27);
            for ([_, reader], [_, at]) in group.iter().zip(places) {
                reader.store(mine, Ordering::Relaxed);
                at.store(place, Ordering::Relaxed);
            }
        }
        if !self.contended {
            return true;
        }
        // A write of the same moment is for the caller to find, one by one.
        fence(Ordering::SeqCst);
        let foreign = run.chunks_exact(words).enumerate().any(|(lane, group)| {
            let mine = me.0 + ((lane as u64) << 27);
            group.iter().any(|[writer, _]| is_foreign(writer.load(Ordering::Relaxed), mine))
        });
        !foreign
    }

    /// Writes by the 32 lanes of a warp; as [`Records::read_run`].
    #[inline(always)]
    pub fn write_run(&self, first: usize, words: usize, me: Stamp, place: u32) -> bool {
        let run = &self.stamps[first..first + 32 * words];
        let (mut any, mut other) = (0, 0);
        for (lane, group) in run.chunks_exact(words).enumerate() {
            let mine = me.0 + ((lane as u64) << 27);
            for [writer, reader] in group {
                let (writer, reader) = (writer.load(Ordering::Relaxed), reader.load(Ordering::Relaxed));
                any |= writer | reader;
                // Nobody but the lane's thread: the block and thread bits, and "others" of the reader.
                other |= if writer == 0 { 0 } else { (writer ^ mine) & !(1 << 37 | 0x7ff_ffff) };
                other |= if reader == 0 { 0 } else { (reader ^ mine) & !0x7ff_ffff };
            }
        }
        if any != 0 && other != 0 {
            return false;
        }
        let places = &self.places[first..first + 32 * words];
        for (lane, (group, places)) in run.chunks_exact(words).zip(places.chunks_exact(words)).enumerate() {
            let mine = me.0 + ((lane as u64) << 27);
            for ([writer, reader], [at, _]) in group.iter().zip(places) {
                if self.contended {
                    let before = writer.swap(mine, Ordering::SeqCst);
                    if is_foreign(before, mine) {
                        // An access of the same moment is for the caller to find, one by one.
                        writer.store(before, Ordering::SeqCst);
                        return false;
                    }
                    if is_foreign(reader.load(Ordering::SeqCst), mine) {
                        return false;
                    }
                } else {
                    writer.store(mine, Ordering::Relaxed);
                }
                at.store(place, Ordering::Relaxed);
            }
        }
        true
    }

    #[inline(always)]
    fn conflict(
        &self,
        word: usize,
        earlier: Stamp,
        me: Stamp,
        wrote: bool,
        ordered: &impl Fn(Stamp) -> bool,
    ) -> Option<Conflict> {
        if earlier.bytes() & me.bytes() == 0
            || (earlier.same_thread(me) && !earlier.others())
            || (earlier.strong() && me.strong())
            || earlier.tick() == LAST_TICK
            || ordered(earlier)
        {
            return None;
        }
        let place = self.places[word][usize::from(!wrote)].load(Ordering::Relaxed);
        Some(Conflict { earlier, place, wrote })
    }
}

/// What a launch did to an allocation.
pub struct Tracking {
    /// A byte a word: 1 read, 2 read as constant data (`ld.global.nc`).
    pub read: Box<[AtomicU8]>,
    /// A byte a word: 1 written.
    pub written: Box<[AtomicU8]>,
    /// Who accessed each word; empty if nobody asked for races.
    pub records: Records,
}

impl Tracking {
    /// For so many bytes.
    pub fn new(bytes: u64, races: bool) -> Tracking {
        let words = bytes.div_ceil(4) as usize;
        Tracking {
            read: zeroed_bytes(words),
            written: zeroed_bytes(words),
            records: Records::new(if races { words } else { 0 }, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(number: usize) -> Stamp {
        Stamp::new(0, number, 1, false)
    }

    #[test]
    fn neighbouring_bytes_are_nobody_elses() {
        let records = Records::new(2, false);
        for byte in 0..4 {
            assert!(records.write(1, thread(byte).on(1 << byte), 7, false, |_| false).is_none());
        }
        for byte in 0..4 {
            assert!(records.read(1, thread(byte).on(1 << byte), 8, |_| false).is_none());
        }
        let conflict = records.write(1, thread(64).on(1 << 2), 9, false, |_| false).unwrap();
        assert_eq!((conflict.earlier.thread(), conflict.place, conflict.wrote), (2, 7, true));
        assert_eq!(records.place(1, true), Some(9));
    }

    #[test]
    fn parts_and_whole_words_are_compared() {
        let records = Records::new(1, false);
        assert!(records.write(0, thread(0).on(15), 1, false, |_| false).is_none());
        let conflict = records.read(0, thread(1).on(0b1100), 2, |_| false).unwrap();
        assert_eq!((conflict.earlier.thread(), conflict.place, conflict.wrote), (0, 1, true));
        // Thread 1 is known to have read by now, and thread 0 is not.
        let known = |earlier: Stamp| earlier.thread() == 1;
        assert_eq!(records.write(0, thread(2).on(15), 3, false, known).unwrap().earlier.thread(), 0);
        assert!(records.write(0, thread(2).on(15), 3, false, known).is_none(), "told once");
    }

    /// Of two threads of the host that access a word for different blocks at the same moment, one finds the other.
    #[test]
    fn accesses_at_the_same_moment_are_found() {
        const WORDS: usize = 32 * 400;
        for (alone, first_writes) in [(true, true), (true, false), (false, true), (false, false)] {
            let records = Records::new(WORDS, true);
            let arrived: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
            let found: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
            let step = if alone { 1 } else { 32 };
            std::thread::scope(|scope| {
                for block in 0..2 {
                    let (records, arrived, found) = (&records, &arrived, &found);
                    scope.spawn(move || {
                        let stamp = |lane| Stamp::new(block, lane, 1, false).on(15);
                        let writes = block == 1 || first_writes;
                        for first in (0..WORDS).step_by(step) {
                            arrived[first].fetch_add(1, Ordering::SeqCst);
                            while arrived[first].load(Ordering::SeqCst) < 2 {
                                std::hint::spin_loop();
                            }
                            let run = |of: Stamp| match writes {
                                true => records.write_run(first, 1, of, 7),
                                false => records.read_run(first, 1, of, 7),
                            };
                            if !alone && run(stamp(0)) {
                                continue;
                            }
                            for lane in 0..step {
                                let (word, me) = (first + lane, stamp(lane));
                                let conflict = match writes {
                                    true => records.write(word, me, 7, false, |_| false),
                                    false => records.read(word, me, 7, |_| false),
                                };
                                found[first].fetch_add(u32::from(conflict.is_some()), Ordering::SeqCst);
                            }
                        }
                    });
                }
            });
            let missed = (0..WORDS).step_by(step).filter(|&word| found[word].load(Ordering::SeqCst) == 0);
            assert_eq!(missed.count(), 0, "alone {alone}, the first writes {first_writes}");
        }
    }

    #[test]
    fn short_ways_leave_words_in_parts_to_the_long_one() {
        let records = Records::new(32, false);
        assert!(records.write(0, thread(0).on(1), 1, false, |_| false).is_none());
        assert!(!records.read_run(0, 1, thread(0).on(15), 2));
        assert!(!records.write_run(0, 1, thread(0).on(15), 2));
    }
}
