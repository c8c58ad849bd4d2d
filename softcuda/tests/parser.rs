//! The PTX front end from outside: each construct's exact tree, and errors with their place. Lines of errors and
//! positions count from the first line behind the head.

use softcuda::ptx::ast::*;
use softcuda::ptx::{MAX_DEPTH, parse};

const HEAD: &str = ".version 7.8\n.target sm_80\n.address_size 64\n";
const HEAD_LINES: u32 = 3;

fn module(text: &str) -> Module {
    parse(format!("{HEAD}{text}").as_bytes()).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// `line:column: message`
fn error(text: &str) -> String {
    let error = parse(format!("{HEAD}{text}").as_bytes()).expect_err(text);
    format!("{}:{}: {}", error.line - HEAD_LINES, error.column, error.message)
}

fn variable(text: &str) -> Variable {
    let mut variables = module(text).variables;
    assert_eq!(variables.len(), 1, "{text}");
    variables.remove(0)
}

fn function(text: &str) -> Function {
    module(text).functions.pop().expect("a function")
}

/// A body on the first line.
fn body(text: &str) -> Vec<Statement> {
    function(&format!(".entry k() {{ {text}\n}}")).body.expect("a body")
}

fn instruction(text: &str) -> Instruction {
    match body(text).pop() {
        Some(Statement::Instruction(instruction)) => instruction,
        other => panic!("{text}: {other:?}"),
    }
}

fn operands(text: &str) -> Vec<Operand> {
    instruction(&format!("op {text};")).operands
}

fn operand(text: &str) -> Operand {
    let mut operands = operands(text);
    assert_eq!(operands.len(), 1, "{text}");
    operands.remove(0)
}

fn name(text: &str) -> Operand {
    Operand::Name(text.to_string())
}

fn vector(elements: &[Operand]) -> Operand {
    Operand::Vector(elements.to_vec())
}

fn list(names: &[&str]) -> Operand {
    Operand::List(names.iter().map(|text| name(text)).collect())
}

fn address(base: Option<&str>, offset: i64) -> Operand {
    Operand::Address(Address { base: base.map(str::to_string), offset })
}

/// On the `line`-th line, without `.loc`.
fn on_line(line: u32) -> Position {
    Position { ptx_line: HEAD_LINES + line, ..Position::default() }
}

/// `.global .u32 x;` on the first line, from which tests depart.
fn plain() -> Variable {
    Variable {
        name: "x".to_string(),
        space: Space::Global,
        align: 4,
        bytes: Some(4),
        ty: Type::Unsigned(32),
        vector: 1,
        linkage: Linkage::Local,
        init: Vec::new(),
        relocations: Vec::new(),
        position: on_line(1),
    }
}

#[test]
fn the_head_names_version_and_target() {
    let head = |text: &str| parse(text.as_bytes()).map(|m| (m.version, m.target, m.target_suffix));
    assert_eq!(head(".version 7.8\n.target sm_80"), Ok(((7, 8), 80, None)));
    assert_eq!(
        head("// c\n.version 9.0 .target sm_90a, debug .address_size 64"),
        Ok(((9, 0), 90, Some('a')))
    );
    assert_eq!(head(".version 8.6 .target sm_120f,texmode_independent"), Ok(((8, 6), 120, Some('f'))));
    assert_eq!(head(".version 6.0 .target sm_70 .target sm_75 .version 6.0"), Ok(((6, 0), 75, None)));
}

#[test]
fn a_head_that_is_not_one_is_refused() {
    let cases = [
        (
            "",
            "line 1, column 1: unexpected end of text, expected `.version`, with which every PTX text begins",
        ),
        ("\x7fELF", "line 1, column 1: '\\u{7f}' has no place in PTX"),
        (".version 7\n", "line 1, column 10: unexpected `7`, expected a version such as `7.8`"),
        (
            ".version 7.8\n.entry k() {}",
            "line 2, column 1: unexpected `.entry`, expected `.target` behind `.version`",
        ),
        (
            ".version 7.8 .target compute_80",
            "line 1, column 22: unexpected `compute_80`, expected an architecture such as `sm_80`",
        ),
        (
            ".version 7.8 .target debug",
            "line 1, column 27: unexpected end of text, expected an architecture such as `sm_80` as well",
        ),
        (
            ".version 7.8 .target sm_",
            "line 1, column 22: unexpected `sm_`, expected an architecture such as `sm_80`",
        ),
        (
            ".version 7.8 .target sm_80 .version 7.7",
            "line 1, column 28: another `.version` than at the beginning",
        ),
        (
            ".version 7.8 .target sm_80 .address_size 32",
            "line 1, column 42: addresses have 64 bits: no other `.address_size` is supported",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(parse(text.as_bytes()).expect_err(text).to_string(), want);
    }
}

#[test]
fn trailing_nuls_are_the_terminator_and_others_are_errors() {
    assert!(parse(format!("{HEAD}\0").as_bytes()).is_ok());
    assert!(parse(format!("{HEAD}\0\0\0").as_bytes()).is_ok());
    assert_eq!(error(".global .u32 x;\0.global .u32 y;"), "1:16: '\\0' has no place in PTX");
    assert!(parse(b"\0").is_err() && parse(b"").is_err());
}

#[test]
fn bytes_that_are_not_utf8_may_stand_in_comments_and_strings() {
    let text = [HEAD.as_bytes(), b"// \xff\xfe\n.file 1 \"a\xff.cu\"\n"].concat();
    assert_eq!(parse(&text).expect("text").files, [(1, "a\u{fffd}.cu".to_string())]);
    let text = [HEAD.as_bytes(), b".global .u32 \xff;"].concat();
    let error = parse(&text).expect_err("a name of one strange byte");
    assert_eq!((error.line, error.column), (HEAD_LINES + 1, 14));
}

#[test]
fn variables_have_space_linkage_alignment_and_size() {
    let bytes = |variable: Variable| Variable { ty: Type::Bits(8), ..variable };
    let cases = [
        (".global .u32 x;", plain()),
        (
            ".visible .const .align 16 .b8 x[4][5];",
            bytes(Variable {
                space: Space::Const,
                linkage: Linkage::Visible,
                align: 16,
                bytes: Some(20),
                ..plain()
            }),
        ),
        (
            ".extern .shared .align 128 .b8 x[];",
            bytes(Variable {
                space: Space::Shared,
                linkage: Linkage::Extern,
                align: 128,
                bytes: None,
                ..plain()
            }),
        ),
        (
            ".weak .global .v4 .f32 x[3];",
            Variable {
                linkage: Linkage::Weak,
                align: 16,
                bytes: Some(48),
                ty: Type::F32,
                vector: 4,
                ..plain()
            },
        ),
        (
            ".common .global .attribute(.managed) .align 4 .u32 x;",
            Variable { linkage: Linkage::Weak, ..plain() },
        ),
    ];
    for (text, want) in cases {
        assert_eq!(variable(text), want, "{text}");
    }
}

#[test]
fn one_declaration_may_name_several_variables() {
    let variables = module(".global .u32 a,\nb[2 * (1 + 1)] = {1}, c;").variables;
    let seen = variables.iter().map(|v| (v.name.as_str(), v.bytes, v.init.len(), v.position));
    let want = [("a", Some(4), 0, on_line(1)), ("b", Some(16), 4, on_line(2)), ("c", Some(4), 0, on_line(2))];
    assert_eq!(seen.collect::<Vec<_>>(), want);
}

#[test]
fn variables_that_cannot_be_are_refused() {
    let cases = [
        (".global .u32 x[];", "1:14: only an `.extern` variable may leave its size open"),
        (".global .u32 x[4][];", "1:19: unexpected `]`, expected the size of an array"),
        (".global .u32 x[-1];", "1:16: an array has no negative size"),
        (".global .u32 x[1.5];", "1:16: the size of an array is an integer"),
        (".global .u64 x[1<<32][1<<32];", "1:14: this is larger than the address space"),
        (".global .align 3 .u32 x;", "1:16: an alignment is a power of two"),
        (".global .align 0 .u32 x;", "1:16: an alignment is a power of two"),
        (".global .pred x;", "1:15: a predicate lives in registers only"),
        (".global .texref x;", "1:9: `.texref` is not supported: there are no textures here"),
        (".global .u31 x;", "1:9: `.u31` is not a type"),
        (".global x;", "1:9: unexpected `x`, expected a type such as `.f32`"),
        (".global .u32 .u32 x;", "1:14: unexpected `.u32`, expected a name"),
        (".global .u32 x<3>;", "1:15: numbered names are for registers only"),
        (".global .u32 x\n.global .u32 y;", "2:1: unexpected `.global`, expected `;` behind a variable"),
        (".shared .u32 x = 1;", "1:16: only `.global` and `.const` variables have initial values"),
        (".reg .u32 x;", "1:1: `.reg` stands in functions only"),
        (
            ".visible .extern .global .u32 x;",
            "1:10: unexpected `.extern`, expected a variable, `.entry`, `.func` or another directive of modules",
        ),
        ("add.s32 a, b, c;", "1:1: unexpected `add`, expected a directive"),
        (".alias a, b;", "1:1: `.alias` is not supported"),
    ];
    for (text, want) in cases {
        assert_eq!(error(text), want, "{text}");
    }
}

#[test]
fn initial_numbers_become_little_endian_bytes() {
    let cases: [(&str, &[u8]); 12] = [
        (".global .b8 x[] = {1, 255, 256, -1};", &[1, 255, 0, 255]),
        (".global .u16 x[2] = {0x1234, -2};", &[0x34, 0x12, 0xfe, 0xff]),
        (".global .s32 x = (5 > 3 ? 2 : 3) << 8;", &[0, 2, 0, 0]),
        (".global .u64 x = 0xFFFFFFFFFFFFFFFE;", &[0xfe, 255, 255, 255, 255, 255, 255, 255]),
        (".global .f32 x = 0f3F800001;", &[1, 0, 0x80, 0x3f]),
        (".const .f32 x[2] = {1.5, -2.0};", &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]),
        (".global .f32 x = 0d3FF8000000000000;", &[0, 0, 0xc0, 0x3f]),
        (".global .f64 x = 1.5;", &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]),
        (".global .b32 x = 0f3F800000;", &[0, 0, 0x80, 0x3f]),
        (".global .u8 x[2][3] = {{1}, {2, 3}};", &[1, 0, 0, 2, 3]),
        (".global .v2 .u8 x[] = {{1, 2}, {3, 4}, {5, 6}};", &[1, 2, 3, 4, 5, 6]),
        (".global .b32 x = WARP_SZ;", &[32, 0, 0, 0]),
    ];
    for (text, want) in cases {
        assert_eq!(variable(text).init, want, "{text}");
    }
    let wide = variable(".global .b128 x[2] = {-1, 0xFFFFFFFFFFFFFFFF};").init;
    assert_eq!(
        wide,
        [[255; 24].as_slice(), &[0; 8]].concat(),
        "signed numbers fill 128 bits, unsigned do not"
    );
}

