//! Linear layers, alone and with the residual connection of the branch that they end, and the MLP of a block.

use std::rc::Rc;

use crate::backend::{Activation, Backend, Gate, MatmulDims, Slots, TokenDims};
use crate::error::{Error, Result};
use crate::params::Param;
use crate::tape::{Backward, Tape, Var, Weight};

use super::{expect_shape, slot_count, token_dims};

/// A linear layer's parameters, checked against its input.
#[derive(Clone, Debug)]
struct Layer {
    weight: Weight,
    bias: Weight,
    dims: MatmulDims,
}

impl Layer {
    /// # Errors
    /// [`Error::Shape`] when x's last axis is not the weight's `inner` or the bias does not fit.
    fn of<B: Backend>(tape: &Tape<'_, B>, x_shape: &[usize], weight: Param, bias: Param) -> Result<Layer> {
        let (weight, bias) = (tape.weight(weight), tape.weight(bias));
        let [columns, inner] = weight.shape[..] else {
            return Err(Error::shape("linear", "a weight [out, in]", format!("{:?}", weight.shape)));
        };
        expect_shape("linear bias", &[columns], &bias.shape)?;
        expect_shape("linear input's last axis", &[inner], &x_shape[x_shape.len().saturating_sub(1)..])?;
        let rows = x_shape[..x_shape.len() - 1].iter().product();
        Ok(Layer { weight, bias, dims: MatmulDims { rows, columns, inner } })
    }

    /// Elements of the result.
    fn len(&self) -> usize {
        self.dims.rows * self.dims.columns
    }

    /// The result's shape.
    fn shape(&self, x_shape: &[usize]) -> Vec<usize> {
        let mut shape = x_shape.to_vec();
        *shape.last_mut().expect("checked by `of`: the input has a last axis") = self.dims.columns;
        shape
    }

    /// `dw += dh^T x; db += sum of dh`
    fn backward_weight<B: Backend>(&self, walk: &mut Backward<'_, B>, dh: B::Ref<'_>, x: B::Ref<'_>) {
        let (dw, db) =
            B::view_two_mut(walk.weight_gradients, self.weight.range.clone(), self.bias.range.clone());
        walk.backend.matmul_backward_weight(dw, Some(db), dh, x, self.dims);
    }

    /// Adds `dh w` to the gradient of x.
    fn backward_input<B: Backend>(
        &self,
        walk: &mut Backward<'_, B>,
        dh: B::Ref<'_>,
        x: &Var<B>,
    ) -> Result<()> {
        let Some((mut dx, write)) = walk.open(x)? else { return Ok(()) };
        let w = B::view(walk.weights, self.weight.range.clone());
        walk.backend.matmul_backward_input(B::view_mut(&mut dx, 0..x.len()), write, dh, w, self.dims);
        walk.close(x, dx);
        Ok(())
    }
}

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
    let layer = Layer::of(tape, x.shape(), weight, bias)?;
    let len = layer.len();
    let mut y = x.alloc_like(tape.backend, len)?;
    let mut pre = match activation {
        Activation::Identity => None,
        _ => Some(x.alloc_like(tape.backend, len)?),
    };
    tape.backend.matmul_forward(
        B::view_mut(&mut y, 0..len),
        pre.as_mut().map(|pre| B::view_mut(pre, 0..len)),
        x.data(),
        tape.weight_data(&layer.weight),
        Some(tape.weight_data(&layer.bias)),
        activation,
        layer.dims,
    );
    let x = x.clone();
    tape.push(&layer.shape(x.shape()), y, move |walk, mut dy| {
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
        layer.backward_weight(walk, dh, x.data());
        layer.backward_input(walk, dh, &x)
    })
}

/// The residual connection that a branch of a block ends in: `y = stream + h` or `y = stream + gate h`.
pub struct Residual<'a, B: Backend> {
    /// `[batch, tokens, columns]`
    pub stream: &'a Var<B>,
    /// A slot of a modulation `[batch, slots * columns]`.
    pub gate: Option<(&'a Var<B>, usize)>,
    /// Whether the result is that of a checkpointed part: it is not computed a second time then, unless backward wants
    /// the branch (for its gate).
    pub ends_part: bool,
}

/// A linear layer and the residual connection around its branch: `y = stream + gate (x w^T + b)`.
///
/// x `[batch, tokens, inner]`.
///
/// # Errors
/// [`Error::Shape`] as [`linear`], and when the branch has not the shape of the stream.
pub fn residual_linear<B: Backend>(
    tape: &mut Tape<'_, B>,
    x: &Var<B>,
    weight: Param,
    bias: Param,
    residual: &Residual<'_, B>,
) -> Result<Var<B>> {
    let layer = Layer::of(tape, x.shape(), weight, bias)?;
    let end = End::forward(tape, x.shape(), x.data(), layer, residual)?;
    let (x, y) = (x.clone(), end.y);
    let back = end.back;
    tape.push(&back.shape.clone(), y, move |walk, dy| {
        let layer = back.layer.clone();
        let dh = back.backward(walk, dy)?;
        let dh = B::view(&dh, 0..layer.len());
        layer.backward_weight(walk, dh, x.data());
        layer.backward_input(walk, dh, &x)
    })
}

