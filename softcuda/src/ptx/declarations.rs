//! Variables and registers: `.global .align 4 .v2 .f32 table[4][8] = {...}, other;` and `.reg .b32 %r<12>;`

use super::ParseError;
use super::ast::{Linkage, RegisterDeclaration, Space, Type, Variable};
use super::parser::Parser;

/// What stands in front of the names.
pub(super) struct Qualifiers {
    pub space: Space,
    pub align: Option<u32>,
    pub ty: Type,
    pub vector: u32,
}

impl Parser<'_> {
    /// From the state space to the `;`.
    pub(super) fn variables(&mut self, linkage: Linkage) -> Result<Vec<Variable>, ParseError> {
        let space = match self.advance()?.dotted() {
            Some("global") => Space::Global,
            Some("const") => Space::Const,
            Some("local") => Space::Local,
            Some("param") => Space::Param,
            _ => Space::Shared,
        };
        let qualifiers = self.qualifiers(space)?;
        let mut variables = Vec::new();
        loop {
            let start = self.token;
            let variable = self.variable(&qualifiers, linkage)?;
            if variable.bytes.is_none() && linkage != Linkage::Extern && space != Space::Param {
                return Err(start.error("only an `.extern` variable may leave its size open"));
            }
            variables.push(variable);
            if !self.accept(",")? {
                self.expect(";", "behind a variable")?;
                return Ok(variables);
            }
        }
    }

    /// Alignment, vector and type, in any order, and what changes nothing here.
    pub(super) fn qualifiers(&mut self, space: Space) -> Result<Qualifiers, ParseError> {
        let (mut align, mut ty, mut vector) = (None, None, 1);
        while let Some(word) = self.token.dotted() {
            let token = self.token;
            match word {
                "align" => align = Some(self.alignment()?),
                "attribute" => self.attribute()?,
                "ptr" if space == Space::Param => self.pointee()?,
                "v2" | "v4" => {
                    vector = if word == "v2" { 2 } else { 4 };
                    self.advance()?;
                }
                _ if ty.is_some() => return Err(self.unexpected("a name")),
                _ => {
                    ty = Some(Type::parse(word).ok_or_else(|| token.error(not_a_type(word)))?);
                    self.advance()?;
                }
            }
        }
        let ty = ty.ok_or_else(|| self.unexpected("a type such as `.f32`"))?;
        if ty == Type::Pred && space != Space::Register {
            return Err(self.token.error("a predicate lives in registers only"));
        }
        Ok(Qualifiers { space, align, ty, vector })
    }

    /// `.align 16`
    fn alignment(&mut self) -> Result<u32, ParseError> {
        self.advance()?;
        let token = self.token;
        let align = self.literal("an alignment")?;
        if align.is_power_of_two() { Ok(align) } else { Err(token.error("an alignment is a power of two")) }
    }

    /// `.attribute(.managed)`: where memory lives is the driver's business.
    pub(super) fn attribute(&mut self) -> Result<(), ParseError> {
        self.advance()?;
        self.skip_group("(", ")", "behind `.attribute`")
    }

    /// `.ptr .global .align 16`: what a pointer parameter promises about its target. The parameter itself is aligned
    /// as its type is.
    fn pointee(&mut self) -> Result<(), ParseError> {
        self.advance()?;
        if matches!(self.token.dotted(), Some("global" | "const" | "shared" | "local")) {
            self.advance()?;
        }
        if self.token.dotted() == Some("align") {
            self.alignment()?;
        }
        Ok(())
    }

    /// A name with its extents and initialiser.
    pub(super) fn variable(
        &mut self,
        qualifiers: &Qualifiers,
        linkage: Linkage,
    ) -> Result<Variable, ParseError> {
        let &Qualifiers { space, align, ty, vector } = qualifiers;
        let position = self.position();
        let start = self.token;
        let name = self.word("the name of a variable")?.to_string();
        if self.token.is_symbol("<") {
            return Err(self.token.error("numbered names are for registers only"));
        }
        let mut extents = self.extents()?;
        let align = align.unwrap_or(ty.bytes() * vector);
        let mut variable = Variable {
            name,
            space,
            align,
            bytes: None,
            ty,
            vector,
            linkage,
            init: Vec::new(),
            relocations: Vec::new(),
            position,
        };
        if self.token.is_symbol("=") {
            self.initialiser(&mut variable, &mut extents)?;
        }
        let element = u64::from(ty.bytes() * vector);
        let too_large = || start.error("this is larger than the address space");
        variable.bytes = size(element, &extents).ok_or_else(too_large)?;
        Ok(variable)
    }

    /// `[4][8]`; the first may be open: `[]`.
    fn extents(&mut self) -> Result<Vec<Option<u64>>, ParseError> {
        let mut extents = Vec::new();
        while self.accept("[")? {
            if extents.is_empty() && self.accept("]")? {
                extents.push(None);
                continue;
            }
            let token = self.token;
            let extent = u64::try_from(self.integer("the size of an array")?);
            extents.push(Some(extent.map_err(|_| token.error("an array has no negative size"))?));
            self.expect("]", "behind the size of an array")?;
        }
        Ok(extents)
    }

    /// From `.reg` to the `;`.
    pub(super) fn registers(&mut self) -> Result<Vec<RegisterDeclaration>, ParseError> {
        self.advance()?;
        let Qualifiers { ty, vector, .. } = self.qualifiers(Space::Register)?;
        let mut registers = Vec::new();
        loop {
            let name = self.word("the name of a register")?.to_string();
            let mut count = None;
            if self.accept("<")? {
                count = Some(self.literal("a number of registers")?);
                self.expect(">", "behind a number of registers")?;
            }
            registers.push(RegisterDeclaration { name, count, ty, vector });
            if !self.accept(",")? {
                self.expect(";", "behind a register")?;
                return Ok(registers);
            }
        }
    }
}

/// Bytes of an array, the inner `None` for one of open size; the outer for one that no address space could hold.
fn size(element: u64, extents: &[Option<u64>]) -> Option<Option<u64>> {
    let known = extents.iter().flatten().try_fold(element, |product, &extent| product.checked_mul(extent))?;
    Some(if extents.contains(&None) { None } else { Some(known) })
}

fn not_a_type(word: &str) -> String {
    match word {
        "texref" | "samplerref" | "surfref" => {
            format!("`.{word}` is not supported: there are no textures here")
        }
        _ => format!("`.{word}` is not a type"),
    }
}
