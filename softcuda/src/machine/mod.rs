//! The machine: runs a kernel's blocks on the threads of the host.
//!
//! | | |
//! |---|---|
//! | `grid` | a launch: blocks over worker threads, time slices, deadlocks, what comes out |
//! | `block`, `barriers`, `cluster` | the warps of a block and what they wait at |
//! | `warp`, `watch` | lanes that part and meet; lanes that only wait |
//! | `calls` | recursion and calls through pointers |
//! | `context` | what an instruction sees |
//! | `registers`, `simd` | 32 lanes a register, loops over them |
//! | `memory`, `access`, `asynchronous` | allocations; loads and stores of all state spaces; `cp.async` |
//! | `mbarrier`, `arrivals`, `bulk` | mbarriers in shared memory; copies that they hear of; bulk copies to global memory |
//! | `shadow`, `order`, `races` | who accessed what, and what happened before what |
//! | `runs` | short ways for accesses of all lanes, one behind the other |
//! | `traffic` | sectors and bank conflicts |

pub mod access;
mod arrivals;
pub mod asynchronous;
pub mod barriers;
pub mod block;
pub mod bulk;
pub mod calls;
pub mod cluster;
pub mod context;
pub mod grid;
pub mod mbarrier;
pub mod memory;
pub mod order;
mod races;
pub mod registers;
mod runs;
pub mod shadow;
pub mod simd;
pub mod traffic;
pub mod warp;
mod watch;

pub use grid::{Launch, Outcome, Touched, run};
