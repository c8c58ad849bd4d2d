//! Shuffled batches, addressed by seed and step, prepared one ahead.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::shuffle::{below, permuted, random_at};
use super::split::Split;
use super::store::Dataset;
use crate::error::{Error, Result};

/// Keeps the choice of captions apart from the order of segments.
const CAPTION_PURPOSE: u64 = 0x6361_7074;
/// Keeps the order of segments apart from whatever else is drawn from the seed.
const ORDER_PURPOSE: u64 = 0x6f72_6465;

/// What one step trains on.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The step it belongs to.
    pub step: u64,
    /// Normalised images, `[B, C, H, W]`.
    pub x0: Vec<f32>,
    /// Track of each sample: its place in [`Dataset::tracks`].
    pub tracks: Vec<usize>,
    /// A caption of each sample's track, drawn anew each time; empty where it has none.
    pub captions: Vec<String>,
}

/// Which samples a step sees: a pure function of the seed and the step, so a resumed run needs nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which side of the data.
    pub split: Split,
    /// Samples a step.
    pub batch: usize,
    /// Seed of order and captions.
    pub seed: u64,
}

impl Plan {
    /// Segment number of sample `i` of `step`, of `len` segments. Samples are numbered through all steps;
    /// every `len` of them are an epoch, which sees each segment once, in an order of its own.
    pub fn segment(&self, len: usize, step: u64, i: usize) -> usize {
        let (len, sample) = (len as u64, self.sample(step, i));
        let epoch = sample / len;
        permuted(random_at(self.seed, ORDER_PURPOSE, epoch), len, sample % len) as usize
    }

    /// Builds the batch of `step`.
    ///
    /// # Errors
    /// [`Error::Io`] when a shard cannot be read, [`Error::Format`] when it is damaged.
    pub fn build(&self, dataset: &Dataset, step: u64) -> Result<Batch> {
        let len = dataset.len(self.split);
        let size = dataset.shape().iter().product::<usize>();
        let mut x0 = vec![0.0; self.batch * size];
        let mut tracks = Vec::with_capacity(self.batch);
        let mut captions = Vec::with_capacity(self.batch);
        for (i, out) in x0.chunks_exact_mut(size).enumerate() {
            let track = dataset.read_segment(self.split, self.segment(len, step, i), out)?;
            let all = &dataset.tracks()[track].captions;
            let draw = random_at(self.seed ^ CAPTION_PURPOSE, self.sample(step, i), 0);
            captions.push(all.get(below(draw, all.len() as u64) as usize).cloned().unwrap_or_default());
            tracks.push(track);
        }
        Ok(Batch { step, x0, tracks, captions })
    }

    fn sample(&self, step: u64, i: usize) -> u64 {
        step * self.batch as u64 + i as u64
    }
}

/// Batches of consecutive steps, the next one made by a thread while the current one is used.
pub struct Batches {
    /// `None` only while dropping.
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
    wait_ms: f64,
}

impl Batches {
    /// Starts at `first_step`.
    ///
    /// # Errors
    /// [`Error::Config`] for a batch of nothing, [`Error::Format`] for a split without segments.
    pub fn new(dataset: Arc<Dataset>, plan: Plan, first_step: u64) -> Result<Self> {
        if plan.batch == 0 {
            return Err(Error::config("train.batch", "0 samples a step train nothing"));
        }
        if dataset.is_empty(plan.split) {
            return Err(Error::format(
                dataset.dir(),
                format!("has no {:?} segments", plan.split).to_lowercase(),
            ));
        }
        // No room in the channel: the thread holds exactly one finished batch, and starts the next one when
        // that is taken.
        let (sender, receiver) = sync_channel(0);
        let make = move || {
            for step in first_step.. {
                let batch = plan.build(&dataset, step);
                let is_last = batch.is_err();
                if sender.send(batch).is_err() || is_last {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("batches".to_string()).spawn(make);
        let thread = thread.map_err(Error::io("start", "the loader's thread"))?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread), wait_ms: 0.0 })
    }

    /// The next step's batch.
    ///
    /// # Errors
    /// [`Error::Io`] when a shard cannot be read, [`Error::Format`] when it is damaged; there is no batch after an error.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let start = Instant::now();
        let received = self.receiver.as_ref().map(Receiver::recv);
        self.wait_ms += start.elapsed().as_secs_f64() * 1e3;
        match received {
            Some(Ok(batch)) => batch,
            _ => Err(Error::io("read", "batches")(std::io::Error::other("the loader has stopped"))),
        }
    }

    /// Time that [`next_batch`](Self::next_batch) has spent waiting so far, in milliseconds: near 0 when the
    /// loader keeps up.
    pub fn wait_ms(&self) -> f64 {
        self.wait_ms
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without a receiver the thread's send fails, which ends it.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
