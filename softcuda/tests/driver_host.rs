//! Host memory under copies, and functions of the host in streams.
#![allow(unsafe_code)] // the driver API is a C interface

mod driver;

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::{CudaStream, sys};
use driver::{Softcuda, allocate, code, kernel, launch, ok, read, stream};

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
fn a_host_function_may_wait_for_what_the_host_does_next() {
    use std::sync::mpsc::{Receiver, channel};
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = stream(&context);
    unsafe extern "C" fn receive(from: *mut c_void) {
        let _ = unsafe { &*from.cast::<Receiver<()>>() }.recv();
    }
    let (release, receiver) = channel();
    unsafe {
        ok(sys::cuLaunchHostFunc(stream.cu_stream(), Some(receive), (&raw const receiver).cast_mut().cast()))
    };
    let event = stream.record_event(None).unwrap();
    for _ in 0..3 {
        assert_eq!(code(unsafe { sys::cuEventQuery(event.cu_event()) }), 600);
    }
    // Other streams go on meanwhile: what is given to them waits for its turn.
    let memory = context.new_stream().unwrap().alloc_zeros::<u32>(4);
    release.send(()).unwrap();
    event.synchronize().unwrap();
    drop(memory);
    context.synchronize().unwrap();
    assert_eq!(softcuda.findings(), "");
}
