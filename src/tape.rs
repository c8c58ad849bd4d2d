//! Autograd: values, the tape that records how they were made, and the walk back.
//!
//! A [`Var`] owns its value by reference count: a value lives as long as the model code or a recorded
//! backward step holds it, then its memory returns to the backend's pool. A tape that does not record
//! (sampling, validation) therefore holds nothing.

use std::ops::Range;
use std::rc::Rc;

use crate::backend::{Backend, Write};
use crate::config::Recompute;
use crate::error::{Error, Result};
use crate::params::{Layout, Param};

/// A value on the device: shape, memory, and whether a gradient is wanted.
pub struct Var<B: Backend>(Rc<Value<B>>);

struct Value<B: Backend> {
    /// Index into the gradients; `None` for constants, which get none.
    id: Option<usize>,
    shape: Vec<usize>,
    data: Rc<B::Buf>,
}

impl<B: Backend> Clone for Var<B> {
    fn clone(&self) -> Self {
        Var(self.0.clone())
    }
}

impl<B: Backend> Var<B> {
    /// Shape, row-major.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        B::len(&self.0.data)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole value.
    pub fn data(&self) -> B::Ref<'_> {
        B::view(&self.0.data, 0..self.len())
    }

    /// A part of the value.
    pub fn part(&self, range: Range<usize>) -> B::Ref<'_> {
        B::view(&self.0.data, range)
    }

    /// Memory of the kind that the value is made of, for a result or a gradient of it.
    pub fn alloc_like(&self, backend: &B, len: usize) -> Result<B::Buf> {
        backend.alloc_like(&self.0.data, len)
    }

    /// Whether a gradient flows into it.
    pub fn wants_gradient(&self) -> bool {
        self.0.id.is_some()
    }
}

/// A parameter as an op uses it: where it lies in the flat buffer, and its shape.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Elements of the flat buffer.
    pub range: Range<usize>,
    /// Shape, row-major.
    pub shape: Vec<usize>,
}

type BackwardStep<B> = Box<dyn FnOnce(&mut Backward<'_, B>, Rc<<B as Backend>::Buf>) -> Result<()>>;

/// What a part of the model that is computed twice does not compute twice (see [`Tape::checkpoint`]).
enum Stash<B: Backend> {
    /// There is no such part, or this one keeps nothing.
    None,
    /// First run: results are kept here.
    Keeping(Vec<Rc<B::Buf>>),
    /// Second run: results are taken from here, in order.
    Recalling(std::vec::IntoIter<Rc<B::Buf>>),
}

struct Record<B: Backend> {
    output: Option<usize>,
    name: String,
    backward: BackwardStep<B>,
}

/// Records what was computed, in order.
pub struct Tape<'a, B: Backend> {
    /// The device.
    pub backend: &'a B,
    weights: &'a B::Buf,
    layout: &'a Layout,
    records: Option<Vec<Record<B>>>,
    values: usize,
    label: String,
    watch: Option<u64>,
    recompute: Recompute,
    stash: Stash<B>,
}

impl<'a, B: Backend> Tape<'a, B> {
    /// A tape that records, for training.
    pub fn recording(backend: &'a B, layout: &'a Layout, weights: &'a B::Buf) -> Self {
        Tape { records: Some(Vec::new()), ..Self::forward_only(backend, layout, weights) }
    }

    /// A tape that only computes: nothing is kept for a backward walk.
    pub fn forward_only(backend: &'a B, layout: &'a Layout, weights: &'a B::Buf) -> Self {
        Tape {
            backend,
            weights,
            layout,
            records: None,
            values: 0,
            label: String::new(),
            watch: None,
            recompute: Recompute::None,
            stash: Stash::None,
        }
    }

    /// From here on every value and gradient is searched for NaN and infinity; the first one found is an
    /// [`Error::NonFinite`] with the label of its op and this step. Slow: for the replay of a step that
    /// went wrong.
    pub fn watch_for_non_finite(&mut self, step: u64) {
        self.watch = Some(step);
    }

    /// What the model computes twice to keep less.
    pub fn set_recompute(&mut self, recompute: Recompute) {
        self.recompute = recompute;
    }

