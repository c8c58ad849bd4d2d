//! The cursor over the tokens, and the directives of a module.

use std::collections::HashMap;

use super::ast::{Linkage, Module, Position};
use super::lexer::{Kind, Lexer, Token};
use super::{MAX_DEPTH, ParseError};

/// What stands behind `.target` besides the architecture; nothing here depends on it.
const TARGET_OPTIONS: [&str; 4] = ["texmode_unified", "texmode_independent", "map_f64_to_f32", "debug"];

/// One token in sight, and what has to be remembered from one place of the text to another.
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token in sight.
    pub token: Token<'a>,
    /// How many blocks, braces and parentheses are open.
    depth: u32,
    /// `.file` and line of the last `.loc` of this function.
    pub location: (u32, u32, (u32, u32)),
    /// Where the code at a file, line and column was inlined last.
    pub inlined: HashMap<(u32, u32, u32), (u32, u32)>,
    /// Bytes of zeros that initialisers may still ask for by leaving elements out.
    pub padding_left: u64,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next()?;
        Ok(Parser {
            lexer,
            token,
            depth: 0,
            location: (0, 0, (0, 0)),
            inlined: HashMap::new(),
            padding_left: super::initialisers::MAX_PADDING,
        })
    }

    /// The whole text.
    pub fn module(mut self) -> Result<Module, ParseError> {
        if self.token.dotted() != Some("version") {
            return Err(self.unexpected("`.version`, with which every PTX text begins"));
        }
        let mut module = Module { version: self.version()?, ..Module::default() };
        if self.token.dotted() != Some("target") {
            return Err(self.unexpected("`.target` behind `.version`"));
        }
        while self.token.kind != Kind::End {
            self.item(&mut module)?;
        }
        Ok(module)
    }

    /// One thing of module scope.
    fn item(&mut self, module: &mut Module) -> Result<(), ParseError> {
        let token = self.token;
        match token.dotted() {
            Some("version") if self.version()? == module.version => Ok(()),
            Some("version") => Err(token.error("another `.version` than at the beginning")),
            Some("target") => self.target(module),
            Some("address_size") => self.address_size(),
            Some("file") => self.file(module),
            Some("section") => self.section(),
            Some("pragma") => self.pragma(),
            Some("alias") => Err(token.error("`.alias` is not supported")),
            Some(_) => self.declaration(module),
            None if self.accept(";")? => Ok(()),
            None => Err(self.unexpected("a directive")),
        }
    }

    /// A variable or function with its linkage.
    fn declaration(&mut self, module: &mut Module) -> Result<(), ParseError> {
        let linkage = self.linkage()?;
        match self.token.dotted() {
            Some("entry" | "func") => module.functions.push(self.function(linkage)?),
            Some("global" | "const" | "shared") => module.variables.extend(self.variables(linkage)?),
            Some("reg" | "local" | "param") => {
                return Err(self.token.error(format!("{} stands in functions only", self.token.quoted())));
            }
            _ => return Err(self.unexpected("a variable, `.entry`, `.func` or another directive of modules")),
        }
        Ok(())
    }

    fn linkage(&mut self) -> Result<Linkage, ParseError> {
        let linkage = match self.token.dotted() {
            Some("visible") => Linkage::Visible,
            Some("extern") => Linkage::Extern,
            Some("weak" | "common") => Linkage::Weak,
            _ => return Ok(Linkage::Local),
        };
        self.advance()?;
        Ok(linkage)
    }

    /// `.version 7.8`
    fn version(&mut self) -> Result<(u32, u32), ParseError> {
        self.advance()?;
        let parts = self.token.text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        match parts {
            Some((Ok(major), Ok(minor))) => {
                self.advance()?;
                Ok((major, minor))
            }
            _ => Err(self.unexpected("a version such as `7.8`")),
        }
    }

    /// `.target sm_90a, debug`. Of several architectures the highest counts: the text may use all that it has.
    fn target(&mut self, module: &mut Module) -> Result<(), ParseError> {
        self.advance()?;
        loop {
            let word = self.token;
            if let Some((number, suffix)) = architecture(word.text) {
                if number > module.target {
                    (module.target, module.target_suffix) = (number, suffix);
                }
            } else if !TARGET_OPTIONS.contains(&word.text) {
                return Err(self.unexpected("an architecture such as `sm_80`"));
            }
            self.advance()?;
            if !self.accept(",")? {
                break;
            }
        }
        if module.target == 0 {
            Err(self.unexpected("an architecture such as `sm_80` as well"))
        } else {
            Ok(())
        }
    }

    fn address_size(&mut self) -> Result<(), ParseError> {
        self.advance()?;
        let size = self.token;
        match self.literal("an address size")? {
            64 => Ok(()),
            _ => Err(size.error("addresses have 64 bits: no other `.address_size` is supported")),
        }
    }

    /// `.pragma "nounroll";`: advice that changes no result.
    pub fn pragma(&mut self) -> Result<(), ParseError> {
        self.advance()?;
        loop {
            self.string("a pragma")?;
            if !self.accept(",")? {
                return self.expect(";", "behind a pragma");
            }
        }
    }
}

