//! Device memory: who owns it, and the calls that take and give it.

use std::sync::Arc;

use super::clock::Ticket;
use super::execute::describe;
use super::host::Origin;
use super::ranges::Ranges;
use super::work::{Copy, Fill, Place, Side, Work};
use super::{Driver, Handle, State, Status, report};
use crate::checks::Check;
use crate::machine::memory::Kind;

/// Device memory that a program has been given.
#[derive(Debug)]
pub struct Allocation {
    /// The context.
    pub context: Handle,
    /// Bytes.
    pub bytes: u64,
    /// The pool that it came from; `None` for `cuMemAlloc`.
    pub pool: Option<Handle>,
    /// How many graphs, executable ones included, have it as the memory of a node.
    pub graphs: u32,
    /// Whether its free has been given to a stream.
    pub freed: bool,
    /// `cuPointerGetAttribute(CU_POINTER_ATTRIBUTE_BUFFER_ID)`
    pub id: u64,
}

impl State {
    /// Takes device memory.
    ///
    /// # Errors
    /// `ERROR_OUT_OF_MEMORY`
    pub fn allocate(&mut self, context: Handle, bytes: u64, pool: Option<Handle>) -> Result<u64, Status> {
        let base = self.memory.allocate(bytes, Kind::Device).ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let id = self.new_id();
        let allocation = Allocation { context, bytes, pool, graphs: 0, freed: false, id };
        self.allocations.insert(base, allocation);
        if let Some(pool) = pool.and_then(|pool| self.pools.get_mut(&pool)) {
            pool.take(bytes);
        }
        Ok(base)
    }

    /// Gives device memory back, by its first address.
    pub fn release(&mut self, base: u64) {
        let Some(allocation) = self.allocations.remove(&base) else { return };
        self.memory.release(base);
        if let Some(pool) = allocation.pool.and_then(|pool| self.pools.get_mut(&pool)) {
            pool.give(allocation.bytes);
        }
    }

    /// `cuMemAllocAsync`: usable behind what the stream has.
    pub fn allocate_async(&mut self, stream: Handle, bytes: u64, pool: Handle) -> Result<u64, Status> {
        let target = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        let (context, capture) = (target.context, target.capture.clone());
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if !self.pools.contains_key(&pool) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let graph = match &capture {
            Some((capture, _)) => {
                self.usable(*capture)?;
                Some(self.captures[capture].graph)
            }
            None => None,
        };
        let base = self.allocate(context, bytes, Some(pool))?;
        if let Some(graph) = graph {
            self.graph(graph)?.memory.insert(base, false);
            if let Some(allocation) = self.allocations.get_mut(&base) {
                allocation.graphs = 1;
            }
        }
        match self.submit(stream, Work::Allocate(base, bytes), Vec::new()) {
            Ok(_) => Ok(base),
            Err(error) => {
                self.release(base);
                Err(error)
            }
        }
    }

