//! Captures of streams.

use std::ffi::{c_uint, c_void};

use super::{answer, answer_if_wanted, list, wanted};
use crate::driver::captures::{CaptureStatus, Mode, exchange_mode};
use crate::driver::{DRIVER, Handle, Status};

/// What is known of the capture of a stream.
struct Information {
    status: CaptureStatus,
    id: u64,
    graph: Handle,
    tips: *const Handle,
    count: usize,
}

fn information(stream: Handle) -> Result<Information, Status> {
    DRIVER.in_context(|state, context| {
        let stream = state.stream(context, stream)?;
        let status = state.capture_status(stream)?;
        let none = Information { status, id: 0, graph: 0, tips: std::ptr::null(), count: 0 };
        let capture = state.streams.get(&stream).and_then(|stream| stream.capture.as_ref());
        Ok(match capture {
            Some((id, tips)) if status == CaptureStatus::Active => Information {
                id: *id,
                graph: state.captures[id].graph,
                tips: tips.as_ptr(),
                count: tips.len(),
                ..none
            },
            _ => none,
        })
    })
}

/// Replaces or adds to the nodes that the next one follows.
unsafe fn update(stream: Handle, nodes: *const Handle, count: usize, flags: c_uint) -> Result<(), Status> {
    // SAFETY: the program says that so many lie there.
    let nodes = unsafe { list(nodes, count) }?;
    DRIVER.in_context(|state, context| {
        let stream = state.stream(context, stream)?;
        let capture = state.streams[&stream].capture.clone();
        let (id, old) = capture.ok_or(Status::ERROR_ILLEGAL_STATE)?;
        state.usable(id)?;
        let graph = state.captures[&id].graph;
        let mut tips = match flags {
            0 => old,
            1 => Vec::new(),
            _ => return Err(Status::ERROR_INVALID_VALUE),
        };
        tips.extend_from_slice(nodes);
        tips.sort_unstable();
        tips.dedup();
        state.in_graph(graph, &tips)?;
        if let Some(stream) = state.streams.get_mut(&stream) {
            stream.capture = Some((id, tips));
        }
        Ok(())
    })
}

fn begin(stream: Handle, mode: Mode, into: Option<(Handle, Vec<Handle>)>) -> Result<(), Status> {
    DRIVER.in_context(|state, context| {
        let stream = state.stream(context, stream)?;
        state.begin_capture(stream, mode, into)
    })
}

entry_points! {
    fn cuStreamBeginCapture(stream: Handle) {
        begin(stream, Mode::Global, None)
    }

    fn cuStreamBeginCapture_v2(stream: Handle, mode: c_uint) {
        begin(stream, Mode::from_number(mode)?, None)
    }

    fn cuStreamBeginCaptureToGraph(
        stream: Handle,
        graph: Handle,
        nodes: *const Handle,
        _edges: *const c_void,
        count: usize,
        mode: c_uint,
    ) {
        let nodes = list(nodes, count)?.to_vec();
        begin(stream, Mode::from_number(mode)?, Some((graph, nodes)))
    }

    fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) {
        wanted(graph)?;
        answer(graph, 0)?;
        let captured = DRIVER.in_context(|state, context| {
            let stream = state.stream(context, stream)?;
            state.end_capture(stream)
        })?;
        answer(graph, captured)
    }

    fn cuStreamIsCapturing(stream: Handle, status: *mut c_uint) {
        answer(status, information(stream)?.status as c_uint)
    }

    fn cuStreamGetCaptureInfo(stream: Handle, status: *mut c_uint, id: *mut u64) {
        let found = information(stream)?;
        answer_if_wanted(id, found.id);
        answer(status, found.status as c_uint)
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: Handle,
        status: *mut c_uint,
        id: *mut u64,
        graph: *mut Handle,
        nodes: *mut *const Handle,
        count: *mut usize,
    ) {
        let found = information(stream)?;
        answer_if_wanted(id, found.id);
        answer_if_wanted(graph, found.graph);
        answer_if_wanted(nodes, found.tips);
        answer_if_wanted(count, found.count);
        answer(status, found.status as c_uint)
    }

    fn cuStreamGetCaptureInfo_v3(
        stream: Handle,
        status: *mut c_uint,
        id: *mut u64,
        graph: *mut Handle,
        nodes: *mut *const Handle,
        edges: *mut *const c_void,
        count: *mut usize,
    ) {
        let found = information(stream)?;
        answer_if_wanted(id, found.id);
        answer_if_wanted(graph, found.graph);
        answer_if_wanted(nodes, found.tips);
        answer_if_wanted(edges, std::ptr::null());
        answer_if_wanted(count, found.count);
        answer(status, found.status as c_uint)
    }

    fn cuStreamUpdateCaptureDependencies(stream: Handle, nodes: *mut Handle, count: usize, flags: c_uint) {
        update(stream, nodes, count, flags)
    }

    fn cuStreamUpdateCaptureDependencies_v2(
        stream: Handle,
        nodes: *mut Handle,
        _edges: *const c_void,
        count: usize,
        flags: c_uint,
    ) {
        update(stream, nodes, count, flags)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: *mut c_uint) {
        wanted(mode)?;
        let before = exchange_mode(Mode::from_number(*mode)?);
        answer(mode, before as c_uint)
    }
}
