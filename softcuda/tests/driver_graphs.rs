//! Captures and graphs: what is recorded, what is forbidden meanwhile, and what launches replay.
#![allow(unsafe_code)] // the driver API is a C interface

mod driver;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DevicePtr, LaunchConfig, PushKernelArg, sys};
use driver::{Softcuda, code, kernel, ok, stream};
use sys::{CUgraphInstantiate_flags as Flags, CUstreamCaptureMode as Mode};

const BLOCK: LaunchConfig = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };
const NO_FLAGS: Flags = Flags(0);

fn launch(stream: &Arc<CudaStream>, kernel: &CudaFunction, address: u64, value: u32, words: u32) {
    unsafe { stream.launch_builder(kernel).arg(&address).arg(&value).arg(&words).launch(BLOCK).unwrap() };
}

fn zeros(words: usize) -> u64 {
    let mut address = 0;
    unsafe {
        ok(sys::cuMemAlloc_v2(&mut address, words * 4));
        ok(sys::cuMemsetD32_v2(address, 0, words));
        ok(sys::cuCtxSynchronize());
    }
    address
}

fn read(address: u64, words: usize) -> Vec<u32> {
    let mut buffer = vec![0u32; words];
    unsafe { ok(sys::cuMemcpyDtoH_v2(buffer.as_mut_ptr().cast(), address, words * 4)) };
    buffer
}

/// A context, a stream of it and the two kernels.
fn begin(softcuda: &Softcuda) -> (Arc<CudaContext>, Arc<CudaStream>, CudaFunction, CudaFunction) {
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let (fill, add) = (kernel(&context, "fill"), kernel(&context, "add"));
    (context, stream, fill, add)
}

/// Number of nodes and edges.
fn shape(graph: sys::CUgraph) -> (usize, usize) {
    let (mut nodes, mut edges) = (0, 0);
    unsafe {
        ok(sys::cuGraphGetNodes(graph, null_mut(), &mut nodes));
        ok(sys::cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges));
    }
    (nodes, edges)
}

