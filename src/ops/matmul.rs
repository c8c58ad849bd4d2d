//! Linear layers.

use crate::backend::{Activation, Backend, MatmulDims};
use crate::error::{Error, Result};
use crate::params::Param;
use crate::tape::{Tape, Var};

use super::expect_shape;

/// `y = activation(x w^T + b)` over the last axis of x: `[.., inner]` becomes `[.., columns]`.
///
/// weight `[columns, inner]`, bias `[columns]`.
///
/// # Errors
/// [`Error::Shape`] when x's last axis is not `inner` or the bias does not fit.
pub fn linear<B: Backend>(
    tape: &mut Tape<'_, B>,
    x: &Var<B>,
    weight: Param,
    bias: Param,
    activation: Activation,
) -> Result<Var<B>> {
    let (w, b) = (tape.weight(weight), tape.weight(bias));
    let [columns, inner] = w.shape[..] else {
        return Err(Error::shape("linear", "a weight [out, in]", format!("{:?}", w.shape)));
    };
    expect_shape("linear bias", &[columns], &b.shape)?;
    let mut shape = x.shape().to_vec();
    expect_shape("linear input's last axis", &[inner], &shape[shape.len().saturating_sub(1)..])?;
    let dims = MatmulDims { rows: x.len() / inner, columns, inner };
    *shape.last_mut().expect("checked above: the input has a last axis") = columns;

    let len = dims.rows * columns;
    let mut y = tape.backend.alloc(len)?;
    let mut pre = match activation {
        Activation::Identity => None,
        _ => Some(tape.backend.alloc(len)?),
    };
    tape.backend.matmul_forward(
        B::view_mut(&mut y, 0..len),
        pre.as_mut().map(|pre| B::view_mut(pre, 0..len)),
        x.data(),
        tape.weight_data(&w),
        Some(tape.weight_data(&b)),
        activation,
        dims,
    );
    let x = x.clone();
    tape.push(&shape, y, move |walk, mut dy| {
        if let Some(pre) = pre {
            let mut dh = walk.unique(dy)?;
            walk.backend.activation_backward_in_place(
                B::view_mut(&mut dh, 0..len),
                B::view(&pre, 0..len),
                activation,
            );
            dy = dh.into();
        }
        let dh = B::view(&dy, 0..len);
        let (dw, db) = B::view_two_mut(walk.weight_gradients, w.range.clone(), b.range.clone());
        walk.backend.matmul_backward_weight(dw, Some(db), dh, x.data(), dims);
        if let Some((mut dx, write)) = walk.open(&x)? {
            let w = B::view(walk.weights, w.range.clone());
            walk.backend.matmul_backward_input(B::view_mut(&mut dx, 0..x.len()), write, dh, w, dims);
            walk.close(&x, dx);
        }
        Ok(())
    })
}
