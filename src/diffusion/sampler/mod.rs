//! Samplers: from noise to images, in a number of model evaluations; with a caption or without; all of an image, what is
//! missing of it, or a variation of it.

mod canvas;
mod path;

use crate::backend::{Backend, NoiseKey, Purpose};
use crate::config::SampleConfig;
use crate::diffusion::schedule::Schedule;
use crate::dit::Dit;
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};
use crate::text::Captions;

pub use canvas::{Canvas, Kept};
pub use path::{Move, path};

/// What samples are drawn from.
pub struct Model<'a, B: Backend> {
    /// The device.
    pub backend: &'a B,
    /// The network.
    pub dit: &'a Dit,
    /// Its flat parameters (the EMA, as a rule).
    pub weights: &'a B::Buf,
    /// Its noise levels.
    pub schedule: &'a Schedule,
}

/// Captions of samples, and how strongly they are followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Guidance {
    /// One a sample.
    pub wanted: Captions,
    /// What to keep away from, one a sample: none, as a rule.
    pub unwanted: Captions,
    /// 1 follows the caption as it was learnt, more exaggerates it, 0 does without (Ho and Salimans 2022).
    pub scale: f64,
    /// How much of the growth in deviation that comes with a large scale is taken back, 0 to 1 (Lin et al. 2024, section 3.4).
    pub rescale: f64,
    /// Part of the timesteps, of 0 to 1, in which guidance is used; elsewhere the scale is 1 (Kynkaanniemi et al. 2024).
    pub interval: [f64; 2],
}

impl Guidance {
    /// As configured.
    pub fn new(config: &SampleConfig, wanted: Captions, unwanted: Captions) -> Guidance {
        let SampleConfig { guidance: scale, rescale, guidance_interval: interval, .. } = *config;
        Guidance { wanted, unwanted, scale, rescale, interval }
    }

    fn scale_at(&self, t: usize, steps: usize) -> f64 {
        if self.wanted == self.unwanted {
            return 1.0;
        }
        let place = t as f64 / (steps - 1).max(1) as f64;
        if (self.interval[0]..=self.interval[1]).contains(&place) { self.scale } else { 1.0 }
    }
}

/// What is to be drawn.
#[derive(Clone, Debug)]
pub struct Order {
    /// Seed of the noise.
    pub seed: u64,
    /// Number of the first sample.
    pub first: u64,
    /// Samples.
    pub count: usize,
    /// Captions; none for a model that hears none, or to do without.
    pub guidance: Option<Guidance>,
    /// What is drawn on.
    pub canvas: Canvas,
    /// What the noise at the beginning of the path is put on, `[channels, height, canvas.width]`; nothing for pure noise.
    pub start: Option<Vec<f32>>,
    /// What stays as it is.
    pub kept: Option<Kept>,
    /// Whether the model was trained with clean frames beside noisy ones (`diffusion.region`): what is kept is then shown to it
    /// as it is, otherwise with the noise of the step (Lugmayr et al. 2022, eq. 8).
    pub kept_is_clean: bool,
}

impl Order {
    /// `count` samples of the model's own size, from pure noise.
    pub fn plain(dit: &Dit, seed: u64, first: u64, count: usize) -> Order {
        let width = dit.config().image[1];
        Order {
            seed,
            first,
            count,
            guidance: None,
            canvas: Canvas::new(width, width, false),
            start: None,
            kept: None,
            kept_is_clean: false,
        }
    }
}

