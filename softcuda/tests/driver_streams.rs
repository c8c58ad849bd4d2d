//! Streams and events: what is deferred, what is ordered and what is not, modelled time, host memory under copies.
#![allow(unsafe_code)] // the driver API is a C interface

mod driver;

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DevicePtr, LaunchConfig, PushKernelArg, sys};
use driver::{Softcuda, code, kernel, ok, stream};

const BLOCK: LaunchConfig = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };

/// Memory that no stream owns.
fn allocate(words: usize) -> u64 {
    let mut address = 0;
    unsafe {
        ok(sys::cuMemAlloc_v2(&mut address, words * 4));
        ok(sys::cuMemsetD32_v2(address, 0, words));
        ok(sys::cuCtxSynchronize());
    }
    address
}

/// `fill` or `add` on a stream.
fn launch(stream: &Arc<CudaStream>, kernel: &CudaFunction, address: u64, value: u32, words: u32) {
    unsafe { stream.launch_builder(kernel).arg(&address).arg(&value).arg(&words).launch(BLOCK).unwrap() };
}

fn read(stream: &Arc<CudaStream>, address: u64, words: usize) -> Result<Vec<u32>, u32> {
    let mut buffer = vec![0u32; words];
    let (to, bytes) = (buffer.as_mut_ptr().cast(), words * 4);
    match code(unsafe { sys::cuMemcpyDtoHAsync_v2(to, address, bytes, stream.cu_stream()) }) {
        0 => Ok(buffer),
        error => Err(error),
    }
}

