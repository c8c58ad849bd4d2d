//! Matrix instructions in the machine: registers and shared memory to what [`super::tensor`] computes, and back.

use super::Work;
use super::data::space;
use super::tensor::matrix::{Direction, MatrixMove, ROW_BYTES, Row, row_address_lane, transpose_register};
use super::tensor::wmma::{STRIDE_BYTES, Transfer, Wmma};
use super::tensor::{Lanes, Mma};
use crate::lower::{Lowered, Lowerer};
use crate::machine::access::How;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{File, blend};
use crate::machine::simd::vectorised;
use crate::model::counters::Class;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Instruction, Operand, Space};

/// The family; `None` for what is not of it.
pub fn lower(lowerer: &mut Lowerer<'_>, instruction: &Instruction) -> Option<Lowered> {
    match instruction.opcode.as_str() {
        "mma" => Mma::parse(instruction).map(|mma| multiply(lowerer, instruction, mma)),
        "wmma" => Wmma::parse(instruction).map(|wmma| match wmma {
            Wmma::Multiply(mma) => multiply(lowerer, instruction, mma),
            Wmma::Load(transfer) => transfer_load(lowerer, instruction, transfer),
            Wmma::Store(transfer) => transfer_store(lowerer, instruction, transfer),
        }),
        "ldmatrix" | "stmatrix" | "movmatrix" => {
            MatrixMove::parse(instruction).map(|matrix| move_matrix(lowerer, instruction, matrix))
        }
        _ => None,
    }
}

/// The registers of an operand in braces; constants too, where they are read.
fn slots(
    lowerer: &mut Lowerer<'_>,
    operand: &Operand,
    wide: bool,
    written: bool,
) -> Result<Vec<usize>, String> {
    let Operand::Vector(parts) = operand else { return Err("registers in braces are needed".to_string()) };
    let file = if wide { File::Wide } else { File::Narrow };
    let slot = |part: &Operand| match part {
        Operand::Name(name) => match lowerer.register(name)? {
            (found, slot) if found == file => Ok(slot as usize),
            _ => Err(format!("register `{name}` has the wrong width")),
        },
        Operand::Sink if written => Ok(lowerer.fresh(file) as usize),
        constant if wide && !written => {
            lowerer.source::<u64>(constant, None).map(|source| source.slot as usize)
        }
        constant if !written => lowerer.source::<u32>(constant, None).map(|source| source.slot as usize),
        _ => Err("a destination of this form is not supported".to_string()),
    };
    parts.iter().map(slot).collect()
}

fn check_target(lowerer: &Lowerer<'_>, instruction: &Instruction, least: u32) -> Lowered {
    if lowerer.target() < least {
        return Err(format!("`{}` needs .target sm_{least}", instruction.full_name()));
    }
    Ok(())
}

/// `mma.sync` and `wmma.mma`
fn multiply(lowerer: &mut Lowerer<'_>, instruction: &Instruction, mma: Mma) -> Lowered {
    check_target(lowerer, instruction, mma.minimum_target())?;
    let wide = mma.is_double();
    let operands = &instruction.operands;
    let d = slots(lowerer, &operands[0], wide, true)?;
    let a = slots(lowerer, &operands[1], wide, false)?;
    let b = slots(lowerer, &operands[2], wide, false)?;
    let c = slots(lowerer, &operands[3], wide, false)?;
    let action: Action = if wide {
        Box::new(move |context: &mut Context<'_>| {
            let wide = &context.registers.wide;
            let of = |slots: &[usize]| -> Vec<Lanes<u64>> { slots.iter().map(|&slot| wide[slot]).collect() };
            let mut result = vec![[0; 32]; d.len()];
            mma.multiply_double(&of(&a), &of(&b), &of(&c), &mut result);
            for (&slot, values) in d.iter().zip(&result) {
                blend(&mut context.registers.wide[slot], values, context.mask);
            }
            Flow::Next
        })
    } else {
        Box::new(move |context: &mut Context<'_>| {
            let mut buffers = [[[0u32; 32]; 8]; 4];
            let [left, right, sums, result] = &mut buffers;
            vectorised(
                #[inline(always)]
                || {
                    let narrow = &context.registers.narrow;
                    let fill = |to: &mut [Lanes<u32>; 8], slots: &[usize]| {
                        to.iter_mut().zip(slots).for_each(|(to, &slot)| *to = narrow[slot]);
                    };
                    fill(left, &a);
                    fill(right, &b);
                    fill(sums, &c);
                },
            );
            mma.multiply(&left[..a.len()], &right[..b.len()], &sums[..c.len()], &mut result[..d.len()]);
            for (&slot, values) in d.iter().zip(result.iter()) {
                blend(&mut context.registers.narrow[slot], values, context.mask);
            }
            Flow::Next
        })
    };
    // The operations of the warp, by lane.
    let work = if wide {
        Work::double(Class::Tensor, (mma.flops() / 32) as u32)
    } else {
        Work::flops(Class::Tensor, (mma.flops() / 32) as u32)
    };
    lowerer.emit(instruction.full_name(), work, Gather::Warp, action);
    Ok(())
}

