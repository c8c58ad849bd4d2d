//! Host memory for the CPU backend: a pool keyed by length, so that a training step allocates nothing after
//! the first one.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use memmap2::MmapMut;

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

/// Numbers in whole cache lines, so that no vector of any instruction set lies across two of them; large ones in huge pages
/// where the system has some to give.
#[derive(Debug)]
pub(super) struct Lines {
    memory: Memory,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Heap(Vec<Line>),
    /// Of pages that are zero until they are written: nothing is filled that is overwritten anyway.
    Pages(MmapMut),
}

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// From here on memory is asked for in pages: a huge page of 2 MiB lies in it somewhere.
const IN_PAGES: usize = 4 << 20;

impl Lines {
    /// `len` zeros.
    pub(super) fn new(len: usize) -> Self {
        let lines = len.div_ceil(LINE);
        let pages =
            (lines * size_of::<Line>() >= IN_PAGES).then(|| pages(lines * size_of::<Line>())).flatten();
        let heap = || Memory::Heap(vec![Line([0.0; LINE]); lines]);
        Self { memory: pages.map_or_else(heap, Memory::Pages), len }
    }

    /// What the system gave.
    pub(super) fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Heap(lines) => lines.capacity() * size_of::<Line>(),
            Memory::Pages(pages) => pages.len(),
        }
    }
}

/// Numbers of a cache line.
const LINE: usize = 16;

/// `None` where the system refuses; then the allocator has the last word.
fn pages(bytes: usize) -> Option<MmapMut> {
    let pages = MmapMut::map_anon(bytes).ok()?;
    // A wish: without huge pages everything works as well, only not as fast.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
}

impl Default for Lines {
    fn default() -> Self {
        Self { memory: Memory::Heap(Vec::new()), len: 0 }
    }
}

impl Deref for Lines {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let all = match &self.memory {
            Memory::Heap(lines) => bytemuck::cast_slice(lines),
            Memory::Pages(pages) => bytemuck::cast_slice(pages),
        };
        &all[..self.len]
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        let all = match &mut self.memory {
            Memory::Heap(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Pages(pages) => bytemuck::cast_slice_mut(pages),
        };
        &mut all[..self.len]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_every_size_is_zero_and_aligned() {
        for len in [0, 1, 16, 17, IN_PAGES / size_of::<f32>() - 16, IN_PAGES / size_of::<f32>(), 3_000_001] {
            let mut lines = Lines::new(len);
            assert_eq!(lines.len(), len);
            assert!(lines.bytes() >= len * size_of::<f32>(), "{len}");
            assert!(lines.as_ptr().cast::<Line>().is_aligned(), "{len}");
            assert!(lines.iter().all(|x| *x == 0.0), "{len}");
            lines.fill(1.0);
            assert_eq!(lines.iter().sum::<f32>(), len as f32);
        }
    }
}
