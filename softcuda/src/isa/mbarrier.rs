//! Mbarriers: `mbarrier.*`, `cp.async.mbarrier.arrive`.

use super::data::space;
use super::{Element, Work};
use crate::checks::{Check, DeviceError, Finding};
use crate::lower::{Lowered, Lowerer, Place};
use crate::machine::access::resolve;
use crate::machine::context::{Context, Flow};
use crate::machine::mbarrier::{Change, MOST, Mbarrier};
use crate::machine::registers::{Source, lanes};
use crate::model::counters::Class;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Instruction, Operand, Space};

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    let has = |suffix| instruction.has(suffix);
    let operation = instruction.suffixes.first().map(String::as_str);
    match (instruction.opcode.as_str(), operation?) {
        ("cp", "async") if has("mbarrier") && !has("bulk") => Some(copies_arrive(lowerer, instruction)),
        ("mbarrier", "init") => Some(init(lowerer, instruction)),
        ("mbarrier", "inval") => Some(invalidate(lowerer, instruction)),
        ("mbarrier", "arrive") => Some(arrive(lowerer, instruction, false)),
        ("mbarrier", "arrive_drop") => Some(arrive(lowerer, instruction, true)),
        ("mbarrier", "expect_tx") => Some(transact(lowerer, instruction, Change::Expect)),
        ("mbarrier", "complete_tx") => Some(transact(lowerer, instruction, Change::Complete)),
        ("mbarrier", "test_wait" | "try_wait") => Some(wait(lowerer, instruction)),
        ("mbarrier", "pending_count") => Some(pending_count(lowerer, instruction)),
        _ => None,
    }
}

type Checked<T = ()> = Result<T, Box<Finding>>;

fn flow(result: Checked) -> Flow {
    match result {
        Ok(()) => Flow::Next,
        Err(fault) => Flow::Fault(fault),
    }
}

/// An address in shared memory, named as such or generic.
#[derive(Clone, Copy)]
pub(super) struct SharedPlace {
    place: Place,
    space: Space,
}

impl SharedPlace {
    /// From an operand in brackets and what the suffixes say.
    pub(super) fn of(lowerer: &mut Lowerer<'_>, operand: &Operand, space: Space) -> Result<Self, String> {
        let (place, space) = lowerer.place(operand, space)?;
        Ok(SharedPlace { place, space })
    }

    /// The lanes' offsets in shared memory.
    pub(super) fn addresses(self, context: &Context<'_>) -> Checked<[u64; 32]> {
        let mut addresses = self.place.addresses(context);
        if self.space == Space::Generic {
            for lane in lanes(context.mask) {
                let (space, inside) = resolve(addresses[lane]);
                if space != Space::Shared {
                    let mut finding = context.outside(lane, "uses", space, &addresses, 8);
                    finding.error = DeviceError::InvalidAddressSpace;
                    finding.what += ", where an address in shared memory is needed";
                    return Err(finding);
                }
                addresses[lane] = inside;
            }
        }
        Ok(addresses)
    }
}

/// Operands before the address, the address, those behind it.
fn parts(instruction: &Instruction) -> Result<(&[Operand], &Operand, &[Operand]), String> {
    let operands = instruction.operands.as_slice();
    let at = operands.iter().position(|operand| matches!(operand, Operand::Address(_)));
    let at = at.ok_or_else(|| format!("`{}` needs an address", instruction.full_name()))?;
    Ok((&operands[..at], &operands[at], &operands[at + 1..]))
}

/// The address of an instruction's mbarrier.
fn barrier(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Result<SharedPlace, String> {
    let (_, address, _) = parts(instruction)?;
    SharedPlace::of(lowerer, address, space(instruction)?)
}

fn emit(lowerer: &mut Lowerer<'_>, instruction: &Instruction, action: Action) {
    lowerer.emit(instruction.full_name(), Work::of(Class::Barrier), Gather::None, action);
}

/// `mbarrier.init [address], count`
fn init(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let place = barrier(lowerer, instruction)?;
    let (_, _, [count]) = parts(instruction)? else { return Err("mbarrier.init needs a count".to_string()) };
    let count = lowerer.source::<u32>(count, None)?;
    let run = move |context: &mut Context<'_>| {
        let (addresses, counts) = (place.addresses(context)?, u32::load(context.registers, count));
        if let Some(lane) = lanes(context.mask).find(|&lane| counts[lane] == 0 || counts[lane] > MOST) {
            let what = format!("makes an mbarrier for {} arrivals: 1 to {MOST} are possible", counts[lane]);
            return Err(context.finding(lane, Check::Sync, DeviceError::LaunchFailed, what));
        }
        context.init_mbarriers(&addresses, &counts)
    };
    emit(lowerer, instruction, Box::new(move |context| flow(run(context))));
    Ok(())
}

/// `mbarrier.inval [address]`
fn invalidate(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let place = barrier(lowerer, instruction)?;
    let run = move |context: &mut Context<'_>| {
        let addresses = place.addresses(context)?;
        context.invalidate_mbarriers(&addresses)
    };
    emit(lowerer, instruction, Box::new(move |context| flow(run(context))));
    Ok(())
}