#[test]
fn a_stream_keeps_its_order_under_every_seed() {
    for seed in 0..20 {
        let softcuda = Softcuda::seeded(seed);
        let context = softcuda.plain_context();
        let (stream, other) = (stream(&context), stream(&context));
        let (fill, add) = (kernel(&context, "fill"), kernel(&context, "add"));
        let (first, second) = (allocate(100), allocate(100));
        for round in 0..5 {
            launch(&stream, &fill, first, round, 100);
            launch(&other, &fill, second, round, 100);
            launch(&stream, &add, first, 10, 100);
        }
        assert_eq!(read(&stream, first, 100), Ok(vec![14; 100]));
        assert_eq!(read(&other, second, 100), Ok(vec![4; 100]));
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn two_streams_that_nothing_orders_are_found_whatever_the_order() {
    for seed in 0..10 {
        let softcuda = Softcuda::seeded(seed);
        let context = softcuda.plain_context();
        let (one, two) = (stream(&context), stream(&context));
        let (fill, add) = (kernel(&context, "fill"), kernel(&context, "add"));
        let memory = allocate(64);
        launch(&one, &fill, memory, 1, 64);
        // Only the last word is common to both.
        launch(&two, &add, memory + 252, 1, 1);
        assert_eq!(code(unsafe { sys::cuCtxSynchronize() }), 719, "seed {seed}");
        let findings = softcuda.findings();
        assert!(findings.starts_with("stream check: kernel add on stream"), "{findings}");
        assert!(findings.contains("what kernel fill on stream"), "{findings}");
        assert!(findings.contains("252 bytes into an allocation of 256 bytes"), "{findings}");
        assert_eq!(findings.lines().count(), 1);
    }
}

#[test]
fn an_event_orders_them() {
    for seed in 0..10 {
        let softcuda = Softcuda::seeded(seed);
        let context = softcuda.plain_context();
        let (one, two) = (stream(&context), stream(&context));
        let (fill, add) = (kernel(&context, "fill"), kernel(&context, "add"));
        let memory = allocate(64);
        launch(&one, &fill, memory, 1, 64);
        two.wait(&one.record_event(None).unwrap()).unwrap();
        launch(&two, &add, memory + 252, 1, 1);
        // What waits for the second stream is behind the first one too.
        one.wait(&two.record_event(None).unwrap()).unwrap();
        launch(&one, &add, memory, 10, 64);
        let mut expected = vec![11; 64];
        expected[63] = 12;
        assert_eq!(read(&one, memory, 64), Ok(expected));
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn reads_of_two_streams_do_not_conflict() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let copy = kernel(&context, "copy");
    let memory = allocate(64);
    let copies: Vec<u64> = (0..3).map(|_| allocate(64)).collect();
    for to in copies {
        let words = 64u32;
        unsafe {
            stream(&context).launch_builder(&copy).arg(&to).arg(&memory).arg(&words).launch(BLOCK).unwrap();
        }
    }
    context.synchronize().unwrap();
    assert_eq!(softcuda.findings(), "");
}

#[test]
fn waiting_on_the_host_orders_what_comes_after() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let (one, two) = (stream(&context), stream(&context));
    let add = kernel(&context, "add");
    let memory = allocate(8);
    launch(&one, &add, memory, 1, 8);
    one.synchronize().unwrap();
    launch(&two, &add, memory, 1, 8);
    let event = two.record_event(None).unwrap();
    event.synchronize().unwrap();
    launch(&one, &add, memory, 1, 8);
    assert_eq!(read(&one, memory, 8), Ok(vec![3; 8]));
    // But it does not order what was given before: this one was free to run earlier.
    launch(&one, &add, memory, 1, 8);
    launch(&two, &add, memory, 1, 8);
    assert_eq!(one.synchronize().and(two.synchronize()).unwrap_err().0 as u32, 719);
}

#[test]
fn the_default_stream_orders_blocking_streams_and_no_others() {
    let run = |flags: u32| {
        let softcuda = Softcuda::with(&[]);
        let context = softcuda.plain_context();
        let add = kernel(&context, "add");
        let memory = allocate(8);
        let mut own = null_mut();
        unsafe { ok(sys::cuStreamCreate(&mut own, flags)) };
        let give = |stream: sys::CUstream| {
            let (mut address, mut value, mut words) = (memory, 1u32, 8u32);
            let mut parameters =
                [(&raw mut address).cast(), (&raw mut value).cast(), (&raw mut words).cast()];
            let (function, parameters) = (add.cu_function(), parameters.as_mut_ptr());
            unsafe {
                ok(sys::cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters, null_mut()));
            }
        };
        give(own);
        give(null_mut());
        give(own);
        give(2 as sys::CUstream); // of this thread: a blocking one, which nothing orders against `own`
        give(1 as sys::CUstream);
        (code(unsafe { sys::cuCtxSynchronize() }), softcuda.findings())
    };
    let (result, findings) = run(1);
    assert_eq!(result, 719);
    assert!(findings.contains("the default stream"), "{findings}");
    // Only the two blocking streams are not ordered against each other.
    let (result, findings) = run(0);
    assert_eq!(result, 719);
    assert!(!findings.contains("the default stream"), "{findings}");
}

#[test]
fn blocking_streams_take_turns_with_the_default_stream() {
    for seed in 0..10 {
        let softcuda = Softcuda::seeded(seed);
        let context = softcuda.plain_context();
        let add = kernel(&context, "add");
        let memory = allocate(8);
        let default = context.default_stream();
        let mut own = null_mut();
        unsafe { ok(sys::cuStreamCreate(&mut own, 0)) };
        for _ in 0..3 {
            launch(&default, &add, memory, 1, 8);
            unsafe { ok(sys::cuMemsetD32Async(memory, 5, 8, own)) };
        }
        launch(&default, &add, memory, 1, 8);
        assert_eq!(read(&default, memory, 8), Ok(vec![6; 8]));
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn seeds_choose_different_orders() {
    let mut orders = BTreeSet::new();
    for seed in 0..30 {
        let softcuda = Softcuda::with(&[("SEED", &seed.to_string()), ("CHECKS", "-stream")]);
        let context = softcuda.plain_context();
        let (one, two) = (stream(&context), stream(&context));
        let fill = kernel(&context, "fill");
        let memory = allocate(1);
        launch(&one, &fill, memory, 1, 1);
        launch(&two, &fill, memory, 2, 1);
        context.synchronize().unwrap();
        orders.insert(read(&one, memory, 1));
        assert_eq!(softcuda.findings(), "");
    }
    assert_eq!(orders, BTreeSet::from([Ok(vec![1]), Ok(vec![2])]));
}

#[test]
fn time_between_events_is_the_modelled_one_and_exact() {
    let measure = || {
        let softcuda = Softcuda::with(&[("DEVICE", "a100")]);
        let context = softcuda.plain_context();
        let (stream, other) = (stream(&context), stream(&context));
        let fill = kernel(&context, "fill");
        let memory = allocate(1_000_000);
        let record = || stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
        let first = record();
        unsafe { ok(sys::cuMemsetD32Async(memory, 1, 1_000_000, stream.cu_stream())) };
        let second = record();
        launch(&other, &fill, memory, 1, 0);
        launch(&stream, &fill, memory, 1, 0);
        let third = record();
        let whole = first.elapsed_ms(&third).unwrap();
        (first.elapsed_ms(&second).unwrap(), second.elapsed_ms(&third).unwrap(), whole)
    };
    let (memset, launch, whole) = measure();
    // 4 MB at 1555 GB/s, and the overhead of a fill.
    let bytes = cost(softcuda::model::cost::Command::Fill { bytes: 4_000_000 });
    assert!((f64::from(memset) - bytes).abs() < 1e-7, "{memset} {bytes}");
    assert!(launch > 0.0 && whole > memset && whole > launch);
    assert_eq!(measure(), (memset, launch, whole));
}

fn cost(command: softcuda::model::cost::Command) -> f64 {
    let device = softcuda::model::devices::Device::by_name("a100").unwrap();
    softcuda::model::cost::elapsed_ms(device, &[command])
}

#[test]
fn events_without_time_or_record_have_no_elapsed_time() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let timed = || context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    let (first, second, third) = (timed(), timed(), context.new_event(None).unwrap());
    let mut time = 0.0;
    let mut elapsed = |start: &cudarc::driver::CudaEvent, end: &cudarc::driver::CudaEvent| {
        code(unsafe { sys::cuEventElapsedTime(&mut time, start.cu_event(), end.cu_event()) })
    };
    first.record(&stream).unwrap();
    third.record(&stream).unwrap();
    assert_eq!(elapsed(&first, &second), 400, "never recorded");
    assert_eq!(elapsed(&first, &third), 400, "no timing");
    second.record(&stream).unwrap();
    assert_eq!(elapsed(&first, &second), 600, "not there yet");
    stream.synchronize().unwrap();
    assert_eq!(elapsed(&first, &second), 0);
    assert_eq!(time, 0.0);
}

#[test]
fn work_is_deferred_and_polling_gets_there() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let add = kernel(&context, "add");
    let memory = allocate(8);
    let event = stream.record_event(None).unwrap();
    for _ in 0..3 {
        launch(&stream, &add, memory, 1, 8);
    }
    unsafe {
        assert_eq!(code(sys::cuStreamQuery(stream.cu_stream())), 600);
        let mut polls = 1;
        while code(sys::cuStreamQuery(stream.cu_stream())) == 600 {
            polls += 1;
        }
        assert!(polls <= 8, "{polls}");
        ok(sys::cuEventQuery(event.cu_event()));
    }
    assert_eq!(read(&stream, memory, 8), Ok(vec![3; 8]));
}

#[test]
fn memory_freed_on_one_stream_while_another_uses_it_is_found() {
    let run = |ordered: bool| {
        let softcuda = Softcuda::with(&[("CHECKS", "stream,memory")]);
        let context = softcuda.plain_context();
        let (one, two) = (stream(&context), stream(&context));
        let add = kernel(&context, "add");
        let mut address = 0;
        unsafe {
            ok(sys::cuMemAllocAsync(&mut address, 256, one.cu_stream()));
            ok(sys::cuMemsetD32Async(address, 0, 64, one.cu_stream()));
            two.wait(&one.record_event(None).unwrap()).unwrap();
            launch(&two, &add, address, 1, 64);
            if ordered {
                one.wait(&two.record_event(None).unwrap()).unwrap();
            }
            ok(sys::cuMemFreeAsync(address, one.cu_stream()));
        }
        let result = code(unsafe { sys::cuCtxSynchronize() });
        (result == 0, softcuda.findings())
    };
    assert_eq!(run(true), (true, String::new()));
    let (sound, findings) = run(false);
    // Whichever came first: a conflict, or a use after the free.
    assert!(
        !sound && (findings.contains("the free of 256 bytes") || findings.contains("freed")),
        "{findings}"
    );
}

#[test]
fn memory_used_on_a_stream_that_its_allocation_does_not_come_before_is_found() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let (one, two) = (stream(&context), stream(&context));
    let mut address = 0;
    unsafe {
        ok(sys::cuMemAllocAsync(&mut address, 256, one.cu_stream()));
        ok(sys::cuMemsetD32Async(address, 0, 64, two.cu_stream()));
    }
    assert_eq!(code(unsafe { sys::cuCtxSynchronize() }), 719);
    assert!(softcuda.findings().contains("the allocation of 256 bytes"), "{}", softcuda.findings());
}

