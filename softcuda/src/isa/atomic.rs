//! Atomic updates of memory: `atom`, `red`.

use half::{bf16, f16};

use super::data::space;
use super::memory::how;
use super::{Element, Work};
use crate::lower::{Lowered, Lowerer};
use crate::machine::access::How;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::Source;
use crate::model::counters::Class;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Instruction, Operand, Space, Type};

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    match instruction.opcode.as_str() {
        "atom" | "red" => Some(atomic(lowerer, instruction)),
        _ => None,
    }
}

/// Old value and operands to the new value.
type Update = fn(u64, u64, u64) -> u64;

/// f32 sums in global memory flush subnormals, those in shared memory do not (PTX ISA, `atom`).
fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

fn add_flushed(old: u64, value: u64, _: u64) -> u64 {
    let sum = flush(f32::from_bits(old as u32)) + flush(f32::from_bits(value as u32));
    u64::from(flush(sum).to_bits())
}

/// Both halves of a pair.
fn pairwise(a: u64, b: u64, f: fn(u16, u16) -> u16) -> u64 {
    let low = f(a as u16, b as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16);
    u64::from(low) | u64::from(high) << 16
}

fn add_half(a: u16, b: u16) -> u16 {
    f16::from_f32(f16::from_bits(a).to_f32() + f16::from_bits(b).to_f32()).to_bits()
}

fn add_bfloat(a: u16, b: u16) -> u16 {
    bf16::from_f32(bf16::from_bits(a).to_f32() + bf16::from_bits(b).to_f32()).to_bits()
}

/// The update of an operation on a type.
fn update(operation: &str, ty: Type, space: Space) -> Option<Update> {
    use Type::{Bf16, Bf16x2, Bits, F16, F16x2, F32, F64, Signed, Unsigned};
    Some(match (operation, ty) {
        ("exch", _) => |_, value, _| value,
        ("cas", _) => |old, compare, value| if old == compare { value } else { old },
        ("and", Bits(_)) => |old, value, _| old & value,
        ("or", Bits(_)) => |old, value, _| old | value,
        ("xor", Bits(_)) => |old, value, _| old ^ value,
        ("add", Unsigned(32) | Signed(32)) => {
            |old, value, _| u64::from((old as u32).wrapping_add(value as u32))
        }
        ("add", Unsigned(64) | Signed(64)) => |old, value, _| old.wrapping_add(value),
        ("add", F32) if space == Space::Global => add_flushed,
        ("add", F32) => {
            |old, value, _| u64::from((f32::from_bits(old as u32) + f32::from_bits(value as u32)).to_bits())
        }
        ("add", F64) => |old, value, _| (f64::from_bits(old) + f64::from_bits(value)).to_bits(),
        ("add", F16) => |old, value, _| u64::from(add_half(old as u16, value as u16)),
        ("add", Bf16) => |old, value, _| u64::from(add_bfloat(old as u16, value as u16)),
        ("add", F16x2) => |old, value, _| pairwise(old, value, add_half),
        ("add", Bf16x2) => |old, value, _| pairwise(old, value, add_bfloat),
        ("inc", Unsigned(32)) => |old, most, _| if old >= most { 0 } else { old + 1 },
        ("dec", Unsigned(32)) => |old, most, _| if old == 0 || old > most { most } else { old - 1 },
        ("min", Unsigned(_)) => |old, value, _| old.min(value),
        ("max", Unsigned(_)) => |old, value, _| old.max(value),
        ("min", Signed(32)) => |old, value, _| u64::from((old as i32).min(value as i32) as u32),
        ("max", Signed(32)) => |old, value, _| u64::from((old as i32).max(value as i32) as u32),
        ("min", Signed(64)) => |old, value, _| (old as i64).min(value as i64) as u64,
        ("max", Signed(64)) => |old, value, _| (old as i64).max(value as i64) as u64,
        _ => return None,
    })
}

