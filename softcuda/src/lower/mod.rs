//! From PTX to steps: names become slots, labels become indices, calls are inlined, and each instruction becomes what its
//! family in [`crate::isa`] makes of it.

mod body;
mod calls;
mod maps;
mod operands;

use std::collections::HashMap;

use crate::isa::Work;
use crate::machine::calls::Routine;
use crate::machine::registers::{File, Source};
use crate::model::counters::Class;
use crate::program::{Action, Gather, Kernel, Layout, Parameter, Special, Step};
use crate::ptx::ast::{self, Position, Space, Type};

pub use maps::Emit;
pub use operands::{Base, Place};

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Symbol {
    /// A register.
    Register {
        /// Its file.
        file: File,
        /// Its slot.
        slot: u32,
        /// Bits that were declared.
        bits: u32,
    },
    /// A variable: its space and its address there (generic for global and constant ones).
    Variable(Space, u64),
}

/// What lowering an instruction gives: an error is one line without a place.
pub type Lowered = Result<(), String>;

/// A jump whose target is known at the end only.
struct Jump {
    step: usize,
    targets: Vec<String>,
    kind: JumpKind,
}

/// How lanes find their target.
enum JumpKind {
    /// All go to the first.
    Always,
    /// By the number in a register.
    Indexed(Source),
}

/// Lowers one kernel.
pub struct Lowerer<'a> {
    module: &'a ast::Module,
    globals: &'a HashMap<String, Symbol>,
    scopes: Vec<HashMap<String, Symbol>>,
    tables: HashMap<String, Vec<String>>,
    /// What `ret` does: jump to this label, or end the thread.
    returns: Option<String>,
    /// Functions that are being inlined, outermost first.
    calls: Vec<String>,
    /// Prefix of labels: unique for each block that was inlined.
    prefix: String,
    instances: usize,
    labels: HashMap<String, u32>,
    jumps: Vec<Jump>,
    /// Functions that are really called, and their calls and returns.
    routines: Vec<Routine>,
    links: Vec<calls::Link>,
    steps: Vec<Step>,
    layout: Layout,
    narrow_constants: HashMap<u32, u32>,
    wide_constants: HashMap<u64, u32>,
    specials: HashMap<Special, u32>,
    /// Shared variables of the entry and the functions that it calls, by line and name.
    shared: HashMap<(u32, String), u64>,
    /// Where dynamic shared memory begins: behind all of those.
    shared_bytes: u64,
    local_bytes: u64,
    /// Sizes of what lies there, by address.
    local_sizes: HashMap<u64, u64>,
    /// An address of something there has been taken.
    addressed: bool,
    guard: Option<Source>,
    position: Position,
    hidden: bool,
}

/// Where variables of a module lie, for the kernels that use them.
pub struct Variables {
    /// By name.
    pub symbols: HashMap<String, Symbol>,
    /// Static shared memory of the module's own variables, bytes.
    pub shared_bytes: u64,
    /// Constant memory.
    pub constant_bytes: u64,
}

/// Rounds up to a multiple of a power of two; what is too large for anything stays so.
pub fn align(offset: u64, align: u32) -> u64 {
    offset.checked_next_multiple_of(u64::from(align.max(1))).unwrap_or(u64::MAX)
}

/// Bytes of local memory that a thread can have (programming guide, "Technical Specifications").
const LOCAL_LIMIT: u64 = 512 << 10;
/// Bytes of parameters that a kernel can have (PTX ISA, `.param`; CUDA 12.1).
const PARAMETER_LIMIT: u64 = 32_764;
/// Bytes of shared memory that can be addressed; devices have less, and refuse the launch.
const SHARED_LIMIT: u64 = 1 << 31;