#[test]
fn stream_ordered_memory_must_not_be_freed_by_the_host_while_it_is_used() {
    let run = |wait: bool| {
        let softcuda = Softcuda::with(&[]);
        let context = softcuda.plain_context();
        let stream = stream(&context);
        let mut address = 0;
        unsafe {
            ok(sys::cuMemAllocAsync(&mut address, 256, stream.cu_stream()));
            ok(sys::cuMemsetD32Async(address, 0, 64, stream.cu_stream()));
            if wait {
                stream.synchronize().unwrap();
            }
            let freed = code(sys::cuMemFree_v2(address));
            let after = code(sys::cuCtxSynchronize());
            (freed.max(after), softcuda.findings())
        }
    };
    assert_eq!(run(true), (0, String::new()));
    assert_ne!(run(false).0, 0);
}

/// Pinned memory of 64 words, all `value`.
fn pinned(value: u32) -> &'static mut [u32] {
    let mut pointer = null_mut();
    unsafe {
        ok(sys::cuMemHostAlloc(&mut pointer, 256, 0));
        let words = std::slice::from_raw_parts_mut(pointer.cast::<u32>(), 64);
        words.fill(value);
        words
    }
}

fn to_device(to: u64, from: &[u32], stream: &CudaStream) {
    let bytes = size_of_val(from);
    unsafe { ok(sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), bytes, stream.cu_stream())) };
}

