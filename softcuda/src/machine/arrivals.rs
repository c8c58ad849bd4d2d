//! Mbarriers in shared memory: arrivals, waiting, and copies whose end counts as an arrival or as bytes.
//!
//! Such copies land when a thread first asks whether a phase is over: as late as a program may rely on. An arrival releases
//! what its warp knows, a wait that succeeds acquires what was released in phases up to the one it waited for.

use super::access::{How, read, write};
use super::asynchronous::Copy;
use super::context::Context;
use super::mbarrier::{Change, Mbarrier};
use super::registers::lanes;
use crate::checks::{Check, DeviceError, Finding};
use crate::ptx::ast::Space;

/// Copies that an mbarrier hears of.
#[derive(Clone, Debug)]
pub struct Deferred {
    /// What lands.
    pub copies: Vec<Copy>,
    /// What the mbarrier hears then.
    pub change: Change,
    /// What the warp that issued them knew.
    pub knowledge: [u32; 32],
    /// Thread that issued them, in its block.
    pub thread: usize,
    /// Its instruction.
    pub pc: u32,
}

/// In [`super::context::BlockState::shared_clocks`]: what was released in the present phase of the mbarrier at an address.
const PRESENT: u64 = 1 << 62;
/// In the same: what was released in the phases before.
const PAST: u64 = 1 << 63;

type Checked<T = ()> = Result<T, Box<Finding>>;

