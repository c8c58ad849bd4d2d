//! Loads and stores.

use super::data::space;
use super::{Element, Work};
use crate::lower::{Lowered, Lowerer, Place};
use crate::machine::access::How;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{File, Registers};
use crate::machine::simd::vectorised;
use crate::model::counters::Class;
use crate::program::Gather;
use crate::ptx::ast::{Instruction, Operand, Space, Type};

/// `ld`, `ldu`, `st`, and what only hints at memory; `None` for what is none of these.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    match instruction.opcode.as_str() {
        "ld" | "ldu" => Some(load(lowerer, instruction)),
        "st" => Some(store(lowerer, instruction)),
        "prefetch" | "prefetchu" | "discard" | "applypriority" => {
            lowerer.emit_plain(instruction, Class::Other, Box::new(|_| Flow::Next));
            Some(Ok(()))
        }
        _ => None,
    }
}

/// How the suffixes say that memory is accessed.
pub fn how(instruction: &Instruction) -> How {
    let has = |suffix| instruction.has(suffix);
    let ordered = has("acquire") || has("release") || has("acq_rel");
    How {
        strong: has("volatile") || has("relaxed") || has("mmio") || ordered,
        constant: has("nc"),
        acquire: has("volatile") || has("relaxed") || has("acquire") || has("acq_rel"),
        release: has("release") || has("acq_rel"),
    }
}

/// The class of a load or store, by its space.
fn class(space: Space, load: bool) -> Class {
    match (space, load) {
        (Space::Shared, true) => Class::LoadShared,
        (Space::Shared, false) => Class::StoreShared,
        (Space::Local, _) => Class::Local,
        (Space::Const | Space::Param, _) => Class::Constant,
        (_, true) => Class::LoadGlobal,
        (_, false) => Class::StoreGlobal,
    }
}

/// What is accessed, and how.
#[derive(Clone, Copy)]
struct Access {
    place: Place,
    space: Space,
    /// Bytes of an element.
    bytes: u32,
    how: How,
    class: Class,
}

/// A register that a load fills or a store empties.
#[derive(Clone, Copy)]
enum Slot {
    /// Its slot, and the bits that it has.
    Narrow(u32, u32),
    Wide(u32),
    None,
}

impl Slot {
    fn of(lowerer: &mut Lowerer<'_>, operand: &Operand) -> Result<Slot, String> {
        match operand {
            Operand::Sink => Ok(Slot::None),
            Operand::Name(name) => match lowerer.register(name)? {
                (File::Narrow, slot) => {
                    Ok(Slot::Narrow(slot, u32::MAX >> (32 - lowerer.register_bits(name))))
                }
                (File::Wide, slot) => Ok(Slot::Wide(slot)),
                (File::Predicate, _) => Err(format!("`{name}` is a predicate where a value is needed")),
            },
            _ => Err("an operand of this form is not supported".to_string()),
        }
    }

    /// Where a value to store comes from: a register or a constant.
    fn source(lowerer: &mut Lowerer<'_>, operand: &Operand, ty: Type) -> Result<Slot, String> {
        match operand {
            Operand::Name(name) if lowerer.is_register(name) => Slot::of(lowerer, operand),
            _ if ty.bits() == 64 => Ok(Slot::Wide(lowerer.source::<u64>(operand, Some(ty))?.slot)),
            _ => Ok(Slot::Narrow(lowerer.source::<u32>(operand, Some(ty))?.slot, u32::MAX)),
        }
    }

    #[inline(always)]
    fn set(self, registers: &mut Registers, values: &[u64; 32], mask: u32) {
        vectorised(
            #[inline(always)]
            || match self {
                Slot::Narrow(slot, keep) => {
                    let mut narrow = [0; 32];
                    for lane in 0..32 {
                        narrow[lane] = values[lane] as u32 & keep;
                    }
                    u32::store(registers, slot, &narrow, mask);
                }
                Slot::Wide(slot) => u64::store(registers, slot, values, mask),
                Slot::None => {}
            },
        );
    }

    /// The values, each with the bits of `keep`.
    #[inline(always)]
    fn get(self, registers: &Registers, keep: u64, values: &mut [u64; 32]) {
        vectorised(
            #[inline(always)]
            || match self {
                Slot::Narrow(slot, _) => {
                    let narrow = &registers.narrow[slot as usize];
                    for lane in 0..32 {
                        values[lane] = u64::from(narrow[lane]) & keep;
                    }
                }
                Slot::Wide(slot) => {
                    let wide = &registers.wide[slot as usize];
                    for lane in 0..32 {
                        values[lane] = wide[lane] & keep;
                    }
                }
                Slot::None => {}
            },
        );
    }
}

