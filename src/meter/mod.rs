//! A backend that computes nothing and counts: memory by the rule of the CPU's pool, kernel launches, and
//! floating-point operations by the textbook. Running a training step on it tells what the step costs before
//! a byte of it is allocated.

mod kernels;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::backend::{AttentionDims, CrossAttentionDims, MatmulDims, PatchDims};
use crate::pool::Shelves;

/// A device that only counts. Cloning shares the account.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    shelves: Rc<RefCell<Shelves<()>>>,
    tallies: Rc<RefCell<BTreeMap<Family, Tally>>>,
}

/// The length of a buffer, and where it is given back.
#[derive(Debug)]
pub struct Length {
    elements: usize,
    home: Rc<RefCell<Shelves<()>>>,
}

impl Drop for Length {
    fn drop(&mut self) {
        self.home.borrow_mut().give_back(f32_bytes(self.elements), ());
    }
}

/// The families of kernels, by the names that they have everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Copies, fills, sums of gradients.
    Memory,
    /// Matrix products.
    Matmul,
    /// Layer norms.
    Norm,
    /// Attention.
    Attention,
    /// Patch embedding and de-embedding.
    Patch,
    /// Activations, added rows, residuals.
    Elementwise,
    /// Step embedding and lookups.
    Embed,
    /// Random numbers and their mixing with data.
    Noise,
    /// The loss.
    Loss,
    /// The optimizer.
    Adam,
    /// Sampler steps.
    Sampler,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

/// What kernels were asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Kernel calls.
    pub launches: u64,
    /// Floating-point operations of the matrix products in them; pointwise work is not counted here.
    pub flops: u64,
    /// Elements of the arrays that pointwise kernels pass over once.
    pub elements: u64,
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), |sum, tally| Tally {
            launches: sum.launches + tally.launches,
            flops: sum.flops.saturating_add(tally.flops),
            elements: sum.elements.saturating_add(tally.elements),
        })
    }
}

/// The work of one kernel call, as far as its cost depends on it.
#[derive(Clone, Copy)]
enum Work {
    Matmul(MatmulDims),
    AttentionForward(AttentionDims),
    AttentionBackward(AttentionDims),
    CrossAttentionForward(CrossAttentionDims),
    CrossAttentionBackward(CrossAttentionDims),
    Patch(PatchDims),
    /// A pass over so many elements.
    Pass(usize),
}

impl Work {
    /// The table of costs. A product of M x K and K x N is 2 M N K. Attention is two such products forward (scores,
    /// values) and five backward (scores again, dp, dq, dk, dv), each 2 B H N^2 D: Dao 2024, section 3.1. A patch
    /// embedding is the product that it would be after im2col, and so is each of its gradients.
    fn flops(self) -> u64 {
        match self {
            Work::Matmul(d) => product(&[2, d.rows, d.columns, d.inner]),
            Work::AttentionForward(d) => product(&[4, d.batch, d.heads, d.tokens, d.tokens, d.head_dim]),
            Work::AttentionBackward(d) => product(&[10, d.batch, d.heads, d.tokens, d.tokens, d.head_dim]),
            Work::CrossAttentionForward(d) => product(&[4, d.batch, d.heads, d.queries, d.keys, d.head_dim]),
            Work::CrossAttentionBackward(d) => {
                product(&[10, d.batch, d.heads, d.queries, d.keys, d.head_dim])
            }
            Work::Patch(d) => product(&[2, d.batch, d.tokens(), d.patch_len(), d.dim]),
            Work::Pass(_) => 0,
        }
    }

    fn elements(self) -> u64 {
        match self {
            Work::Pass(elements) => elements as u64,
            _ => 0,
        }
    }
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor as u64))
}

fn f32_bytes(elements: usize) -> u64 {
    product(&[elements, size_of::<f32>()])
}

impl Meter {
    /// A meter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// What each family did since the start or the last [`Self::reset_tallies`].
    pub fn tallies(&self) -> BTreeMap<Family, Tally> {
        self.tallies.borrow().clone()
    }

    /// Sets the tallies to zero; the account of memory stays.
    pub fn reset_tallies(&self) {
        self.tallies.borrow_mut().clear();
    }

    fn record(&self, family: Family, work: Work) {
        let mut tallies = self.tallies.borrow_mut();
        let tally = tallies.entry(family).or_default();
        let call = Tally { launches: 1, flops: work.flops(), elements: work.elements() };
        *tally = [*tally, call].into_iter().sum();
    }

    fn take(&self, elements: usize) -> Length {
        self.shelves.borrow_mut().take(f32_bytes(elements));
        Length { elements, home: self.shelves.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Activation, Backend, Write};

    #[test]
    fn a_linear_layer_costs_its_three_products() {
        let meter = Meter::new();
        let dims = MatmulDims { rows: 31, columns: 7, inner: 5 };
        meter.matmul_forward(31 * 7, None, 31 * 5, 7 * 5, Some(7), Activation::Identity, dims);
        meter.matmul_backward_input(31 * 5, Write::Replace, 31 * 7, 7 * 5, dims);
        meter.matmul_backward_weight(7 * 5, Some(7), 31 * 7, 31 * 5, dims);
        meter.residual_forward(12, 12, 12);
        let expected = BTreeMap::from([
            (Family::Matmul, Tally { launches: 3, flops: 3 * 2 * 31 * 7 * 5, elements: 0 }),
            (Family::Elementwise, Tally { launches: 1, flops: 0, elements: 12 }),
        ]);
        assert_eq!(meter.tallies(), expected);
    }

    #[test]
    fn attention_costs_two_products_forward_and_five_backward() {
        let dims = AttentionDims { batch: 2, tokens: 33, heads: 3, head_dim: 16 };
        let one = 2 * 2 * 3 * 33 * 33 * 16;
        assert_eq!(Work::AttentionForward(dims).flops(), 2 * one);
        assert_eq!(Work::AttentionBackward(dims).flops(), 5 * one);
    }

    #[test]
    fn no_size_overflows() {
        let huge = usize::MAX / 2;
        let dims = MatmulDims { rows: huge, columns: huge, inner: huge };
        assert_eq!(Work::Matmul(dims).flops(), u64::MAX);
        let meter = Meter::new();
        let buffers = (meter.take(huge), meter.take(huge));
        assert_eq!(meter.memory().held_bytes, u64::MAX);
        drop(buffers);
    }
}
