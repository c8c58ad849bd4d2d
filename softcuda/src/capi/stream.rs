//! Streams.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::{answer, wanted};
use crate::driver::clock::Ticket;
use crate::driver::events::EXTERNAL;
use crate::driver::streams::{Kind, Stream};
use crate::driver::work::{StreamCallback, Work};
use crate::driver::{DRIVER, Handle, Status};

/// The highest priority of streams: the smallest number.
pub(super) const GREATEST_PRIORITY: c_int = -5;

unsafe fn create(stream: *mut Handle, flags: c_uint, priority: c_int) -> Result<(), Status> {
    wanted(stream)?;
    let kind = match flags {
        0 => Kind::Blocking,
        1 => Kind::NonBlocking,
        _ => return Err(Status::ERROR_INVALID_VALUE),
    };
    let priority = priority.clamp(GREATEST_PRIORITY, 0);
    let handle =
        DRIVER.in_context(|state, context| Ok(state.create_stream(context, flags, priority, kind)))?;
    // SAFETY: as the program says.
    unsafe { answer(stream, handle) }
}

/// Something about a stream.
fn of<T>(stream: Handle, look: impl FnOnce(&Stream) -> T) -> Result<T, Status> {
    DRIVER.in_context(|state, context| {
        let stream = state.stream(context, stream)?;
        state.streams.get(&stream).map(look).ok_or(Status::ERROR_INVALID_HANDLE)
    })
}

/// What waiting for a stream waits for: each last command that its next one would come after.
fn awaited(stream: Handle) -> Result<(Handle, Vec<Arc<Ticket>>), Status> {
    DRIVER.in_context(|state, context| {
        let stream = state.stream(context, stream)?;
        state.forbid_on_captured(stream)?;
        state.unsafe_in_captures()?;
        let context = state.streams[&stream].context;
        let legacy = state.streams[&stream].kind == Kind::Legacy;
        let own = state.streams[&stream].last.clone();
        Ok((context, if legacy { state.before_next(stream) } else { own.into_iter().collect() }))
    })
}

entry_points! {
    fn cuStreamCreate(stream: *mut Handle, flags: c_uint) {
        create(stream, flags, 0)
    }

    fn cuStreamCreateWithPriority(stream: *mut Handle, flags: c_uint, priority: c_int) {
        create(stream, flags, priority)
    }

    fn cuStreamDestroy_v2(stream: Handle) = cuStreamDestroy {
        DRIVER.in_context(|state, _| {
            let default = |(_, context): (&Handle, &crate::driver::contexts::Context)| {
                context.legacy == stream || context.per_thread.values().any(|own| *own == stream)
            };
            if !state.streams.contains_key(&stream) || state.contexts.iter().any(default) {
                return Err(Status::ERROR_INVALID_HANDLE);
            }
            state.remove_stream(stream);
            Ok(())
        })
    }

    fn cuStreamSynchronize(stream: Handle) {
        let (context, tickets) = awaited(stream)?;
        tickets.iter().try_for_each(|ticket| DRIVER.wait(context, ticket))?;
        DRIVER.with(|state| state.sound(context))
    }

    fn cuStreamQuery(stream: Handle) {
        let (context, tickets) = awaited(stream)?;
        tickets.iter().try_for_each(|ticket| DRIVER.poll(context, ticket))?;
        DRIVER.with(|state| state.sound(context))
    }

    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) {
        if flags & !EXTERNAL != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        DRIVER.in_context(|state, context| {
            let stream = state.stream(context, stream)?;
            state.wait_event(stream, event, flags & EXTERNAL != 0)
        })
    }

    fn cuStreamGetFlags(stream: Handle, flags: *mut c_uint) {
        let found = of(stream, |stream| stream.flags)?;
        answer(flags, found)
    }

    fn cuStreamGetPriority(stream: Handle, priority: *mut c_int) {
        let found = of(stream, |stream| stream.priority)?;
        answer(priority, found)
    }

    fn cuStreamGetId(stream: Handle, id: *mut u64) {
        let found = of(stream, |stream| stream.id)?;
        answer(id, found)
    }

    fn cuStreamGetCtx(stream: Handle, context: *mut Handle) {
        let found = of(stream, |stream| stream.context)?;
        answer(context, found)
    }

    fn cuStreamGetDevice(stream: Handle, device: *mut c_int) {
        of(stream, |_| ())?;
        answer(device, 0)
    }

    fn cuStreamAddCallback(
        stream: Handle,
        callback: Option<StreamCallback>,
        data: *mut c_void,
        flags: c_uint,
    ) {
        let callback = callback.filter(|_| flags == 0).ok_or(Status::ERROR_INVALID_VALUE)?;
        DRIVER.in_context(|state, context| {
            let target = state.stream(context, stream)?;
            state.forbid_on_captured(target)?;
            state.submit(target, Work::Callback(callback, stream, data as usize), Vec::new()).map(drop)
        })
    }

    fn cuStreamAttachMemAsync(stream: Handle, address: u64, _bytes: usize, flags: c_uint) {
        if !matches!(flags, 1 | 2 | 4) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        DRIVER.in_context(|state, context| {
            state.stream(context, stream)?;
            let managed = state
                .pinned_at(address)
                .is_some_and(|(_, pinned)| pinned.origin == crate::driver::host::Origin::Managed);
            if managed { Ok(()) } else { Err(Status::ERROR_INVALID_VALUE) }
        })
    }

    fn cuStreamCopyAttributes(to: Handle, from: Handle) {
        of(to, |_| ())?;
        of(from, |_| ())
    }
}
