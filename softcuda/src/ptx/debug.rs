//! Debug information: `.file` and `.loc` name the source line of an instruction; DWARF sections are stepped over.

use super::ParseError;
use super::ast::Module;
use super::lexer::Kind;
use super::parser::Parser;

impl Parser<'_> {
    /// `.file 1 "kernel.cu"`, also with a time stamp and a size.
    pub(super) fn file(&mut self, module: &mut Module) -> Result<(), ParseError> {
        self.advance()?;
        let index = self.literal("the index of a file")?;
        let name = self.string("the name of a file")?.to_string();
        while self.accept(",")? {
            self.number("a time stamp or size")?;
        }
        module.files.push((index, name));
        Ok(())
    }

    /// `.loc 1 24 13`, also with `, function_name $L__info_string0 + 12, inlined_at 1 50 9`. The line is where the
    /// instruction was written, not where that was inlined.
    pub(super) fn loc(&mut self) -> Result<(), ParseError> {
        self.advance()?;
        self.location = self.source_line()?;
        while self.accept(",")? {
            let attribute = self.token;
            match self.word("`function_name` or `inlined_at`")? {
                "function_name" => self.function_name()?,
                "inlined_at" => {
                    self.source_line()?;
                }
                _ => {
                    let message = format!("{} is not an attribute of `.loc`", attribute.quoted());
                    return Err(attribute.error(message));
                }
            }
        }
        Ok(())
    }

    /// File and line of `1 24 13`; the column is not kept.
    fn source_line(&mut self) -> Result<(u32, u32), ParseError> {
        let file = self.literal("the index of a file")?;
        let line = self.literal("a line")?;
        self.literal("a column")?;
        Ok((file, line))
    }

    fn function_name(&mut self) -> Result<(), ParseError> {
        self.word("the label of a function's name")?;
        if self.accept("+")? {
            self.number("an offset")?;
        }
        Ok(())
    }

    /// An integer of any size that nobody reads.
    fn number(&mut self, what: &str) -> Result<(), ParseError> {
        if !matches!(self.token.kind, Kind::Integer { .. }) {
            return Err(self.unexpected(what));
        }
        self.advance().map(drop)
    }

    /// `.section .debug_str { ... }`
    pub(super) fn section(&mut self) -> Result<(), ParseError> {
        self.advance()?;
        if self.token.dotted().is_none() {
            return Err(self.unexpected("the name of a section"));
        }
        self.advance()?;
        self.skip_group("{", "}", "behind the name of a section")
    }
}
