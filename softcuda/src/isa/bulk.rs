//! What sm_90 brought, for clusters of one block: bulk copies, `mapa`, `getctarank`.
//!
//! Not supported, and refused by name: tensor maps (`cp.async.bulk.tensor`, `tensormap`: they need `cuTensorMapEncode` and a
//! descriptor format; they would stand here, as lists of bulk copies), `wgmma` (its place is next to `mma` in `tensor`), stores
//! and reductions that complete transactions (`st.async`, `red.async`, `cp.reduce.async.bulk`), multicast.

use super::mbarrier::SharedPlace;
use super::{Element, Work};
use crate::checks::{Check, DeviceError, Finding};
use crate::lower::{Lowered, Lowerer};
use crate::machine::bulk::Bulk;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{Source, lanes};
use crate::model::counters::Class;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Instruction, Operand, Space};

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    let has = |suffix| instruction.has(suffix);
    match instruction.opcode.as_str() {
        "cp" if has("reduce") || has("tensor") => Some(Err(refused(instruction))),
        "cp" if has("bulk") => Some(bulk(lowerer, instruction)),
        "wgmma" | "tensormap" | "multimem" => Some(Err(refused(instruction))),
        "st" | "red" if has("async") => Some(Err(refused(instruction))),
        "mapa" => Some(map_address(lowerer, instruction)),
        "getctarank" => Some(rank(lowerer, instruction)),
        _ => None,
    }
}

fn refused(instruction: &Instruction) -> String {
    let name = instruction.full_name();
    let why = match instruction.opcode.as_str() {
        "wgmma" => "matrix products of warp groups are not supported; mma.sync is",
        "cp" if instruction.has("tensor") => {
            "tensor maps are not supported; cp.async.bulk without .tensor and cp.async are"
        }
        "tensormap" => "tensor maps are not supported",
        _ => "not supported",
    };
    format!("unsupported instruction `{name}`: {why}")
}

/// `cp.async.bulk` in its forms: copies, `commit_group`, `wait_group`.
fn bulk(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let has = |suffix| instruction.has(suffix);
    let to_shared = has("shared::cluster") || has("shared::cta");
    match instruction.operands.as_slice() {
        [] if has("commit_group") => {
            let action: Action = Box::new(|context: &mut Context<'_>| {
                lanes(context.mask).for_each(|lane| context.warp.bulk[lane].commit());
                Flow::Next
            });
            lowerer.emit_plain(instruction, Class::AsyncCopy, action);
            Ok(())
        }
        [Operand::Integer(keep)] if has("wait_group") && *keep >= 0 => {
            let keep = *keep as usize;
            let run = move |context: &mut Context<'_>| context.bulk_wait(keep);
            emit(lowerer, instruction, Class::AsyncCopy, run);
            Ok(())
        }
        // A hint.
        _ if has("prefetch") => {
            lowerer.emit_plain(instruction, Class::Other, Box::new(|_| Flow::Next));
            Ok(())
        }
        _ if has("multicast::cluster") || has("cp_mask") => Err(refused(instruction)),
        [to, from, bytes, mbarrier, ..]
            if to_shared && has("global") && has("mbarrier::complete_tx::bytes") =>
        {
            let to = SharedPlace::of(lowerer, to, Space::Shared)?;
            let mbarrier = SharedPlace::of(lowerer, mbarrier, Space::Shared)?;
            let (from, _) = lowerer.place(from, Space::Global)?;
            let bytes = lowerer.source::<u32>(bytes, None)?;
            let run = move |context: &mut Context<'_>| {
                let (targets, mbarriers) = (to.addresses(context)?, mbarrier.addresses(context)?);
                each(context, &targets, &from.addresses(context), bytes, |context, lane, bulk| {
                    context.bulk_load(lane, bulk, mbarriers[lane])
                })
            };
            emit(lowerer, instruction, Class::AsyncCopy, run);
            Ok(())
        }
        [to, from, bytes, ..] if has("bulk_group") && has("global") && has("shared::cta") => {
            let (to, _) = lowerer.place(to, Space::Global)?;
            let from = SharedPlace::of(lowerer, from, Space::Shared)?;
            let bytes = lowerer.source::<u32>(bytes, None)?;
            let run = move |context: &mut Context<'_>| {
                let sources = from.addresses(context)?;
                each(context, &to.addresses(context), &sources, bytes, |context, lane, bulk| {
                    context.bulk_store(lane, bulk)
                })
            };
            emit(lowerer, instruction, Class::StoreGlobal, run);
            Ok(())
        }
        _ => Err(refused(instruction)),
    }
}

type Checked = Result<(), Box<Finding>>;

fn emit(
    lowerer: &mut Lowerer<'_>,
    instruction: &Instruction,
    class: Class,
    run: impl Fn(&mut Context<'_>) -> Checked + Send + Sync + 'static,
) {
    let action: Action = Box::new(move |context: &mut Context<'_>| match run(context) {
        Ok(()) => Flow::Next,
        Err(fault) => Flow::Fault(fault),
    });
    lowerer.emit(instruction.full_name(), Work::of(class), Gather::None, action);
}

/// Calls `copy` for each lane.
fn each(
    context: &mut Context<'_>,
    targets: &[u64; 32],
    sources: &[u64; 32],
    bytes: Source,
    copy: impl Fn(&mut Context<'_>, usize, Bulk) -> Checked,
) -> Checked {
    let sizes = u32::load(context.registers, bytes);
    lanes(context.mask).try_for_each(|lane| {
        copy(context, lane, Bulk { to: targets[lane], from: sources[lane], bytes: sizes[lane] })
    })
}

/// `mapa{.shared::cluster} d, a, rank`: the same place in another block of the cluster; there is none but the own.
fn map_address(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, from, rank] = instruction.operands.as_slice() else {
        return Err("mapa needs three operands".to_string());
    };
    let from = lowerer.source::<u64>(from, None)?;
    let rank = lowerer.source::<u32>(rank, None)?;
    lowerer.into::<u64>(to, false, |lowerer, slot| {
        let run = move |context: &mut Context<'_>| {
            let ranks = u32::load(context.registers, rank);
            if let Some(lane) = lanes(context.mask).find(|&lane| ranks[lane] != 0) {
                let what = format!("names block {} of a cluster of one block", ranks[lane]);
                return Err(context.finding(lane, Check::Memory, DeviceError::IllegalAddress, what));
            }
            let addresses = u64::load(context.registers, from);
            u64::store(context.registers, slot, &addresses, context.mask);
            Ok(())
        };
        emit(lowerer, instruction, Class::Integer, run);
        Ok(())
    })
}

/// `getctarank{.shared::cluster} d, a`: the block that an address in shared memory belongs to.
fn rank(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [to, _] = instruction.operands.as_slice() else {
        return Err("getctarank needs two operands".to_string());
    };
    lowerer.into::<u32>(to, false, |lowerer, slot| {
        let run = move |context: &mut Context<'_>| {
            u32::store(context.registers, slot, &[0; 32], context.mask);
            Ok(())
        };
        emit(lowerer, instruction, Class::Integer, run);
        Ok(())
    })
}
