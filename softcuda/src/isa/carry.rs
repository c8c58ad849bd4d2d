//! Arithmetic with the carry flag, a bit a thread.

use super::integer::carry::{Carry, decode_carry};
use super::{Element, Work};
use crate::lower::{Lowered, Lowerer};
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{Source, lanes};
use crate::model::counters::Class;
use crate::program::Gather;
use crate::ptx::ast::Instruction;

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    let carry = decode_carry(instruction)?;
    Some(if carry.bits == 64 {
        chain::<u64>(lowerer, instruction, carry)
    } else {
        chain::<u32>(lowerer, instruction, carry)
    })
}

fn chain<E: Element>(lowerer: &mut Lowerer<'_>, instruction: &Instruction, carry: Carry) -> Lowered {
    let [to, inputs @ ..] = instruction.operands.as_slice() else {
        return Err("operands are missing".to_string());
    };
    if inputs.len() != carry.inputs {
        return Err(format!("`{}` needs {} inputs", instruction.full_name(), carry.inputs));
    }
    let sources = inputs
        .iter()
        .map(|input| lowerer.source::<E>(input, None))
        .collect::<Result<Vec<Source>, String>>()?;
    lowerer.into::<E>(to, false, |lowerer, slot| {
        let action = Box::new(move |context: &mut Context<'_>| {
            let values: Vec<[E; 32]> =
                sources.iter().map(|&source| E::load(context.registers, source)).collect();
            let input =
                |index: usize, lane: usize| values.get(index).map_or(0, |values| values[lane].to_bits());
            let mut results = [E::default(); 32];
            for lane in lanes(context.mask) {
                let flag = context.warp.carry >> lane & 1 != 0;
                let (result, flag) = carry.apply(input(0, lane), input(1, lane), input(2, lane), flag);
                results[lane] = E::from_bits(result);
                if carry.writes {
                    context.warp.carry = context.warp.carry & !(1 << lane) | u32::from(flag) << lane;
                }
            }
            E::store(context.registers, slot, &results, context.mask);
            Flow::Next
        });
        lowerer.emit(instruction.full_name(), Work::of(Class::Integer), Gather::None, action);
        Ok(())
    })
}