/// Type of an element, and the operands of the elements.
fn elements<'i>(instruction: &Instruction, operand: &'i Operand) -> Result<(Type, Vec<&'i Operand>), String> {
    let ty = instruction.types().last().copied().ok_or("the type is missing")?;
    let parts: Vec<&Operand> = match operand {
        Operand::Vector(parts) => parts.iter().collect(),
        single => vec![single],
    };
    let bytes = ty.bytes() as usize * parts.len();
    if ty.bits() > 64 || ty == Type::Pred || !matches!(parts.len(), 1 | 2 | 4 | 8) || bytes > 32 {
        return Err(format!("unsupported instruction `{}`", instruction.full_name()));
    }
    Ok((ty, parts))
}

fn load(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, from, ..] = instruction.operands.as_slice() else {
        return Err("a load needs two operands".to_string());
    };
    let (ty, parts) = elements(instruction, to)?;
    let slots =
        parts.into_iter().map(|part| Slot::of(lowerer, part)).collect::<Result<Vec<Slot>, String>>()?;
    let (place, space) = lowerer.place(from, space(instruction)?)?;
    let access = Access { place, space, bytes: ty.bytes(), how: how(instruction), class: class(space, true) };
    let name = instruction.full_name();
    // A narrow signed value fills its register with its sign.
    let signed = matches!(ty, Type::Signed(bits) if bits < 64);
    match *slots.as_slice() {
        [slot] => one::<1>(lowerer, name, access, [slot], signed),
        [a, b] => one::<2>(lowerer, name, access, [a, b], signed),
        [a, b, c, d] => one::<4>(lowerer, name, access, [a, b, c, d], signed),
        [a, b, c, d, e, f, g, h] => {
            one::<8>(lowerer, name, access, [a, b, c, d, e, f, g, h], signed);
        }
        _ => return Err(format!("unsupported instruction `{name}`")),
    }
    Ok(())
}

/// The step of a load.
fn one<const N: usize>(
    lowerer: &mut Lowerer<'_>,
    name: String,
    access: Access,
    slots: [Slot; N],
    signed: bool,
) {
    let Access { place, space, bytes, how, class } = access;
    let action = Box::new(move |context: &mut Context<'_>| {
        let addresses = place.addresses(context);
        let mut values = [[0; 32]; N];
        if let Err(fault) = context.load(space, &addresses, bytes, how, &mut values) {
            return Flow::Fault(fault);
        }
        for (slot, values) in slots.into_iter().zip(&mut values) {
            if signed {
                let shift = 64 - 8 * bytes;
                values.iter_mut().for_each(|value| *value = ((*value << shift) as i64 >> shift) as u64);
            }
            slot.set(context.registers, values, context.mask);
        }
        Flow::Next
    });
    lowerer.emit(name, Work::of(class), Gather::None, action);
}

fn store(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, from, ..] = instruction.operands.as_slice() else {
        return Err("a store needs two operands".to_string());
    };
    let (ty, parts) = elements(instruction, from)?;
    let slots = parts
        .into_iter()
        .map(|part| Slot::source(lowerer, part, ty))
        .collect::<Result<Vec<Slot>, String>>()?;
    let (place, space) = lowerer.place(to, space(instruction)?)?;
    let access =
        Access { place, space, bytes: ty.bytes(), how: how(instruction), class: class(space, false) };
    let name = instruction.full_name();
    match *slots.as_slice() {
        [slot] => put::<1>(lowerer, name, access, [slot]),
        [a, b] => put::<2>(lowerer, name, access, [a, b]),
        [a, b, c, d] => put::<4>(lowerer, name, access, [a, b, c, d]),
        [a, b, c, d, e, f, g, h] => put::<8>(lowerer, name, access, [a, b, c, d, e, f, g, h]),
        _ => return Err(format!("unsupported instruction `{name}`")),
    }
    Ok(())
}

/// The step of a store.
fn put<const N: usize>(lowerer: &mut Lowerer<'_>, name: String, access: Access, slots: [Slot; N]) {
    let Access { place, space, bytes, how, class } = access;
    let keep = if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
    let action = Box::new(move |context: &mut Context<'_>| {
        let addresses = place.addresses(context);
        let mut values = [[0; 32]; N];
        for (slot, values) in slots.iter().zip(&mut values) {
            slot.get(context.registers, keep, values);
        }
        match context.store(space, &addresses, bytes, how, &values) {
            Ok(()) => Flow::Next,
            Err(fault) => Flow::Fault(fault),
        }
    });
    lowerer.emit(name, Work::of(class), Gather::None, action);
}
