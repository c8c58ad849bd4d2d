//! `cp.async`: copies to shared memory that a thread waits for later.

use super::{Element, Work};
use crate::lower::{Lowered, Lowerer};
use crate::machine::access::How;
use crate::machine::asynchronous::Copy;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::lanes;
use crate::model::counters::Class;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Instruction, Operand, Space};

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    if instruction.opcode != "cp" || !instruction.has("async") || instruction.has("bulk") {
        return None;
    }
    let has = |suffix| instruction.has(suffix);
    Some(match () {
        () if has("commit_group") => {
            let action: Action = Box::new(|context: &mut Context<'_>| {
                lanes(context.mask).for_each(|lane| context.warp.pending[lane].commit());
                Flow::Next
            });
            lowerer.emit_plain(instruction, Class::AsyncCopy, action);
            Ok(())
        }
        () if has("wait_all") => wait(lowerer, instruction, None),
        () if has("wait_group") => match instruction.operands.as_slice() {
            [Operand::Integer(keep)] if *keep >= 0 => wait(lowerer, instruction, Some(*keep as usize)),
            _ => Err("cp.async.wait_group needs a constant".to_string()),
        },
        () if has("mbarrier") => return None,
        () => copy(lowerer, instruction),
    })
}

fn wait(lowerer: &mut Lowerer<'_>, instruction: &Instruction, keep: Option<usize>) -> Lowered {
    let action: Action = Box::new(move |context: &mut Context<'_>| match context.land(keep) {
        Ok(()) => Flow::Next,
        Err(fault) => Flow::Fault(fault),
    });
    lowerer.emit_plain(instruction, Class::AsyncCopy, action);
    Ok(())
}

/// `cp.async.ca|cg.shared.global [to], [from], bytes{, source bytes or predicate}`
fn copy(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let unsupported = || format!("unsupported instruction `{}`", instruction.full_name());
    let [to, from, Operand::Integer(bytes), rest @ ..] = instruction.operands.as_slice() else {
        return Err(unsupported());
    };
    let bytes = *bytes as u32;
    if !matches!(bytes, 4 | 8 | 16) || (instruction.has("cg") && bytes != 16) || rest.len() > 1 {
        return Err(unsupported());
    }
    if lowerer.target() < 80 {
        return Err(format!("`{}` needs .target sm_80", instruction.full_name()));
    }
    let (to, _) = lowerer.place(to, Space::Shared)?;
    let (from, _) = lowerer.place(from, Space::Global)?;
    // How many bytes come from memory; zeros fill the rest. A predicate that holds means none.
    let (mut size, mut ignore) = (None, None);
    if let Some(operand) = rest.first() {
        let is_predicate = match operand {
            Operand::Not(_) => true,
            Operand::Name(name) => lowerer.register(name)?.0 == crate::machine::registers::File::Predicate,
            _ => false,
        };
        if is_predicate {
            ignore = Some(lowerer.source::<bool>(operand, None)?);
        } else {
            size = Some(lowerer.source::<u32>(operand, None)?);
        }
    }
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let (targets, sources) = (to.addresses(context), from.addresses(context));
        let mut sizes = [bytes; 32];
        if let Some(size) = size {
            sizes = u32::load(context.registers, size).map(|size| size.min(bytes));
        }
        if let Some(ignore) = ignore {
            let ignored = context.registers.mask(ignore);
            lanes(ignored).for_each(|lane| sizes[lane] = 0);
        }
        match issue(context, &targets, &sources, bytes, &sizes) {
            Ok(()) => Flow::Next,
            Err(fault) => Flow::Fault(fault),
        }
    });
    lowerer.emit(instruction.full_name(), Work::of(Class::AsyncCopy), Gather::None, action);
    Ok(())
}

fn issue(
    context: &mut Context<'_>,
    targets: &[u64; 32],
    sources: &[u64; 32],
    bytes: u32,
    sizes: &[u32; 32],
) -> Result<(), Box<crate::checks::Finding>> {
    context.check_shared("writes", targets, bytes)?;
    let whole = context.mask;
    let mut data = [[0u8; 16]; 32];
    // Lanes that copy everything, a warp at a time; the others byte by byte.
    context.mask = lanes(whole).filter(|&lane| sizes[lane] == bytes).fold(0, |all, lane| all | 1 << lane);
    if context.mask != 0 {
        let mut words = [[0; 32]; 4];
        context.load(Space::Global, sources, 4, How::default(), &mut words[..bytes as usize / 4])?;
        for lane in lanes(context.mask) {
            for (word, values) in words.iter().enumerate().take(bytes as usize / 4) {
                data[lane][4 * word..4 * word + 4].copy_from_slice(&(values[lane] as u32).to_le_bytes());
            }
        }
    }
    for lane in lanes(whole & !context.mask) {
        context.mask = 1 << lane;
        for byte in 0..sizes[lane] {
            let mut value = [[0; 32]];
            let address = sources.map(|address| address.wrapping_add(u64::from(byte)));
            context.load(Space::Global, &address, 1, How::default(), &mut value)?;
            data[lane][byte as usize] = value[0][lane] as u8;
        }
    }
    context.mask = whole;
    for lane in lanes(whole) {
        let (to, place) = (targets[lane] as u32, context.pc);
        context.begin_copy(lane, Copy { to, bytes, data: data[lane], place })?;
    }
    Ok(())
}
