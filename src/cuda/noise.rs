//! noise: normal numbers, and their mixing into clean samples; kernels in `kernels/noise.cu`. Formulas: `Backend`, section
//! noise.

use bytemuck::NoUninit;

use super::flat::{assert_alike, blocks, settings};
use super::memory::{Element, Mut, Ref};
use super::{Arg, Cuda};
use crate::backend::*;

/// Columns of the array of [`NoiseRow`]s.
const COLUMNS: usize = 4;
/// Numbers of a block of a stream.
const BLOCK_NUMBERS: u64 = 4;

/// `Draw` in `kernels/noise.cu`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Draw {
    seed: u64,
    step: u64,
    first: u64,
    purpose: u32,
    unused: u32,
}

impl Draw {
    fn new(key: NoiseKey, first: u64) -> Draw {
        Draw { seed: key.seed, step: key.step, first, purpose: key.purpose as u32, unused: 0 }
    }

    /// Blocks of a kernel in which each thread has one block of the stream, for `len` numbers.
    fn blocks(&self, cuda: &Cuda, kernel: &str, len: usize) -> [usize; 3] {
        if len == 0 { [0; 3] } else { blocks(cuda, kernel, len + (self.first % BLOCK_NUMBERS) as usize) }
    }
}

/// See `Backend::normal`.
pub fn normal(cuda: &Cuda, out: Mut<'_>, key: NoiseKey, first: u64) {
    assert_alike([&out]);
    let draw = Draw::new(key, first);
    let Some(address) = settings(cuda, &draw) else { return };
    let grid = draw.blocks(cuda, "noise_normal", out.len);
    let arguments = [Arg::from(&out), Arg::from(&address), Arg::count(out.len)];
    cuda.launch(Element::F32, "noise_normal", grid, &arguments);
}

/// See `Backend::noise_mix`.
#[allow(clippy::too_many_arguments)]
pub fn mix(
    cuda: &Cuda,
    x_t: Mut<'_>,
    target: Mut<'_>,
    x0: Ref<'_>,
    eps: Ref<'_>,
    rows: Ref<'_>,
    objective: Objective,
    width: usize,
) {
    assert_alike([&x_t, &target, &x0, &eps]);
    let Some(shape) = shape(cuda, x0, rows, width) else { return };
    let grid = blocks(cuda, "noise_mix", x0.len);
    let arrays = [Arg::from(&x_t), Arg::from(&target), x0.into(), eps.into(), rows.into()];
    let arguments = [&arrays[..], &[Arg::Word(objective as u32)], &shape].concat();
    cuda.launch(Element::F32, "noise_mix", grid, &arguments);
}

/// See `Backend::noise_mix_drawn`.
#[allow(clippy::too_many_arguments)]
pub fn mix_drawn(
    cuda: &Cuda,
    x_t: Mut<'_>,
    target: Mut<'_>,
    x0: Ref<'_>,
    rows: Ref<'_>,
    key: NoiseKey,
    first: u64,
    objective: Objective,
    width: usize,
) {
    assert_alike([&x_t, &target, &x0]);
    let draw = Draw::new(key, first);
    let Some(shape) = shape(cuda, x0, rows, width) else { return };
    let Some(address) = settings(cuda, &draw) else { return };
    let grid = draw.blocks(cuda, "noise_mix_drawn", x0.len);
    let arrays = [Arg::from(&x_t), Arg::from(&target), x0.into(), rows.into(), Arg::from(&address)];
    let arguments = [&arrays[..], &[Arg::Word(objective as u32)], &shape].concat();
    cuda.launch(Element::F32, "noise_mix_drawn", grid, &arguments);
}

/// batch, elements a sample, width; `None` when there is nothing to do, or too much for the kernels' indices.
fn shape(cuda: &Cuda, x0: Ref<'_>, rows: Ref<'_>, width: usize) -> Option<[Arg; 3]> {
    assert!(rows.element == Element::F32 && rows.is_aligned(), "levels of noise are f32, read four at once");
    let batch = rows.len / COLUMNS;
    if batch == 0 || x0.len == 0 {
        return None;
    }
    // The kernels count elements of the whole batch in 32 bits.
    cuda.word(x0.len);
    Some([cuda.word(batch), cuda.word(x0.len / batch), cuda.word(width)])
}
