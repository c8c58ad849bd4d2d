//! A kernel ready to run: what lowering makes of PTX and the machine executes.

use crate::isa::Work;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::Source;
use crate::ptx::ast::Position;

/// What a step does to the lanes of its context's mask.
pub type Action = Box<dyn Fn(&mut Context<'_>) -> Flow + Send + Sync>;

/// Which lanes have to arrive before a step may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// None but those that are here.
    None,
    /// All that the warp was launched with (`.aligned`).
    Warp,
    /// Those that the operand names and that have not exited (`.sync` with a member mask).
    Members(Source),
}

/// One instruction.
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Lanes in which this predicate is false pass over it.
    pub guard: Option<Source>,
    /// Whom it waits for.
    pub gather: Gather,
    /// How it counts.
    pub work: Work,
    /// Where it stands.
    pub position: Position,
    /// Its name, for messages.
    pub name: String,
    /// Lanes that jump here end at once: it is a plain exit.
    pub is_exit: bool,
    /// Stands for no instruction of the PTX, and is not counted: it fits an operand's width to its register's.
    pub is_hidden: bool,
}

/// Values that differ between threads, blocks or launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `%tid`, by axis.
    Thread(u8),
    /// `%ntid`
    Threads(u8),
    /// `%ctaid`
    Block(u8),
    /// `%nctaid`
    Blocks(u8),
    /// `%laneid`
    Lane,
    /// `%warpid`
    Warp,
    /// `%nwarpid`
    Warps,
    /// `%smid`
    Multiprocessor,
    /// `%nsmid`
    Multiprocessors,
    /// `%gridid`
    Grid,
    /// `%lanemask_eq`, `_le`, `_lt`, `_ge`, `_gt`
    LaneMask(LaneMask),
    /// What is the same for all.
    Fixed(u32),
    /// `%dynamic_smem_size`
    DynamicShared,
    /// `%total_smem_size`
    TotalShared,
}

/// Lanes in relation to one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneMask {
    /// Itself.
    Equal,
    /// Itself and those below.
    LessEqual,
    /// Those below.
    Less,
    /// Itself and those above.
    GreaterEqual,
    /// Those above.
    Greater,
}

/// A formal parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Bytes from the start of the parameters.
    pub offset: u32,
    /// Its size.
    pub bytes: u32,
    /// Its alignment.
    pub align: u32,
}

/// Registers that a warp starts with.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Number of predicates. Slot 0 is false, slot 1 true.
    pub predicates: u32,
    /// Number of registers of up to 32 bits.
    pub narrow: u32,
    /// Number of registers of 64 bits.
    pub wide: u32,
    /// Constants: slot and value.
    pub narrow_constants: Vec<(u32, u32)>,
    /// Constants: slot and value.
    pub wide_constants: Vec<(u32, u64)>,
    /// Special registers: slot among the narrow ones.
    pub specials: Vec<(u32, Special)>,
}

/// An entry of a module.
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Bytes of all parameters.
    pub parameter_bytes: u32,
    /// Static shared memory, bytes.
    pub shared_bytes: u32,
    /// Local memory of a thread, bytes.
    pub local_bytes: u32,
    /// Constant memory of its module, bytes.
    pub constant_bytes: u32,
    /// `.maxntid`
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`
    pub min_blocks: Option<u32>,
    /// Registers of a thread: an estimate, since only ptxas knows.
    pub registers: u32,
    /// Target of its module: 80 for `sm_80`.
    pub target: u32,
    /// PTX version of its module.
    pub version: (u32, u32),
    /// Source files by the numbers that positions name.
    pub files: Vec<(u32, String)>,
    /// Registers.
    pub layout: Layout,
    /// What it does; or why it cannot be run, as one line.
    pub steps: Result<Vec<Step>, String>,
}

impl Kernel {
    /// `kernel.cu:31`, with the function inlined there if any, or the line of the PTX.
    pub fn place(&self, position: Position) -> String {
        place(&self.files, position)
    }
}

/// `kernel.cu:31`, `kernel.cu:31 (inlined helper.cuh:7)` or `PTX line 12`.
pub fn place(files: &[(u32, String)], position: Position) -> String {
    let name = |index: u32| {
        let path = files.iter().find(|file| file.0 == index).map_or("?", |file| file.1.as_str());
        path.rsplit(['/', '\\']).next().unwrap_or(path).to_string()
    };
    if position.line == 0 {
        return format!("PTX line {}", position.ptx_line);
    }
    let inner = format!("{}:{}", name(position.file), position.line);
    match position.inlined_at {
        (_, 0) => inner,
        (file, line) => format!("{}:{line} (inlined {inner})", name(file)),
    }
}
