//! A PTX module as written: what the parser makes and `lower` reads. Names are not resolved, registers have no
//! numbers, suffixes are not understood; every node knows where it stands.

/// Where something stands: the line of the PTX text, and the source line that `.loc` named last (if any).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Line of the PTX text, from 1.
    pub ptx_line: u32,
    /// Index of the `.file` that `.loc` named, 0 for none.
    pub file: u32,
    /// Line in that file, 0 for none.
    pub line: u32,
    /// File and line of the place where that was inlined (the outermost one), (0, 0) for none.
    pub inlined_at: (u32, u32),
}

/// A whole PTX text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// `.version 7.8`
    pub version: (u32, u32),
    /// `.target sm_90a`: 90
    pub target: u32,
    /// The letter behind the target's number: `a` or `f`.
    pub target_suffix: Option<char>,
    /// `.file 1 "kernel.cu"`: (1, "kernel.cu")
    pub files: Vec<(u32, String)>,
    /// Variables of module scope: `.global`, `.const`, `.shared`, also `.extern` ones.
    pub variables: Vec<Variable>,
    /// Entries and device functions, also declarations without a body.
    pub functions: Vec<Function>,
}

/// State spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// No space named: a generic address.
    Generic,
    /// `.reg`
    Register,
    /// `.global`
    Global,
    /// `.shared` (also `.shared::cta`)
    Shared,
    /// `.local`
    Local,
    /// `.const`
    Const,
    /// `.param`
    Param,
}

/// Fundamental types: what stands behind the dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `.b8` and so on: bits without a meaning.
    Bits(u32),
    /// `.u8` .. `.u64`
    Unsigned(u32),
    /// `.s8` .. `.s64`
    Signed(u32),
    /// `.f16`
    F16,
    /// `.f16x2`
    F16x2,
    /// `.bf16`
    Bf16,
    /// `.bf16x2`
    Bf16x2,
    /// `.tf32`
    Tf32,
    /// `.f32`
    F32,
    /// `.f64`
    F64,
    /// `.pred`
    Pred,
}

impl Type {
    /// From the suffix without its dot: `u32`, `bf16x2`, `pred`.
    pub fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "b8" => Type::Bits(8),
            "b16" => Type::Bits(16),
            "b32" => Type::Bits(32),
            "b64" => Type::Bits(64),
            "b128" => Type::Bits(128),
            "u8" => Type::Unsigned(8),
            "u16" => Type::Unsigned(16),
            "u32" => Type::Unsigned(32),
            "u64" => Type::Unsigned(64),
            "s8" => Type::Signed(8),
            "s16" => Type::Signed(16),
            "s32" => Type::Signed(32),
            "s64" => Type::Signed(64),
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::Bf16,
            "bf16x2" => Type::Bf16x2,
            "tf32" => Type::Tf32,
            "f32" => Type::F32,
            "f64" => Type::F64,
            "pred" => Type::Pred,
            _ => return None,
        })
    }

    /// Bits of a value; 1 for a predicate.
    pub fn bits(self) -> u32 {
        match self {
            Type::Bits(n) | Type::Unsigned(n) | Type::Signed(n) => n,
            Type::F16 | Type::Bf16 => 16,
            Type::F16x2 | Type::Bf16x2 | Type::Tf32 | Type::F32 => 32,
            Type::F64 => 64,
            Type::Pred => 1,
        }
    }

    /// Bytes of a value in memory.
    pub fn bytes(self) -> u32 {
        self.bits().div_ceil(8)
    }
}

/// How a variable or function is linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linkage {
    /// Neither of the others.
    #[default]
    Local,
    /// `.visible`
    Visible,
    /// `.extern`
    Extern,
    /// `.weak`, `.common`
    Weak,
}

/// A variable that is not a register: `.visible .global .align 4 .b8 table[64] = {1, 2, 3};`
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// `.global`, `.const`, `.shared`, `.local`, `.param`
    pub space: Space,
    /// Alignment in bytes: `.align`, else the type's own.
    pub align: u32,
    /// Size in bytes; `None` for an array without a size (`.extern .shared .b8 x[]`).
    pub bytes: Option<u64>,
    /// Type of an element.
    pub ty: Type,
    /// `.v2`, `.v4`: 2, 4; else 1.
    pub vector: u32,
    /// How it is linked.
    pub linkage: Linkage,
    /// Initial bytes from the start of the variable (the rest is 0), little-endian; empty for none.
    pub init: Vec<u8>,
    /// Addresses in the initialiser: at `offset`, the address of `symbol` plus `addend`.
    pub relocations: Vec<Relocation>,
    /// Where it stands.
    pub position: Position,
}

