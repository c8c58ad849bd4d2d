//! Moves that are more than a copy: packing and unpacking, addresses, clocks; conversions of addresses.

use super::{Element, Work};
use crate::lower::{Lowered, Lowerer};
use crate::machine::access::resolve;
use crate::machine::context::{Context, Flow};
use crate::machine::memory::{LOCAL, PARAMETERS, SHARED};
use crate::machine::registers::File;
use crate::model::counters::Class;
use crate::program::Gather;
use crate::ptx::ast::{Instruction, Operand, Space, Type};

/// `mov` in its special forms, `cvta`, `isspacep`; `None` for what is none of these.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    match instruction.opcode.as_str() {
        "mov" => match instruction.operands.as_slice() {
            [Operand::Vector(parts), whole] => Some(unpack(lowerer, instruction, parts, whole)),
            [whole, Operand::Vector(parts)] => Some(pack(lowerer, instruction, whole, parts)),
            [to, Operand::Name(name)]
                if matches!(name.as_str(), "%clock" | "%clock_hi" | "%clock64" | "%globaltimer") =>
            {
                Some(clock(lowerer, instruction, to, name))
            }
            _ => None,
        },
        "cvta" => Some(convert_address(lowerer, instruction)),
        "isspacep" => Some(is_space(lowerer, instruction)),
        _ => None,
    }
}

/// Bits of each of `count` parts of a value of a type.
fn part_bits(instruction: &Instruction, count: usize) -> Result<u32, String> {
    let ty = instruction.types().last().copied().unwrap_or(Type::Bits(32));
    let bits = ty.bits() / count.max(1) as u32;
    if bits * count as u32 != ty.bits() || bits < 8 {
        Err("the parts do not fit the value".to_string())
    } else {
        Ok(bits)
    }
}

/// `mov.b64 {lo, hi}, x`
fn unpack(
    lowerer: &mut Lowerer<'_>,
    instruction: &Instruction,
    parts: &[Operand],
    whole: &Operand,
) -> Lowered {
    let bits = part_bits(instruction, parts.len())?;
    if bits * parts.len() as u32 > 64 {
        return Err(format!("unsupported instruction `{}`", instruction.full_name()));
    }
    let source = lowerer.source::<u64>(whole, None)?;
    // The value is copied first: a part may be the register that it lies in.
    let copy = lowerer.fresh(File::Wide);
    lowerer.emit_plain(
        instruction,
        Class::Integer,
        Box::new(move |context: &mut Context<'_>| {
            let values = context.registers.wide[source.slot as usize];
            u64::store(context.registers, copy, &values, context.mask);
            Flow::Next
        }),
    );
    for (index, part) in parts.iter().enumerate() {
        if *part == Operand::Sink {
            continue;
        }
        let shift = bits * index as u32;
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        let take = move |value: u64| value >> shift & mask;
        if bits == 64 {
            lowerer.into::<u64>(part, false, |lowerer, slot| {
                lowerer.hidden(move |registers, mask| {
                    let values = registers.wide[copy as usize].map(take);
                    u64::store(registers, slot, &values, mask);
                });
                Ok(())
            })?;
        } else {
            lowerer.into::<u32>(part, false, |lowerer, slot| {
                lowerer.hidden(move |registers, mask| {
                    let values = registers.wide[copy as usize].map(|value| take(value) as u32);
                    u32::store(registers, slot, &values, mask);
                });
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// `mov.b64 x, {lo, hi}`
fn pack(lowerer: &mut Lowerer<'_>, instruction: &Instruction, whole: &Operand, parts: &[Operand]) -> Lowered {
    let bits = part_bits(instruction, parts.len())?;
    if bits * parts.len() as u32 > 64 {
        return Err(format!("unsupported instruction `{}`", instruction.full_name()));
    }
    let sources =
        parts.iter().map(|part| lowerer.source::<u64>(part, None)).collect::<Result<Vec<_>, String>>()?;
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let join = move |context: &Context<'_>, lane: usize| {
        let parts = sources.iter().rev();
        parts.fold(0, |value, source| {
            let part = context.registers.wide[source.slot as usize][lane] & mask;
            if bits == 64 { part } else { value << bits | part }
        })
    };
    if bits * parts.len() as u32 > 32 {
        lowerer.into::<u64>(whole, false, |lowerer, slot| {
            lowerer.emit_plain(
                instruction,
                Class::Integer,
                Box::new(move |context: &mut Context<'_>| {
                    let values = std::array::from_fn(|lane| join(context, lane));
                    u64::store(context.registers, slot, &values, context.mask);
                    Flow::Next
                }),
            );
            Ok(())
        })
    } else {
        lowerer.into::<u32>(whole, false, |lowerer, slot| {
            lowerer.emit_plain(
                instruction,
                Class::Integer,
                Box::new(move |context: &mut Context<'_>| {
                    let values = std::array::from_fn(|lane| join(context, lane) as u32);
                    u32::store(context.registers, slot, &values, context.mask);
                    Flow::Next
                }),
            );
            Ok(())
        })
    }
}

/// Clocks count the warp instructions of the launch: they move on, and tell no time.
fn clock(lowerer: &mut Lowerer<'_>, instruction: &Instruction, to: &Operand, name: &str) -> Lowered {
    let upper = name == "%clock_hi";
    let read = move |context: &Context<'_>| {
        use std::sync::atomic::Ordering;
        let now = context.launch.clock.fetch_add(1, Ordering::Relaxed);
        if upper { now >> 32 } else { now }
    };
    let wide = instruction.types().last().is_some_and(|ty| ty.bits() == 64);
    if wide {
        lowerer.into::<u64>(to, false, |lowerer, slot| {
            let action = Box::new(move |context: &mut Context<'_>| {
                let now = read(context);
                u64::store(context.registers, slot, &[now; 32], context.mask);
                Flow::Next
            });
            lowerer.emit_plain(instruction, Class::Other, action);
            Ok(())
        })
    } else {
        lowerer.into::<u32>(to, false, |lowerer, slot| {
            let action = Box::new(move |context: &mut Context<'_>| {
                let now = read(context) as u32;
                u32::store(context.registers, slot, &[now; 32], context.mask);
                Flow::Next
            });
            lowerer.emit_plain(instruction, Class::Other, action);
            Ok(())
        })
    }
}

