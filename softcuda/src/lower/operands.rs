//! Operands: where values come from and go to.

use super::{Lowerer, Symbol};
use crate::isa::Element;
use crate::machine::context::Context;
use crate::machine::memory::{LOCAL, PARAMETERS, SHARED};
use crate::machine::registers::{File, Registers, Source};
use crate::machine::simd::vectorised;
use crate::module::DYNAMIC;
use crate::program::{LaneMask, Special};
use crate::ptx::ast::{Operand, Space, Type};

/// The base of an address.
#[derive(Clone, Copy, Debug)]
pub enum Base {
    /// None: the offset is the address.
    Fixed,
    /// A register of 32 bits.
    Narrow(u32),
    /// A register of 64 bits.
    Wide(u32),
}

/// Where an instruction finds its addresses.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Register.
    pub base: Base,
    /// Added to it.
    pub offset: i64,
}

impl Place {
    /// The lanes' addresses.
    #[inline(always)]
    pub fn addresses(self, context: &Context<'_>) -> [u64; 32] {
        let mut addresses = [0; 32];
        vectorised(
            #[inline(always)]
            || self.read(context.registers, &mut addresses),
        );
        addresses
    }

    #[inline(always)]
    fn read(self, registers: &Registers, addresses: &mut [u64; 32]) {
        match self.base {
            Base::Fixed => *addresses = [self.offset as u64; 32],
            Base::Narrow(slot) => {
                let bases = &registers.narrow[slot as usize];
                for lane in 0..32 {
                    addresses[lane] = u64::from(bases[lane].wrapping_add(self.offset as u32));
                }
            }
            Base::Wide(slot) => {
                let bases = &registers.wide[slot as usize];
                for lane in 0..32 {
                    addresses[lane] = bases[lane].wrapping_add_signed(self.offset);
                }
            }
        }
    }
}

/// Where a step puts its result, and the register of another width that it goes to from there.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    /// The slot.
    pub slot: u32,
    fit: Option<(File, u32)>,
}

/// Names of the three axes.
fn axis(name: &str) -> Option<u8> {
    match name {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    }
}

/// The special register of a name.
fn special(name: &str) -> Option<Special> {
    if let Some((register, coordinate)) = name.rsplit_once('.') {
        let axis = axis(coordinate)?;
        return match register {
            "%tid" => Some(Special::Thread(axis)),
            "%ntid" => Some(Special::Threads(axis)),
            "%ctaid" => Some(Special::Block(axis)),
            // A cluster has one block here.
            "%nctaid" | "%nclusterid" => Some(Special::Blocks(axis)),
            "%clusterid" => Some(Special::Block(axis)),
            "%cluster_ctaid" => Some(Special::Fixed(0)),
            "%cluster_nctaid" => Some(Special::Fixed(1)),
            _ => None,
        };
    }
    Some(match name {
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%smid" => Special::Multiprocessor,
        "%nsmid" => Special::Multiprocessors,
        "%gridid" => Special::Grid,
        "%lanemask_eq" => Special::LaneMask(LaneMask::Equal),
        "%lanemask_le" => Special::LaneMask(LaneMask::LessEqual),
        "%lanemask_lt" => Special::LaneMask(LaneMask::Less),
        "%lanemask_ge" => Special::LaneMask(LaneMask::GreaterEqual),
        "%lanemask_gt" => Special::LaneMask(LaneMask::Greater),
        "%cluster_ctarank" => Special::Fixed(0),
        "%cluster_nctarank" => Special::Fixed(1),
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" | "%aggr_smem_size" => Special::TotalShared,
        _ => return None,
    })
}