/// `sm_90a`: (90, 'a')
fn architecture(text: &str) -> Option<(u32, Option<char>)> {
    let name = text.strip_prefix("sm_")?;
    let suffix = name.chars().last().filter(|last| matches!(last, 'a' | 'f'));
    let number = suffix.map_or(Some(name), |letter| name.strip_suffix(letter))?;
    number.parse().ok().filter(|&number| number > 0).map(|number| (number, suffix))
}

/// The cursor.
impl<'a> Parser<'a> {
    /// To the next token; answers the one that was in sight.
    pub fn advance(&mut self) -> Result<Token<'a>, ParseError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// The token behind the one in sight.
    pub fn peek(&self) -> Result<Token<'a>, ParseError> {
        let mut ahead = self.lexer;
        ahead.next()
    }

    /// Steps over the symbol if it is in sight.
    pub fn accept(&mut self, symbol: &str) -> Result<bool, ParseError> {
        let found = self.token.is_symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Steps over the symbol; `place` completes the error: `behind an instruction`.
    pub fn expect(&mut self, symbol: &str, place: &str) -> Result<(), ParseError> {
        if self.accept(symbol)? { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}` {place}"))) }
    }

    /// Steps over a word; `what` completes the error: `the name of a variable`.
    pub fn word(&mut self, what: &str) -> Result<&'a str, ParseError> {
        if self.token.kind == Kind::Word { Ok(self.advance()?.text) } else { Err(self.unexpected(what)) }
    }

    /// The inside of a string.
    pub fn string(&mut self, what: &str) -> Result<&'a str, ParseError> {
        if self.token.kind == Kind::String {
            Ok(self.advance()?.text.trim_matches('"'))
        } else {
            Err(self.unexpected(&format!("{what} in quotes")))
        }
    }

    /// An integer written out, where no expression may stand.
    pub fn literal(&mut self, what: &str) -> Result<u32, ParseError> {
        let Kind::Integer { value, .. } = self.token.kind else {
            return Err(self.unexpected(what));
        };
        let too_large = |_| self.token.error(format!("{} is too large for {what}", self.token.quoted()));
        let value = u32::try_from(value).map_err(too_large)?;
        self.advance()?;
        Ok(value)
    }

    /// Runs `parse` one level deeper.
    pub fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(self.token.error(format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Steps over everything up to the `close` that belongs to the `open` in sight.
    pub fn skip_group(&mut self, open: &str, close: &str, place: &str) -> Result<(), ParseError> {
        let start = self.token;
        self.expect(open, place)?;
        let mut opened = 1_u32;
        while opened > 0 {
            if self.token.kind == Kind::End {
                return Err(start.error(format!("this `{open}` is not closed")));
            }
            let token = self.advance()?;
            opened = opened.saturating_add(token.is_symbol(open).into()) - u32::from(token.is_symbol(close));
        }
        Ok(())
    }

    /// An error at the token in sight.
    pub fn unexpected(&self, expected: &str) -> ParseError {
        self.token.error(format!("unexpected {}, expected {expected}", self.token.quoted()))
    }

    /// Where the token in sight stands.
    pub fn position(&self) -> Position {
        let (file, line, inlined_at) = self.location;
        Position { ptx_line: self.token.line, file, line, inlined_at }
    }
}
