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
    /// instruction was written; where that was inlined is kept beside it, followed to the outermost place.
    pub(super) fn loc(&mut self) -> Result<(), ParseError> {
        self.advance()?;
        let at = self.source_line()?;
        let mut outer = (0, 0);
        while self.accept(",")? {
            let attribute = self.token;
            match self.word("`function_name` or `inlined_at`")? {
                "function_name" => self.function_name()?,
                "inlined_at" => {
                    let call = self.source_line()?;
                    outer = self.inlined.get(&call).copied().unwrap_or((call.0, call.1));
                }
                _ => {
                    let message = format!("{} is not an attribute of `.loc`", attribute.quoted());
                    return Err(attribute.error(message));
                }
            }
        }
        match outer {
            (0, 0) => drop(self.inlined.remove(&at)),
            _ => drop(self.inlined.insert(at, outer)),
        }
        self.location = (at.0, at.1, outer);
        Ok(())
    }

    /// File, line and column: `1 24 13`.
    fn source_line(&mut self) -> Result<(u32, u32, u32), ParseError> {
        let file = self.literal("the index of a file")?;
        let line = self.literal("a line")?;
        let column = self.literal("a column")?;
        Ok((file, line, column))
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
