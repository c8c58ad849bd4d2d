//! The PTX front end: text to [`ast::Module`]. What instructions mean is not known here, only how they are written.
//!
//! [`parse`] takes what `nvcc`, LLVM and people write (PTX ISA 6.0 and later, 64-bit addresses) and answers with
//! the module, or with the first thing it does not understand and where that stands. It is written by hand, top
//! down, with one token in sight. One file a subject:
//!
//! | | |
//! |---|---|
//! | `lexer` | text to tokens: words, dotted words, numbers, strings, symbols |
//! | `parser` | the tokens' cursor; the directives of a module |
//! | `debug` | `.file`, `.loc`, `.section` |
//! | `functions` | `.entry` and `.func`: parameters, performance directives |
//! | `declarations` | variables and registers |
//! | `initialisers` | what stands behind the `=` of a variable: bytes and addresses |
//! | `statements` | bodies: blocks, labels, instructions |
//! | `operands` | all the forms of an operand |
//! | `constants` | constant expressions, folded as the PTX ISA says |
//!
//! Whatever the bytes, `parse` returns: in time proportional to their number, without panicking, and nested no
//! deeper than [`MAX_DEPTH`].

pub mod ast;
mod constants;
mod debug;
mod declarations;
mod functions;
mod initialisers;
mod lexer;
mod operands;
mod parser;
mod statements;

/// How deep blocks, braces and parentheses may nest. Compilers nest three or four; the limit keeps the stack safe.
pub const MAX_DEPTH: u32 = 64;

/// The first thing in a text that is not PTX as we know it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// Byte in that line, from 1.
    pub column: u32,
    /// What is wrong, without the place.
    pub message: String,
}

/// Parses a PTX text. NULs at its end are the terminator that `cuModuleLoadData` promises, and are ignored; bytes that
/// are not UTF-8 may stand in comments and strings.
///
/// ```
/// let module = softcuda::ptx::parse(b".version 7.8\n.target sm_80\n.entry nothing() { ret; }\0")?;
/// assert_eq!((module.target, module.functions[0].name.as_str()), (80, "nothing"));
///
/// let error = softcuda::ptx::parse(b".version 7.8\n.target sm_80\n.entry nothing() { ret }").unwrap_err();
/// assert_eq!(error.to_string(), "line 3, column 24: unexpected `}`, expected `;` behind an instruction");
/// # Ok::<(), softcuda::ptx::ParseError>(())
/// ```
pub fn parse(text: &[u8]) -> Result<ast::Module, ParseError> {
    let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&text[..end]);
    parser::Parser::new(&text)?.module()
}
