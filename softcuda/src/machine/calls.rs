//! Calls of functions that have steps of their own: those that are recursive, or called through a pointer.
//!
//! Such a function has one set of registers and of local memory. A call of one that is active already saves the lane's share of
//! them, its return brings them back.

use std::ops::Range;
use std::sync::Arc;

use super::context::Context;
use super::registers::File;
use crate::checks::{Check, DeviceError, Finding};

/// What a lane's calls may save, bytes.
const STACK: usize = 1 << 18;

/// Where a parameter or result lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// In a register.
    Register(File, u32),
    /// In the thread's local memory.
    Local(Range<usize>),
}

/// A function with steps of its own.
#[derive(Clone, Debug)]
pub struct Routine {
    /// Its name.
    pub name: String,
    /// Its first step.
    pub start: u32,
    /// Its predicates.
    pub predicates: Range<usize>,
    /// Its registers of up to 32 bits.
    pub narrow: Range<usize>,
    /// Its registers of 64 bits.
    pub wide: Range<usize>,
    /// Its local memory.
    pub local: Range<usize>,
    /// Its parameters.
    pub parameters: Vec<Slot>,
    /// Its results.
    pub results: Vec<Slot>,
    /// It takes addresses in its local memory: it cannot be active twice, since those would be the same.
    pub addressed: bool,
}

/// What a call leaves for its return.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Which function is active.
    routine: usize,
    /// The step behind the call.
    back: u32,
    /// Where results go.
    results: Arc<[Slot]>,
    /// What the function held before.
    saved: Option<Saved>,
}

#[derive(Clone, Debug, PartialEq)]
struct Saved {
    predicates: Vec<bool>,
    narrow: Vec<u32>,
    wide: Vec<u64>,
    local: Bytes,
}

/// Bytes of local memory, and which of them have been written.
#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>, Vec<bool>);

/// What is passed.
enum Value {
    Bits(u64),
    Bytes(Bytes),
}

impl Context<'_> {
    fn local_range(&self, lane: usize, range: &Range<usize>) -> Range<usize> {
        let start = lane * self.launch.kernel.local_bytes as usize;
        start + range.start..start + range.end
    }

    fn take_local(&self, lane: usize, range: &Range<usize>) -> Bytes {
        let range = self.local_range(lane, range);
        Bytes(self.warp.local[range.clone()].to_vec(), self.warp.local_written[range].to_vec())
    }

    fn put_local(&mut self, lane: usize, range: &Range<usize>, bytes: &Bytes) {
        let range = self.local_range(lane, range);
        self.warp.local[range.clone()].copy_from_slice(&bytes.0);
        self.warp.local_written[range].copy_from_slice(&bytes.1);
    }

    fn take(&self, lane: usize, slot: &Slot) -> Value {
        match *slot {
            Slot::Register(File::Predicate, slot) => {
                Value::Bits(u64::from(self.registers.predicates[slot as usize] >> lane & 1))
            }
            Slot::Register(File::Narrow, slot) => {
                Value::Bits(u64::from(self.registers.narrow[slot as usize][lane]))
            }
            Slot::Register(File::Wide, slot) => Value::Bits(self.registers.wide[slot as usize][lane]),
            Slot::Local(ref range) => Value::Bytes(self.take_local(lane, range)),
        }
    }

    fn put(&mut self, lane: usize, slot: &Slot, value: &Value) {
        match (slot, value) {
            (&Slot::Register(file, slot), &Value::Bits(bits)) => self.put_register(lane, file, slot, bits),
            (Slot::Local(range), Value::Bytes(bytes)) => self.put_local(lane, range, bytes),
            // Lowering pairs slots of one kind.
            _ => {}
        }
    }

    fn put_register(&mut self, lane: usize, file: File, slot: u32, bits: u64) {
        match file {
            File::Predicate => {
                let register = &mut self.registers.predicates[slot as usize];
                *register = *register & !(1 << lane) | (bits as u32 & 1) << lane;
            }
            File::Narrow => self.registers.narrow[slot as usize][lane] = bits as u32,
            File::Wide => self.registers.wide[slot as usize][lane] = bits,
        }
    }

    /// A lane calls a function.
    ///
    /// # Errors
    /// It cannot be active twice, or the stack is full.
    pub fn enter(
        &mut self,
        lane: usize,
        (index, routine): (usize, &Routine),
        arguments: &[Slot],
        results: &Arc<[Slot]>,
    ) -> Result<(), Box<Finding>> {
        let refuse = |context: &Self, what: String| {
            Err(context.finding(lane, Check::Memory, DeviceError::LaunchFailed, what))
        };
        let values: Vec<Value> = arguments.iter().map(|argument| self.take(lane, argument)).collect();
        let active = self.warp.calls[lane].iter().rev().any(|frame| frame.routine == index);
        if active && routine.addressed {
            let what = format!(
                "calls `{}` while it is active: recursion of a function that takes addresses of its variables is not supported",
                routine.name
            );
            return refuse(self, what);
        }
        let bytes = 4 * routine.narrow.len() + 8 * routine.wide.len() + routine.local.len() + 32;
        let saved = active.then(|| self.save(lane, routine));
        let stack = &mut self.warp.calls[lane];
        if stack.len() * bytes > STACK {
            let what = format!("overflows the stack: {} calls are active in `{}`", stack.len(), routine.name);
            return refuse(self, what);
        }
        stack.push(Frame { routine: index, back: self.pc + 1, results: results.clone(), saved });
        for (parameter, value) in routine.parameters.iter().zip(&values) {
            self.put(lane, parameter, value);
        }
        Ok(())
    }

    fn save(&self, lane: usize, routine: &Routine) -> Saved {
        let registers = &self.registers;
        Saved {
            predicates: registers.predicates[routine.predicates.clone()]
                .iter()
                .map(|mask| mask >> lane & 1 != 0)
                .collect(),
            narrow: registers.narrow[routine.narrow.clone()].iter().map(|values| values[lane]).collect(),
            wide: registers.wide[routine.wide.clone()].iter().map(|values| values[lane]).collect(),
            local: self.take_local(lane, &routine.local),
        }
    }

    /// A lane returns; gives the step where it goes on.
    pub fn leave(&mut self, lane: usize, routine: &Routine) -> Option<u32> {
        let frame = self.warp.calls[lane].pop()?;
        let values: Vec<Value> = routine.results.iter().map(|result| self.take(lane, result)).collect();
        if let Some(saved) = frame.saved {
            for (slot, bit) in routine.predicates.clone().zip(saved.predicates) {
                self.put_register(lane, File::Predicate, slot as u32, u64::from(bit));
            }
            for (slot, value) in routine.narrow.clone().zip(saved.narrow) {
                self.registers.narrow[slot][lane] = value;
            }
            for (slot, value) in routine.wide.clone().zip(saved.wide) {
                self.registers.wide[slot][lane] = value;
            }
            self.put_local(lane, &routine.local, &saved.local);
        }
        for (result, value) in frame.results.iter().zip(&values) {
            self.put(lane, result, value);
        }
        Some(frame.back)
    }
}