/// Draws samples, numbers `first .. first + count` of the seed: `[count, channels, height, canvas.width]` on the host.
///
/// A sample depends on (seed, its number), not on how many are drawn at a time. `progress` is told the evaluations done;
/// when it returns false the drawing stops with [`Error::Interrupted`].
///
/// # Errors
/// [`Error::Shape`] when the order does not fit the model; what the device cannot do.
pub fn draw<B: Backend>(
    model: &Model<'_, B>,
    path: &[Move],
    order: &Order,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<f32>> {
    let backend = model.backend;
    let mut drawing = Drawing::begin(model, path, order)?;
    for (i, Move { t, step }) in path.iter().enumerate() {
        drawing.put_kept(*t)?;
        let prediction = drawing.predict(*t)?;
        let len = drawing.len;
        let mut z = None;
        if step.noise > 0.0 {
            let buffer = z.insert(backend.alloc(len)?);
            normal(model, order, B::view_mut(buffer, 0..len), Purpose::SamplerStep, i as u64);
        }
        let z = z.as_ref().map(|z| B::view(z, 0..len));
        let saved = drawing.saved.as_mut().map(|saved| B::view_mut(saved, 0..len));
        backend.sampler_step(B::view_mut(&mut drawing.x, 0..len), saved, prediction.data(), z, *step);
        if !progress(i + 1) {
            return Err(Error::Interrupted);
        }
    }
    drawing.finish()
}

/// Noise for all samples, each from its own part of the stream.
fn normal<B: Backend>(model: &Model<'_, B>, order: &Order, out: B::Mut<'_>, purpose: Purpose, step: u64) {
    let config = model.dit.config();
    let each = config.channels * config.image[0] * order.canvas.width;
    let key = NoiseKey { seed: order.seed, step, purpose };
    model.backend.normal(out, key, order.first * each as u64);
}

/// Samples on their way.
struct Drawing<'a, B: Backend> {
    model: &'a Model<'a, B>,
    order: &'a Order,
    /// `[count, channels, height, canvas.width]`
    x: B::Buf,
    /// What a sampler of second order leaves from step to step.
    saved: Option<B::Buf>,
    /// The noise of the beginning, where it is needed once more.
    noise: Vec<f32>,
    /// Elements of x.
    len: usize,
}

impl<'a, B: Backend> Drawing<'a, B> {
    fn begin(model: &'a Model<'a, B>, path: &[Move], order: &'a Order) -> Result<Self> {
        let config = model.dit.config();
        let each = config.channels * config.image[0] * order.canvas.width;
        let len = order.count * each;
        let fits = |image: &Option<&Vec<f32>>| image.is_none_or(|image| image.len() == each);
        if !fits(&order.start.as_ref()) || !fits(&order.kept.as_ref().map(|kept| &kept.image)) {
            return Err(Error::shape("sampler", format!("an image of {each} values"), "another"));
        }
        let backend = model.backend;
        let second_order = path.iter().any(|part| part.step.from_saved != 0.0);
        let mut saved = second_order.then(|| backend.alloc(len)).transpose()?;
        if let Some(saved) = &mut saved {
            backend.fill(B::view_mut(saved, 0..len), 0.0);
        }
        let mut x = backend.alloc(len)?;
        normal(model, order, B::view_mut(&mut x, 0..len), Purpose::Sample, 0);
        let mut drawing = Drawing { model, order, x, saved, noise: Vec::new(), len };
        if order.start.is_some() || order.kept.is_some() {
            drawing.noise = drawing.download();
        }
        if let (Some(start), Some(first)) = (&order.start, path.first()) {
            let (alpha, sigma) = (model.schedule.alpha(first.t) as f32, model.schedule.sigma(first.t) as f32);
            let start = start.iter().cycle().zip(&drawing.noise);
            let mixed: Vec<f32> = start.map(|(start, noise)| alpha * start + sigma * noise).collect();
            backend.upload(B::view_mut(&mut drawing.x, 0..len), &mixed);
        }
        Ok(drawing)
    }

    fn download(&self) -> Vec<f32> {
        let mut host = vec![0.0; self.len];
        self.model.backend.download(&mut host, B::view(&self.x, 0..self.len));
        host
    }

