//! Barriers of a block and of a warp, fences, and what ends or delays a thread.

use super::Work;
use super::warp::members;
use crate::checks::{Check, DeviceError};
use crate::lower::{Lowered, Lowerer};
use crate::machine::cluster::CLUSTER;
use crate::machine::context::{Arrival, Context, Flow, Reduction, ReductionKind};
use crate::machine::registers::{File, Source, lanes};
use crate::model::counters::Class;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Instruction, Operand};

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    let has = |suffix| instruction.has(suffix);
    match instruction.opcode.as_str() {
        "bar" if has("warp") => Some(warp_barrier(lowerer, instruction)),
        "bar" | "barrier" if !has("cluster") => Some(barrier(lowerer, instruction)),
        "barrier" => Some(cluster_barrier(lowerer, instruction)),
        "membar" | "fence" => {
            fence(lowerer, instruction);
            Some(Ok(()))
        }
        "trap" | "brkpt" => {
            trap(lowerer, instruction);
            Some(Ok(()))
        }
        "nanosleep" => {
            lowerer.emit_plain(instruction, Class::Other, Box::new(|_| Flow::Next));
            Some(Ok(()))
        }
        "griddepcontrol" | "setmaxnreg" | "pmevent" => {
            lowerer.emit_plain(instruction, Class::Other, Box::new(|_| Flow::Next));
            Some(Ok(()))
        }
        _ => None,
    }
}

/// `bar.sync a, b`, `bar.arrive a, b`, `bar.red.OP.TYPE d, a, b, p`, and the same as `barrier`.
fn barrier(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let unsupported = || format!("unsupported instruction `{}`", instruction.full_name());
    let has = |suffix| instruction.has(suffix);
    let aligned = instruction.opcode == "bar" || has("aligned");
    let mut operands = instruction.operands.as_slice();
    let mut reduction = None;
    if has("red") {
        let [to, rest @ .., vote] = operands else { return Err(unsupported()) };
        let kind = match () {
            () if has("popc") => ReductionKind::Count,
            () if has("and") => ReductionKind::And,
            () if has("or") => ReductionKind::Or,
            () => return Err(unsupported()),
        };
        let Operand::Name(name) = to else { return Err(unsupported()) };
        let (file, slot) = lowerer.register(name)?;
        if (file == File::Narrow) != (kind == ReductionKind::Count) {
            return Err(unsupported());
        }
        reduction = Some((kind, slot, lowerer.source::<bool>(vote, None)?));
        operands = rest;
    } else if !has("sync") && !has("arrive") {
        return Err(unsupported());
    }
    let mut number = |operand: Option<&Operand>| match operand {
        None => Ok(None),
        Some(operand) => lowerer.source::<u32>(operand, None).map(Some),
    };
    let (index, threads) = (number(operands.first())?, number(operands.get(1))?);
    let passing = has("arrive");
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let lane = context.mask.trailing_zeros() as usize & 31;
        let read = |source: Option<Source>| {
            source.map_or(0, |source| context.registers.narrow[source.slot as usize][lane])
        };
        let (barrier, threads) = (read(index), read(threads));
        if barrier > 15 || threads % 32 != 0 || threads > 1024 {
            let what = format!(
                "barrier {barrier} for {threads} threads: there are barriers 0 to 15, for whole warps"
            );
            return Flow::Fault(context.finding(lane, Check::Sync, DeviceError::IllegalInstruction, what));
        }
        let reduction =
            reduction.map(|(kind, slot, vote)| Reduction { kind, slot, votes: context.registers.mask(vote) });
        Flow::Barrier(Arrival { barrier, threads, passing, aligned, reduction })
    });
    let gather = if aligned { Gather::Warp } else { Gather::None };
    lowerer.emit(instruction.full_name(), Work::of(Class::Barrier), gather, action);
    Ok(())
}

/// `barrier.cluster.arrive`, `barrier.cluster.wait`: every arrival releases, every wait acquires.
fn cluster_barrier(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let arrives = instruction.has("arrive");
    if !arrives && !instruction.has("wait") {
        return Err(format!("unsupported instruction `{}`", instruction.full_name()));
    }
    let aligned = instruction.has("aligned");
    let misuse = |context: &Context<'_>, odd: u32, what: &str| {
        let lane = odd.trailing_zeros() as usize & 31;
        Flow::Fault(context.finding(lane, Check::Sync, DeviceError::LaunchFailed, what.to_string()))
    };
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let (number, mask) = (context.warp.number, context.mask);
        let block = &mut *context.block;
        let clock = &mut block.clocks[number];
        if arrives {
            let result = block.cluster.arrive(number, mask, &clock.knowledge(number));
            clock.tick += 1;
            return match result {
                Ok(()) => Flow::Next,
                Err(odd) => misuse(context, odd, "arrives twice at the cluster's barrier without a wait"),
            };
        }
        match block.cluster.wait(number, mask) {
            Ok(Some(released)) => {
                clock.learn(&released);
                clock.lanes_learn(mask, context.warp.launched, released[number]);
                Flow::Next
            }
            Ok(None) => {
                let (barrier, threads, passing, reduction) = (CLUSTER, 0, false, None);
                Flow::Barrier(Arrival { barrier, threads, passing, aligned, reduction })
            }
            Err(odd) => misuse(context, odd, "waits at the cluster's barrier without having arrived"),
        }
    });
    let gather = if aligned { Gather::Warp } else { Gather::None };
    lowerer.emit(instruction.full_name(), Work::of(Class::Barrier), gather, action);
    Ok(())
}

/// `bar.warp.sync mask`: orders what its lanes did before it and do behind it.
fn warp_barrier(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Lowered {
    let [mask] = instruction.operands.as_slice() else {
        return Err("bar.warp.sync needs a mask".to_string());
    };
    let mask = members(lowerer, mask)?;
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let masks = context.registers.narrow[mask.slot as usize];
        let launched = context.warp.launched;
        let number = context.warp.number;
        let mut rest = context.mask;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            let group = lanes(rest)
                .filter(|&other| masks[other] == masks[lane])
                .fold(0, |all, other| all | 1 << other);
            let live = launched & !context.warp.exited;
            // Lanes that have ended are not waited for, and are known to have.
            let all = if group & live == live { launched } else { group };
            context.block.clocks[number].synchronise_lanes(all, launched);
            rest &= !group;
        }
        Flow::Next
    });
    lowerer.emit(instruction.full_name(), Work::of(Class::Barrier), Gather::Members(mask), action);
    Ok(())
}

/// `membar`, `fence`: what came before it can be published from now on. The scope makes no difference here.
fn fence(lowerer: &mut Lowerer<'_>, instruction: &Instruction) {
    let orders = !instruction.has("proxy") && !instruction.has("mbarrier_init");
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        if orders && context.checks(Check::Race) {
            let number = context.warp.number;
            context.block.clocks[number].fence(number, context.block.number);
        }
        Flow::Next
    });
    lowerer.emit_plain(instruction, Class::Barrier, action);
}

/// `trap`
fn trap(lowerer: &mut Lowerer<'_>, instruction: &Instruction) {
    let name = instruction.full_name();
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let lane = context.mask.trailing_zeros() as usize & 31;
        let what = format!("the thread executes {name}");
        Flow::Fault(context.finding(lane, Check::Trap, DeviceError::LaunchFailed, what))
    });
    lowerer.emit_plain(instruction, Class::Control, action);
}
