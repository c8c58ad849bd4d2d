//! The PTX front end on texts that are not PTX: it answers, in time, with an error that stands inside the text.

use proptest::prelude::*;
use softcuda::ptx::ast::{Operand, Statement};
use softcuda::ptx::parse;
use std::time::{Duration, Instant};

const HEAD: &str = ".version 7.8\n.target sm_80\n.address_size 64\n";

/// A text with most constructs, to be mutated.
const SAMPLE: &str = include_str!("parser/sample.ptx");

/// The same, and what a compiler wrote.
const TEXTS: [&str; 2] = [SAMPLE, include_str!("parser/assertion.ptx")];

#[test]
fn the_sample_is_understood() {
    let module = parse(SAMPLE.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((module.functions.len(), module.variables.len(), module.files.len()), (4, 6, 1));
}

/// Quadratic time would be minutes for each of these; linear time is milliseconds.
#[test]
fn long_texts_take_time_in_proportion() {
    let pieces = [
        "{", "}", "(", "a:", "a|", "!", "1+", "1,", "/*", "/**/", "\"", ".x", ".x::", "@", ";", "[", "{1,",
        "{},", "-", "0.", "9", "\n#", "\n", "a", "[1]", "\u{fc}", ".b8 a,",
    ];
    let heads =
        ["", ".entry k() { ", ".entry k() { op ", ".global .u32 x[] = {", ".global .u32 x", ".section .s {"];
    for piece in pieces {
        for head in heads {
            let text = format!("{HEAD}{head}{}", piece.repeat(100_000));
            let start = Instant::now();
            let _ = parse(text.as_bytes());
            assert!(start.elapsed() < Duration::from_secs(10), "{head}{piece}: {:?}", start.elapsed());
        }
    }
}

fn survives(text: &[u8]) -> Result<(), TestCaseError> {
    if let Err(error) = parse(text) {
        let lines = text.split(|&byte| byte == b'\n').count() as u32;
        prop_assert!((1..=lines).contains(&error.line), "{error}");
        prop_assert!(error.column >= 1 && !error.message.is_empty());
    }
    Ok(())
}

/// Pieces that mean something, to be put where they mean something else.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
        ";",
        ",",
        ":",
        "::",
        "|",
        "!",
        "@",
        "-",
        "+",
        "?",
        "=",
        "%",
        "_",
        ".",
        "\0",
        "\n",
        "/*",
        "*/",
        "//",
        "\"",
        "#",
        "0x",
        "0f",
        "0f3F800000",
        "1e",
        "18446744073709551616",
        "(.s64)",
        "/0",
        "<<",
        ".reg",
        ".global",
        ".loc 1 2 3",
        ".align",
        ".v4",
        "[]",
        "generic(",
        "call ",
        ".callprototype",
        ".branchtargets",
        ".section",
        ".b128",
        "9223372036854775807",
        "\u{fc}",
        "[4294967296]",
        "{{{{",
        "[99999999999]",
    ];
    prop_oneof![
        4 => prop::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ]
}

/// The operand of `op OPERAND;`.
fn operand(text: &str) -> Operand {
    let module = parse(format!("{HEAD}.entry k() {{ op {text}; }}").as_bytes());
    let module = module.unwrap_or_else(|error| panic!("{text}: {error}"));
    match module.functions[0].body.as_deref() {
        Some([Statement::Instruction(instruction)]) => instruction.operands[0].clone(),
        other => panic!("{text}: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_survived(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&noise)?;
        survives(&[HEAD.as_bytes(), &noise].concat())?;
        survives(&[HEAD.as_bytes(), b".entry k() {", &noise].concat())?;
    }

    #[test]
    fn truncated_texts_are_survived(end in any::<prop::sample::Index>()) {
        for text in TEXTS {
            survives(&text.as_bytes()[..end.index(text.len())])?;
        }
    }

    #[test]
    fn mutated_texts_are_survived(
        original in prop::sample::select(TEXTS.to_vec()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, fragment()), 1..6),
    ) {
        let mut text = original.as_bytes().to_vec();
        for (place, removed, inserted) in edits {
            let start = place.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, inserted);
        }
        survives(&text)?;
    }

    #[test]
    fn shuffled_pieces_are_survived(picks in prop::collection::vec(any::<prop::sample::Index>(), 1..80)) {
        let pieces: Vec<&str> = SAMPLE.split_inclusive([' ', ',', ';', '\n', '{', '(', '[']).collect();
        let picked: String = picks.iter().map(|pick| *pick.get(&pieces)).collect();
        for head in ["", ".entry k() {", ".global .u64 x[] = {"] {
            survives(format!("{HEAD}{head}{picked}").as_bytes())?;
        }
    }

    #[test]
    fn integers_mean_what_rust_says(value in any::<i64>()) {
        let want = Operand::Integer(value);
        prop_assert_eq!(&operand(&value.to_string()), &want);
        prop_assert_eq!(&operand(&format!("0x{value:x}")), &want);
        prop_assert_eq!(&operand(&format!("0{value:o}U")), &want);
        prop_assert_eq!(&operand(&format!("0b{value:b}")), &want);
    }

    #[test]
    fn floats_mean_what_rust_says(bits in any::<u64>()) {
        prop_assert_eq!(operand(&format!("0d{bits:016X}")), Operand::F64(bits));
        prop_assert_eq!(operand(&format!("0f{:08x}", bits as u32)), Operand::F32(bits as u32));
        let value = f64::from_bits(bits);
        if value.is_finite() {
            prop_assert_eq!(operand(&format!("{value:?}")), Operand::F64(bits));
            prop_assert_eq!(operand(&format!("{value:e}")), Operand::F64(bits));
        }
    }
}
