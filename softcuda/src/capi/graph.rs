//! Graphs as a whole: creation, instantiation, launches.

use std::ffi::{c_char, c_uint};

use super::{answer, answer_if_wanted, answer_text, wanted};
use crate::driver::graphs::Graph;
use crate::driver::{DRIVER, Handle, Status};

/// Instantiates a graph.
unsafe fn instantiate(executable: *mut Handle, graph: Handle, flags: u64) -> Result<(), Status> {
    wanted(executable)?;
    // Free memory at launch, upload, launch from the device, priorities of nodes.
    // The first and the third exclude each other.
    if flags & !15 != 0 || flags & 5 == 5 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    if flags & 4 != 0 {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    let handle = DRIVER.in_context(|state, _| state.instantiate(graph, flags))?;
    // SAFETY: as the program says.
    unsafe { answer(executable, handle) }
}

/// The old form, which explains errors in a buffer.
unsafe fn instantiate_with_log(
    executable: *mut Handle,
    graph: Handle,
    error_node: *mut Handle,
    (log, size): (*mut c_char, usize),
) -> Result<(), Status> {
    // SAFETY: as the program says.
    unsafe {
        answer_if_wanted(error_node, 0);
        let _ = answer_text("", log, size);
        instantiate(executable, graph, 0)
    }
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`
#[repr(C)]
struct Parameters {
    flags: u64,
    stream: Handle,
    error_node: Handle,
    result: c_uint,
}

/// `CUgraphExecUpdateResultInfo`
#[repr(C)]
struct UpdateResult {
    result: c_uint,
    node: Handle,
    from: Handle,
}

/// `CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED`
const TOPOLOGY_CHANGED: c_uint = 2;

fn update(executable: Handle, graph: Handle) -> (Result<(), Status>, c_uint) {
    let result = DRIVER.in_context(|state, _| state.update_executable(executable, graph));
    let code = match result {
        Ok(()) => 0,
        Err(Status::ERROR_GRAPH_EXEC_UPDATE_FAILURE) => TOPOLOGY_CHANGED,
        Err(_) => 1,
    };
    (result, code)
}

entry_points! {
    fn cuGraphCreate(graph: *mut Handle, flags: c_uint) {
        wanted(graph)?;
        if flags != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        answer(graph, DRIVER.with(|state| Ok(state.new_graph(Graph::default())))?)
    }

    fn cuGraphDestroy(graph: Handle) {
        let owns = DRIVER.with(|state| {
            let owns = !state.graph(graph)?.memory.is_empty();
            if state.captures.values().any(|capture| capture.graph == graph) {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            Ok(owns)
        })?;
        if owns {
            DRIVER.drain(|state| state.queue.is_empty());
        }
        DRIVER.with(|state| {
            state.destroy_graph(graph);
            Ok(())
        })
    }

    fn cuGraphClone(copy: *mut Handle, graph: Handle) {
        wanted(copy)?;
        answer(copy, DRIVER.with(|state| {
            let copied = state.clone_graph(graph)?;
            Ok(state.new_graph(copied))
        })?)
    }

    fn cuGraphInstantiateWithFlags(executable: *mut Handle, graph: Handle, flags: u64) {
        instantiate(executable, graph, flags)
    }

    fn cuGraphInstantiateWithParams(executable: *mut Handle, graph: Handle, parameters: *mut Parameters) {
        let parameters = parameters.as_mut().ok_or(Status::ERROR_INVALID_VALUE)?;
        let result = instantiate(executable, graph, parameters.flags);
        (parameters.error_node, parameters.result) = (0, u32::from(result.is_err()));
        result
    }

    fn cuGraphInstantiate_v2(
        executable: *mut Handle,
        graph: Handle,
        error_node: *mut Handle,
        log: *mut c_char,
        size: usize,
    ) = cuGraphInstantiate {
        instantiate_with_log(executable, graph, error_node, (log, size))
    }

    fn cuGraphUpload(executable: Handle, stream: Handle) {
        DRIVER.in_context(|state, context| {
            state.stream(context, stream)?;
            if state.executables.contains_key(&executable) { Ok(()) } else { Err(Status::ERROR_INVALID_VALUE) }
        })
    }

    fn cuGraphLaunch(executable: Handle, stream: Handle) {
        DRIVER.in_context(|state, context| {
            let stream = state.stream(context, stream)?;
            state.launch_graph(executable, stream)
        })
    }

    fn cuGraphExecDestroy(executable: Handle) {
        // Launches under way are finished first: they may use memory that the graph owns.
        let owns = DRIVER.with(|state| {
            let found = state.executables.get(&executable).ok_or(Status::ERROR_INVALID_VALUE)?;
            Ok(found.owns_memory())
        })?;
        if owns {
            DRIVER.drain(|state| state.queue.is_empty());
        }
        DRIVER.with(|state| state.destroy_executable(executable))
    }

    fn cuGraphExecGetFlags(executable: Handle, flags: *mut u64) {
        DRIVER.with(|state| {
            let found = state.executables.get(&executable).ok_or(Status::ERROR_INVALID_VALUE)?;
            answer(flags, found.flags)
        })
    }

    fn cuGraphExecUpdate_v2(executable: Handle, graph: Handle, to: *mut UpdateResult) {
        let (result, code) = update(executable, graph);
        answer_if_wanted(to, UpdateResult { result: code, node: 0, from: 0 });
        result
    }

    fn cuGraphExecUpdate(executable: Handle, graph: Handle, error_node: *mut Handle, to: *mut c_uint) {
        let (result, code) = update(executable, graph);
        answer_if_wanted(error_node, 0);
        answer_if_wanted(to, code);
        result
    }
}
