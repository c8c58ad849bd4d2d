//! Events.

use std::ffi::c_uint;

use super::{answer, wanted};
use crate::driver::events::EXTERNAL;
use crate::driver::{DRIVER, Handle, Status};

fn record(event: Handle, stream: Handle, flags: c_uint) -> Result<(), Status> {
    if flags & !EXTERNAL != 0 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    DRIVER.in_context(|state, context| {
        let stream = state.stream(context, stream)?;
        state.record(event, stream, flags & EXTERNAL != 0)
    })
}

entry_points! {
    fn cuEventCreate(event: *mut Handle, flags: c_uint) {
        wanted(event)?;
        answer(event, DRIVER.in_context(|state, context| state.create_event(context, flags))?)
    }

    fn cuEventDestroy_v2(event: Handle) = cuEventDestroy {
        DRIVER.in_context(|state, _| {
            state.event(event)?;
            state.events.remove(&event);
            Ok(())
        })
    }

    fn cuEventRecord(event: Handle, stream: Handle) {
        record(event, stream, 0)
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: c_uint) {
        record(event, stream, flags)
    }

    fn cuEventQuery(event: Handle) {
        let (context, ticket) = DRIVER.in_context(|state, _| {
            let ticket = state.awaited(event)?;
            state.unsafe_in_captures()?;
            Ok((state.event(event)?.context, ticket))
        })?;
        ticket.map_or(Ok(()), |ticket| DRIVER.poll(context, &ticket))
    }

    fn cuEventSynchronize(event: Handle) {
        let (context, ticket) = DRIVER.in_context(|state, _| {
            let ticket = state.awaited(event)?;
            state.unsafe_in_captures()?;
            Ok((state.event(event)?.context, ticket))
        })?;
        ticket.map_or(Ok(()), |ticket| DRIVER.wait(context, &ticket))
    }

    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: Handle, end: Handle) = cuEventElapsedTime {
        wanted(milliseconds)?;
        answer(milliseconds, DRIVER.in_context(|state, _| state.elapsed(start, end))?)
    }
}
