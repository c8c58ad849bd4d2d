//! `.entry` and `.func`: what stands in front of a body.

use super::ParseError;
use super::ast::{Function, Linkage, Space, Variable};
use super::parser::Parser;

impl Parser<'_> {
    /// From `.entry` or `.func` to the end of the body, or the `;` of a declaration.
    pub(super) fn function(&mut self, linkage: Linkage) -> Result<Function, ParseError> {
        let position = self.position();
        let is_entry = self.advance()?.dotted() == Some("entry");
        if self.token.dotted() == Some("attribute") {
            self.attribute()?;
        }
        let returns = if is_entry { Vec::new() } else { self.parameters()? };
        let mut function = Function {
            name: self.word("the name of a function")?.to_string(),
            is_entry,
            linkage,
            params: self.parameters()?,
            returns,
            max_threads: None,
            required_threads: None,
            min_blocks: None,
            max_registers: None,
            cluster: None,
            body: None,
            position,
        };
        while self.token.dotted().is_some() {
            self.performance_directive(&mut function)?;
        }
        if !self.accept(";")? {
            function.body = Some(self.block("or `;` behind the head of a function")?);
            self.location = (0, 0, (0, 0));
        }
        Ok(function)
    }

    /// `(.param .u64 p, .reg .u32 n)`, or nothing at all.
    fn parameters(&mut self) -> Result<Vec<Variable>, ParseError> {
        let mut parameters = Vec::new();
        if !self.accept("(")? || self.accept(")")? {
            return Ok(parameters);
        }
        loop {
            parameters.push(self.parameter()?);
            if !self.accept(",")? {
                self.expect(")", "behind a parameter")?;
                return Ok(parameters);
            }
        }
    }

    fn parameter(&mut self) -> Result<Variable, ParseError> {
        let space = match self.token.dotted() {
            Some("param") => Space::Param,
            Some("reg") => Space::Register,
            _ => return Err(self.unexpected("a parameter (`.param` or `.reg`)")),
        };
        self.advance()?;
        let qualifiers = self.qualifiers(space)?;
        self.variable(&qualifiers, Linkage::Local)
    }

    /// What stands between the parameters and the body.
    fn performance_directive(&mut self, function: &mut Function) -> Result<(), ParseError> {
        let directive = self.token;
        if directive.dotted() == Some("pragma") {
            return self.pragma();
        }
        self.advance()?;
        match directive.dotted().unwrap_or_default() {
            "maxntid" => function.max_threads = Some(self.extent()?),
            "reqntid" => function.required_threads = Some(self.extent()?),
            "minnctapersm" => function.min_blocks = Some(self.literal("a number of blocks")?),
            "maxnreg" => function.max_registers = Some(self.literal("a number of registers")?),
            "attribute" => self.skip_group("(", ")", "behind `.attribute`")?,
            "reqnctapercluster" => function.cluster = Some(self.extent()?),
            "maxnctapersm" | "maxclusterrank" | "abi_preserve" | "abi_preserve_control" => {
                self.literal("a number")?;
            }
            "noreturn" | "explicitcluster" | "blocksareclusters" => {}
            _ => {
                return Err(
                    directive.error(format!("{} is not a directive of functions", directive.quoted()))
                );
            }
        }
        Ok(())
    }

    /// `256`, `16, 16` or `8, 8, 4`
    fn extent(&mut self) -> Result<[u32; 3], ParseError> {
        let mut extent = [self.literal("a number of threads or blocks")?, 1, 1];
        for size in &mut extent[1..] {
            if !self.accept(",")? {
                break;
            }
            *size = self.literal("a number of threads or blocks")?;
        }
        Ok(extent)
    }
}