/// `ldmatrix`, `stmatrix`, `movmatrix`
fn move_matrix(lowerer: &mut Lowerer<'_>, instruction: &Instruction, matrix: MatrixMove) -> Lowered {
    check_target(lowerer, instruction, matrix.minimum_target())?;
    let [first, second] = instruction.operands.as_slice() else {
        return Err("two operands are needed".to_string());
    };
    let rows = matrix.rows() as usize;
    let name = instruction.full_name();
    // An address in no named space must be generic and lie in shared memory.
    let space = space(instruction)?;
    match matrix.direction {
        Direction::Load => {
            let to = slots(lowerer, first, false, true)?;
            let (place, space) = lowerer.place(second, space)?;
            let action: Action = Box::new(move |context: &mut Context<'_>| {
                let addresses = place.addresses(context);
                let mut values = [[0; 32]; 4];
                let whole = context.mask;
                context.mask = addressing(rows);
                let result = context.load(space, &addresses, 4, How::default(), &mut values);
                context.mask = whole;
                if let Err(fault) = result.and_then(|()| aligned(context, &addresses, rows)) {
                    return Flow::Fault(fault);
                }
                let mut found = [Row::default(); 32];
                for (row, found) in found.iter_mut().enumerate().take(rows) {
                    let lane = row_address_lane(row as u32 / 8, row as u32 % 8) as usize;
                    *found = std::array::from_fn(|word| values[word][lane] as u32);
                }
                let mut registers = [[0; 32]; 4];
                matrix.distribute(&found[..rows], &mut registers[..to.len()]);
                for (&slot, values) in to.iter().zip(&registers) {
                    blend(&mut context.registers.narrow[slot], values, whole);
                }
                Flow::Next
            });
            lowerer.emit(name, Work::of(Class::LoadShared), Gather::Warp, action);
        }
        Direction::Store => {
            let (place, space) = lowerer.place(first, space)?;
            let from = slots(lowerer, second, false, false)?;
            let action: Action = Box::new(move |context: &mut Context<'_>| {
                let addresses = place.addresses(context);
                let registers: Vec<Lanes<u32>> =
                    from.iter().map(|&slot| context.registers.narrow[slot]).collect();
                let mut found = [Row::default(); 32];
                matrix.collect(&registers, &mut found[..rows]);
                let mut values = [[0; 32]; 4];
                for (row, found) in found.iter().enumerate().take(rows) {
                    let lane = row_address_lane(row as u32 / 8, row as u32 % 8) as usize;
                    (0..4).for_each(|word| values[word][lane] = u64::from(found[word]));
                }
                let whole = context.mask;
                let result = aligned(context, &addresses, rows);
                context.mask = addressing(rows);
                let result =
                    result.and_then(|()| context.store(space, &addresses, 4, How::default(), &values));
                context.mask = whole;
                match result {
                    Ok(()) => Flow::Next,
                    Err(fault) => Flow::Fault(fault),
                }
            });
            lowerer.emit(name, Work::of(Class::StoreShared), Gather::Warp, action);
        }
        Direction::Move => {
            let source = lowerer.source::<u32>(second, None)?;
            lowerer.into::<u32>(first, false, |lowerer, slot| {
                let action: Action = Box::new(move |context: &mut Context<'_>| {
                    let values = transpose_register(&context.registers.narrow[source.slot as usize]);
                    blend(&mut context.registers.narrow[slot as usize], &values, context.mask);
                    Flow::Next
                });
                lowerer.emit(name, Work::of(Class::Warp), Gather::Warp, action);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// The lanes whose addresses count.
fn addressing(rows: usize) -> u32 {
    if rows == 32 { u32::MAX } else { (1 << rows) - 1 }
}

/// Rows start at multiples of 16 bytes.
fn aligned(
    context: &Context<'_>,
    addresses: &[u64; 32],
    rows: usize,
) -> Result<(), Box<crate::checks::Finding>> {
    match addresses[..rows].iter().position(|address| address % u64::from(ROW_BYTES) != 0) {
        None => Ok(()),
        Some(lane) => {
            let mut finding = context.outside(lane, "moves a row of", Space::Shared, addresses, ROW_BYTES);
            finding.error = crate::checks::DeviceError::MisalignedAddress;
            finding.what += &format!(", which is not a multiple of {ROW_BYTES}");
            Err(finding)
        }
    }
}

/// The addresses of a piece of each lane's fragment.
fn piece(transfer: &Transfer, base: &[u64; 32], stride: u64, register: u32, access: u32) -> [u64; 32] {
    std::array::from_fn(|lane| {
        base[lane].wrapping_add(transfer.offset(lane as u32, register, access, stride))
    })
}

/// The stride in elements: an operand, or rows without gaps.
fn stride(
    lowerer: &mut Lowerer<'_>,
    instruction: &Instruction,
    transfer: &Transfer,
) -> Result<crate::machine::registers::Source, String> {
    match instruction.operands.get(2) {
        Some(operand) => lowerer.source::<u32>(operand, None),
        None => {
            let slot = lowerer.constant(File::Narrow, u64::from(transfer.default_stride()));
            Ok(crate::machine::registers::Source { slot, inverted: false })
        }
    }
}

/// A stride or an address that `wmma` does not take.
fn wmma_aligned(
    context: &Context<'_>,
    transfer: &Transfer,
    base: &[u64; 32],
    stride: u64,
) -> Result<(), Box<crate::checks::Finding>> {
    let lane = context.mask.trailing_zeros() as usize & 31;
    let bytes = stride * u64::from(transfer.fragment.format.bits()) / 8;
    let alignment = transfer.alignment();
    if base[lane].is_multiple_of(u64::from(alignment.min(32)))
        && bytes.is_multiple_of(u64::from(STRIDE_BYTES))
    {
        return Ok(());
    }
    let mut finding = context.outside(lane, "moves a fragment of", Space::Global, base, alignment);
    finding.error = crate::checks::DeviceError::MisalignedAddress;
    finding.what += &format!(", at a stride of {stride} elements: address or stride are not aligned");
    Err(finding)
}

fn transfer_load(lowerer: &mut Lowerer<'_>, instruction: &Instruction, transfer: Transfer) -> Lowered {
    check_target(lowerer, instruction, transfer.minimum_target())?;
    let wide = transfer.fragment.register_bits() == 64;
    let to = slots(lowerer, &instruction.operands[0], wide, true)?;
    let (place, space) = lowerer.place(&instruction.operands[1], space(instruction)?)?;
    let stride = stride(lowerer, instruction, &transfer)?;
    let bytes = transfer.access_bytes();
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let base = place.addresses(context);
        let rows = u64::from(context.registers.narrow[stride.slot as usize][0]);
        if let Err(fault) = wmma_aligned(context, &transfer, &base, rows) {
            return Flow::Fault(fault);
        }
        let mut registers = vec![[0u64; 32]; to.len()];
        for register in 0..transfer.fragment.distinct_registers() {
            for access in 0..transfer.accesses() {
                let addresses = piece(&transfer, &base, rows, register, access);
                let mut values = [[0; 32]];
                if let Err(fault) = context.load(space, &addresses, bytes, How::default(), &mut values) {
                    return Flow::Fault(fault);
                }
                let shift = 8 * bytes * access;
                let target = &mut registers[register as usize];
                target.iter_mut().zip(&values[0]).for_each(|(to, value)| *to |= value << shift);
            }
        }
        transfer.repeat(&mut registers);
        for (&slot, values) in to.iter().zip(&registers) {
            if wide {
                blend(&mut context.registers.wide[slot], values, context.mask);
            } else {
                blend(&mut context.registers.narrow[slot], &values.map(|value| value as u32), context.mask);
            }
        }
        Flow::Next
    });
    let class = if space == Space::Shared { Class::LoadShared } else { Class::LoadGlobal };
    lowerer.emit(instruction.full_name(), Work::of(class), Gather::Warp, action);
    Ok(())
}

