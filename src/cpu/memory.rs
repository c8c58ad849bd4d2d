//! Host memory for the CPU backend: a pool keyed by length, so that a training step allocates nothing after
//! the first one.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use crate::backend::MemoryUse;
use crate::pool::Shelves;

/// Shared pool of `f32` buffers.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    shelves: Arc<Mutex<Shelves<Lines>>>,
    poison: bool,
}

impl Pool {
    /// A pool whose buffers are filled with NaN each time they are taken.
    pub fn poisoned() -> Self {
        Self { poison: true, ..Self::default() }
    }

    /// A buffer of exactly `len` elements with unspecified contents.
    pub fn take(&self, len: usize) -> Buffer {
        let reused = self.shelves.lock().expect("no user code runs under this lock").take(bytes(len));
        let mut data = reused.unwrap_or_else(|| Lines::new(len));
        if self.poison {
            data.fill(f32::NAN);
        }
        Buffer { data, home: self.shelves.clone() }
    }

    /// Live, peak and held bytes, and how often the pool had to ask the system.
    pub fn usage(&self) -> MemoryUse {
        self.shelves.lock().expect("no user code runs under this lock").usage()
    }
}

/// Numbers in whole cache lines, so that no vector of any instruction set lies across two of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Lines {
    /// `len` zeros.
    pub(super) fn new(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// What the system gave.
    pub(super) fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

impl Deref for Lines {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// Owned memory; goes back to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    data: Lines,
    home: Arc<Mutex<Shelves<Lines>>>,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        if let Ok(mut shelves) = self.home.lock() {
            shelves.give_back(bytes(data.len()), data);
        }
    }
}

fn bytes(len: usize) -> u64 {
    (len as u64).saturating_mul(size_of::<f32>() as u64)
}

/// "CPU (AVX2)": the microkernel that products use.
pub fn describe_machine() -> String {
    format!("CPU ({})", super::microkernel::chosen().name)
}
