//! Events.

use std::sync::Arc;

use super::clock::Ticket;
use super::work::Work;
use super::{Handle, State, Status};

/// `CU_EVENT_DISABLE_TIMING`
pub const DISABLE_TIMING: u32 = 2;
/// `CU_EVENT_INTERPROCESS`
pub const INTERPROCESS: u32 = 4;
/// `CU_EVENT_RECORD_EXTERNAL`, `CU_EVENT_WAIT_EXTERNAL`
pub const EXTERNAL: u32 = 1;

/// An event.
#[derive(Debug)]
pub struct Event {
    /// Its context.
    pub context: Handle,
    /// Flags it was created with.
    pub flags: u32,
    /// The command that stands for its last record.
    pub recorded: Option<Arc<Ticket>>,
    /// Where its last record was captured: the capture, and the nodes recorded.
    pub captured: Option<(u64, Vec<Handle>)>,
}

impl State {
    /// A new event.
    pub fn create_event(&mut self, context: Handle, flags: u32) -> Result<Handle, Status> {
        if flags > 7 || flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let handle = self.new_handle();
        self.events.insert(handle, Event { context, flags, recorded: None, captured: None });
        Ok(handle)
    }

    /// An event by its handle.
    pub fn event(&mut self, handle: Handle) -> Result<&mut Event, Status> {
        self.events.get_mut(&handle).ok_or(Status::ERROR_INVALID_HANDLE)
    }

    /// `cuEventRecord`
    pub fn record(&mut self, event: Handle, stream: Handle, external: bool) -> Result<(), Status> {
        let owner = self.event(event)?.context;
        let target = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        if target.context != owner {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        if let Some((capture, nodes)) = target.capture.clone() {
            self.usable(capture)?;
            if external {
                return self.capture(stream, Work::Record(event)).map(drop);
            }
            self.event(event)?.captured = Some((capture, nodes));
            return Ok(());
        }
        if external {
            return Err(Status::ERROR_ILLEGAL_STATE);
        }
        let ticket = self.submit(stream, Work::Nothing, Vec::new())?;
        let event = self.event(event)?;
        (event.recorded, event.captured) = (ticket, None);
        Ok(())
    }

    /// `cuStreamWaitEvent`
    pub fn wait_event(&mut self, stream: Handle, event: Handle, external: bool) -> Result<(), Status> {
        let Event { recorded, captured, .. } = self.event(event)?;
        let (recorded, captured) = (recorded.clone(), captured.clone());
        let own = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?.capture.clone();
        if external {
            return match own {
                Some(_) => self.capture(stream, Work::Wait(event)).map(drop),
                None => Err(Status::ERROR_ILLEGAL_STATE),
            };
        }
        match (own, captured) {
            (own, Some((capture, nodes))) => self.join_capture(stream, own, capture, &nodes),
            (Some((capture, _)), None) => {
                self.usable(capture)?;
                if recorded.is_none() {
                    return Ok(());
                }
                self.invalidate(capture);
                Err(Status::ERROR_STREAM_CAPTURE_ISOLATION)
            }
            (None, None) => match recorded {
                Some(ticket) if !self.queue.host().covers(&ticket) => {
                    self.submit(stream, Work::Nothing, vec![ticket]).map(drop)
                }
                _ => Ok(()),
            },
        }
    }

    /// `cuEventElapsedTime`, ms.
    pub fn elapsed(&mut self, start: Handle, end: Handle) -> Result<f32, Status> {
        let mut time = |handle| {
            let event = self.event(handle)?;
            if event.captured.is_some() {
                return Err(Status::ERROR_CAPTURED_EVENT);
            }
            if event.flags & DISABLE_TIMING != 0 {
                return Err(Status::ERROR_INVALID_HANDLE);
            }
            event.recorded.clone().ok_or(Status::ERROR_INVALID_HANDLE)
        };
        let (start, end) = (time(start)?, time(end)?);
        match (start.end(), end.end()) {
            (Some(start), Some(end)) => Ok(((end as i64 - start as i64) as f64 / 1e9) as f32),
            _ => Err(Status::ERROR_NOT_READY),
        }
    }

    /// The command that a program waits for when it waits for the event; `None` if it was never recorded.
    pub fn awaited(&mut self, handle: Handle) -> Result<Option<Arc<Ticket>>, Status> {
        let event = self.event(handle)?;
        let (recorded, captured) = (event.recorded.clone(), event.captured.clone());
        if let Some((capture, _)) = captured {
            self.invalidate(capture);
            return Err(Status::ERROR_CAPTURED_EVENT);
        }
        Ok(recorded)
    }
}