    /// See [`Self::set_recompute`].
    pub fn recompute(&self) -> Recompute {
        self.recompute
    }

    /// Names the ops that follow, by module path, for [`Error::NonFinite`].
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// Where a parameter lies.
    pub fn weight(&self, param: Param) -> Weight {
        let span = self.layout.span(param);
        Weight { range: span.range.clone(), shape: span.shape.clone() }
    }

    /// A parameter's values.
    pub fn weight_data(&self, weight: &Weight) -> B::Ref<'a> {
        B::view(self.weights, weight.range.clone())
    }

    /// A value from outside that gets no gradient.
    pub fn constant(&self, shape: &[usize], data: B::Buf) -> Var<B> {
        debug_assert_eq!(shape.iter().product::<usize>(), B::len(&data));
        Var(Rc::new(Value { id: None, shape: shape.to_vec(), data: data.into() }))
    }

    /// A value from outside that gets a gradient (read it with [`Gradients::of`]).
    pub fn leaf(&mut self, shape: &[usize], data: impl Into<Rc<B::Buf>>) -> Var<B> {
        let id = self.next_id();
        Var(Rc::new(Value { id: Some(id), shape: shape.to_vec(), data: data.into() }))
    }

    /// A constant uploaded from the host.
    pub fn constant_from_host(&self, shape: &[usize], host: &[f32]) -> Result<Var<B>> {
        let mut data = self.backend.alloc(host.len())?;
        self.backend.upload(B::view_mut(&mut data, 0..host.len()), host);
        Ok(self.constant(shape, data))
    }

    /// The result of an op. `backward` receives the gradient of the result and passes it on to the inputs; it
    /// is dropped when the tape does not record, and called at most once.
    pub fn push(
        &mut self,
        shape: &[usize],
        data: impl Into<Rc<B::Buf>>,
        backward: impl FnOnce(&mut Backward<'_, B>, Rc<B::Buf>) -> Result<()> + 'static,
    ) -> Result<Var<B>> {
        let output = self.value(shape, data.into())?;
        if let Some(records) = &mut self.records {
            let name = self.label.clone();
            records.push(Record { output: output.0.id, name, backward: Box::new(backward) });
        }
        Ok(output)
    }

    /// A part of the model that keeps only its inputs (and what `part` stashes, see [`Self::stashed`]): it runs without
    /// being recorded, and once more, recorded, when the walk back comes to it (Chen et al. 2016, "Training deep nets with
    /// sublinear memory cost"). A tape that does not record just runs it.
    ///
    /// `part` is called with a tape and as many values as there are `inputs`; it must not use other values that want a
    /// gradient.
    pub fn checkpoint(
        &mut self,
        inputs: &[&Var<B>],
        part: impl Fn(&mut Tape<'_, B>, &[Var<B>]) -> Result<Var<B>> + 'static,
    ) -> Result<Var<B>> {
        let inputs: Vec<Var<B>> = inputs.iter().map(|&input| input.clone()).collect();
        let (backend, layout, weights) = (self.backend, self.layout, self.weights);
        let mut first = Tape::forward_only(backend, layout, weights);
        first.watch = self.watch;
        let recording = self.records.is_some();
        if recording {
            first.stash = Stash::Keeping(Vec::new());
        }
        let output = part(&mut first, &inputs)?;
        let kept = match first.stash {
            Stash::Keeping(kept) => kept,
            Stash::None | Stash::Recalling(_) => Vec::new(),
        };
        let id = self.next_id();
        let output =
            Var(Rc::new(Value { id: Some(id), shape: output.shape().to_vec(), data: output.0.data.clone() }));
        let watch = self.watch;
        if let Some(records) = &mut self.records {
            let backward = Box::new(move |walk: &mut Backward<'_, B>, gradient: Rc<B::Buf>| {
                walk.through(&inputs, kept, watch, part, gradient)
            });
            records.push(Record { output: Some(id), name: self.label.clone(), backward });
        }
        Ok(output)
    }

    /// The `N` results of `compute`, or, where this is the second run of a [`Self::checkpoint`], those of the first: for
    /// what is dear to compute and cheap to keep.
    pub fn stashed<const N: usize>(
        &mut self,
        compute: impl FnOnce(&B) -> Result<[B::Buf; N]>,
    ) -> Result<[Rc<B::Buf>; N]> {
        if let Stash::Recalling(kept) = &mut self.stash {
            let results: Vec<Rc<B::Buf>> = kept.by_ref().take(N).collect();
            return results.try_into().map_err(|results: Vec<_>| {
                Error::shape("checkpoint", format!("{N} results kept"), results.len().to_string())
            });
        }
        let results = compute(self.backend)?.map(Rc::new);
        if let Stash::Keeping(kept) = &mut self.stash {
            kept.extend(results.iter().cloned());
        }
        Ok(results)
    }

    /// Whether anybody reads the result of the part that runs. In the second run of a [`Self::checkpoint`] nobody does, only what
    /// its ops saved; unless every value is watched.
    pub fn result_is_needed(&self) -> bool {
        self.watch.is_some() || !matches!(self.stash, Stash::Recalling(_))
    }

    fn value(&mut self, shape: &[usize], data: Rc<B::Buf>) -> Result<Var<B>> {
        if let Some(step) = self.watch {
            check_finite(self.backend, &data, &self.label, step)?;
        }
        Ok(self.leaf(shape, data))
    }

    /// Walks back from `output`, whose gradient is `seed`, and adds the parameters' gradients to
    /// `weight_gradients` (laid out as the weights are).
    pub fn backward(
        self,
        output: Var<B>,
        seed: impl Into<Rc<B::Buf>>,
        weight_gradients: &mut B::Buf,
    ) -> Result<Gradients<B>> {
        self.backward_from(output, seed, weight_gradients, Vec::new())
    }

    /// The same, where some leaves have gradients already, from parts that come later in the model.
    fn backward_from(
        self,
        output: Var<B>,
        seed: impl Into<Rc<B::Buf>>,
        weight_gradients: &mut B::Buf,
        known: Vec<(usize, Rc<B::Buf>)>,
    ) -> Result<Gradients<B>> {
        let Tape { backend, weights, layout, records, values, watch, .. } = self;
        let mut gradients: Vec<Option<Rc<B::Buf>>> = (0..values).map(|_| None).collect();
        for (id, gradient) in known {
            gradients[id] = Some(gradient);
        }
        if let Some(id) = output.0.id {
            gradients[id] = Some(seed.into());
        }
        drop(output);
        let mut walk = Backward { backend, weights, layout, weight_gradients, gradients };
        for record in records.unwrap_or_default().into_iter().rev() {
            let Some(gradient) = record.output.and_then(|id| walk.gradients[id].take()) else { continue };
            if let Some(step) = watch {
                check_finite(backend, &gradient, &format!("gradient of {}", record.name), step)?;
            }
            (record.backward)(&mut walk, gradient)?;
        }
        Ok(Gradients { gradients: walk.gradients })
    }

    fn next_id(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }
}

