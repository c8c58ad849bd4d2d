//! Captures of streams into graphs, and what must not be done meanwhile.

use std::cell::Cell;
use std::thread::{self, ThreadId};

use super::graphs::Graph;
use super::streams::Kind;
use super::work::Work;
use super::{Handle, State, Status};

/// `CUstreamCaptureMode`: who must not call what is unsafe during the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody.
    Global,
    /// The capturing thread.
    ThreadLocal,
    /// Everybody may.
    Relaxed,
}

impl Mode {
    /// By its number.
    pub fn from_number(number: u32) -> Result<Mode, Status> {
        match number {
            0 => Ok(Mode::Global),
            1 => Ok(Mode::ThreadLocal),
            2 => Ok(Mode::Relaxed),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }
}

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    /// The context.
    pub context: Handle,
    /// Its mode.
    pub mode: Mode,
    /// The thread that began it.
    pub thread: ThreadId,
    /// The stream that it was begun on.
    pub origin: Handle,
    /// The graph that it becomes.
    pub graph: Handle,
    /// Whether the graph was there before (`cuStreamBeginCaptureToGraph`).
    pub borrowed: bool,
    /// Whether something that must not be done was done.
    pub invalid: bool,
}

/// `CUstreamCaptureStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureStatus {
    /// No capture.
    None = 0,
    /// Under way.
    Active = 1,
    /// Under way, but it will fail.
    Invalidated = 2,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// `cuThreadExchangeStreamCaptureMode`: the mode before.
pub fn exchange_mode(mode: Mode) -> Mode {
    MODE.replace(mode)
}

impl State {
    /// `cuStreamBeginCapture`, `cuStreamBeginCaptureToGraph`
    pub fn begin_capture(
        &mut self,
        stream: Handle,
        mode: Mode,
        into: Option<(Handle, Vec<Handle>)>,
    ) -> Result<(), Status> {
        let target = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        if target.kind == Kind::Legacy {
            return Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        if target.capture.is_some() {
            return Err(Status::ERROR_ILLEGAL_STATE);
        }
        let (context, borrowed) = (target.context, into.is_some());
        let (graph, tips) = match into {
            Some((graph, tips)) => {
                self.in_graph(graph, &tips)?;
                (graph, tips)
            }
            None => (self.new_graph(Graph::default()), Vec::new()),
        };
        let id = self.new_id();
        let thread = thread::current().id();
        let capture = Capture { context, mode, thread, origin: stream, graph, borrowed, invalid: false };
        self.captures.insert(id, capture);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.capture = Some((id, tips));
        }
        Ok(())
    }

    /// `cuStreamEndCapture`: the graph.
    pub fn end_capture(&mut self, stream: Handle) -> Result<Handle, Status> {
        let target = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        let (id, tips) = target.capture.clone().ok_or(Status::ERROR_ILLEGAL_STATE)?;
        let Some(capture) = self.captures.get(&id) else {
            // The stream that it began on is gone.
            self.leave_capture(id);
            return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        };
        if capture.origin != stream {
            self.invalidate(id);
            return Err(Status::ERROR_STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != Mode::Relaxed && capture.thread != thread::current().id() {
            return Err(Status::ERROR_STREAM_CAPTURE_WRONG_THREAD);
        }
        let (graph, invalid, borrowed) = (capture.graph, capture.invalid, capture.borrowed);
        let joined = self.graphs.get(&graph).map(|graph| graph.ancestors(&tips)).unwrap_or_default();
        let unjoined = self.streams.values().any(|other| {
            matches!(&other.capture, Some((of, tips)) if *of == id && tips.iter().any(|tip| !joined.contains(tip)))
        });
        self.captures.remove(&id);
        self.leave_capture(id);
        if !invalid && !unjoined {
            return Ok(graph);
        }
        if !borrowed {
            self.destroy_graph(graph);
        }
        Err(if invalid {
            Status::ERROR_STREAM_CAPTURE_INVALIDATED
        } else {
            Status::ERROR_STREAM_CAPTURE_UNJOINED
        })
    }

    fn leave_capture(&mut self, id: u64) {
        for stream in self.streams.values_mut() {
            if stream.capture.as_ref().is_some_and(|(of, _)| *of == id) {
                stream.capture = None;
            }
        }
    }

    /// Whether the capture can go on.
    ///
    /// # Errors
    /// `ERROR_STREAM_CAPTURE_INVALIDATED`
    pub fn usable(&self, capture: u64) -> Result<(), Status> {
        match self.captures.get(&capture) {
            Some(capture) if !capture.invalid => Ok(()),
            _ => Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED),
        }
    }

    /// The capture will fail.
    pub fn invalidate(&mut self, capture: u64) {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.invalid = true;
        }
    }