    /// What stays is put back, with as much noise as the model expects in it at t.
    fn put_kept(&mut self, t: usize) -> Result<()> {
        if self.order.kept.is_none() {
            return Ok(());
        }
        let schedule = self.model.schedule;
        let noisy = [schedule.alpha(t) as f32, schedule.sigma(t) as f32];
        let mut x = self.download();
        self.put(&mut x, if self.order.kept_is_clean { [1.0, 0.0] } else { noisy });
        self.model.backend.upload(B::view_mut(&mut self.x, 0..self.len), &x);
        Ok(())
    }

    fn put(&self, x: &mut [f32], levels: [f32; 2]) {
        let Some(kept) = &self.order.kept else { return };
        let each = kept.image.len();
        for (x, noise) in x.chunks_exact_mut(each).zip(self.noise.chunks_exact(each)) {
            kept.put(x, noise, self.order.canvas.width, levels);
        }
    }

    /// The prediction for x, of x's shape.
    fn predict(&self, t: usize) -> Result<Var<B>> {
        let (backend, canvas) = (self.model.backend, &self.order.canvas);
        let config = self.model.dit.config();
        let window = [self.order.count, config.channels, config.image[0], config.image[1]];
        if canvas.is_one_window() {
            let mut copy = backend.alloc(self.len)?;
            backend.copy(B::view_mut(&mut copy, 0..self.len), B::view(&self.x, 0..self.len));
            return self.guided(window, copy, t);
        }
        let x = self.download();
        let mut sum = vec![0.0; self.len];
        let len = window.iter().product();
        for index in 0..canvas.windows() {
            let mut shown = backend.alloc(len)?;
            backend.upload(B::view_mut(&mut shown, 0..len), &canvas.look(index, &x));
            let prediction = self.guided(window, shown, t)?;
            let mut said = vec![0.0; len];
            backend.download(&mut said, prediction.data());
            canvas.add(index, &said, &mut sum);
        }
        let tape = Tape::forward_only(backend, self.model.dit.layout(), self.model.weights);
        tape.constant_from_host(&[self.order.count, config.channels, config.image[0], canvas.width], &sum)
    }

    /// The prediction for images `x`, guided by the captions: with and without them in one batch.
    fn guided(&self, shape: [usize; 4], x: B::Buf, t: usize) -> Result<Var<B>> {
        let Model { backend, dit, weights, schedule } = *self.model;
        let mut tape = Tape::forward_only(backend, dit.layout(), weights);
        let count = shape[0];
        let Some(guidance) = &self.order.guidance else {
            let x = tape.constant(&shape, x);
            return dit.forward(&mut tape, &x, &vec![t as f32; count], None);
        };
        let scale = guidance.scale_at(t, schedule.steps());
        if scale == 1.0 || scale == 0.0 {
            let captions = if scale == 1.0 { &guidance.wanted } else { &guidance.unwanted };
            let x = tape.constant(&shape, x);
            return dit.forward(&mut tape, &x, &vec![t as f32; count], Some(captions));
        }
        let len = B::len(&x);
        let mut both = backend.alloc(2 * len)?;
        for half in [0..len, len..2 * len] {
            backend.copy(B::view_mut(&mut both, half), B::view(&x, 0..len));
        }
        let captions = guidance.wanted.clone().and(&guidance.unwanted);
        let both = tape.constant(&[2 * count, shape[1], shape[2], shape[3]], both);
        let said = dit.forward(&mut tape, &both, &vec![t as f32; 2 * count], Some(&captions))?;
        let mut out = x;
        let (with, without) = (said.part(0..len), said.part(len..2 * len));
        let (scale, rescale) = (scale as f32, guidance.rescale as f32);
        backend.guide(B::view_mut(&mut out, 0..len), with, without, count, scale, rescale);
        Ok(tape.constant(&shape, out))
    }

    /// The images, with what was to stay.
    fn finish(self) -> Result<Vec<f32>> {
        let mut images = self.download();
        self.put(&mut images, [1.0, 0.0]);
        self.model.backend.check()?;
        Ok(images)
    }
}
