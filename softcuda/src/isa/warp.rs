//! Lanes to lanes: `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`.

use super::{Element, Work};
use crate::checks::{Check, DeviceError};
use crate::lower::{Lowered, Lowerer};
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{File, Source, lanes};
use crate::model::counters::Class;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Instruction, Operand, Type};

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    match instruction.opcode.as_str() {
        "shfl" => Some(shuffle(lowerer, instruction)),
        "vote" => Some(vote(lowerer, instruction)),
        "match" => Some(matching(lowerer, instruction)),
        "redux" => Some(reduce(lowerer, instruction)),
        "activemask" => Some(active_mask(lowerer, instruction)),
        "elect" => Some(elect(lowerer, instruction)),
        _ => None,
    }
}

fn unsupported(instruction: &Instruction) -> String {
    format!("unsupported instruction `{}`", instruction.full_name())
}

/// The member mask, and that the step waits for those lanes.
pub fn members(lowerer: &mut Lowerer<'_>, operand: &Operand) -> Result<Source, String> {
    lowerer.source::<u32>(operand, Some(Type::Bits(32)))
}

/// The two destinations of `d|p`, the second one a predicate or none.
fn destinations(lowerer: &mut Lowerer<'_>, operand: &Operand) -> Result<(Operand, u32), String> {
    match operand {
        Operand::Pair(value, predicate) => match &**predicate {
            Operand::Name(name) => match lowerer.register(name)? {
                (File::Predicate, slot) => Ok(((**value).clone(), slot)),
                _ => Err(format!("`{name}` is no predicate")),
            },
            _ => Ok(((**value).clone(), lowerer.fresh(File::Predicate))),
        },
        single => Ok((single.clone(), lowerer.fresh(File::Predicate))),
    }
}

/// Sets the lanes of a predicate.
fn set_predicate(context: &mut Context<'_>, slot: u32, bits: u32) {
    let register = &mut context.registers.predicates[slot as usize];
    *register = *register & !context.mask | bits & context.mask;
}

/// Lanes of the step that name the same members as a lane does, itself among them.
fn group(context: &Context<'_>, masks: &[u32; 32], lane: usize) -> u32 {
    lanes(context.mask & masks[lane])
        .filter(|&other| masks[other] == masks[lane])
        .fold(0, |all, other| all | 1 << other)
}

/// `shfl.sync.MODE.b32 d|p, a, b, c, mask`: the source lane as the PTX ISA computes it.
fn shuffle(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, value, offset, clamp, mask] = instruction.operands.as_slice() else {
        return Err(unsupported(instruction));
    };
    let mode = ["up", "down", "bfly", "idx"].into_iter().find(|mode| instruction.has(mode));
    let (Some(mode), true) = (mode, instruction.has("sync")) else { return Err(unsupported(instruction)) };
    let (to, predicate) = destinations(lowerer, to)?;
    let value = lowerer.source::<u32>(value, None)?;
    let offset = lowerer.source::<u32>(offset, None)?;
    let clamp = lowerer.source::<u32>(clamp, None)?;
    let mask = members(lowerer, mask)?;
    lowerer.into::<u32>(&to, false, |lowerer, slot| {
        let action: Action = Box::new(move |context: &mut Context<'_>| {
            let registers = &context.registers;
            let values = u32::load(registers, value);
            let offsets = u32::load(registers, offset);
            let clamps = u32::load(registers, clamp);
            let masks = u32::load(registers, mask);
            let mut results = [0; 32];
            let mut inside = 0;
            for lane in lanes(context.mask) {
                let own = lane as i32;
                let by = (offsets[lane] & 31) as i32;
                let bound = (clamps[lane] & 31) as i32;
                let segment = (clamps[lane] >> 8 & 31) as i32;
                let most = (own & segment) | (bound & !segment);
                let (source, holds) = match mode {
                    "up" => (own - by, own - by >= most),
                    "down" => (own + by, own + by <= most),
                    "bfly" => (own ^ by, own ^ by <= most),
                    _ => {
                        let source = (own & segment) | (by & !segment);
                        (source, source <= most)
                    }
                };
                let source = if holds { source } else { own } as usize & 31;
                inside |= u32::from(holds) << lane;
                if context.mask & masks[lane] & 1 << source == 0 && context.checks(Check::Sync) {
                    let what = format!("shfl reads lane {source}, which does not take part");
                    return Flow::Fault(context.finding(lane, Check::Sync, DeviceError::LaunchFailed, what));
                }
                results[lane] = values[source];
            }
            u32::store(context.registers, slot, &results, context.mask);
            set_predicate(context, predicate, inside);
            Flow::Next
        });
        lowerer.emit(instruction.full_name(), Work::of(Class::Warp), Gather::Members(mask), action);
        Ok(())
    })
}

/// `vote.sync.all|any|uni.pred d, a, mask`, `vote.sync.ballot.b32 d, a, mask`
fn vote(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, value, mask] = instruction.operands.as_slice() else { return Err(unsupported(instruction)) };
    let mode = ["all", "any", "uni", "ballot"].into_iter().find(|mode| instruction.has(mode));
    let (Some(mode), true) = (mode, instruction.has("sync")) else { return Err(unsupported(instruction)) };
    let value = lowerer.source::<bool>(value, None)?;
    let mask = members(lowerer, mask)?;
    let name = instruction.full_name();
    let gather = Gather::Members(mask);
    if mode == "ballot" {
        return lowerer.into::<u32>(to, false, |lowerer, slot| {
            let action: Action = Box::new(move |context: &mut Context<'_>| {
                let (holds, masks) = (context.registers.mask(value), u32::load(context.registers, mask));
                let results = std::array::from_fn(|lane| {
                    if context.mask >> lane & 1 != 0 { holds & group(context, &masks, lane) } else { 0 }
                });
                u32::store(context.registers, slot, &results, context.mask);
                Flow::Next
            });
            lowerer.emit(name, Work::of(Class::Warp), gather, action);
            Ok(())
        });
    }
    lowerer.into::<bool>(to, false, |lowerer, slot| {
        let action: Action = Box::new(move |context: &mut Context<'_>| {
            let (holds, masks) = (context.registers.mask(value), u32::load(context.registers, mask));
            let mut results = 0;
            for lane in lanes(context.mask) {
                let all = group(context, &masks, lane);
                let result = match mode {
                    "all" => holds & all == all,
                    "any" => holds & all != 0,
                    _ => holds & all == all || holds & all == 0,
                };
                results |= u32::from(result) << lane;
            }
            set_predicate(context, slot, results);
            Flow::Next
        });
        lowerer.emit(name, Work::of(Class::Warp), gather, action);
        Ok(())
    })
}