    /// `cuStreamIsCapturing`
    pub fn capture_status(&self, stream: Handle) -> Result<CaptureStatus, Status> {
        let stream = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        if stream.kind == Kind::Legacy && self.blocking_capture(stream.context).is_some() {
            return Err(Status::ERROR_STREAM_CAPTURE_IMPLICIT);
        }
        Ok(match &stream.capture {
            None => CaptureStatus::None,
            Some((capture, _)) if self.usable(*capture).is_ok() => CaptureStatus::Active,
            Some(_) => CaptureStatus::Invalidated,
        })
    }

    /// Adds a command to the graph of a stream's capture; the node.
    pub fn capture(&mut self, stream: Handle, work: Work) -> Result<Handle, Status> {
        let target = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        let (id, tips) = target.capture.clone().ok_or(Status::ERROR_ILLEGAL_STATE)?;
        self.usable(id)?;
        let graph = self.captures[&id].graph;
        let node = self.add_node(graph, work, tips)?;
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.capture = Some((id, vec![node]));
        }
        Ok(node)
    }

    /// A stream waits for an event that was recorded in a capture: it becomes part of it.
    pub fn join_capture(
        &mut self,
        stream: Handle,
        own: Option<(u64, Vec<Handle>)>,
        capture: u64,
        nodes: &[Handle],
    ) -> Result<(), Status> {
        if !self.captures.contains_key(&capture) {
            return Err(Status::ERROR_CAPTURED_EVENT);
        }
        self.usable(capture)?;
        let mut tips = match own {
            Some((own, _)) if own != capture => {
                self.invalidate(own);
                self.invalidate(capture);
                return Err(Status::ERROR_STREAM_CAPTURE_MERGE);
            }
            Some((_, tips)) => tips,
            None => Vec::new(),
        };
        for node in nodes {
            if !tips.contains(node) {
                tips.push(*node);
            }
        }
        let target = self.streams.get_mut(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        if target.kind == Kind::Legacy {
            self.invalidate(capture);
            return Err(Status::ERROR_STREAM_CAPTURE_IMPLICIT);
        }
        target.capture = Some((capture, tips));
        Ok(())
    }

    fn blocking_capture(&self, context: Handle) -> Option<u64> {
        let blocking = self.streams.values().filter(|stream| stream.context == context);
        blocking
            .filter(|stream| stream.kind == Kind::Blocking)
            .find_map(|stream| stream.capture.as_ref().map(|(capture, _)| *capture))
    }

    /// The legacy stream must not be used while a blocking one is being captured.
    pub(super) fn forbid_legacy(&mut self, context: Handle) -> Result<(), Status> {
        match self.blocking_capture(context) {
            Some(capture) => {
                self.invalidate(capture);
                Err(Status::ERROR_STREAM_CAPTURE_IMPLICIT)
            }
            None => Ok(()),
        }
    }

    /// For what may synchronise behind the program's back: allocation, waiting, blocking copies.
    ///
    /// # Errors
    /// `ERROR_STREAM_CAPTURE_UNSUPPORTED` where a capture forbids it, which has failed then.
    pub fn unsafe_in_captures(&mut self) -> Result<(), Status> {
        let (mode, own) = (MODE.get(), thread::current().id());
        let forbids = |capture: &Capture| match mode {
            Mode::Relaxed => false,
            Mode::ThreadLocal => capture.thread == own && capture.mode != Mode::Relaxed,
            Mode::Global => {
                capture.mode == Mode::Global || capture.thread == own && capture.mode != Mode::Relaxed
            }
        };
        self.forbid(forbids)
    }

    /// For what waits for everything in a context.
    ///
    /// # Errors
    /// `ERROR_STREAM_CAPTURE_UNSUPPORTED` where anything in it is being captured, which has failed then.
    pub fn forbid_while_capturing(&mut self, context: Handle) -> Result<(), Status> {
        self.forbid(|capture| capture.context == context)
    }

    /// For what waits for a stream.
    ///
    /// # Errors
    /// `ERROR_STREAM_CAPTURE_UNSUPPORTED` where it is being captured, which has failed then.
    pub fn forbid_on_captured(&mut self, stream: Handle) -> Result<(), Status> {
        let stream = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        match stream.capture {
            Some((capture, _)) => {
                self.invalidate(capture);
                Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED)
            }
            None if stream.kind == Kind::Legacy => self.forbid_legacy(stream.context),
            None => Ok(()),
        }
    }

    fn forbid(&mut self, forbids: impl Fn(&Capture) -> bool) -> Result<(), Status> {
        let mut forbidden = false;
        for capture in self.captures.values_mut().filter(|capture| forbids(capture)) {
            capture.invalid = true;
            forbidden = true;
        }
        if forbidden { Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
    }
}