#[test]
fn what_is_captured_is_not_executed_until_it_is_launched() {
    for seed in 0..5 {
        let softcuda = Softcuda::seeded(seed);
        let (_context, stream, fill, add) = begin(&softcuda);
        let memory = zeros(64);
        stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        launch(&stream, &fill, memory, 1, 32);
        launch(&stream, &add, memory, 10, 64);
        let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
        assert_eq!(shape(graph.cu_graph()), (2, 1));
        assert_eq!(read(memory, 64), [0; 64]);
        graph.upload().unwrap();
        for _ in 0..3 {
            graph.launch().unwrap();
        }
        stream.synchronize().unwrap();
        assert_eq!(read(memory, 64), [[11u32; 32], [30; 32]].concat());
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn branches_of_a_capture_are_joined_by_events() {
    for seed in 0..20 {
        let softcuda = Softcuda::seeded(seed);
        let (context, one, fill, add) = begin(&softcuda);
        let two = stream(&context);
        let memory = zeros(64);
        one.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        launch(&one, &fill, memory, 1, 64);
        two.wait(&one.record_event(None).unwrap()).unwrap();
        launch(&one, &add, memory, 1, 32);
        launch(&two, &add, memory + 128, 2, 32);
        use sys::CUstreamCaptureStatus as Status;
        assert_eq!(two.capture_status().unwrap(), Status::CU_STREAM_CAPTURE_STATUS_ACTIVE);
        one.wait(&two.record_event(None).unwrap()).unwrap();
        launch(&one, &add, memory, 100, 64);
        let graph = one.end_capture(NO_FLAGS).unwrap().unwrap();
        assert_eq!(two.capture_status().unwrap(), Status::CU_STREAM_CAPTURE_STATUS_NONE);
        assert_eq!(shape(graph.cu_graph()), (4, 4));
        graph.launch().unwrap();
        graph.launch().unwrap();
        one.synchronize().unwrap();
        assert_eq!(read(memory, 64), [[102u32; 32], [103; 32]].concat());
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn branches_that_touch_the_same_memory_are_found() {
    let softcuda = Softcuda::with(&[]);
    let (context, one, fill, add) = begin(&softcuda);
    let two = stream(&context);
    let memory = zeros(64);
    one.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    launch(&one, &fill, memory, 1, 64);
    two.wait(&one.record_event(None).unwrap()).unwrap();
    launch(&one, &add, memory, 1, 33);
    launch(&two, &add, memory + 128, 2, 32);
    one.wait(&two.record_event(None).unwrap()).unwrap();
    let graph = one.end_capture(NO_FLAGS).unwrap().unwrap();
    graph.launch().unwrap();
    assert_eq!(one.synchronize().unwrap_err().0 as u32, 719);
    let findings = softcuda.findings();
    assert!(findings.contains("in a graph") && findings.contains("128 bytes into"), "{findings}");
}

#[test]
fn a_branch_that_is_not_joined_makes_the_capture_fail() {
    let softcuda = Softcuda::with(&[]);
    let (context, one, fill, _) = begin(&softcuda);
    let two = stream(&context);
    let memory = zeros(64);
    one.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    two.wait(&one.record_event(None).unwrap()).unwrap();
    launch(&two, &fill, memory, 1, 64);
    assert_eq!(one.end_capture(NO_FLAGS).err().unwrap().0 as u32, 904);
    // Both streams are as before.
    launch(&two, &fill, memory, 3, 64);
    two.synchronize().unwrap();
    assert_eq!(read(memory, 64), [3; 64]);
}

/// The code of what is tried during a capture, and of the end of the capture.
fn during(mode: Mode, attempt: impl FnOnce(&Arc<CudaStream>) -> u32) -> (u32, u32) {
    let softcuda = Softcuda::with(&[]);
    let (_context, stream, ..) = begin(&softcuda);
    stream.begin_capture(mode).unwrap();
    let result = attempt(&stream);
    (result, stream.end_capture(NO_FLAGS).err().map_or(0, |error| error.0 as u32))
}

#[test]
fn captures_forbid_what_would_wait() {
    let (global, relaxed) = (Mode::CU_STREAM_CAPTURE_MODE_GLOBAL, Mode::CU_STREAM_CAPTURE_MODE_RELAXED);
    let thread_local = Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    let synchronise =
        |stream: &Arc<CudaStream>| code(unsafe { sys::cuStreamSynchronize(stream.cu_stream()) });
    let query = |stream: &Arc<CudaStream>| code(unsafe { sys::cuStreamQuery(stream.cu_stream()) });
    let everything = |_: &Arc<CudaStream>| code(unsafe { sys::cuCtxSynchronize() });
    let allocate = |_: &Arc<CudaStream>| {
        let mut address = 0;
        code(unsafe { sys::cuMemAlloc_v2(&mut address, 64) })
    };
    let elsewhere = |stream: &Arc<CudaStream>| {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    stream.context().bind_to_thread().unwrap();
                    let mut address = 0;
                    code(unsafe { sys::cuMemAlloc_v2(&mut address, 64) })
                })
                .join()
                .unwrap()
        })
    };
    for mode in [global, thread_local, relaxed] {
        assert_eq!(during(mode, |_| 0), (0, 0));
        assert_eq!(during(mode, synchronise), (900, 901), "{mode:?}");
        assert_eq!(during(mode, query), (900, 901), "{mode:?}");
        assert_eq!(during(mode, everything), (900, 901), "{mode:?}");
    }
    assert_eq!(during(global, allocate), (900, 901));
    assert_eq!(during(thread_local, allocate), (900, 901));
    assert_eq!(during(relaxed, allocate), (0, 0));
    assert_eq!(during(global, elsewhere), (900, 901));
    assert_eq!(during(thread_local, elsewhere), (0, 0));
    // A thread can say that it knows what it does.
    let relaxing = |stream: &Arc<CudaStream>| unsafe {
        let mut mode = relaxed;
        ok(sys::cuThreadExchangeStreamCaptureMode(&mut mode));
        assert_eq!(mode, global);
        let result = allocate(stream);
        ok(sys::cuThreadExchangeStreamCaptureMode(&mut mode));
        result
    };
    assert_eq!(during(global, relaxing), (0, 0));
}