fn check_finite<B: Backend>(backend: &B, data: &B::Buf, name: &str, step: u64) -> Result<()> {
    let all = 0..B::len(data);
    let Some(index) = backend.find_non_finite(B::view(data, all)) else { return Ok(()) };
    let mut value = [0.0];
    backend.download(&mut value, B::view(data, index..index + 1));
    Err(Error::NonFinite { tensor: name.to_string(), value: value[0], step, advice: String::new() })
}

/// Gradients of the leaves, after the walk.
pub struct Gradients<B: Backend> {
    gradients: Vec<Option<Rc<B::Buf>>>,
}

impl<B: Backend> Gradients<B> {
    /// The gradient of a leaf; `None` when nothing depends on it.
    pub fn of(&self, var: &Var<B>) -> Option<&B::Buf> {
        self.gradients[var.0.id?].as_deref()
    }
}

/// The walk back: gradients of values that are still waited for, and the parameters' gradients.
pub struct Backward<'a, B: Backend> {
    /// The device.
    pub backend: &'a B,
    /// The flat parameters.
    pub weights: &'a B::Buf,
    /// Where each lies.
    layout: &'a Layout,
    /// Their gradients, accumulated.
    pub weight_gradients: &'a mut B::Buf,
    gradients: Vec<Option<Rc<B::Buf>>>,
}