    /// `cuMemFreeAsync`
    pub fn free_async(&mut self, stream: Handle, base: u64) -> Result<(), Status> {
        let target = self.streams.get(&stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
        let capturing = target.capture.as_ref().map(|(capture, _)| *capture);
        let allocation = self.allocations.get(&base).ok_or(Status::ERROR_INVALID_VALUE)?;
        let (bytes, of_graph) = (allocation.bytes, allocation.graphs > 0);
        if allocation.freed {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        match capturing.and_then(|capture| self.captures.get(&capture)).map(|capture| capture.graph) {
            Some(current) => {
                // A graph frees what it allocated, once.
                let freed = self.graph(current)?.memory.get_mut(&base).ok_or(Status::ERROR_INVALID_VALUE)?;
                if std::mem::replace(freed, true) {
                    return Err(Status::ERROR_INVALID_VALUE);
                }
                self.submit(stream, Work::GraphFree(base, bytes), Vec::new())?;
            }
            None if of_graph => {
                self.submit(stream, Work::GraphFree(base, bytes), Vec::new())?;
            }
            None => {
                self.submit(stream, Work::Free(base, bytes), Vec::new())?;
                if let Some(allocation) = self.allocations.get_mut(&base) {
                    allocation.freed = true;
                }
            }
        }
        Ok(())
    }

    /// Whether all bytes lie in one piece of memory that the device can address.
    ///
    /// # Errors
    /// `ERROR_INVALID_VALUE`, with a line for the user.
    pub fn addressable(&self, address: u64, bytes: u64) -> Result<(), Status> {
        if bytes == 0 {
            return Ok(());
        }
        let whole = self.memory.find(address).is_some_and(|(base, size)| bytes <= base + size - address);
        if !whole {
            if self.settings.checks.has(Check::Memory) {
                let place = describe(&self.memory, address);
                let place = if place.is_empty() { "no allocation".to_string() } else { place };
                report::line(&format!(
                    "memory check: a call on {bytes} bytes at {address:#x} is refused ({place})"
                ));
            }
            return Err(Status::ERROR_INVALID_VALUE);
        }
        Ok(())
    }

    /// A side of a copy that must be device-addressable.
    pub fn device_side(&self, address: u64, bytes: u64) -> Result<Place, Status> {
        self.addressable(address, bytes)?;
        Ok(self.place(address))
    }

    /// A side of a copy that is host memory.
    pub fn host_side(&self, address: u64, bytes: u64) -> Result<Place, Status> {
        if address == 0 && bytes > 0 || address >= super::DEVICE_BASE {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        Ok(self.place(address))
    }

    /// Whether every row of a copy's side is there.
    pub fn whole(&self, copy: &Copy, side: Side) -> Result<(), Status> {
        match side.place {
            Place::Pageable(0) if copy.bytes() > 0 => Err(Status::ERROR_INVALID_VALUE),
            Place::Pageable(_) => Ok(()),
            _ => copy.ranges(side).iter().try_for_each(|(start, end)| self.addressable(start, end - start)),
        }
    }

    /// Gives a copy to a stream. What is left to do at the call: waiting for the ticket, if there is one.
    pub fn copy(&mut self, stream: Handle, mut copy: Copy, how: Wait) -> Result<Option<Arc<Ticket>>, Status> {
        if copy.bytes() == 0 {
            return Ok(None);
        }
        let capturing = self.streams.get(&stream).is_some_and(|stream| stream.capture.is_some());
        let to_pageable = matches!(copy.to.place, Place::Pageable(_));
        let from_pageable = matches!(copy.from.place, Place::Pageable(_));
        let on_device = matches!((copy.to.place, copy.from.place), (Place::Device(_), Place::Device(_)));
        // Copies within the device do not wait even where the call has no stream.
        let at_once = match how {
            Wait::Always => !on_device,
            Wait::AsMemorySays => to_pageable,
        };
        if !capturing {
            self.stage(&mut copy, at_once && !(from_pageable && how == Wait::AsMemorySays));
        }
        let ticket = self.submit(stream, Work::Copy(copy), Vec::new())?;
        Ok(ticket.filter(|_| at_once))
    }

    /// Whether a fill's elements are aligned and there.
    ///
    /// # Errors
    /// `ERROR_INVALID_VALUE`
    pub fn fillable(&self, fill: &Fill) -> Result<(), Status> {
        let element = u64::from(fill.element);
        let row = fill.width.checked_mul(element).filter(|_| matches!(element, 1 | 2 | 4));
        let row = row.ok_or(Status::ERROR_INVALID_VALUE)?;
        let aligned =
            fill.to.is_multiple_of(element) && (fill.rows <= 1 || fill.pitch.is_multiple_of(element));
        if !aligned || fill.rows > 1 && fill.pitch < row {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        extent(row, fill.pitch, fill.rows, 0, 1)?;
        fill.ranges().iter().try_for_each(|(start, end)| self.addressable(start, end - start))
    }

    /// Gives a fill to a stream.
    pub fn fill(&mut self, stream: Handle, fill: Fill) -> Result<(), Status> {
        self.fillable(&fill)?;
        if fill.bytes() == 0 {
            return Ok(());
        }
        self.submit(stream, Work::Fill(fill), Vec::new()).map(drop)
    }
}

/// Whether rows and slices reach no further than addresses do.
pub fn extent(width: u64, pitch: u64, rows: u64, slice: u64, slices: u64) -> Result<(), Status> {
    let far = |stride: u64, count: u64| stride.checked_mul(count.saturating_sub(1));
    let end = far(pitch, rows).zip(far(slice, slices)).and_then(|(rows, slices)| rows.checked_add(slices));
    let end = end.and_then(|end| end.checked_add(width)).filter(|end| *end < super::DEVICE_BASE);
    let bytes = width.checked_mul(rows).and_then(|bytes| bytes.checked_mul(slices));
    match end.zip(bytes) {
        Some((_, bytes)) if bytes < super::DEVICE_BASE => Ok(()),
        _ => Err(Status::ERROR_INVALID_VALUE),
    }
}

/// Whether a copy's call returns before the copy has been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It does not, unless both ends are on the device.
    Always,
    /// It does, unless the destination is pageable memory.
    AsMemorySays,
}

impl Driver {
    /// Takes device memory; waits for pending frees where there is too little.
    pub fn allocate(&'static self, bytes: u64) -> Result<u64, Status> {
        let attempt = || {
            self.in_context(|state, context| {
                state.unsafe_in_captures()?;
                if bytes == 0 {
                    return Err(Status::ERROR_INVALID_VALUE);
                }
                state.allocate(context, bytes, None)
            })
        };
        self.after_pending_frees(attempt)
    }

    /// Tries again after everything pending has been executed where there was too little memory.
    pub fn after_pending_frees<T>(
        &'static self,
        attempt: impl Fn() -> Result<T, Status>,
    ) -> Result<T, Status> {
        match attempt() {
            Err(Status::ERROR_OUT_OF_MEMORY) => {
                self.drain(|state| state.queue.is_empty());
                attempt()
            }
            other => other,
        }
    }

    /// `cuMemFree`: waits for everything pending, but for memory of pools, whose users must have waited themselves.
    pub fn free(&'static self, base: u64) -> Result<(), Status> {
        if base == 0 {
            return self.in_context(|_, _| Ok(()));
        }
        let (context, pooled, managed) = self.in_context(|state, context| {
            state.unsafe_in_captures()?;
            if state.pinned.get(&base).is_some_and(|pinned| pinned.origin == Origin::Managed) {
                return Ok((context, false, true));
            }
            match state.allocations.get(&base) {
                Some(allocation) if !allocation.freed => Ok((context, allocation.pool.is_some(), false)),
                _ => Err(Status::ERROR_INVALID_VALUE),
            }
        })?;
        if !pooled {
            self.drain_context(context);
        }
        self.in_context(|state, context| {
            if managed {
                state.unpin(base);
                return Ok(());
            }
            if pooled && state.settings.checks.has(Check::Stream) {
                let bytes = state.allocations.get(&base).map_or(0, |allocation| allocation.bytes);
                let range: Ranges = [(base, base + bytes)].into_iter().collect();
                let memory = state.memory.clone();
                let finding = state.accesses.host_touches(
                    state.queue.host(),
                    "cuMemFree of stream-ordered memory",
                    &range,
                    |at| describe(&memory, at),
                );
                if let Some(finding) = finding {
                    state.found(context, &finding);
                    return state.sound(context);
                }
            }
            state.release(base);
            Ok(())
        })
    }

    /// `cuMemFreeHost`, `cuMemHostUnregister`: waits for everything pending.
    pub fn unpin(&'static self, address: u64, origin: Origin) -> Result<(), Status> {
        let context = self.in_context(|state, context| {
            state.unsafe_in_captures()?;
            match state.pinned.get(&address) {
                Some(pinned) if pinned.origin == origin => Ok(context),
                _ if origin == Origin::Registered => Err(Status::ERROR_HOST_MEMORY_NOT_REGISTERED),
                _ => Err(Status::ERROR_INVALID_VALUE),
            }
        })?;
        self.drain_context(context);
        self.in_context(|state, _| {
            state.unpin(address);
            Ok(())
        })
    }
}
