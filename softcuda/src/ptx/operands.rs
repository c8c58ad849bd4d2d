//! All the forms of an operand.

use super::ParseError;
use super::ast::{Address, Operand};
use super::lexer::Kind;
use super::parser::Parser;

impl Parser<'_> {
    /// One operand, also `a|b`.
    pub(super) fn operand(&mut self) -> Result<Operand, ParseError> {
        let first = self.single_operand()?;
        if !self.accept("|")? {
            return Ok(first);
        }
        let second = self.single_operand()?;
        if self.token.is_symbol("|") {
            return Err(self.token.error("an operand has at most two parts"));
        }
        Ok(Operand::Pair(Box::new(first), Box::new(second)))
    }

    fn single_operand(&mut self) -> Result<Operand, ParseError> {
        match (self.token.kind, self.token.text) {
            (Kind::Symbol, "{") => self.vector(),
            (Kind::Symbol, "[") => self.address(),
            (Kind::Symbol, "!") if self.peek()?.is_name() => {
                self.advance()?;
                self.name().map(Operand::Not)
            }
            _ => self.scalar(),
        }
    }

    /// What may stand in a vector or list: a name, perhaps with an offset, or a constant.
    fn scalar(&mut self) -> Result<Operand, ParseError> {
        if !self.token.is_name() {
            return self.constant("an operand").map(Into::into);
        }
        if self.token.text == "_" {
            self.advance()?;
            return Ok(Operand::Sink);
        }
        let name = self.name()?;
        match (self.token.kind, self.token.text) {
            (Kind::Symbol, "+" | "-") => Ok(Operand::NameOffset(name, self.integer("an offset")?)),
            (Kind::Symbol, "[") => Err(self.token.error("write `name+bytes` instead of `name[index]`")),
            _ => Ok(Operand::Name(name)),
        }
    }

    /// `%r1`, `%tid.x`
    fn name(&mut self) -> Result<String, ParseError> {
        let mut name = self.word("a name")?.to_string();
        if self.token.kind == Kind::Dotted {
            name.push_str(self.advance()?.text);
        }
        Ok(name)
    }

    /// `{%r1, 0, _}`
    fn vector(&mut self) -> Result<Operand, ParseError> {
        self.advance()?;
        self.scalars("}", "behind an element of a vector").map(Operand::Vector)
    }

    /// `(%r1, param0, 5)` of a call
    pub(super) fn list(&mut self) -> Result<Operand, ParseError> {
        self.advance()?;
        self.scalars(")", "behind an argument").map(Operand::List)
    }

    fn scalars(&mut self, close: &str, place: &str) -> Result<Vec<Operand>, ParseError> {
        let mut elements = Vec::new();
        if self.accept(close)? {
            return Ok(elements);
        }
        loop {
            elements.push(self.scalar()?);
            if !self.accept(",")? {
                self.expect(close, place)?;
                return Ok(elements);
            }
        }
    }

    /// `[%rd1+16]`. What a texture or tensor is read with, `[map, {%r1, %r2}]`, becomes a list of an address and
    /// operands.
    fn address(&mut self) -> Result<Operand, ParseError> {
        self.advance()?;
        let address = Operand::Address(self.base_and_offset()?);
        if self.accept("]")? {
            return Ok(address);
        }
        let mut parts = vec![address];
        while self.accept(",")? {
            parts.push(if self.token.is_symbol("{") { self.vector()? } else { self.scalar()? });
        }
        self.expect("]", "behind an address")?;
        Ok(Operand::List(parts))
    }

    fn base_and_offset(&mut self) -> Result<Address, ParseError> {
        if !self.token.is_name() {
            return Ok(Address { base: None, offset: self.integer("an address")? });
        }
        let base = Some(self.name()?);
        let signed = self.token.is_symbol("+") || self.token.is_symbol("-");
        let offset = if signed { self.integer("an offset")? } else { 0 };
        Ok(Address { base, offset })
    }
}
