//! Bodies: blocks, labels, declarations and instructions.

use super::ParseError;
use super::ast::{Guard, Instruction, Linkage, Operand, Position, Statement};
use super::lexer::Kind;
use super::parser::Parser;

impl Parser<'_> {
    /// `{ ... }`; `place` completes the error where there is no `{`.
    pub(super) fn block(&mut self, place: &str) -> Result<Vec<Statement>, ParseError> {
        self.expect("{", place)?;
        let mut statements = Vec::new();
        while !self.accept("}")? {
            self.statement(&mut statements)?;
        }
        Ok(statements)
    }

    /// Appends the next statement, if what comes next is one: `;` alone, `.loc` and `.pragma` are not.
    fn statement(&mut self, statements: &mut Vec<Statement>) -> Result<(), ParseError> {
        let statement = match (self.token.kind, self.token.text) {
            (Kind::Word, _) => self.labelled_or_instruction()?,
            (Kind::Symbol, "@") => Statement::Instruction(self.guarded()?),
            (Kind::Symbol, "{") => Statement::Block(self.nested(|parser| parser.block("of a block"))?),
            (Kind::Symbol, ";") => return self.advance().map(drop),
            (Kind::Dotted, _) => return self.directive(statements),
            _ => return Err(self.unexpected("an instruction, a label, a directive or `}`")),
        };
        statements.push(statement);
        Ok(())
    }

    fn directive(&mut self, statements: &mut Vec<Statement>) -> Result<(), ParseError> {
        match self.token.text {
            ".loc" => self.loc(),
            ".pragma" => self.pragma(),
            ".reg" => {
                statements.push(Statement::Registers(self.registers()?));
                Ok(())
            }
            ".shared" | ".local" | ".param" | ".global" | ".const" => {
                let variables = self.variables(Linkage::Local)?;
                statements.extend(variables.into_iter().map(Statement::Variable));
                Ok(())
            }
            _ => Err(self.unexpected("a directive of functions")),
        }
    }

    /// What a word begins: `label:`, `label: .branchtargets a, b;`, `label: .callprototype ...;` or an instruction.
    fn labelled_or_instruction(&mut self) -> Result<Statement, ParseError> {
        let position = self.position();
        let word = self.advance()?.text;
        if !self.accept(":")? {
            return Ok(Statement::Instruction(self.instruction(None, word, position)?));
        }
        let label = word.to_string();
        match self.token.dotted() {
            Some("branchtargets" | "calltargets") => Ok(Statement::Targets(label, self.targets()?, position)),
            Some("callprototype") => {
                self.prototype()?;
                Ok(Statement::Prototype(label, position))
            }
            _ => Ok(Statement::Label(label, position)),
        }
    }

    /// `.branchtargets L1, L2;`
    fn targets(&mut self) -> Result<Vec<String>, ParseError> {
        self.advance()?;
        let mut targets = Vec::new();
        loop {
            targets.push(self.word("a target")?.to_string());
            if !self.accept(",")? {
                self.expect(";", "behind targets")?;
                return Ok(targets);
            }
        }
    }

    /// `.callprototype (.param .b32 _) _ (.param .b64 _);`: the callee says the same once more.
    fn prototype(&mut self) -> Result<(), ParseError> {
        while !self.accept(";")? {
            if self.token.kind == Kind::End || self.token.is_symbol("{") || self.token.is_symbol("}") {
                return Err(self.unexpected("`;` behind a prototype"));
            }
            self.advance()?;
        }
        Ok(())
    }

    /// `@!%p1 bra done;`
    fn guarded(&mut self) -> Result<Instruction, ParseError> {
        let position = self.position();
        self.advance()?;
        let negated = self.accept("!")?;
        let register = self.word("a predicate behind `@`")?.to_string();
        let opcode = self.word("an instruction behind its guard")?;
        self.instruction(Some(Guard { register, negated }), opcode, position)
    }

    /// From behind the opcode to the `;`.
    fn instruction(
        &mut self,
        guard: Option<Guard>,
        opcode: &str,
        position: Position,
    ) -> Result<Instruction, ParseError> {
        let mut suffixes = Vec::new();
        while let Some(suffix) = self.token.dotted() {
            suffixes.push(suffix.to_string());
            self.advance()?;
        }
        let operands = self.operands(opcode == "call")?;
        Ok(Instruction { guard, opcode: opcode.to_string(), suffixes, operands, position })
    }

    fn operands(&mut self, is_call: bool) -> Result<Vec<Operand>, ParseError> {
        let mut operands = Vec::new();
        if self.accept(";")? {
            return Ok(operands);
        }
        if self.token.is_symbol("}") {
            return Err(self.unexpected("`;` behind an instruction"));
        }
        loop {
            operands.push(if is_call && self.token.is_symbol("(") { self.list()? } else { self.operand()? });
            if !self.accept(",")? {
                self.expect(";", "behind an instruction")?;
                return Ok(operands);
            }
        }
    }
}