/// A value of up to 32 or of 64 bits.
#[derive(Clone, Copy)]
enum Value {
    Narrow(Source),
    Wide(Source),
}

impl Value {
    fn of(lowerer: &mut Lowerer<'_>, operand: Option<&Operand>, ty: Type) -> Result<Value, String> {
        let operand = operand.ok_or_else(|| "an operand is missing".to_string())?;
        if ty.bits() == 64 {
            lowerer.source::<u64>(operand, Some(ty)).map(Value::Wide)
        } else {
            lowerer.source::<u32>(operand, Some(ty)).map(Value::Narrow)
        }
    }

    fn lanes(self, context: &Context<'_>) -> [u64; 32] {
        match self {
            Value::Narrow(source) => u32::load(context.registers, source).map(u64::from),
            Value::Wide(source) => u64::load(context.registers, source),
        }
    }
}

const OPERATIONS: [&str; 10] = ["and", "or", "xor", "exch", "cas", "add", "inc", "dec", "min", "max"];

fn atomic(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let unsupported = || format!("unsupported instruction `{}`", instruction.full_name());
    let operation = OPERATIONS.into_iter().find(|name| instruction.has(name)).ok_or_else(unsupported)?;
    let ty = instruction.types().last().copied().ok_or_else(unsupported)?;
    let space = space(instruction)?;
    let f = update(operation, ty, space).ok_or_else(unsupported)?;
    if ty.bits() > 64 || instruction.has("v2") || instruction.has("v4") || instruction.has("v8") {
        return Err(unsupported());
    }
    let (to, rest) = match (instruction.opcode.as_str(), instruction.operands.as_slice()) {
        ("atom", [to, rest @ ..]) => (to.clone(), rest),
        (_, rest) => (Operand::Sink, rest),
    };
    let [address, rest @ ..] = rest else { return Err(unsupported()) };
    let (place, space) = lowerer.place(address, space)?;
    let value = Value::of(lowerer, rest.first(), ty)?;
    let second = if operation == "cas" { Value::of(lowerer, rest.get(1), ty)? } else { value };
    let how = How { strong: true, acquire: true, ..how(instruction) };
    let keep = if ty.bits() == 64 { u64::MAX } else { (1 << ty.bits()) - 1 };
    let bytes = ty.bytes();
    let run = move |context: &mut Context<'_>, old: &mut [u64; 32]| {
        let addresses = place.addresses(context);
        let (values, seconds) = (value.lanes(context), second.lanes(context));
        let new = |lane: usize, old: u64| f(old, values[lane] & keep, seconds[lane] & keep) & keep;
        context.update(space, &addresses, bytes, how, &new, old)
    };
    let work = match ty {
        Type::F64 => Work::double(Class::Atomic, 1),
        Type::F32 | Type::F16 | Type::Bf16 => Work::flops(Class::Atomic, 1),
        Type::F16x2 | Type::Bf16x2 => Work::flops(Class::Atomic, 2),
        _ => Work::of(Class::Atomic),
    };
    let name = instruction.full_name();
    if ty.bits() == 64 {
        lowerer.into::<u64>(&to, false, |lowerer, slot| {
            let action: Action = Box::new(move |context: &mut Context<'_>| {
                let mut old = [0; 32];
                if let Err(fault) = run(context, &mut old) {
                    return Flow::Fault(fault);
                }
                u64::store(context.registers, slot, &old, context.mask);
                Flow::Next
            });
            lowerer.emit(name, work, Gather::None, action);
            Ok(())
        })
    } else {
        lowerer.into::<u32>(&to, false, |lowerer, slot| {
            let action: Action = Box::new(move |context: &mut Context<'_>| {
                let mut old = [0; 32];
                if let Err(fault) = run(context, &mut old) {
                    return Flow::Fault(fault);
                }
                u32::store(context.registers, slot, &old.map(|old| old as u32), context.mask);
                Flow::Next
            });
            lowerer.emit(name, work, Gather::None, action);
            Ok(())
        })
    }
}
