//! What stands behind the `=` of a variable: numbers become bytes, names become relocations.

use super::ParseError;
use super::ast::{Relocation, Space, Type, Variable};
use super::constants::Constant;
use super::parser::Parser;

/// Bytes of zeros that one text may ask for by leaving elements out. Without a limit a short text could ask for more
/// memory than there is: `.global .b8 x[2][1000000000000] = {{1}, {2}};`
pub(super) const MAX_PADDING: u64 = 1 << 26;

/// One pair of braces: an extent of the array, or the elements of a vector.
struct Level {
    /// `None`: as many as there are.
    extent: Option<u64>,
    /// Bytes from one to the next.
    stride: u64,
    /// A vector is written out in full, an array may break off.
    complete: bool,
}

impl Parser<'_> {
    /// Reads `= ...` into `variable`, and gives an open extent the size that the braces have.
    pub(super) fn initialiser(
        &mut self,
        variable: &mut Variable,
        extents: &mut [Option<u64>],
    ) -> Result<(), ParseError> {
        if !matches!(variable.space, Space::Global | Space::Const) {
            return Err(self.token.error("only `.global` and `.const` variables have initial values"));
        }
        self.advance()?;
        let count = self.values(variable, &levels(variable, extents), 0)?;
        if let Some(open @ None) = extents.first_mut() {
            *open = Some(count);
        }
        Ok(())
    }

    /// The values of `levels`, from byte `at` on; answers how many the outermost level has.
    fn values(&mut self, variable: &mut Variable, levels: &[Level], at: u64) -> Result<u64, ParseError> {
        let Some((level, inner)) = levels.split_first() else {
            return self.value(variable, at).map(|()| 1);
        };
        self.expect("{", "in front of the elements of an array or vector")?;
        let mut count = 0;
        while !self.accept("}")? {
            if count > 0 {
                self.expect(",", "or `}` behind an element")?;
            }
            if level.extent.is_some_and(|extent| count >= extent) {
                return Err(self.token.error("more elements than the variable has"));
            }
            let at = at.saturating_add(level.stride.saturating_mul(count));
            self.nested(|parser| parser.values(variable, inner, at))?;
            count += 1;
        }
        if level.complete && level.extent != Some(count) {
            return Err(self.token.error("fewer elements than the vector has"));
        }
        Ok(count)
    }

    /// One number or address.
    fn value(&mut self, variable: &mut Variable, at: u64) -> Result<(), ParseError> {
        if self.token.is_name() {
            return self.symbol_address(variable, at);
        }
        let start = self.token;
        let constant = self.constant("an initial value")?;
        if self.token.is_symbol("(") {
            return Err(start.error("a part of an address, as in `0xFF(name)`, is not supported"));
        }
        let bytes = encode(constant, variable.ty)
            .ok_or_else(|| start.error("this constant does not initialise the variable's type"))?;
        self.put(variable, at, &bytes[..variable.ty.bytes() as usize])
    }

    /// `name`, `name+4`, `generic(name)`, `generic(name)+4`
    fn symbol_address(&mut self, variable: &mut Variable, at: u64) -> Result<(), ParseError> {
        if !matches!(variable.ty, Type::Bits(64) | Type::Unsigned(64) | Type::Signed(64)) {
            return Err(self.token.error("an address takes 64 bits"));
        }
        let mut symbol = self.word("a name")?;
        let generic = symbol == "generic" && self.accept("(")?;
        if generic {
            symbol = self.word("the name of a variable or function")?;
            self.expect(")", "behind `generic(name`")?;
        }
        let signed = self.token.is_symbol("+") || self.token.is_symbol("-");
        let addend = if signed { self.integer("an offset")? } else { 0 };
        self.put(variable, at, &[0; 8])?;
        variable.relocations.push(Relocation { offset: at, symbol: symbol.to_string(), addend, generic });
        Ok(())
    }

    /// Writes at byte `at`, which is never in front of what was written before.
    fn put(&mut self, variable: &mut Variable, at: u64, bytes: &[u8]) -> Result<(), ParseError> {
        let padding = at.saturating_sub(variable.init.len() as u64);
        self.padding_left = self.padding_left.checked_sub(padding).ok_or_else(|| {
            self.token.error(format!("elements left out of initialisers make more than {MAX_PADDING} bytes"))
        })?;
        variable.init.resize(variable.init.len() + padding as usize, 0);
        variable.init.extend_from_slice(bytes);
        Ok(())
    }
}

/// From the outermost braces to the innermost.
fn levels(variable: &Variable, extents: &[Option<u64>]) -> Vec<Level> {
    let scalar = u64::from(variable.ty.bytes());
    let vector = u64::from(variable.vector);
    let mut levels = Vec::new();
    if vector > 1 {
        levels.push(Level { extent: Some(vector), stride: scalar, complete: true });
    }
    let mut stride = scalar * vector;
    for &extent in extents.iter().rev() {
        levels.push(Level { extent, stride, complete: false });
        stride = stride.saturating_mul(extent.unwrap_or(1));
    }
    levels.reverse();
    levels
}

/// Little-endian; as many bytes count as the type has. As for ptxas, an integer is none of the floats and a float none
/// of the integers, but for bits, which take both.
fn encode(constant: Constant, ty: Type) -> Option<[u8; 16]> {
    let bits = match (constant, ty) {
        (Constant::Integer { value, unsigned }, Type::Bits(_) | Type::Unsigned(_) | Type::Signed(_)) => {
            // Only `.b128` sees the extension.
            if unsigned { u128::from(value) } else { i128::from(value.cast_signed()).cast_unsigned() }
        }
        (Constant::Single(bits), Type::F32 | Type::Bits(32)) => bits.into(),
        (Constant::Double(value), Type::F32 | Type::Bits(32)) => (value as f32).to_bits().into(),
        (Constant::Double(value), Type::F64 | Type::Bits(64)) => value.to_bits().into(),
        _ => return None,
    };
    Some(bits.to_le_bytes())
}