impl Context<'_> {
    /// A wrong use of an mbarrier.
    #[cold]
    fn misuse(&self, lane: usize, address: u64, what: String) -> Box<Finding> {
        let mut finding = self.finding(lane, Check::Sync, DeviceError::LaunchFailed, what);
        finding.address = Some(address);
        finding
    }

    /// The mbarrier of a word.
    fn mbarrier(&self, lane: usize, address: u64, word: u64) -> Checked<Mbarrier> {
        Mbarrier::from_word(word).ok_or_else(|| {
            let what = format!(
                "uses shared memory at {address:#x} as an mbarrier, which no mbarrier.init has made one"
            );
            self.misuse(lane, address, what)
        })
    }

    /// Changes the mbarrier at an address for one lane; gives its word before.
    ///
    /// # Errors
    /// What a check found.
    pub fn change_mbarrier(
        &mut self,
        lane: usize,
        address: u64,
        change: Change,
        release: bool,
    ) -> Checked<u64> {
        let whole = std::mem::replace(&mut self.mask, 1 << lane);
        let mut old = [0; 32];
        let next = |_: usize, word: u64| {
            let changed = Mbarrier::from_word(word).and_then(|mbarrier| mbarrier.after(change).ok());
            changed.map_or(word, |(mbarrier, _)| mbarrier.to_word())
        };
        let how = How { strong: true, ..How::default() };
        let result = self.update(Space::Shared, &[address; 32], 8, how, &next, &mut old);
        self.mask = whole;
        result?;
        let (_, completes) = self
            .mbarrier(lane, address, old[lane])?
            .after(change)
            .map_err(|what| self.misuse(lane, address, what))?;
        if self.checks(Check::Race) {
            // The words of an mbarrier carry nothing but what is released through it.
            self.block.shared_clocks.remove(&address);
            self.block.shared_clocks.remove(&(address + 4));
            if matches!(change, Change::Arrive { .. }) {
                let number = self.warp.number;
                let clock = &mut self.block.clocks[number];
                if release {
                    let knowledge = clock.knowledge(number);
                    clock.tick += 1;
                    self.carry(address, &knowledge);
                } else if let Some(fenced) = clock.fenced.clone() {
                    self.carry(address, &fenced.warps);
                }
            }
        }
        if completes {
            self.complete_phase(address);
        }
        Ok(old[lane])
    }

    /// Adds to what the present phase has released.
    fn carry(&mut self, address: u64, knowledge: &[u32; 32]) {
        let carried = self.block.shared_clocks.entry(address | PRESENT).or_insert([0; 32]);
        carried.iter_mut().zip(knowledge).for_each(|(known, &other)| *known = other.max(*known));
    }

    fn complete_phase(&mut self, address: u64) {
        self.launch.progress.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(released) = self.block.shared_clocks.remove(&(address | PRESENT)) {
            let past = self.block.shared_clocks.entry(address | PAST).or_insert([0; 32]);
            past.iter_mut().zip(&released).for_each(|(known, &other)| *known = other.max(*known));
        }
    }

    /// Makes mbarriers of the lanes' addresses.
    ///
    /// # Errors
    /// What a check found.
    pub fn init_mbarriers(&mut self, addresses: &[u64; 32], counts: &[u32; 32]) -> Checked {
        let words = counts.map(|count| Mbarrier::new(count).to_word());
        for lane in lanes(self.mask) {
            self.forget_mbarrier(addresses[lane]);
        }
        self.store(Space::Shared, addresses, 8, How::default(), &[words])
    }

    /// Makes plain memory of them, which nothing has written.
    ///
    /// # Errors
    /// What a check found.
    pub fn invalidate_mbarriers(&mut self, addresses: &[u64; 32]) -> Checked {
        for lane in lanes(self.mask) {
            self.land_at(addresses[lane], lane)?;
        }
        let mut words = [[0; 32]];
        self.load(Space::Shared, addresses, 8, How::default(), &mut words)?;
        for lane in lanes(self.mask) {
            self.mbarrier(lane, addresses[lane], words[0][lane])?;
        }
        self.store(Space::Shared, addresses, 8, How::default(), &[[0; 32]])?;
        for lane in lanes(self.mask) {
            self.forget_mbarrier(addresses[lane]);
            let word = (addresses[lane] / 4) as usize;
            self.block.shared_written[word..word + 2].fill(0);
        }
        Ok(())
    }

    fn forget_mbarrier(&mut self, address: u64) {
        self.block.shared_clocks.remove(&(address | PRESENT));
        self.block.shared_clocks.remove(&(address | PAST));
    }

    /// Lanes whose phase is over: that of the parity in `parities`. They acquire what it released.
    ///
    /// # Errors
    /// What a check found.
    pub fn phases_over(&mut self, addresses: &[u64; 32], parities: u32) -> Checked<u32> {
        for lane in lanes(self.mask) {
            self.land_at(addresses[lane], lane)?;
        }
        let mut words = [[0; 32]];
        let how = How { strong: true, ..How::default() };
        self.load(Space::Shared, addresses, 8, how, &mut words)?;
        let mut over = 0;
        for lane in lanes(self.mask) {
            let mbarrier = self.mbarrier(lane, addresses[lane], words[0][lane])?;
            over |= u32::from(mbarrier.parity != (parities >> lane & 1 != 0)) << lane;
        }
        if self.checks(Check::Race) {
            self.acquire_phases(addresses, over);
        }
        Ok(over)
    }

    fn acquire_phases(&mut self, addresses: &[u64; 32], mut rest: u32) {
        let number = self.warp.number;
        while rest != 0 {
            let address = addresses[rest.trailing_zeros() as usize];
            let group = lanes(rest)
                .filter(|&lane| addresses[lane] == address)
                .fold(0, |group, lane| group | 1 << lane);
            rest &= !group;
            if let Some(past) = self.block.shared_clocks.get(&(address | PAST)) {
                let clock = &mut self.block.clocks[number];
                clock.learn(past);
                clock.lanes_learn(group, self.warp.launched, past[number]);
            }
        }
    }

    /// The lane's copies so far will be heard of at an mbarrier.
    ///
    /// # Errors
    /// A race of what they write.
    pub fn defer(&mut self, lane: usize, address: u64, copies: Vec<Copy>, change: Change) -> Checked {
        let whole = std::mem::replace(&mut self.mask, 1 << lane);
        let mut words = [[0; 32]];
        let how = How { strong: true, ..How::default() };
        let result = self.load(Space::Shared, &[address; 32], 8, how, &mut words);
        self.mask = whole;
        result?;
        self.mbarrier(lane, address, words[0][lane])?;
        let number = self.warp.number;
        let mut knowledge = [0; 32];
        if self.checks(Check::Race) {
            for copy in &copies {
                for word in copy.words() {
                    self.race_shared(lane, word, 15, true, false, false)?;
                }
            }
            let clock = &mut self.block.clocks[number];
            knowledge = clock.knowledge(number);
            clock.tick += 1;
        }
        let (thread, pc) = (number * 32 + lane, self.pc);
        let deferred = Deferred { copies, change, knowledge, thread, pc };
        self.block.deferred.entry(address).or_default().push(deferred);
        self.block.changes += 1;
        Ok(())
    }

    /// What the mbarrier at an address will hear of lands, on behalf of a lane that asks.
    fn land_at(&mut self, address: u64, lane: usize) -> Checked {
        if self.block.deferred.is_empty() {
            return Ok(());
        }
        match self.block.deferred.remove(&address) {
            None => Ok(()),
            Some(list) => {
                list.into_iter().try_for_each(|deferred| self.land_deferred(address, lane, deferred))
            }
        }
    }

    /// The copies of a lane's own thread land that some mbarrier will hear of.
    ///
    /// # Errors
    /// A wrong use of that mbarrier.
    pub fn land_own(&mut self, lane: usize) -> Checked {
        if self.block.deferred.is_empty() {
            return Ok(());
        }
        let thread = self.warp.number * 32 + lane;
        let mut landing = Vec::new();
        for (&address, list) in &mut self.block.deferred {
            let own = |deferred: &mut Deferred| {
                deferred.thread == thread && matches!(deferred.change, Change::Arrive { .. })
            };
            landing.extend(list.extract_if(.., own).map(|deferred| (address, deferred)));
        }
        self.block.deferred.retain(|_, list| !list.is_empty());
        landing.into_iter().try_for_each(|(address, deferred)| self.land_deferred(address, lane, deferred))
    }

    fn land_deferred(&mut self, address: u64, lane: usize, deferred: Deferred) -> Checked {
        for copy in &deferred.copies {
            self.finish_copy(copy);
        }
        let at = address as usize;
        let word = read(&self.block.shared, at, 8);
        let changed = self.mbarrier(lane, address, word).and_then(|mbarrier| {
            mbarrier.after(deferred.change).map_err(|what| {
                let what = format!("a copy that has ended {what}");
                self.misuse(lane, address, what)
            })
        });
        let (mbarrier, completes) = changed.map_err(|mut finding| {
            finding.other_place = self.place_of(deferred.pc);
            finding
        })?;
        write(&mut self.block.shared, at, 8, mbarrier.to_word());
        self.block.changes += 1;
        if self.checks(Check::Race) {
            self.carry(address, &deferred.knowledge);
        }
        if completes {
            self.complete_phase(address);
        }
        Ok(())
    }
}