impl Lowerer<'_> {
    /// What a name stands for.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        let local = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        let symbol = local.or_else(|| self.globals.get(name)).cloned();
        match symbol {
            Some(Symbol::Variable(Space::Shared, DYNAMIC)) => {
                Some(Symbol::Variable(Space::Shared, self.shared_bytes))
            }
            symbol => symbol,
        }
    }

    /// The register of a name, special registers included.
    pub fn register(&mut self, name: &str) -> Result<(File, u32), String> {
        match self.symbol(name) {
            Some(Symbol::Register { file, slot, .. }) => return Ok((file, slot)),
            Some(Symbol::Variable(..)) => {
                return Err(format!("`{name}` is a variable where a register is needed"));
            }
            None => {}
        }
        let special = special(name).ok_or_else(|| {
            let kind = if name.starts_with('%') { "register" } else { "name" };
            format!("{kind} `{name}` is not declared or not supported")
        })?;
        if let Some(&slot) = self.specials.get(&special) {
            return Ok((File::Narrow, slot));
        }
        let slot = self.fresh(File::Narrow);
        self.specials.insert(special, slot);
        self.layout.specials.push((slot, special));
        Ok((File::Narrow, slot))
    }

    /// Bits of a register, as declared.
    pub fn register_bits(&self, name: &str) -> u32 {
        match self.symbol(name) {
            Some(Symbol::Register { bits, .. }) => bits,
            _ => 32,
        }
    }

    /// Whether a name is a register's, special ones included.
    pub fn is_register(&self, name: &str) -> bool {
        match self.symbol(name) {
            Some(Symbol::Register { .. }) => true,
            Some(Symbol::Variable(..)) => false,
            None => special(name).is_some(),
        }
    }

    /// A register that holds a constant.
    pub fn constant(&mut self, file: File, value: u64) -> u32 {
        match file {
            File::Predicate => u32::from(value != 0),
            File::Narrow => {
                let value = value as u32;
                if let Some(&slot) = self.narrow_constants.get(&value) {
                    return slot;
                }
                let slot = self.fresh(File::Narrow);
                self.narrow_constants.insert(value, slot);
                self.layout.narrow_constants.push((slot, value));
                slot
            }
            File::Wide => {
                if let Some(&slot) = self.wide_constants.get(&value) {
                    return slot;
                }
                let slot = self.fresh(File::Wide);
                self.wide_constants.insert(value, slot);
                self.layout.wide_constants.push((slot, value));
                slot
            }
        }
    }

    /// The bits of a constant for an instruction of a type: singles are written as such or as doubles.
    fn bits(&self, operand: &Operand, ty: Option<Type>, file: File) -> Option<u64> {
        let narrow = |value: u64| match ty {
            Some(ty) if ty.bits() < 32 && file == File::Narrow => value & ((1 << ty.bits()) - 1),
            _ => value,
        };
        match *operand {
            Operand::Integer(value) => Some(narrow(value as u64)),
            Operand::F32(bits) if file == File::Wide => Some(f64::from(f32::from_bits(bits)).to_bits()),
            Operand::F32(bits) => Some(u64::from(bits)),
            Operand::F64(bits) if file == File::Wide => Some(bits),
            Operand::F64(bits) => Some(u64::from((f64::from_bits(bits) as f32).to_bits())),
            _ => None,
        }
    }

    /// Where to read an operand of an instruction of a type.
    pub fn source<A: Element>(&mut self, operand: &Operand, ty: Option<Type>) -> Result<Source, String> {
        self.source_in(operand, ty, A::FILE)
    }

    /// The same, by the file of registers.
    pub(super) fn source_in(
        &mut self,
        operand: &Operand,
        ty: Option<Type>,
        wanted: File,
    ) -> Result<Source, String> {
        let (name, inverted) = match operand {
            Operand::Name(name) => (name, false),
            Operand::Not(name) => (name, true),
            Operand::NameOffset(name, offset) => return self.address_constant(name, *offset, wanted),
            Operand::Sink => return Ok(Source { slot: self.fresh(wanted), inverted: false }),
            constant => {
                let bits = self.bits(constant, ty, wanted);
                let bits = bits.ok_or_else(|| "an operand of this form is not supported".to_string())?;
                return Ok(Source { slot: self.constant(wanted, bits), inverted: false });
            }
        };
        if let Some(Symbol::Variable(..)) = self.symbol(name) {
            return self.address_constant(name, 0, wanted);
        }
        let (file, slot) = self.register(name)?;
        if file == wanted {
            return Ok(Source { slot, inverted });
        }
        let fitted = self.fresh(wanted);
        match (file, wanted) {
            (File::Wide, File::Narrow) => self.hidden(move |registers, mask| {
                let values = registers.wide[slot as usize].map(|value| value as u32);
                u32::store(registers, fitted, &values, mask);
            }),
            (File::Narrow, File::Wide) => self.hidden(move |registers, mask| {
                let values = registers.narrow[slot as usize].map(u64::from);
                u64::store(registers, fitted, &values, mask);
            }),
            _ => return Err(format!("`{name}` is {} where {} is needed", kind(file), kind(wanted))),
        }
        Ok(Source { slot: fitted, inverted: false })
    }

    /// Adds a step that stands for no instruction.
    pub fn hidden(&mut self, f: impl Fn(&mut Registers, u32) + Send + Sync + 'static) {
        self.hidden = true;
        let action = Box::new(move |context: &mut Context<'_>| {
            f(context.registers, context.mask);
            crate::machine::context::Flow::Next
        });
        self.emit(
            String::new(),
            crate::isa::Work::of(crate::model::counters::Class::Other),
            crate::program::Gather::None,
            action,
        );
        self.hidden = false;
    }

    /// The address of a variable as `mov` gives it: inside its space.
    fn address_constant(&mut self, name: &str, offset: i64, file: File) -> Result<Source, String> {
        match self.symbol(name) {
            Some(Symbol::Variable(_, address)) if file != File::Predicate => {
                let slot = self.constant(file, address.wrapping_add_signed(offset));
                Ok(Source { slot, inverted: false })
            }
            _ => Err(format!("`{name}` is no variable")),
        }
    }

    /// Calls `emit` with the slot that the result goes to, and fits that to the width of the destination's register.
    pub fn into<R: Element>(
        &mut self,
        operand: &Operand,
        signed: bool,
        emit: impl FnOnce(&mut Self, u32) -> Result<(), String>,
    ) -> Result<(), String> {
        let destination = self.destination(operand, R::FILE)?;
        emit(self, destination.slot)?;
        self.fit(destination, signed);
        Ok(())
    }

    /// Where a result in a file is to be put.
    pub fn destination(&mut self, operand: &Operand, wanted: File) -> Result<Destination, String> {
        let name = match operand {
            Operand::Name(name) => name,
            Operand::Sink => return Ok(Destination { slot: self.fresh(wanted), fit: None }),
            _ => return Err("a destination of this form is not supported".to_string()),
        };
        let (file, slot) = self.register(name)?;
        match (wanted, file) {
            _ if file == wanted => Ok(Destination { slot, fit: None }),
            (File::Narrow, File::Wide) | (File::Wide, File::Narrow) => {
                Ok(Destination { slot: self.fresh(wanted), fit: Some((wanted, slot)) })
            }
            _ => Err(format!("`{name}` is {} where {} is needed", kind(file), kind(wanted))),
        }
    }

    /// Extends the sign of a result of so many bits to the width of the register that it is meant for.
    pub fn extend_sign(&mut self, destination: &Destination, name: &str, bits: u32) {
        let wanted = self.register_bits(name).min(32);
        let slot = destination.slot;
        if bits < wanted {
            let keep = u32::MAX >> (32 - wanted);
            self.hidden(move |registers, mask| {
                let extend = |value: u32| ((value << (32 - bits)) as i32 >> (32 - bits)) as u32 & keep;
                let values = registers.narrow[slot as usize].map(extend);
                u32::store(registers, slot, &values, mask);
            });
        }
    }

    /// Moves a result to a register of another width, behind the step that made it.
    pub fn fit(&mut self, destination: Destination, signed: bool) {
        let from = destination.slot;
        match destination.fit {
            None => {}
            Some((File::Narrow, to)) => self.hidden(move |registers, mask| {
                let extend = |value: u32| if signed { value as i32 as i64 as u64 } else { u64::from(value) };
                let values = registers.narrow[from as usize].map(extend);
                u64::store(registers, to, &values, mask);
            }),
            Some((_, to)) => self.hidden(move |registers, mask| {
                let values = registers.wide[from as usize].map(|value| value as u32);
                u32::store(registers, to, &values, mask);
            }),
        }
    }

    /// The address in brackets, for an access to a space.
    pub fn place(&mut self, operand: &Operand, space: Space) -> Result<(Place, Space), String> {
        let Operand::Address(address) = operand else {
            return Err("an address in brackets is needed".to_string());
        };
        let Some(name) = &address.base else {
            return Ok((Place { base: Base::Fixed, offset: address.offset }, space));
        };
        match self.symbol(name) {
            Some(Symbol::Variable(home, start)) => {
                let inside = start.wrapping_add_signed(address.offset);
                // A parameter of a device function, or of a call, is local memory.
                let (space, start) = match (space, home) {
                    (Space::Param, Space::Local) => (Space::Local, inside),
                    (Space::Generic, Space::Shared) => (Space::Generic, SHARED + inside),
                    (Space::Generic, Space::Local) => (Space::Generic, LOCAL + inside),
                    (Space::Generic, Space::Param) => (Space::Generic, PARAMETERS + inside),
                    _ => (space, inside),
                };
                Ok((Place { base: Base::Fixed, offset: start as i64 }, space))
            }
            _ => match self.register(name)? {
                (File::Narrow, slot) => {
                    Ok((Place { base: Base::Narrow(slot), offset: address.offset }, space))
                }
                (File::Wide, slot) => Ok((Place { base: Base::Wide(slot), offset: address.offset }, space)),
                (File::Predicate, _) => Err(format!("`{name}` is a predicate where an address is needed")),
            },
        }
    }
}

fn kind(file: File) -> &'static str {
    match file {
        File::Predicate => "a predicate",
        File::Narrow => "a register of up to 32 bits",
        File::Wide => "a register of 64 bits",
    }
}