#[test]
fn captures_forbid_dependencies_on_what_is_not_captured() {
    let softcuda = Softcuda::with(&[]);
    let (context, one, fill, _) = begin(&softcuda);
    let two = stream(&context);
    let memory = zeros(64);
    launch(&two, &fill, memory, 1, 64);
    let before = two.record_event(None).unwrap();
    let mode = Mode::CU_STREAM_CAPTURE_MODE_RELAXED;
    one.begin_capture(mode).unwrap();
    assert_eq!(one.begin_capture(mode).unwrap_err().0 as u32, 401);
    assert_eq!(one.wait(&before).unwrap_err().0 as u32, 905);
    assert_eq!(one.end_capture(NO_FLAGS).err().unwrap().0 as u32, 901);

    one.begin_capture(mode).unwrap();
    let captured = one.record_event(None).unwrap();
    assert_eq!(captured.synchronize().unwrap_err().0 as u32, 907);
    assert_eq!(one.end_capture(NO_FLAGS).err().unwrap().0 as u32, 901);

    one.begin_capture(mode).unwrap();
    two.begin_capture(mode).unwrap();
    let captured = one.record_event(None).unwrap();
    assert_eq!(two.wait(&captured).unwrap_err().0 as u32, 902);
    assert_eq!(one.end_capture(NO_FLAGS).err().unwrap().0 as u32, 901);
    assert_eq!(two.end_capture(NO_FLAGS).err().unwrap().0 as u32, 901);

    one.begin_capture(mode).unwrap();
    two.wait(&one.record_event(None).unwrap()).unwrap();
    assert_eq!(two.end_capture(NO_FLAGS).err().unwrap().0 as u32, 903);
    assert_eq!(one.end_capture(NO_FLAGS).err().unwrap().0 as u32, 901);
    assert_eq!(one.end_capture(NO_FLAGS).err().unwrap().0 as u32, 401);
    assert_eq!(context.default_stream().begin_capture(mode).unwrap_err().0 as u32, 900);
}

#[test]
fn the_default_stream_must_not_be_used_while_a_blocking_stream_is_captured() {
    for (flags, expected) in [(0, (906, 901)), (1, (0, 0))] {
        let softcuda = Softcuda::with(&[]);
        let (context, ..) = begin(&softcuda);
        let nothing = kernel(&context, "nothing");
        let (mut own, mut graph) = (null_mut(), null_mut());
        unsafe {
            ok(sys::cuStreamCreate(&mut own, flags));
            ok(sys::cuStreamBeginCapture_v2(own, Mode::CU_STREAM_CAPTURE_MODE_RELAXED));
            let none = null_mut();
            let function = nothing.cu_function();
            let used = code(sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, none, null_mut(), null_mut()));
            assert_eq!((used, code(sys::cuStreamEndCapture(own, &mut graph))), expected);
            assert_eq!(graph.is_null(), expected.1 != 0);
        }
    }
}

#[test]
fn copies_and_host_functions_are_captured_and_read_memory_at_each_launch() {
    let softcuda = Softcuda::with(&[]);
    let (_context, stream, _, add) = begin(&softcuda);
    let memory = zeros(16);
    let mut source = [1u32; 16];
    let mut target = vec![0u32; 16];
    let mut calls = 0u32;
    unsafe extern "C" fn count(calls: *mut c_void) {
        unsafe { *calls.cast::<u32>() += 1 };
    }
    stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    unsafe {
        let handle = stream.cu_stream();
        ok(sys::cuMemcpyHtoDAsync_v2(memory, source.as_ptr().cast(), 64, handle));
        launch(&stream, &add, memory, 5, 16);
        ok(sys::cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), memory, 64, handle));
        ok(sys::cuLaunchHostFunc(handle, Some(count), (&raw mut calls).cast()));
        ok(sys::cuMemsetD32Async(memory, 0, 16, handle));
    }
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    for value in [1, 7] {
        source.fill(value);
        graph.launch().unwrap();
        stream.synchronize().unwrap();
        assert_eq!(target, [value + 5; 16]);
    }
    assert_eq!((calls, read(memory, 16)), (2, vec![0; 16]));
}

