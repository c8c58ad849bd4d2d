//! The PTX front end on what nvcc writes: every text is understood, and no instruction of it is lost or invented.

use softcuda::ptx::ast::{Module, Statement};
use softcuda::ptx::parse;
use std::path::{Path, PathBuf};

/// The PTX texts of all tests.
fn texts() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folders = ["parser", "ptx"].map(|name| tests.join(name));
    // `ptx` may be missing from a checkout that has no kernels; `parser` has the texts that this test always reads.
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten();
    let paths = files.map(|file| file.expect("a file of the folder").path());
    paths.filter(|path| path.extension().is_some_and(|name| name == "ptx")).collect()
}

fn instructions(statements: &[Statement]) -> usize {
    let count = |statement: &Statement| match statement {
        Statement::Instruction(_) => 1,
        Statement::Block(inner) => instructions(inner),
        _ => 0,
    };
    statements.iter().map(count).sum()
}

fn all_instructions(module: &Module) -> usize {
    module.functions.iter().map(|function| instructions(function.body.as_deref().unwrap_or_default())).sum()
}

/// The text without comments, `.loc`, and the debug sections behind the last function.
fn essence(text: &str) -> String {
    let text =
        text.split("\n\t.section").next().unwrap_or_default().split("\n.section").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.filter(|line| !line.starts_with(".loc")).collect::<Vec<_>>().join(" ")
}

/// Counts without understanding: what ends in `;`, but for what begins with a dot once heads, braces and labels are off.
fn expected_instructions(text: &str) -> usize {
    let is_instruction = |piece: &&str| {
        let mut rest = *piece;
        if piece.contains(".entry ") || piece.contains(".func ") {
            rest = piece.split_once('{').map_or("", |(_, body)| body);
        }
        loop {
            rest = rest.trim_start_matches([' ', '\t', '{', '}']);
            match rest.split_once(':') {
                Some((label, behind)) if !label.trim().contains([' ', '\t', '.']) => rest = behind,
                _ => break,
            }
        }
        !rest.is_empty() && !rest.starts_with('.')
    };
    essence(text).split(';').filter(is_instruction).count()
}

#[test]
fn every_text_is_understood_to_the_last_instruction() {
    let texts = texts();
    assert!(texts.len() > 1, "the folder `parser` has two");
    for path in &texts {
        let text = std::fs::read_to_string(path).expect("a text");
        let module = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(all_instructions(&module), expected_instructions(&text), "{}", path.display());
        assert_eq!(
            module.functions.iter().filter(|f| f.is_entry).count(),
            text.matches(".entry ").count(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn an_assertion_keeps_its_lines_strings_and_call() {
    let module = parse(include_bytes!("parser/assertion.ptx")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(module.files, [(1, "softcuda/tests/cuda/assertion.cu".to_string())]);
    let expression = module.variables.iter().find(|v| v.name == "$str").expect("the asserted expression");
    assert_eq!((expression.init.as_slice(), expression.bytes), (b"in[i] > 0".as_slice(), Some(10)));
    let callee = module.functions.iter().find(|f| f.name == "__assertfail").expect("the callee");
    assert_eq!((callee.params.len(), &callee.body), (5, &None));
    let body = module.functions.iter().find_map(|f| f.body.as_deref()).expect("the kernel's body");
    assert_eq!(calls(body), [("call.uni".to_string(), 2, 12)]);
}

/// Name, number of operands and source line of the calls, also of those inside blocks.
fn calls(statements: &[Statement]) -> Vec<(String, usize, u32)> {
    let each = |statement: &Statement| match statement {
        Statement::Instruction(call) if call.opcode == "call" => {
            vec![(call.full_name(), call.operands.len(), call.position.line)]
        }
        Statement::Block(inner) => calls(inner),
        _ => Vec::new(),
    };
    statements.iter().flat_map(each).collect()
}
