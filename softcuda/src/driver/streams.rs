//! Streams, and what giving a command to one implies.

use std::sync::Arc;
use std::thread;

use super::clock::{Ticket, Tickets};
use super::work::Work;
use super::{Driver, Handle, State, Status};

/// `CU_STREAM_LEGACY`
pub const LEGACY: Handle = 1;
/// `CU_STREAM_PER_THREAD`
pub const PER_THREAD: Handle = 2;

/// What orders a stream beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The legacy default stream: waits for all blocking streams, and they for it.
    Legacy,
    /// Created without flags, or a thread's default stream.
    Blocking,
    /// Created with `CU_STREAM_NON_BLOCKING`.
    NonBlocking,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Its context.
    pub context: Handle,
    /// Flags it was created with.
    pub flags: u32,
    /// Its priority.
    pub priority: i32,
    /// `cuStreamGetId`
    pub id: u64,
    /// What orders it.
    pub kind: Kind,
    /// Its chain in the order of commands.
    pub chain: u32,
    /// The last command given to it.
    pub last: Option<Arc<Ticket>>,
    /// While it is being captured: the capture, and the nodes that the next one follows.
    pub capture: Option<(u64, Vec<Handle>)>,
}

impl State {
    /// A new stream.
    pub fn create_stream(&mut self, context: Handle, flags: u32, priority: i32, kind: Kind) -> Handle {
        let (handle, id, chain) = (self.new_handle(), self.new_id(), self.queue.new_chain());
        let stream = Stream { context, flags, priority, id, kind, chain, last: None, capture: None };
        self.streams.insert(handle, stream);
        handle
    }

    /// The stream that a program means: its own, or a default stream of the context.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE`
    pub fn stream(&mut self, context: Handle, handle: Handle) -> Result<Handle, Status> {
        match handle {
            0 | LEGACY => Ok(self.context(context)?.legacy),
            PER_THREAD => {
                let thread = thread::current().id();
                if let Some(stream) = self.context(context)?.per_thread.get(&thread) {
                    return Ok(*stream);
                }
                let stream = self.create_stream(context, 0, 0, Kind::Blocking);
                self.context(context)?.per_thread.insert(thread, stream);
                Ok(stream)
            }
            _ if self.streams.contains_key(&handle) => Ok(handle),
            _ => Err(Status::ERROR_INVALID_HANDLE),
        }
    }

    /// Takes a stream away; what was given to it is still executed.
    pub fn remove_stream(&mut self, handle: Handle) {
        if let Some(stream) = self.streams.remove(&handle) {
            self.queue.retire_chain(stream.chain);
            if let Some((capture, _)) = stream.capture {
                self.invalidate(capture);
            }
        }
    }

    /// What the next command of a stream comes after.
    pub fn before_next(&self, handle: Handle) -> Tickets {
        let Some(stream) = self.streams.get(&handle) else { return Tickets::new() };
        let own = stream.last.iter().cloned();
        match stream.kind {
            Kind::NonBlocking => own.collect(),
            Kind::Blocking => {
                let legacy = self.contexts.get(&stream.context).map_or(0, |context| context.legacy);
                let legacy = self.streams.get(&legacy).and_then(|legacy| legacy.last.clone());
                own.chain(legacy).collect()
            }
            Kind::Legacy => {
                let others = self
                    .streams
                    .values()
                    .filter(|other| other.context == stream.context && other.kind == Kind::Blocking);
                own.chain(others.filter_map(|other| other.last.clone())).collect()
            }
        }
    }

    /// Gives a command to a stream, behind what the stream has and `after`. While the stream is being captured the
    /// command becomes a node of the graph, and there is no ticket.
    ///
    /// # Errors
    /// What captures forbid.
    pub fn submit(
        &mut self,
        handle: Handle,
        work: Work,
        after: Tickets,
    ) -> Result<Option<Arc<Ticket>>, Status> {
        let stream = self.streams.get(&handle).ok_or(Status::ERROR_INVALID_HANDLE)?;
        if stream.capture.is_some() {
            self.capture(handle, work)?;
            return Ok(None);
        }
        if stream.kind == Kind::Legacy {
            self.forbid_legacy(stream.context)?;
        }
        Ok(self.enqueue(handle, work, after))
    }

    /// The same for a stream that is not being captured.
    pub fn enqueue(&mut self, handle: Handle, work: Work, mut after: Tickets) -> Option<Arc<Ticket>> {
        after.extend(self.before_next(handle));
        let stream = self.streams.get(&handle)?;
        let (context, chain, place) = (stream.context, stream.chain, self.stream_name(handle));
        let ticket = self.queue.submit(context, chain, work, place, after);
        if let Some(stream) = self.streams.get_mut(&handle) {
            stream.last = Some(ticket.clone());
        }
        Some(ticket)
    }

    /// For messages.
    pub fn stream_name(&self, handle: Handle) -> String {
        match self.streams.get(&handle) {
            Some(stream) if stream.kind == Kind::Legacy => "the default stream".to_string(),
            Some(stream) => format!("stream {}", stream.id),
            None => "a stream that is gone".to_string(),
        }
    }

    /// The host has seen that a command has been executed, and so everything before it.
    pub fn host_saw(&mut self, ticket: &Ticket) {
        self.queue.host_saw(&ticket.clock);
        self.forget_accesses();
    }

    /// Forgets what the stream check does not need any more.
    pub fn forget_accesses(&mut self) {
        if !self.accesses.is_empty() {
            let waiting: Vec<_> = self.queue.waiting().map(|command| command.ticket.clone()).collect();
            self.accesses.forget(self.queue.host(), &waiting);
        }
    }
}

impl Driver {
    /// Executes until a command has been, which the host sees then.
    ///
    /// # Errors
    /// The sticky error of the context.
    pub fn wait(&'static self, context: Handle, ticket: &Arc<Ticket>) -> Result<(), Status> {
        self.drain(|_| ticket.is_done());
        self.with(|state| {
            state.host_saw(ticket);
            state.sound(context)
        })
    }

    /// Whether a command has been executed. Executes one command towards it if not, so that programs that ask again
    /// and again get there.
    ///
    /// # Errors
    /// `ERROR_NOT_READY`, or the sticky error of the context.
    pub fn poll(&'static self, context: Handle, ticket: &Arc<Ticket>) -> Result<(), Status> {
        if !ticket.is_done() {
            self.step(|_| ticket.is_done(), false);
            self.with(|state| state.sound(context))?;
            return Err(Status::ERROR_NOT_READY);
        }
        self.wait(context, ticket)
    }
}
