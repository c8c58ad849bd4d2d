//! What noise, loss, adam and sampler share: flat arrays of f32 in both precisions, kernels in `kernels/flat.cuh`.

use bytemuck::{NoUninit, bytes_of};

use super::Cuda;
use super::memory::{Buffer, Element, Span};
use super::queue::Command;

/// Elements that a thread has of each array: `RUN` in `kernels/flat.cuh`.
const RUN: usize = 4;

/// Blocks of a kernel in which each thread has a run of `len` elements.
pub fn blocks(cuda: &Cuda, kernel: &str, len: usize) -> [usize; 3] {
    [len.div_ceil(RUN).div_ceil(cuda.block(Element::F32, kernel)), 1, 1]
}

/// Panics when they are not f32 arrays of one length.
pub fn assert_alike<const N: usize>(arrays: [&Span; N]) {
    for array in arrays {
        assert_eq!(
            (array.len, array.element),
            (arrays[0].len, Element::F32),
            "arrays of f32, all of one length"
        );
    }
}

/// Numbers that change from step to step, in memory of the device: a captured launch is replayed with the arguments that
/// it had, and uploads are what a replay reads anew.
pub fn settings<T: NoUninit>(cuda: &Cuda, settings: &T) -> Option<Buffer> {
    let bytes = bytes_of(settings).to_vec();
    let buffer = cuda.workspace(bytes.len().div_ceil(Element::F32.bytes()))?;
    cuda.queue.issue(Command::Upload { to: buffer.view(0..buffer.len()).address, bytes });
    Some(buffer)
}