/// An address inside an initialiser.
#[derive(Clone, Debug, PartialEq)]
pub struct Relocation {
    /// Bytes from the start of the variable.
    pub offset: u64,
    /// Name of a variable or function.
    pub symbol: String,
    /// Added to its address.
    pub addend: i64,
    /// `generic(symbol)`: the generic address rather than the one inside its space.
    pub generic: bool,
}

/// An entry (`.entry`) or device function (`.func`).
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `.entry`: can be launched.
    pub is_entry: bool,
    /// How it is linked.
    pub linkage: Linkage,
    /// Formal parameters. Space is `Param` or, in device functions, also `Register`.
    pub params: Vec<Variable>,
    /// Return parameters of a device function.
    pub returns: Vec<Variable>,
    /// `.maxntid x, y, z` (missing ones are 1).
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid x, y, z`
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm n`
    pub min_blocks: Option<u32>,
    /// `.maxnreg n`
    pub max_registers: Option<u32>,
    /// `.reqnctapercluster x, y, z` (missing ones are 1).
    pub cluster: Option<[u32; 3]>,
    /// `None` for a declaration.
    pub body: Option<Vec<Statement>>,
    /// Where it stands.
    pub position: Position,
}

/// What stands in a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `$L__BB0_2:`
    Label(String, Position),
    /// `.reg .b32 %r<12>;` gives names `%r` with count 12; `.reg .pred p, q;` two entries with count `None`.
    Registers(Vec<RegisterDeclaration>),
    /// A variable inside a body: `.shared`, `.local`, or `.param` before a call.
    Variable(Variable),
    /// `$table: .branchtargets L1, L2;` (for `brx.idx`) or `.calltargets`
    Targets(String, Vec<String>, Position),
    /// `name: .callprototype ...;`: kept by name only.
    Prototype(String, Position),
    /// An instruction.
    Instruction(Instruction),
    /// `{ ... }`: names declared inside are seen inside only.
    Block(Vec<Statement>),
}

/// One name of a `.reg`.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterDeclaration {
    /// `%r` for `%r<12>`.
    pub name: String,
    /// 12 for `%r<12>`: names `%r0` .. `%r11`.
    pub count: Option<u32>,
    /// Type.
    pub ty: Type,
    /// `.v2`, `.v4`: 2, 4; else 1.
    pub vector: u32,
}

/// `@!%p1 ld.global.nc.v2.f32 {%f1, %f2}, [%rd4+16];`
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// `@%p1`, `@!%p1`
    pub guard: Option<Guard>,
    /// `ld`
    pub opcode: String,
    /// `["global", "nc", "v2", "f32"]`; a suffix with colons is one: `shared::cta`, `L2::128B`.
    pub suffixes: Vec<String>,
    /// Operands in the order written; for `call` see [`Operand::List`].
    pub operands: Vec<Operand>,
    /// Where it stands.
    pub position: Position,
}

impl Instruction {
    /// Whether the suffix is there.
    pub fn has(&self, suffix: &str) -> bool {
        self.suffixes.iter().any(|s| s == suffix)
    }

    /// All types among the suffixes, in order.
    pub fn types(&self) -> Vec<Type> {
        self.suffixes.iter().filter_map(|s| Type::parse(s)).collect()
    }

    /// `ld.global.nc.v2.f32`
    pub fn full_name(&self) -> String {
        std::iter::once(&self.opcode).chain(&self.suffixes).cloned().collect::<Vec<_>>().join(".")
    }
}

/// The predicate that an instruction runs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Name of the predicate register.
    pub register: String,
    /// `@!`
    pub negated: bool,
}

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A name: register, variable, label, function, special register (`%tid.x`, with its dot).
    Name(String),
    /// `!%p1`
    Not(String),
    /// `-5`, `0x1F`, `7U`: the bits as a 64-bit two's complement number. Constant expressions are folded.
    Integer(i64),
    /// `0f3F800000`: the bits of a single.
    F32(u32),
    /// `0d3FF0000000000000` or `1.5`: the bits of a double.
    F64(u64),
    /// `[%rd1+16]`, `[name+4]`, `[name]`, `[64]`
    Address(Address),
    /// `{%r1, %r2, _}`
    Vector(Vec<Operand>),
    /// `%p1|%p2`
    Pair(Box<Operand>, Box<Operand>),
    /// `name+4` outside brackets: the address of a variable and an offset (`mov`).
    NameOffset(String, i64),
    /// `(a, b)` of a call: return values, arguments.
    List(Vec<Operand>),
    /// `_`
    Sink,
}

/// The inside of `[...]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// A register or a variable; `None` for an absolute address.
    pub base: Option<String>,
    /// Added to it.
    pub offset: i64,
}