#[test]
fn pageable_memory_is_copied_at_the_call() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let memory = allocate(64);
    let mut data = vec![5u32; 64];
    to_device(memory, &data, &stream);
    data.fill(6);
    assert_eq!(read(&stream, memory, 64), Ok(vec![5; 64]));
    assert_eq!(softcuda.findings(), "");
}

#[test]
fn a_pinned_source_that_the_host_changes_too_early_is_found() {
    let run = |early: bool, checks: &str| {
        let softcuda = Softcuda::with(&[("CHECKS", checks)]);
        let context = softcuda.plain_context();
        let stream = stream(&context);
        let memory = allocate(64);
        let source = pinned(5);
        to_device(memory, source, &stream);
        if !early {
            stream.synchronize().unwrap();
        }
        source[63] = 6;
        let result = read(&stream, memory, 64).map(|words| words[63]);
        (result, softcuda.findings())
    };
    assert_eq!(run(false, "all"), (Ok(5), String::new()));
    let (result, findings) = run(true, "all");
    assert_eq!(result, Err(719));
    assert!(findings.starts_with("host check: the host changed the source"), "{findings}");
    // What a device would do: copy what lies there by then.
    assert_eq!(run(true, "-host"), (Ok(6), String::new()));
}

#[test]
fn a_pinned_destination_holds_nothing_useful_before_the_copy() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let memory = allocate(64);
    let to = pinned(5);
    let copy = |to: &mut [u32]| unsafe {
        ok(sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), memory, 256, stream.cu_stream()));
    };
    copy(to);
    assert_eq!(to, [0xdbdb_dbdb; 64]);
    stream.synchronize().unwrap();
    assert_eq!(to, [0; 64]);
    copy(to);
    to[1] = 7;
    assert_eq!(stream.synchronize().unwrap_err().0 as u32, 719);
    let findings = softcuda.findings();
    assert!(findings.starts_with("host check: the host wrote to the destination"), "{findings}");
}