#[test]
fn graphs_can_allocate_and_free() {
    let softcuda = Softcuda::with(&[]);
    let (context, stream, fill, _) = begin(&softcuda);
    let out = zeros(8);
    let copy = kernel(&context, "copy");
    stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let mut memory = 0;
    unsafe {
        ok(sys::cuMemAllocAsync(&mut memory, 32, stream.cu_stream()));
        launch(&stream, &fill, memory, 9, 8);
        stream.launch_builder(&copy).arg(&out).arg(&memory).arg(&8u32).launch(BLOCK).unwrap();
        assert_eq!(code(sys::cuMemFreeAsync(out, stream.cu_stream())), 1, "not the graph's");
        ok(sys::cuMemFreeAsync(memory, stream.cu_stream()));
        assert_eq!(code(sys::cuMemFreeAsync(memory, stream.cu_stream())), 1, "freed already");
    }
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    graph.launch().unwrap();
    graph.launch().unwrap();
    stream.synchronize().unwrap();
    assert_eq!(read(out, 8), [9; 8]);
    let used = || {
        let (free, total) = context.mem_get_info().unwrap();
        total - free
    };
    let before = used();
    drop(graph);
    assert_eq!(before - used(), 512);
    assert_eq!(softcuda.findings(), "");
}

#[test]
fn graphs_are_built_node_by_node_and_changed_afterwards() {
    let softcuda = Softcuda::with(&[]);
    let (_context, stream, fill, add) = begin(&softcuda);
    let memory = zeros(64);
    let (mut graph, mut first, mut second, mut third) = (null_mut(), null_mut(), null_mut(), null_mut());
    let (mut address, mut value, mut words) = (memory, 5u32, 64u32);
    let mut pointers = [(&raw mut address).cast(), (&raw mut value).cast(), (&raw mut words).cast()];
    let parameters =
        |function: &CudaFunction, pointers: &mut [*mut c_void; 3]| sys::CUDA_KERNEL_NODE_PARAMS {
            func: function.cu_function(),
            gridDimX: 1,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: pointers.as_mut_ptr(),
            extra: null_mut(),
            kern: null_mut(),
            ctx: null_mut(),
        };
    let memset = sys::CUDA_MEMSET_NODE_PARAMS {
        dst: memory,
        pitch: 0,
        value: 2,
        elementSize: 4,
        width: 32,
        height: 1,
    };
    unsafe {
        ok(sys::cuGraphCreate(&mut graph, 0));
        let kernel = parameters(&fill, &mut pointers);
        ok(sys::cuGraphAddKernelNode_v2(&mut first, graph, std::ptr::null(), 0, &kernel));
        ok(sys::cuGraphAddMemsetNode(&mut second, graph, &first, 1, &memset, null_mut()));
        let kernel = parameters(&add, &mut pointers);
        ok(sys::cuGraphAddKernelNode_v2(&mut third, graph, std::ptr::null(), 0, &kernel));
        assert_eq!(code(sys::cuGraphAddEmptyNode(&mut null_mut(), graph, [first, first].as_ptr(), 2)), 1);
        ok(sys::cuGraphAddDependencies(graph, &second, &third, 1));
        assert_eq!(code(sys::cuGraphAddDependencies(graph, &second, &third, 1)), 1, "twice");
        assert_eq!(shape(graph), (3, 2));
        let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
        ok(sys::cuGraphNodeGetType(second, &mut kind));
        assert_eq!(kind, sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMSET);

        let mut executable = null_mut();
        ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        ok(sys::cuGraphLaunch(executable, stream.cu_stream()));
        assert_eq!(read_after(&stream, memory), [[7u32; 32], [10; 32]].concat());
        // Other parameters, in the executable graph only.
        let mut larger = 100u32;
        pointers[1] = (&raw mut larger).cast();
        let kernel = parameters(&add, &mut pointers);
        ok(sys::cuGraphExecKernelNodeSetParams_v2(executable, third, &kernel));
        assert_eq!(code(sys::cuGraphExecKernelNodeSetParams_v2(executable, second, &kernel)), 1);
        ok(sys::cuGraphLaunch(executable, stream.cu_stream()));
        assert_eq!(read_after(&stream, memory), [[102u32; 32], [105; 32]].concat());
        ok(sys::cuGraphNodeSetEnabled(executable, second, 0));
        ok(sys::cuGraphLaunch(executable, stream.cu_stream()));
        assert_eq!(read_after(&stream, memory), [105; 64]);
        // A clone of the graph, as a child of another one.
        let (mut outer, mut node, mut after) = (null_mut(), null_mut(), null_mut());
        ok(sys::cuGraphCreate(&mut outer, 0));
        ok(sys::cuGraphAddChildGraphNode(&mut node, outer, std::ptr::null(), 0, graph));
        ok(sys::cuGraphAddMemsetNode(&mut after, outer, &node, 1, &memset, null_mut()));
        ok(sys::cuGraphDestroy(graph));
        let mut other = null_mut();
        ok(sys::cuGraphInstantiateWithFlags(&mut other, outer, 0));
        ok(sys::cuGraphLaunch(other, stream.cu_stream()));
        assert_eq!(read_after(&stream, memory), [[2u32; 32], [10; 32]].concat());
        // The executable graph has outlived its graph; a graph of another shape does not fit it.
        let mut result = sys::CUgraphExecUpdateResultInfo {
            result: sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_SUCCESS,
            errorNode: null_mut(),
            errorFromNode: null_mut(),
        };
        assert_eq!(code(sys::cuGraphExecUpdate_v2(executable, outer, &mut result)), 910);
        ok(sys::cuGraphExecDestroy(executable));
        assert_eq!(code(sys::cuGraphExecDestroy(executable)), 1);
        assert_eq!(code(sys::cuGraphLaunch(executable, stream.cu_stream())), 1);
        // A circle.
        ok(sys::cuGraphAddDependencies(outer, &after, &node, 1));
        assert_eq!(code(sys::cuGraphInstantiateWithFlags(&mut executable, outer, 0)), 1);
    }
    assert_eq!(softcuda.findings(), "");
}