fn transfer_store(lowerer: &mut Lowerer<'_>, instruction: &Instruction, transfer: Transfer) -> Lowered {
    check_target(lowerer, instruction, transfer.minimum_target())?;
    let wide = transfer.fragment.register_bits() == 64;
    let (place, space) = lowerer.place(&instruction.operands[0], space(instruction)?)?;
    let from = slots(lowerer, &instruction.operands[1], wide, false)?;
    let stride = stride(lowerer, instruction, &transfer)?;
    let bytes = transfer.access_bytes();
    let keep = if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let base = place.addresses(context);
        let rows = u64::from(context.registers.narrow[stride.slot as usize][0]);
        if let Err(fault) = wmma_aligned(context, &transfer, &base, rows) {
            return Flow::Fault(fault);
        }
        for register in 0..transfer.fragment.distinct_registers() {
            let slot = from[register as usize];
            let whole = match wide {
                true => context.registers.wide[slot],
                false => context.registers.narrow[slot].map(u64::from),
            };
            for access in 0..transfer.accesses() {
                let addresses = piece(&transfer, &base, rows, register, access);
                let values = [whole.map(|value| value >> (8 * bytes * access) & keep)];
                if let Err(fault) = context.store(space, &addresses, bytes, How::default(), &values) {
                    return Flow::Fault(fault);
                }
            }
        }
        Flow::Next
    });
    let class = if space == Space::Shared { Class::StoreShared } else { Class::StoreGlobal };
    lowerer.emit(instruction.full_name(), Work::of(class), Gather::Warp, action);
    Ok(())
}