/// Lowers an entry. What cannot be lowered gives a kernel that says so when it is launched.
pub fn kernel(module: &ast::Module, function: &ast::Function, variables: &Variables) -> Kernel {
    let mut parameters = Vec::new();
    let mut offset = 0;
    let mut scope = HashMap::new();
    for parameter in &function.params {
        offset = align(offset, parameter.align);
        let bytes = parameter.bytes.unwrap_or(0);
        parameters.push(Parameter { offset: offset as u32, bytes: bytes as u32, align: parameter.align });
        scope.insert(parameter.name.clone(), Symbol::Variable(Space::Param, offset));
        offset = offset.saturating_add(bytes);
    }
    let mut lowerer = Lowerer {
        module,
        globals: &variables.symbols,
        scopes: vec![scope],
        tables: HashMap::new(),
        returns: None,
        calls: vec![function.name.clone()],
        prefix: String::new(),
        instances: 0,
        labels: HashMap::new(),
        jumps: Vec::new(),
        routines: Vec::new(),
        links: Vec::new(),
        steps: Vec::new(),
        layout: Layout { predicates: 2, ..Layout::default() },
        narrow_constants: HashMap::new(),
        wide_constants: HashMap::new(),
        specials: HashMap::new(),
        shared: HashMap::new(),
        shared_bytes: variables.shared_bytes,
        local_bytes: 0,
        local_sizes: HashMap::new(),
        addressed: false,
        guard: None,
        position: function.position,
        hidden: false,
    };
    lowerer.place_shared(function, &mut Vec::new());
    // Dynamic shared memory is aligned for anything.
    lowerer.shared_bytes = align(lowerer.shared_bytes, 16);
    let result = match function.cluster {
        Some(extent) if extent != [1; 3] => {
            Err("clusters of more than one block are not supported".to_string())
        }
        _ => lowerer.function(function),
    };
    let registers = estimate(&lowerer.layout, function);
    let local_bytes = align(lowerer.local_bytes, 16);
    let too_large = |what, bytes, limit| {
        Err(format!("the kernel has {bytes} bytes of {what}, at most {limit} are possible"))
    };
    let result = result.and_then(|()| match () {
        () if local_bytes > LOCAL_LIMIT => too_large("local memory a thread", local_bytes, LOCAL_LIMIT),
        () if offset > PARAMETER_LIMIT => too_large("parameters", offset, PARAMETER_LIMIT),
        () if lowerer.shared_bytes > SHARED_LIMIT => {
            too_large("shared memory", lowerer.shared_bytes, SHARED_LIMIT)
        }
        () => Ok(()),
    });
    let steps = match result {
        Ok(()) => Ok(lowerer.steps),
        Err(message) => {
            Err(format!("{message} at {}", crate::program::place(&module.files, lowerer.position)))
        }
    };
    Kernel {
        name: function.name.clone(),
        parameters,
        parameter_bytes: offset as u32,
        shared_bytes: lowerer.shared_bytes as u32,
        local_bytes: local_bytes as u32,
        constant_bytes: variables.constant_bytes as u32,
        max_threads: function.max_threads,
        required_threads: function.required_threads,
        min_blocks: function.min_blocks,
        registers,
        target: module.target,
        version: module.version,
        files: module.files.clone(),
        layout: lowerer.layout,
        steps,
    }
}

/// Registers of a thread as ptxas might allot them, from what the PTX declares: it declares one a value, ptxas reuses them.
fn estimate(layout: &Layout, function: &ast::Function) -> u32 {
    let constants = layout.narrow_constants.len() + 2 * layout.wide_constants.len() + layout.specials.len();
    let declared = (layout.narrow + 2 * layout.wide).saturating_sub(constants as u32);
    let most = match (function.max_registers, function.max_threads.or(function.required_threads)) {
        (Some(most), _) => most,
        (None, Some([x, y, z])) => 65_536 / (x * y * z).max(1),
        (None, None) => 128,
    };
    (declared / 4).next_multiple_of(8).clamp(16, most.clamp(16, 255))
}

impl<'a> Lowerer<'a> {
    /// Gives places to the shared variables of a function and of those that it calls: one each, however often it is called.
    fn place_shared(&mut self, function: &'a ast::Function, seen: &mut Vec<&'a str>) {
        if seen.contains(&function.name.as_str()) {
            return;
        }
        seen.push(&function.name);
        let mut open: Vec<&'a ast::Statement> = function.body.iter().flatten().collect();
        while let Some(statement) = open.pop() {
            match statement {
                ast::Statement::Block(inner) => open.extend(inner),
                ast::Statement::Variable(variable) if variable.space == Space::Shared => {
                    let at = align(self.shared_bytes, variable.align);
                    self.shared.insert((variable.position.ptx_line, variable.name.clone()), at);
                    self.shared_bytes = at.saturating_add(variable.bytes.unwrap_or(0));
                }
                ast::Statement::Instruction(instruction) if instruction.opcode == "call" => {
                    for operand in &instruction.operands {
                        if let ast::Operand::Name(name) = operand {
                            let called =
                                self.module.functions.iter().filter(|function| function.name == *name);
                            called.for_each(|function| self.place_shared(function, seen));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Adds a step for the instruction that is being lowered.
    pub fn emit(&mut self, name: String, work: Work, gather: Gather, action: Action) {
        self.steps.push(Step {
            action,
            guard: self.guard,
            gather,
            work,
            position: self.position,
            name,
            is_exit: false,
            is_hidden: self.hidden,
        });
    }

    /// Adds a step that only touches registers.
    pub fn emit_plain(&mut self, instruction: &ast::Instruction, class: Class, action: Action) {
        self.emit(instruction.full_name(), Work::of(class), Gather::None, action);
    }

    /// A register that nobody else uses.
    pub fn fresh(&mut self, file: File) -> u32 {
        let count = match file {
            File::Predicate => &mut self.layout.predicates,
            File::Narrow => &mut self.layout.narrow,
            File::Wide => &mut self.layout.wide,
        };
        *count += 1;
        *count - 1
    }

    /// Room in the thread's local memory.
    pub(crate) fn local(&mut self, bytes: u64, alignment: u32) -> u64 {
        // A red zone between variables.
        let zone = if self.local_bytes == 0 { 0 } else { 16 };
        let offset = align(self.local_bytes.saturating_add(zone), alignment);
        self.local_bytes = offset.saturating_add(bytes);
        self.local_sizes.insert(offset, bytes);
        offset
    }

    /// The version that the module names.
    pub fn target(&self) -> u32 {
        self.module.target
    }
}

/// The file of registers that holds values of a type.
pub fn file(ty: Type) -> Result<File, String> {
    match ty {
        Type::Pred => Ok(File::Predicate),
        ty if ty.bits() <= 32 => Ok(File::Narrow),
        ty if ty.bits() == 64 => Ok(File::Wide),
        _ => Err(format!("registers of {} bits are not supported", ty.bits())),
    }
}