fn read_after(stream: &Arc<CudaStream>, memory: u64) -> Vec<u32> {
    stream.synchronize().unwrap();
    read(memory, 64)
}

#[test]
fn launches_of_one_executable_graph_come_one_after_the_other() {
    for seed in 0..10 {
        let softcuda = Softcuda::seeded(seed);
        let (context, one, _, add) = begin(&softcuda);
        let two = stream(&context);
        let memory = zeros(64);
        one.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        launch(&one, &add, memory, 1, 64);
        let graph = one.end_capture(NO_FLAGS).unwrap().unwrap();
        graph.launch().unwrap();
        unsafe { ok(sys::cuGraphLaunch(graph.cu_graph_exec(), two.cu_stream())) };
        context.synchronize().unwrap();
        assert_eq!((read(memory, 64), softcuda.findings()), (vec![2; 64], String::new()));
    }
}

#[test]
fn the_textbook_kernels_run_through_streams_events_and_a_graph() {
    for seed in [0, 1] {
        let softcuda = Softcuda::with(&[("SEED", &seed.to_string()), ("DEVICE", "h100")]);
        let context = softcuda.plain_context();
        let (one, two) = (stream(&context), stream(&context));
        let text = include_str!("ptx/vector_add.ptx");
        let module = context.load_module(cudarc::nvrtc::Ptx::from_src(text)).unwrap();
        let [vector_add, saxpy] = ["vector_add", "saxpy"].map(|name| module.load_function(name).unwrap());
        let count = 1000i32;
        let numbers: Vec<f32> = (0..count).map(|i| i as f32 * 0.5).collect();
        let (a, b) = (one.clone_htod(&numbers).unwrap(), one.clone_htod(&numbers).unwrap());
        let mut c = unsafe { one.alloc::<f32>(count as usize).unwrap() };
        let mut d = one.clone_htod(&numbers).unwrap();
        let shape = LaunchConfig { grid_dim: (4, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
        one.synchronize().unwrap();
        one.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        two.wait(&one.record_event(None).unwrap()).unwrap();
        unsafe {
            one.launch_builder(&vector_add).arg(&a).arg(&b).arg(&mut c).arg(&count).launch(shape).unwrap();
            two.launch_builder(&saxpy).arg(&count).arg(&2f32).arg(&a).arg(&mut d).launch(shape).unwrap();
        }
        one.wait(&two.record_event(None).unwrap()).unwrap();
        unsafe {
            one.launch_builder(&saxpy).arg(&count).arg(&10f32).arg(&d).arg(&mut c).launch(shape).unwrap();
        }
        let graph = one.end_capture(NO_FLAGS).unwrap().unwrap();
        let start = one.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
        graph.launch().unwrap();
        let end = one.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
        // c = a + b + 10 d, d = d + 2 a, all halves of integers below 2^24: exact.
        let expected: Vec<f32> = numbers.iter().map(|x| x + x + 10.0 * (x + 2.0 * x)).collect();
        assert_eq!(one.clone_dtoh(&c).unwrap(), expected);
        assert!(start.elapsed_ms(&end).unwrap() > 0.0);
        assert_eq!(softcuda.findings(), "");
        let _ = a.device_ptr(&one);
    }
}