#[test]
fn the_braces_give_an_open_array_its_size() {
    assert_eq!(variable(".global .u16 x[] = {1, 2, 3};").bytes, Some(6));
    assert_eq!(variable(".global .v2 .f32 x[][2] = {{{1.0, 2.0}}, {}, {}};").bytes, Some(48));
    assert_eq!(variable(".global .u32 x[8] = {};").init, [0u8; 0]);
}

#[test]
fn initial_addresses_become_relocations() {
    let x = variable(".global .align 8 .u64 x[5] = {a, a+12, 7, generic(b), generic(b)+4*2};");
    let want = [(0, "a", 0, false), (8, "a", 12, false), (24, "b", 0, true), (32, "b", 8, true)].map(
        |(offset, symbol, addend, generic)| Relocation {
            offset,
            symbol: symbol.to_string(),
            addend,
            generic,
        },
    );
    assert_eq!(x.relocations, want);
    let mut bytes = [0; 40];
    bytes[16] = 7;
    assert_eq!(x.init, bytes);
}

#[test]
fn initialisers_that_do_not_fit_are_refused() {
    let mixed = "1:18: this constant does not initialise the variable's type";
    let cases = [
        (".global .f32 x = 5;", mixed),
        (".global .u32 x = 1.5;", mixed),
        (".global .f64 x = 0f3F800000;", mixed),
        (".global .u32 x[2] = {1, 2, 3};", "1:28: more elements than the variable has"),
        (".global .u32 x[3] = {1, 2,};", "1:27: unexpected `}`, expected an initial value"),
        (".global .u32 x[2] = {1 2};", "1:24: unexpected `2`, expected `,` or `}` behind an element"),
        (
            ".global .u32 x[2] = 1;",
            "1:21: unexpected `1`, expected `{` in front of the elements of an array or vector",
        ),
        (".global .u32 x = {1};", "1:18: unexpected `{`, expected an initial value"),
        (".global .v4 .f32 x = {1.0};", "1:27: fewer elements than the vector has"),
        (".global .u32 x = y;", "1:18: an address takes 64 bits"),
        (".global .u64 x = generic(y+4);", "1:27: unexpected `+`, expected `)` behind `generic(name`"),
        (".global .u8 x[8] = {0xFF(y)};", "1:21: a part of an address, as in `0xFF(name)`, is not supported"),
        (
            ".global .b8 x[] = \"abc\";",
            "1:19: unexpected `\"abc\"`, expected `{` in front of the elements of an array or vector",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(error(text), want, "{text}");
    }
}

#[test]
fn a_short_text_cannot_ask_for_memory_without_end() {
    let want = "elements left out of initialisers make more than 67108864 bytes";
    assert!(error(".global .b8 x[2][1 << 40] = {{1}, {2}};").ends_with(want));
    assert!(error(".global .b8 x[][1 << 62] = {{1}, {2}, {3}, {4}, {5}, {6}, {7}};").ends_with(want));
    let half = ".global .b8 x[2][40000000] = {{1}, {2}};";
    assert_eq!(variable(half).init.len(), 40_000_001);
    assert!(error(&half.repeat(2)).ends_with(want), "the limit is one for all");
}

#[test]
fn an_entry_has_parameters() {
    let text = ".visible .entry k(\n.param .u64 .ptr .global .align 16 p,\n\
        .param .align 8 .b8 s[40], .param .u64 .ptr q,\n.param .f32 f) { ret; }";
    let function = function(text);
    let parameter = |name: &str, ty, align, bytes, line| Variable {
        name: name.to_string(),
        space: Space::Param,
        ty,
        align,
        bytes: Some(bytes),
        position: on_line(line),
        ..plain()
    };
    let params = [
        parameter("p", Type::Unsigned(64), 8, 8, 2),
        parameter("s", Type::Bits(8), 8, 40, 3),
        parameter("q", Type::Unsigned(64), 8, 8, 3),
        parameter("f", Type::F32, 4, 4, 4),
    ];
    assert_eq!(function.params, params);
    assert_eq!((function.name.as_str(), function.is_entry), ("k", true));
    assert_eq!((function.linkage, function.position), (Linkage::Visible, on_line(1)));
    assert_eq!(function.body.map(|body| body.len()), Some(1));
}

#[test]
fn an_entry_has_limits() {
    let limits = function(
        ".entry k() .maxntid 16, 8 .minnctapersm 2 .maxnreg 64 .maxnctapersm 4\n.explicitcluster \
         .reqnctapercluster 2, 1, 1 .maxclusterrank 8 .pragma \"a\", \"b\"; { ret; }",
    );
    assert_eq!((limits.max_threads, limits.required_threads), (Some([16, 8, 1]), None));
    assert_eq!((limits.min_blocks, limits.max_registers), (Some(2), Some(64)));

    let bare = function(".entry k .reqntid 32, 4, 2 {}");
    assert_eq!((bare.max_threads, bare.required_threads), (None, Some([32, 4, 2])));
    assert_eq!((bare.params.len(), bare.body), (0, Some(Vec::new())));
}

#[test]
fn functions_may_be_declared_and_return_values() {
    let declared =
        function(".extern .func  (.param .b32 retval0) vprintf\n(\n.param .b64 a,\n.param .b64 b\n)\n;");
    assert_eq!((declared.name.as_str(), declared.is_entry), ("vprintf", false));
    assert_eq!((declared.linkage, declared.body), (Linkage::Extern, None));
    assert_eq!((declared.returns[0].name.as_str(), declared.params[1].name.as_str()), ("retval0", "b"));

    let registers = function(".func (.reg .u32 r) f(.reg .u32 a, .reg .pred p) .noreturn { ret; }");
    let spaces = registers.returns.iter().chain(&registers.params).map(|v| (v.space, v.ty));
    let want = [Type::Unsigned(32), Type::Unsigned(32), Type::Pred].map(|ty| (Space::Register, ty));
    assert_eq!(spaces.collect::<Vec<_>>(), want);
}

#[test]
fn functions_that_are_not_well_formed_are_refused() {
    let cases = [
        (".entry k( { }", "1:11: unexpected `{`, expected a parameter (`.param` or `.reg`)"),
        (
            ".entry k(.param .u32 a .param .u32 b) {}",
            "1:24: unexpected `.param`, expected `)` behind a parameter",
        ),
        (".entry k() .maxntid {}", "1:21: unexpected `{`, expected a number of threads or blocks"),
        (
            ".entry k() .maxntid 4294967296 {}",
            "1:21: `4294967296` is too large for a number of threads or blocks",
        ),
        (".entry k() .fast {}", "1:12: `.fast` is not a directive of functions"),
        (".entry k()\n.entry l() {}", "2:1: `.entry` is not a directive of functions"),
        (
            ".entry k()\n{ ret;",
            "2:7: unexpected end of text, expected an instruction, a label, a directive or `}`",
        ),
        (".entry k() ret;", "1:12: unexpected `ret`, expected `{` or `;` behind the head of a function"),
        (".func (.reg .u32 a) 5() {}", "1:21: unexpected `5`, expected the name of a function"),
    ];
    for (text, want) in cases {
        assert_eq!(error(text), want, "{text}");
    }
}

#[test]
fn registers_are_single_or_numbered() {
    let register =
        |name: &str, count, ty, vector| RegisterDeclaration { name: name.to_string(), count, ty, vector };
    assert_eq!(
        body(".reg .b32 %r<12>; .reg .pred p, %q<3>; .reg .v4 .f32 v;"),
        [
            Statement::Registers(vec![register("%r", Some(12), Type::Bits(32), 1)]),
            Statement::Registers(vec![
                register("p", None, Type::Pred, 1),
                register("%q", Some(3), Type::Pred, 1)
            ]),
            Statement::Registers(vec![register("v", None, Type::F32, 4)]),
        ]
    );
}

#[test]
fn bodies_have_labels_variables_and_blocks() {
    let ret = Statement::Instruction(Instruction {
        guard: None,
        opcode: "ret".to_string(),
        suffixes: Vec::new(),
        operands: Vec::new(),
        position: on_line(3),
    });
    let local = Variable { space: Space::Local, position: on_line(2), ..plain() };
    assert_eq!(
        body("$L__BB0_1: done:\n.local .u32 x; ;\n{ { ret; } ; .pragma \"nounroll\"; }"),
        [
            Statement::Label("$L__BB0_1".to_string(), on_line(1)),
            Statement::Label("done".to_string(), on_line(1)),
            Statement::Variable(local),
            Statement::Block(vec![Statement::Block(vec![ret])]),
        ]
    );
}

#[test]
fn targets_and_prototypes_have_names() {
    let text = "t: .branchtargets L1, $L2; c: .calltargets f;\n\
        p: .callprototype (.param .b32 _) _ (.param .b64 _) .noreturn;";
    let want = [
        Statement::Targets("t".to_string(), vec!["L1".to_string(), "$L2".to_string()], on_line(1)),
        Statement::Targets("c".to_string(), vec!["f".to_string()], on_line(1)),
        Statement::Prototype("p".to_string(), on_line(2)),
    ];
    assert_eq!(body(text), want);
}

#[test]
fn an_instruction_has_guard_opcode_suffixes_and_operands() {
    let suffixes = ["global", "nc", "L1::no_allocate", "L2::128B", "v2", "f32"];
    assert_eq!(
        instruction("@!%p1 ld.global.nc.L1::no_allocate.L2::128B.v2.f32 {%f1, _}, [%rd4+16];"),
        Instruction {
            guard: Some(Guard { register: "%p1".to_string(), negated: true }),
            opcode: "ld".to_string(),
            suffixes: suffixes.map(str::to_string).to_vec(),
            operands: vec![vector(&[name("%f1"), Operand::Sink]), address(Some("%rd4"), 16)],
            position: on_line(1),
        }
    );
    let guard = instruction("@p bra.uni L;").guard;
    assert_eq!(guard, Some(Guard { register: "p".to_string(), negated: false }));
    let arrive = "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64";
    assert_eq!(instruction(&format!("{arrive} _, [a], 5;")).full_name(), arrive);
    let long = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes";
    assert_eq!(instruction(&format!("{long} [a], [b, {{c, d}}], [e];")).full_name(), long);
}

#[test]
fn scalar_operands_are_names_or_constants() {
    let cases = [
        ("%r1", name("%r1")),
        ("%tid.x", name("%tid.x")),
        ("%envreg3", name("%envreg3")),
        ("v.y", name("v.y")),
        ("_", Operand::Sink),
        ("!%p1", Operand::Not("%p1".to_string())),
        ("!0", Operand::Integer(1)),
        ("-5", Operand::Integer(-5)),
        ("0x1FU", Operand::Integer(31)),
        ("0xFFFFFFFFFFFFFFFF", Operand::Integer(-1)),
        ("017", Operand::Integer(15)),
        ("0b11", Operand::Integer(3)),
        ("(1 << 4) | 3", Operand::Integer(19)),
        ("WARP_SZ - 1", Operand::Integer(31)),
        ("!WARP_SZ", Operand::Integer(0)),
        ("0f3F800000", Operand::F32(0x3F80_0000)),
        ("0d3FF0000000000000", Operand::F64(0x3FF0_0000_0000_0000)),
        ("-1.5", Operand::F64((-1.5_f64).to_bits())),
        ("table+4", Operand::NameOffset("table".to_string(), 4)),
        ("table-4*2", Operand::NameOffset("table".to_string(), -8)),
    ];
    for (text, want) in cases {
        assert_eq!(operand(text), want, "{text}");
    }
    assert_eq!(operands("%f1, .5")[1], Operand::F64(0.5_f64.to_bits()), "no suffix behind a comma");
}

#[test]
fn addresses_have_a_base_an_offset_or_both() {
    let cases = [
        ("[%rd1]", address(Some("%rd1"), 0)),
        ("[%rd1+16]", address(Some("%rd1"), 16)),
        ("[%rd1+-4]", address(Some("%rd1"), -4)),
        ("[%rd1-4]", address(Some("%rd1"), -4)),
        ("[ table + 4 * 3 ]", address(Some("table"), 12)),
        ("[64]", address(None, 64)),
        ("[param_0]", address(Some("param_0"), 0)),
    ];
    for (text, want) in cases {
        assert_eq!(operand(text), want, "{text}");
    }
}

#[test]
fn coordinates_in_an_address_make_it_a_list() {
    let tensor = vector(&[name("%r1"), Operand::Integer(2)]);
    assert_eq!(operand("[map, {%r1, 2}]"), Operand::List(vec![address(Some("map"), 0), tensor]));
    let texture = [address(Some("tex"), 0), name("samp"), vector(&[name("%f1")])];
    assert_eq!(operand("[tex, samp, {%f1}]"), Operand::List(texture.to_vec()));
}

#[test]
fn pairs_join_two_operands() {
    let pair = |a, b| Operand::Pair(Box::new(a), Box::new(b));
    assert_eq!(operands("%p1|%p2, %r1"), [pair(name("%p1"), name("%p2")), name("%r1")]);
    assert_eq!(operand("_ | p"), pair(Operand::Sink, name("p")));
    assert_eq!(operand("{a, b}|p"), pair(vector(&[name("a"), name("b")]), name("p")));
}

#[test]
fn a_call_keeps_its_parts_in_the_order_written() {
    let call = instruction("call.uni (retval0), vprintf, (p0, p1);");
    assert_eq!(call.full_name(), "call.uni");
    assert_eq!(call.operands, [list(&["retval0"]), name("vprintf"), list(&["p0", "p1"])]);
    assert_eq!(instruction("call f;").operands, [name("f")]);
    let indirect = instruction("call (r), %rd1, (), proto;").operands;
    assert_eq!(indirect, [list(&["r"]), name("%rd1"), list(&[]), name("proto")]);
    let mixed = Operand::List(vec![Operand::Integer(5), name("x")]);
    assert_eq!(instruction("call f, (5, x);").operands, [name("f"), mixed]);
}

#[test]
fn instructions_that_are_not_well_formed_are_refused() {
    let cases = [
        ("add.s32 %r1, %r2", "4:1: unexpected `}`, expected `;` behind an instruction"),
        ("add.s32 %r1 %r2;", "3:13: unexpected `%r2`, expected `;` behind an instruction"),
        ("add.s32 %r1,;", "3:13: unexpected `;`, expected an operand"),
        ("ld.u32 %r1, [%rd1;", "3:18: unexpected `;`, expected `]` behind an address"),
        ("ld.u32 %r1, [];", "3:14: unexpected `]`, expected an address"),
        ("ld.u32 %r1, [%rd1+%r2];", "3:19: unexpected `%r2`, expected a constant"),
        ("ld.u32 %r1, [1.5];", "3:14: an address is an integer"),
        ("mov.u32 %r1, a[2];", "3:15: write `name+bytes` instead of `name[index]`"),
        ("mov.b64 %rd1, {%r1, {%r2}};", "3:21: unexpected `{`, expected an operand"),
        ("mov.b64 %rd1, {%r1 %r2};", "3:20: unexpected `%r2`, expected `}` behind an element of a vector"),
        ("setp.eq.u32 a|b|c, d, e;", "3:16: an operand has at most two parts"),
        ("@p ;", "3:4: unexpected `;`, expected an instruction behind its guard"),
        ("@!5 add;", "3:3: unexpected `5`, expected a predicate behind `@`"),
        ("call f, (a, (b));", "3:14: unexpected `b`, expected a constant"),
        ("add (a), b;", "3:6: unexpected `a`, expected a constant"),
        (".section .x {}", "3:1: unexpected `.section`, expected a directive of functions"),
        ("t: .branchtargets ;", "3:19: unexpected `;`, expected a target"),
        ("p: .callprototype _ ()", "4:1: unexpected `}`, expected `;` behind a prototype"),
        ("= 5;", "3:1: unexpected `=`, expected an instruction, a label, a directive or `}`"),
    ];
    for (text, want) in cases {
        assert_eq!(error(&format!(".entry k()\n{{\n{text}\n}}")), want, "{text}");
    }
}

#[test]
fn long_tokens_are_shortened_in_errors() {
    let want = format!("1:1: unexpected `{}...`, expected a directive", "x".repeat(40));
    assert_eq!(error(&"x".repeat(1000)), want);
}

/// Positions of all that has one, in the order of the text.
fn positions(statements: &[Statement]) -> Vec<(u32, u32, u32)> {
    let of = |position: &Position| vec![(position.ptx_line - HEAD_LINES, position.file, position.line)];
    let each = |statement: &Statement| match statement {
        Statement::Instruction(instruction) => of(&instruction.position),
        Statement::Label(_, position) => of(position),
        Statement::Variable(variable) => of(&variable.position),
        Statement::Block(inner) => positions(inner),
        _ => Vec::new(),
    };
    statements.iter().flat_map(each).collect()
}

#[test]
fn loc_names_the_source_line_of_what_follows_it_in_its_function() {
    let module = module(
        ".entry k() { nop;
        .loc 1 24 13
        nop;
        { .loc 2 7 1, function_name $L__info_string0, inlined_at 1 50 9
        nop; } nop;
        .loc 1 9 3, function_name $L__info_string0+12, inlined_at 1 50 9
        l: nop; .local .u32 x; }
        .global .u32 x;
        .entry l() { nop; }
        .file 1 \"a b.cu\"
        .file 2 \"c.h\", 123, 18446744073709551615",
    );
    let seen = module.functions.iter().flat_map(|f| positions(f.body.as_deref().unwrap_or_default()));
    let want = [(1, 0, 0), (3, 1, 24), (5, 2, 7), (5, 2, 7), (7, 1, 9), (7, 1, 9), (7, 1, 9), (9, 0, 0)];
    assert_eq!(seen.collect::<Vec<_>>(), want);
    assert_eq!(module.variables[0].position, on_line(8));
    assert_eq!(module.files, [(1, "a b.cu".to_string()), (2, "c.h".to_string())]);
}