#[test]
fn pinned_memory_may_go_round_on_a_stream() {
    for seed in 0..10 {
        let softcuda = Softcuda::seeded(seed);
        let context = softcuda.plain_context();
        let stream = stream(&context);
        let add = kernel(&context, "add");
        let (first, second) = (allocate(64), allocate(64));
        let staging = pinned(1);
        // To the device, changed there, back over the same memory, and out again.
        to_device(first, staging, &stream);
        launch(&stream, &add, first, 1, 64);
        unsafe {
            let to = staging.as_mut_ptr().cast();
            ok(sys::cuMemcpyDtoHAsync_v2(to, first, 256, stream.cu_stream()));
        }
        to_device(second, staging, &stream);
        // Kernels reach pinned memory too.
        launch(&stream, &add, staging.as_ptr() as u64, 40, 64);
        to_device(first, staging, &stream);
        assert_eq!(read(&stream, second, 64), Ok(vec![2; 64]));
        assert_eq!(read(&stream, first, 64), Ok(vec![42; 64]));
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn two_streams_on_the_same_pinned_memory_are_found() {
    let softcuda = Softcuda::with(&[("CHECKS", "-host")]);
    let context = softcuda.plain_context();
    let (one, two) = (stream(&context), stream(&context));
    let (from, to) = (allocate(64), allocate(64));
    let staging = pinned(1);
    unsafe {
        ok(sys::cuMemcpyDtoHAsync_v2(staging.as_mut_ptr().cast(), from, 256, one.cu_stream()));
    }
    to_device(to, staging, &two);
    assert_eq!(code(unsafe { sys::cuCtxSynchronize() }), 719);
    assert!(softcuda.findings().starts_with("stream check: a copy of 256 bytes"), "{}", softcuda.findings());
}

#[test]
fn host_functions_have_their_turn_and_must_not_call_the_driver() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let memory = allocate(64);
    let staging = pinned(0);
    unsafe extern "C" fn answer(words: *mut c_void) {
        let words = unsafe { std::slice::from_raw_parts_mut(words.cast::<u32>(), 64) };
        let refused = code(unsafe { sys::cuCtxSynchronize() });
        words.fill(refused);
    }
    unsafe {
        let data = staging.as_mut_ptr().cast();
        ok(sys::cuLaunchHostFunc(stream.cu_stream(), Some(answer), data));
        to_device(memory, staging, &stream);
        assert_eq!(staging, [0; 64]);
        assert_eq!(code(sys::cuLaunchHostFunc(stream.cu_stream(), None, data)), 1);
    }
    assert_eq!(read(&stream, memory, 64), Ok(vec![800; 64]));
    assert_eq!(softcuda.findings(), "");
}

#[test]
fn callbacks_are_told_of_errors() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let fill = kernel(&context, "fill");
    let memory = allocate(8);
    unsafe extern "C" fn note(_: sys::CUstream, status: sys::CUresult, to: *mut c_void) {
        unsafe { *to.cast::<u32>() = code(status) };
    }
    let mut seen = [9u32; 2];
    unsafe {
        let stream = stream.cu_stream();
        ok(sys::cuStreamAddCallback(stream, Some(note), (&raw mut seen[0]).cast(), 0));
    }
    launch(&stream, &fill, memory, 1, 9);
    unsafe {
        let handle = stream.cu_stream();
        ok(sys::cuStreamAddCallback(handle, Some(note), (&raw mut seen[1]).cast(), 0));
    }
    assert_eq!(stream.synchronize().unwrap_err().0 as u32, 700);
    context.synchronize().unwrap_err();
    assert_eq!(seen, [0, 700]);
}

#[test]
fn cudarc_orders_streams_by_its_own_events() {
    for seed in 0..10 {
        let softcuda = Softcuda::seeded(seed);
        let context: Arc<CudaContext> = softcuda.context();
        let (one, two) = (stream(&context), stream(&context));
        let add = kernel(&context, "add");
        let mut data = one.clone_htod(&[1u32; 50]).unwrap();
        for stream in [&two, &one, &two] {
            unsafe {
                stream.launch_builder(&add).arg(&mut data).arg(&1u32).arg(&50u32).launch(BLOCK).unwrap();
            }
        }
        assert_eq!(one.clone_dtoh(&data).unwrap(), [4; 50]);
        drop(data);
        context.synchronize().unwrap();
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn many_commands_are_executed_without_being_waited_for() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    let add = kernel(&context, "add");
    let memory = stream.alloc_zeros::<u32>(8).unwrap();
    let address = memory.device_ptr(&stream).0;
    for _ in 0..5000 {
        launch(&stream, &add, address, 1, 8);
    }
    assert_eq!(read(&stream, address, 8), Ok(vec![5000; 8]));
}

#[test]
fn threads_share_the_driver() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.context();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let context = &context;
            scope.spawn(move || {
                context.bind_to_thread().unwrap();
                let stream = context.new_stream().unwrap();
                let add = kernel(context, "add");
                let mut data = stream.clone_htod(&[thread; 100]).unwrap();
                for _ in 0..50 {
                    unsafe {
                        stream
                            .launch_builder(&add)
                            .arg(&mut data)
                            .arg(&3u32)
                            .arg(&100u32)
                            .launch(BLOCK)
                            .unwrap();
                    }
                }
                assert_eq!(stream.clone_dtoh(&data).unwrap(), [thread + 150; 100]);
            });
        }
    });
    assert_eq!(softcuda.findings(), "");
}