impl<B: Backend> Backward<'_, B> {
    /// Memory for the gradient of `var`, to be given back with [`Self::close`]: what is there already, to be
    /// added to, or a fresh buffer, to be replaced. `None` when no gradient is wanted.
    pub fn open(&mut self, var: &Var<B>) -> Result<Option<(B::Buf, Write)>> {
        let Some(id) = var.0.id else { return Ok(None) };
        match self.gradients[id].take() {
            Some(shared) => Ok(Some((self.unique(shared)?, Write::Add))),
            None => Ok(Some((var.alloc_like(self.backend, var.len())?, Write::Replace))),
        }
    }

    /// As [`Self::open`], but a fresh buffer is filled with zeros: for kernels that only add.
    pub fn open_zeroed(&mut self, var: &Var<B>) -> Result<Option<B::Buf>> {
        let Some((mut buf, write)) = self.open(var)? else { return Ok(None) };
        if write == Write::Replace {
            self.backend.fill(B::view_mut(&mut buf, 0..var.len()), 0.0);
        }
        Ok(Some(buf))
    }

    /// Puts the gradient of `var` in place.
    pub fn close(&mut self, var: &Var<B>, gradient: B::Buf) {
        if let Some(id) = var.0.id {
            self.gradients[id] = Some(Rc::new(gradient));
        }
    }

    /// Passes a whole gradient on unchanged: shared when `var` had none, else added.
    pub fn pass(&mut self, var: &Var<B>, gradient: Rc<B::Buf>) -> Result<()> {
        let Some(id) = var.0.id else { return Ok(()) };
        match self.gradients[id].take() {
            None => self.gradients[id] = Some(gradient),
            Some(shared) => {
                let mut sum = self.unique(shared)?;
                let all = 0..var.len();
                self.backend.add(B::view_mut(&mut sum, all.clone()), B::view(&gradient, all));
                self.gradients[id] = Some(Rc::new(sum));
            }
        }
        Ok(())
    }

    /// The buffer itself when nobody else holds it, else a copy: for work in place.
    pub fn unique(&self, shared: Rc<B::Buf>) -> Result<B::Buf> {
        match Rc::try_unwrap(shared) {
            Ok(buf) => Ok(buf),
            Err(shared) => {
                let len = B::len(&shared);
                let mut copy = self.backend.alloc_like(&shared, len)?;
                self.backend.copy(B::view_mut(&mut copy, 0..len), B::view(&shared, 0..len));
                Ok(copy)
            }
        }
    }

    /// Runs a checkpointed part again, recorded, and walks back through it.
    fn through(
        &mut self,
        inputs: &[Var<B>],
        kept: Vec<Rc<B::Buf>>,
        watch: Option<u64>,
        part: impl Fn(&mut Tape<'_, B>, &[Var<B>]) -> Result<Var<B>>,
        gradient: Rc<B::Buf>,
    ) -> Result<()> {
        let mut tape = Tape::recording(self.backend, self.layout, self.weights);
        tape.watch = watch;
        tape.stash = Stash::Recalling(kept.into_iter());
        let leaves: Vec<Var<B>> = inputs
            .iter()
            .map(|input| match input.0.id {
                Some(_) => tape.leaf(input.shape(), input.0.data.clone()),
                None => input.clone(),
            })
            .collect();
        let output = part(&mut tape, &leaves)?;
        // What other parts gave to an input is added to in there, in the order and with the roundings of one tape.
        let pairs = || inputs.iter().zip(&leaves).filter_map(|(input, leaf)| Some((input, leaf.0.id?)));
        let known = pairs().filter_map(|(input, leaf)| Some((leaf, self.gradients[input.0.id?].take()?)));
        let known = known.collect();
        let mut gradients = tape.backward_from(output, gradient, self.weight_gradients, known)?;
        for (input, leaf) in pairs() {
            if let Some(gradient) = gradients.gradients[leaf].take() {
                self.pass(input, gradient)?;
            }
        }
        Ok(())
    }
}