/// `mbarrier.arrive{.noComplete|.expect_tx} state, [address]{, count}`, the same as `arrive_drop`. The state may be `_`.
fn arrive(lowerer: &mut Lowerer<'_>, instruction: &Instruction, drop: bool) -> Lowered {
    let place = barrier(lowerer, instruction)?;
    let (before, _, behind) = parts(instruction)?;
    let state = before.first().unwrap_or(&Operand::Sink);
    let operand = behind.first().map(|operand| lowerer.source::<u32>(operand, None)).transpose()?;
    let (expects, incomplete) = (instruction.has("expect_tx"), instruction.has("noComplete"));
    if expects && operand.is_none() {
        return Err(format!("`{}` needs a number of bytes", instruction.full_name()));
    }
    let release = !instruction.has("relaxed");
    lowerer.into::<u64>(state, false, |lowerer, slot| {
        let run = move |context: &mut Context<'_>| {
            let addresses = place.addresses(context)?;
            let numbers = operand.map(|operand| u32::load(context.registers, operand));
            let mut states = [0; 32];
            for lane in lanes(context.mask) {
                let number = numbers.map(|numbers| numbers[lane]);
                let (count, expect) =
                    if expects { (1, number.unwrap_or(0)) } else { (number.unwrap_or(1), 0) };
                let change = Change::Arrive { count, expect, drop, incomplete };
                states[lane] = context.change_mbarrier(lane, addresses[lane], change, release)?;
            }
            u64::store(context.registers, slot, &states, context.mask);
            Ok(())
        };
        emit(lowerer, instruction, Box::new(move |context| flow(run(context))));
        Ok(())
    })
}

/// `mbarrier.expect_tx [address], bytes`, `mbarrier.complete_tx [address], bytes`
fn transact(lowerer: &mut Lowerer<'_>, instruction: &Instruction, change: fn(u32) -> Change) -> Lowered {
    let place = barrier(lowerer, instruction)?;
    let (_, _, [bytes]) = parts(instruction)? else {
        return Err(format!("`{}` needs a number of bytes", instruction.full_name()));
    };
    let bytes = lowerer.source::<u32>(bytes, None)?;
    let run = move |context: &mut Context<'_>| {
        let (addresses, bytes) = (place.addresses(context)?, u32::load(context.registers, bytes));
        for lane in lanes(context.mask) {
            context.change_mbarrier(lane, addresses[lane], change(bytes[lane]), false)?;
        }
        Ok(())
    };
    emit(lowerer, instruction, Box::new(move |context| flow(run(context))));
    Ok(())
}

/// Which phase a wait is for.
#[derive(Clone, Copy)]
enum Phase {
    /// That of a state.
    State(Source),
    /// That of a parity.
    Parity(Source),
}

/// `mbarrier.test_wait{.parity} p, [address], phase`, the same as `try_wait` (whose limit in time is none here). When the
/// phase is not over, others get a turn.
fn wait(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let place = barrier(lowerer, instruction)?;
    let ([over], _, [phase, ..]) = parts(instruction)? else {
        return Err(format!("`{}` needs a predicate, an address and a phase", instruction.full_name()));
    };
    let phase = if instruction.has("parity") {
        Phase::Parity(lowerer.source::<u32>(phase, None)?)
    } else {
        Phase::State(lowerer.source::<u64>(phase, None)?)
    };
    lowerer.into::<bool>(over, false, |lowerer, slot| {
        let run = move |context: &mut Context<'_>| {
            let addresses = place.addresses(context)?;
            let parity = |lane: usize| match phase {
                Phase::Parity(source) => context.registers.narrow[source.slot as usize][lane] & 1 != 0,
                Phase::State(source) => {
                    let word = context.registers.wide[source.slot as usize][lane];
                    Mbarrier::from_word(word).is_some_and(|mbarrier| mbarrier.parity)
                }
            };
            let parities = (0..32).fold(0, |all, lane| all | u32::from(parity(lane)) << lane);
            let over = context.phases_over(&addresses, parities)?;
            let register = &mut context.registers.predicates[slot as usize];
            *register = *register & !context.mask | over;
            Ok(over == context.mask)
        };
        let action: Action = Box::new(move |context| match run(context) {
            Ok(true) => Flow::Next,
            Ok(false) => Flow::Yield,
            Err(fault) => Flow::Fault(fault),
        });
        emit(lowerer, instruction, action);
        Ok(())
    })
}

/// `mbarrier.pending_count count, state`: arrivals that the phase still waited for.
fn pending_count(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, state] = instruction.operands.as_slice() else {
        return Err("mbarrier.pending_count needs two operands".to_string());
    };
    let state = lowerer.source::<u64>(state, None)?;
    lowerer.into::<u32>(to, false, |lowerer, slot| {
        let action: Action = Box::new(move |context: &mut Context<'_>| {
            let pending = |word| Mbarrier::from_word(word).map_or(0, |mbarrier| mbarrier.pending);
            let counts = u64::load(context.registers, state).map(pending);
            u32::store(context.registers, slot, &counts, context.mask);
            Flow::Next
        });
        emit(lowerer, instruction, action);
        Ok(())
    })
}

/// `cp.async.mbarrier.arrive{.noinc} [address]`: an arrival when the thread's copies so far have landed; without `.noinc`
/// one more than the count foresees.
fn copies_arrive(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let place = barrier(lowerer, instruction)?;
    let foreseen = instruction.has("noinc");
    let run = move |context: &mut Context<'_>| {
        let addresses = place.addresses(context)?;
        for lane in lanes(context.mask) {
            if !foreseen {
                context.change_mbarrier(lane, addresses[lane], Change::Await, false)?;
            }
            let copies = context.warp.pending[lane].take_all();
            let change = Change::Arrive { count: 1, expect: 0, drop: false, incomplete: false };
            context.defer(lane, addresses[lane], copies, change)?;
        }
        Ok(())
    };
    let action: Action = Box::new(move |context| flow(run(context)));
    lowerer.emit(instruction.full_name(), Work::of(Class::AsyncCopy), Gather::None, action);
    Ok(())
}