/// Where the window of a space begins in the generic address space.
fn window(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED,
        Space::Local => LOCAL,
        Space::Param => PARAMETERS,
        _ => 0,
    }
}

/// The space that the suffixes name.
pub fn space(instruction: &Instruction) -> Result<Space, String> {
    for suffix in &instruction.suffixes {
        return Ok(match suffix.as_str() {
            "global" => Space::Global,
            // A cluster has one block here.
            "shared" | "shared::cta" | "shared::cluster" => Space::Shared,
            "local" => Space::Local,
            "const" => Space::Const,
            "param" | "param::entry" | "param::func" => Space::Param,
            _ => continue,
        });
    }
    Ok(Space::Generic)
}

/// `cvta.SPACE` and `cvta.to.SPACE`
fn convert_address(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let space = space(instruction)?;
    let base = window(space);
    let delta = if instruction.has("to") { base.wrapping_neg() } else { base };
    let [to, from] = instruction.operands.as_slice() else {
        return Err("cvta needs two operands".to_string());
    };
    let source = lowerer.source::<u64>(from, None)?;
    lowerer.into::<u64>(to, false, |lowerer, slot| {
        let action = Box::new(move |context: &mut Context<'_>| {
            let values =
                context.registers.wide[source.slot as usize].map(|address| address.wrapping_add(delta));
            u64::store(context.registers, slot, &values, context.mask);
            Flow::Next
        });
        lowerer.emit_plain(instruction, Class::Integer, action);
        Ok(())
    })
}

/// `isspacep.SPACE p, address`
fn is_space(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let wanted = match space(instruction)? {
        Space::Const => Space::Global,
        space => space,
    };
    let [to, from] = instruction.operands.as_slice() else {
        return Err("isspacep needs two operands".to_string());
    };
    let source = lowerer.source::<u64>(from, None)?;
    lowerer.into::<bool>(to, false, |lowerer, slot| {
        let action = Box::new(move |context: &mut Context<'_>| {
            let values =
                context.registers.wide[source.slot as usize].map(|address| resolve(address).0 == wanted);
            bool::store(context.registers, slot, &values, context.mask);
            Flow::Next
        });
        lowerer.emit(instruction.full_name(), Work::of(Class::Predicate), Gather::None, action);
        Ok(())
    })
}