/// A block's MLP with its residual connection: `y = stream + gate (activation(x up^T + b) down^T + b)`.
///
/// x `[batch, tokens, dim]`, up's weight `[hidden, dim]`, down's `[columns, hidden]`. What is saved is the hidden layer before
/// its activation; the activation is computed again for down's weight gradient.
///
/// # Errors
/// [`Error::Shape`] as [`linear`], and when the branch has not the shape of the stream.
pub fn mlp<B: Backend>(
    tape: &mut Tape<'_, B>,
    x: &Var<B>,
    up: (Param, Param),
    down: (Param, Param),
    activation: Activation,
    residual: &Residual<'_, B>,
) -> Result<Var<B>> {
    let up = Layer::of(tape, x.shape(), up.0, up.1)?;
    let hidden_shape = up.shape(x.shape());
    let down = Layer::of(tape, &hidden_shape, down.0, down.1)?;
    let len = up.len();
    let (mut pre, mut post) = (x.alloc_like(tape.backend, len)?, x.alloc_like(tape.backend, len)?);
    tape.backend.matmul_forward(
        B::view_mut(&mut post, 0..len),
        Some(B::view_mut(&mut pre, 0..len)),
        x.data(),
        tape.weight_data(&up.weight),
        Some(tape.weight_data(&up.bias)),
        activation,
        up.dims,
    );
    let end = End::forward(tape, &hidden_shape, B::view(&post, 0..len), down, residual)?;
    let (x, y, back) = (x.clone(), end.y, end.back);
    tape.push(&back.shape.clone(), y, move |walk, dy| {
        let down = back.layer.clone();
        let dh = back.backward(walk, dy)?;
        let dh_view = B::view(&dh, 0..down.len());
        let pre_view = B::view(&pre, 0..len);
        let mut hidden = x.alloc_like(walk.backend, len)?;
        walk.backend.activation_forward(B::view_mut(&mut hidden, 0..len), pre_view, activation);
        down.backward_weight(walk, dh_view, B::view(&hidden, 0..len));
        // The activations have served; their memory takes the gradient.
        let w = B::view(walk.weights, down.weight.range.clone());
        let dpre = B::view_mut(&mut hidden, 0..len);
        walk.backend.matmul_backward_input_activated(dpre, dh_view, w, pre_view, activation, down.dims);
        drop((pre, dh));
        let dpre = B::view(&hidden, 0..len);
        up.backward_weight(walk, dpre, x.data());
        up.backward_input(walk, dpre, &x)
    })
}

/// The last linear layer of a branch, with the residual connection.
struct End<B: Backend> {
    y: B::Buf,
    back: EndBackward<B>,
}

/// What its backward needs.
struct EndBackward<B: Backend> {
    layer: Layer,
    shape: Vec<usize>,
    stream: Var<B>,
    /// The modulation, its slot, and the branch before the gate.
    gate: Option<(Var<B>, Slots, B::Buf)>,
    dims: TokenDims,
}

impl<B: Backend> End<B> {
    fn forward(
        tape: &mut Tape<'_, B>,
        x_shape: &[usize],
        x: B::Ref<'_>,
        layer: Layer,
        residual: &Residual<'_, B>,
    ) -> Result<Self> {
        let shape = layer.shape(x_shape);
        let stream = residual.stream;
        expect_shape("residual", stream.shape(), &shape)?;
        let dims = token_dims("residual", stream)?;
        let len = layer.len();
        let mut y = stream.alloc_like(tape.backend, len)?;
        let mut gate = match residual.gate {
            None => None,
            Some((modulation, index)) => {
                let slot = Slots { count: slot_count("gated residual", modulation, dims)?, index };
                Some((modulation.clone(), slot, stream.alloc_like(tape.backend, len)?))
            }
        };
        if tape.result_is_needed() || !residual.ends_part || gate.is_some() {
            let (branch, view) = match &mut gate {
                None => (None, None),
                Some((modulation, slot, branch)) => {
                    let gate = Gate { modulation: modulation.data(), slot: *slot, tokens: dims.tokens };
                    (Some(B::view_mut(branch, 0..len)), Some(gate))
                }
            };
            let (w, b) = (tape.weight_data(&layer.weight), tape.weight_data(&layer.bias));
            let y_view = B::view_mut(&mut y, 0..len);
            tape.backend.matmul_residual_forward(y_view, branch, x, w, b, stream.data(), view, layer.dims);
        }
        Ok(End { y, back: EndBackward { layer, shape, stream: stream.clone(), gate, dims } })
    }
}

impl<B: Backend> EndBackward<B> {
    /// Passes dy on to the stream and the gate; the result is the gradient of the branch.
    fn backward(self, walk: &mut Backward<'_, B>, dy: Rc<B::Buf>) -> Result<Rc<B::Buf>> {
        let Some((modulation, slot, branch)) = self.gate else {
            walk.pass(&self.stream, dy.clone())?;
            return Ok(dy);
        };
        let len = self.layer.len();
        let mut dbranch = self.stream.alloc_like(walk.backend, len)?;
        let mut dmodulation = match walk.open_zeroed(&modulation)? {
            Some(dmodulation) => dmodulation,
            // Nobody wants it; the kernel writes it all the same.
            None => walk.backend.alloc(modulation.len())?,
        };
        walk.backend.gated_residual_backward(
            B::view_mut(&mut dbranch, 0..len),
            B::view_mut(&mut dmodulation, 0..modulation.len()),
            B::view(&dy, 0..len),
            B::view(&branch, 0..len),
            modulation.data(),
            slot,
            self.dims,
        );
        walk.close(&modulation, dmodulation);
        walk.pass(&self.stream, dy)?;
        Ok(dbranch.into())
    }
}