/// `match.any.sync.TYPE d, a, mask`, `match.all.sync.TYPE d|p, a, mask`
fn matching(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, value, mask] = instruction.operands.as_slice() else { return Err(unsupported(instruction)) };
    let all = instruction.has("all");
    let (to, predicate) = destinations(lowerer, to)?;
    let value = if instruction.types().last().is_some_and(|ty| ty.bits() == 64) {
        lowerer.source::<u64>(value, None).map(|source| (true, source))?
    } else {
        lowerer.source::<u32>(value, None).map(|source| (false, source))?
    };
    let mask = members(lowerer, mask)?;
    lowerer.into::<u32>(&to, false, |lowerer, slot| {
        let action: Action = Box::new(move |context: &mut Context<'_>| {
            let values = match value {
                (true, source) => u64::load(context.registers, source),
                (false, source) => u32::load(context.registers, source).map(u64::from),
            };
            let masks = u32::load(context.registers, mask);
            let mut results = [0; 32];
            let mut same = 0;
            for lane in lanes(context.mask) {
                let members = group(context, &masks, lane);
                let equal = lanes(members).filter(|&other| values[other] == values[lane]);
                let equal = equal.fold(0, |equal, other| equal | 1 << other);
                results[lane] = if all && equal != members { 0 } else { equal };
                same |= u32::from(equal == members) << lane;
            }
            u32::store(context.registers, slot, &results, context.mask);
            set_predicate(context, predicate, same);
            Flow::Next
        });
        lowerer.emit(instruction.full_name(), Work::of(Class::Warp), Gather::Members(mask), action);
        Ok(())
    })
}

/// `redux.sync.OP.TYPE d, a, mask`
fn reduce(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, value, mask] = instruction.operands.as_slice() else { return Err(unsupported(instruction)) };
    let operation = ["add", "min", "max", "and", "or", "xor"].into_iter().find(|name| instruction.has(name));
    let signed = matches!(instruction.types().last(), Some(Type::Signed(32)));
    let known =
        matches!(instruction.types().last(), Some(Type::Signed(32) | Type::Unsigned(32) | Type::Bits(32)));
    let (Some(operation), true) = (operation, known) else { return Err(unsupported(instruction)) };
    let combine = move |a: u32, b: u32| match operation {
        "add" => a.wrapping_add(b),
        "and" => a & b,
        "or" => a | b,
        "xor" => a ^ b,
        "min" if signed => (a as i32).min(b as i32) as u32,
        "max" if signed => (a as i32).max(b as i32) as u32,
        "min" => a.min(b),
        _ => a.max(b),
    };
    let value = lowerer.source::<u32>(value, None)?;
    let mask = members(lowerer, mask)?;
    lowerer.into::<u32>(to, false, |lowerer, slot| {
        let action: Action = Box::new(move |context: &mut Context<'_>| {
            let (values, masks) = (u32::load(context.registers, value), u32::load(context.registers, mask));
            let mut results = [0; 32];
            for lane in lanes(context.mask) {
                let values = lanes(group(context, &masks, lane)).map(|other| values[other]);
                results[lane] = values.reduce(combine).unwrap_or_default();
            }
            u32::store(context.registers, slot, &results, context.mask);
            Flow::Next
        });
        lowerer.emit(instruction.full_name(), Work::of(Class::Warp), Gather::Members(mask), action);
        Ok(())
    })
}

fn active_mask(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to] = instruction.operands.as_slice() else { return Err(unsupported(instruction)) };
    lowerer.into::<u32>(to, false, |lowerer, slot| {
        let action: Action = Box::new(move |context: &mut Context<'_>| {
            u32::store(context.registers, slot, &[context.mask; 32], context.mask);
            Flow::Next
        });
        lowerer.emit_plain(instruction, Class::Warp, action);
        Ok(())
    })
}

/// `elect.sync d|p, mask`: the lowest lane.
fn elect(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, mask] = instruction.operands.as_slice() else { return Err(unsupported(instruction)) };
    let (to, predicate) = destinations(lowerer, to)?;
    let mask = members(lowerer, mask)?;
    lowerer.into::<u32>(&to, false, |lowerer, slot| {
        let action: Action = Box::new(move |context: &mut Context<'_>| {
            let masks = u32::load(context.registers, mask);
            let leaders: [u32; 32] =
                std::array::from_fn(|lane| group(context, &masks, lane).trailing_zeros() & 31);
            let elected = lanes(context.mask).filter(|&lane| leaders[lane] as usize == lane);
            let elected = elected.fold(0, |all, lane| all | 1 << lane);
            u32::store(context.registers, slot, &leaders, context.mask);
            set_predicate(context, predicate, elected);
            Flow::Next
        });
        lowerer.emit(instruction.full_name(), Work::of(Class::Warp), Gather::Members(mask), action);
        Ok(())
    })
}