#[test]
fn debug_sections_are_stepped_over() {
    let text = ".section .debug_str\n{\n$L__info_string0:\n.b8 95,90\n.b32 .debug_abbrev, a-b\n{ }\n}\n\
        .section .debug_loc {}\n.global .u32 x;";
    assert_eq!(variable(text).name, "x");
    let cases = [
        (".section .debug_str { { }", "1:21: this `{` is not closed"),
        (".section {", "1:10: unexpected `{`, expected the name of a section"),
        (".entry k() { .loc 1 2; }", "1:22: unexpected `;`, expected a column"),
        (".entry k() { .loc 1 2 3, inlined 4 }", "1:26: `inlined` is not an attribute of `.loc`"),
    ];
    for (text, want) in cases {
        assert_eq!(error(text), want, "{text}");
    }
}

#[test]
fn comments_and_white_space_may_stand_anywhere() {
    let odd = instruction("@/**/!\t%p1\r ld /* c */ .global .f32 %f1 , // \n [ %rd1 + /* c */ -4 ] ;");
    assert_eq!(odd, instruction("@!%p1 ld.global.f32 %f1,[%rd1-4];"));
}

#[test]
fn nesting_ends_in_an_error_and_not_in_a_full_stack() {
    let blocks = |depth: usize| format!(".entry k() {{ {}{} }}", "{".repeat(depth), "}".repeat(depth));
    assert_eq!(module(&blocks(MAX_DEPTH as usize)).functions.len(), 1);
    let deep = [
        ("", "{"),
        ("mov.u32 a, ", "("),
        ("mov.u32 a, ", "-"),
        ("mov.u32 a, ", "1?"),
        ("mov.u32 a, [x+", "("),
        ("call f, (", "("),
    ];
    for (head, opened) in deep {
        let text = format!(".entry k() {{ {head}{}", opened.repeat(200_000));
        assert!(error(&text).ends_with("nested more than 64 deep"), "{head}{opened}");
    }
    let array = format!(".global .u32 x{} = {}", "[1]".repeat(200_000), "{".repeat(200_000));
    assert!(error(&array).ends_with("nested more than 64 deep"));
}
