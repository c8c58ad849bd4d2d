//! The device, contexts, names, settings and entry points that programs look for.
#![allow(unsafe_code)] // the driver API is a C interface

mod driver;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

use cudarc::driver::{CudaContext, sys};
use driver::{Softcuda, code, has, ok, symbol};

/// All functions that cudarc 0.19.10 calls in its safe layer and its `result` module.
const CALLED_BY_CUDARC: &str = "
    cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig cuCtxGetCurrent cuCtxGetLimit
    cuCtxGetStreamPriorityRange cuCtxSetCacheConfig cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit cuCtxSynchronize
    cuDestroyExternalMemory cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetDefaultMemPool
    cuDeviceGetMemPool cuDeviceGetName cuDeviceGetUuid cuDeviceGetUuid_v2 cuDevicePrimaryCtxRelease_v2
    cuDevicePrimaryCtxRetain cuDeviceSetMemPool cuDeviceTotalMem_v2 cuEventCreate cuEventDestroy_v2 cuEventElapsedTime
    cuEventElapsedTime_v2 cuEventQuery cuEventRecord cuEventSynchronize cuExternalMemoryGetMappedBuffer
    cuFuncGetAttribute cuFuncSetAttribute cuFuncSetCacheConfig cuGetErrorName cuGetErrorString cuGraphDestroy
    cuGraphExecDestroy cuGraphInstantiateWithFlags cuGraphLaunch cuGraphUpload cuImportExternalMemory cuInit
    cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernel cuMemAdvise_v2 cuMemAllocAsync cuMemAllocFromPoolAsync
    cuMemAllocManaged cuMemAlloc_v2 cuMemFreeAsync cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc
    cuMemPoolCreate cuMemPoolDestroy cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemPoolTrimTo cuMemPrefetchAsync_v2
    cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2 cuMemcpyDtoH_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2
    cuMemcpyPeerAsync cuMemsetD8Async cuMemsetD8_v2 cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleLoad
    cuModuleLoadData cuModuleUnload cuOccupancyAvailableDynamicSMemPerBlock
    cuOccupancyMaxActiveBlocksPerMultiprocessor cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags
    cuOccupancyMaxActiveClusters cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
    cuOccupancyMaxPotentialClusterSize cuProfilerStart cuProfilerStop cuStreamAttachMemAsync cuStreamBeginCapture_v2
    cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamEndCapture cuStreamIsCapturing
    cuStreamSynchronize cuStreamWaitEvent";

#[test]
fn everything_that_cudarc_calls_is_there() {
    let missing: Vec<&str> = CALLED_BY_CUDARC.split_whitespace().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn each_device_says_who_it_is() {
    for (key, name, capability, sms) in [
        ("t4", "Tesla T4", (7, 5), 40),
        ("a100", "NVIDIA A100-SXM4-40GB", (8, 0), 108),
        ("RTX4090", "NVIDIA GeForce RTX 4090", (8, 9), 128),
        ("h100", "NVIDIA H100 80GB HBM3", (9, 0), 132),
    ] {
        let softcuda = Softcuda::with(&[("DEVICE", key)]);
        let context = softcuda.context();
        assert_eq!(
            (context.name().unwrap().as_str(), context.compute_capability().unwrap()),
            (name, capability)
        );
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        assert_eq!(context.attribute(attribute).unwrap(), sms);
        assert_eq!(context.total_mem().unwrap(), context.mem_get_info().unwrap().1);
        assert_eq!(CudaContext::device_count().unwrap(), 1);
        assert_ne!(context.uuid().unwrap().bytes, [0; 16]);
    }
}

#[test]
fn wrong_devices_attributes_and_buffers_are_refused() {
    let _softcuda = Softcuda::with(&[]);
    let mut value = 0;
    let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE;
    unsafe {
        assert_eq!(code(sys::cuDeviceGet(&mut value, 0)), 3, "before cuInit");
        assert_eq!(code(sys::cuInit(1)), 1);
        ok(sys::cuInit(0));
        ok(sys::cuInit(0));
        assert_eq!(code(sys::cuDeviceGet(&mut value, 1)), 101);
        assert_eq!(code(sys::cuDeviceGet(null_mut(), 0)), 1);
        assert_eq!(code(sys::cuDeviceGetAttribute(&mut value, attribute, 1)), 101);
        let mut name = [1 as c_char; 8];
        assert_eq!(code(sys::cuDeviceGetName(name.as_mut_ptr(), 0, 0)), 1);
        ok(sys::cuDeviceGetName(name.as_mut_ptr(), 7, 0));
        assert_eq!(CStr::from_ptr(name.as_ptr()), c"NVIDIA");
        assert_eq!(name[7], 1, "written behind the buffer");
        type GetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> u32;
        assert_eq!(symbol::<GetAttribute>("cuDeviceGetAttribute")(&mut value, 9999, 0), 1);
    }
}

#[test]
fn a_wrong_setting_is_an_invalid_value_of_init() {
    for setting in [("DEVICE", "b200"), ("CHECKS", "everything"), ("SEED", "x"), ("SKIP_LAUNCHES", "2")] {
        let _softcuda = Softcuda::with(&[setting]);
        unsafe {
            assert_eq!(code(sys::cuInit(0)), 1, "{setting:?}");
            assert_eq!(code(sys::cuCtxSynchronize()), 3, "{setting:?}");
        }
    }
}

#[test]
fn contexts_are_a_stack_of_each_thread() {
    let _softcuda = Softcuda::with(&[]);
    let (mut first, mut second, mut current, mut version) = (null_mut(), null_mut(), null_mut(), 0);
    unsafe {
        ok(sys::cuInit(0));
        assert_eq!(code(sys::cuCtxSynchronize()), 201);
        ok(sys::cuCtxCreate_v2(&mut first, 0, 0));
        ok(sys::cuCtxCreate_v2(&mut second, 0, 0));
        ok(sys::cuCtxGetCurrent(&mut current));
        assert_eq!(current, second);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(code(sys::cuCtxSynchronize()), 201));
        });
        ok(sys::cuCtxPopCurrent_v2(&mut current));
        assert_eq!(current, second);
        ok(sys::cuCtxGetCurrent(&mut current));
        assert_eq!(current, first);
        ok(sys::cuCtxGetApiVersion(second, &mut version));
        ok(sys::cuCtxDestroy_v2(second));
        assert_eq!(code(sys::cuCtxDestroy_v2(second)), 201);
        assert_eq!(code(sys::cuCtxSetCurrent(second)), 201);
        assert_eq!(code(sys::cuCtxPushCurrent_v2(second)), 201);
        // A context's memory goes with it.
        let (mut address, mut free, mut total) = (0, 0, 0);
        ok(sys::cuMemAlloc_v2(&mut address, 1 << 20));
        ok(sys::cuCtxDestroy_v2(first));
        assert_eq!(code(sys::cuCtxSynchronize()), 201);
        ok(sys::cuDevicePrimaryCtxRetain(&mut first, 0));
        ok(sys::cuCtxSetCurrent(first));
        ok(sys::cuMemGetInfo_v2(&mut free, &mut total));
        assert_eq!(free, total);
        assert_eq!(code(sys::cuCtxDestroy_v2(first)), 201, "the primary context is released, not destroyed");
        let (mut flags, mut active) = (0, 0);
        ok(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
        assert_eq!(active, 1);
        ok(sys::cuDevicePrimaryCtxRelease_v2(0));
        assert_eq!(code(sys::cuDevicePrimaryCtxRelease_v2(0)), 201);
        ok(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
        assert_eq!(active, 0);
        assert_eq!(code(sys::cuCtxSynchronize()), 709);
        ok(sys::cuCtxSetCurrent(null_mut()));
        assert_eq!(code(sys::cuCtxSynchronize()), 201);
    }
}

#[test]
fn limits_are_kept_or_refused() {
    let softcuda = Softcuda::with(&[("DEVICE", "t4")]);
    let context = softcuda.context();
    use sys::CUlimit_enum as Limit;
    context.set_limit(Limit::CU_LIMIT_STACK_SIZE, 4096).unwrap();
    assert_eq!(context.get_limit(Limit::CU_LIMIT_STACK_SIZE).unwrap(), 4096);
    assert!(context.set_limit(Limit::CU_LIMIT_STACK_SIZE, 1 << 30).is_err());
    assert!(context.get_limit(Limit::CU_LIMIT_SHMEM_SIZE).is_err());
    let (mut least, mut greatest) = (9, 9);
    unsafe { ok(sys::cuCtxGetStreamPriorityRange(&mut least, &mut greatest)) };
    assert_eq!((least, greatest), (0, -5));
}

#[test]
fn errors_have_names_and_descriptions() {
    let _softcuda = Softcuda::with(&[]);
    let mut text = std::ptr::null();
    unsafe {
        ok(sys::cuGetErrorName(sys::CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, &mut text));
        assert_eq!(CStr::from_ptr(text), c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES");
        ok(sys::cuGetErrorString(sys::CUresult::CUDA_ERROR_INVALID_VALUE, &mut text));
        assert_eq!(CStr::from_ptr(text), c"invalid argument");
        type Name = unsafe extern "C" fn(u32, *mut *const c_char) -> u32;
        assert_eq!(symbol::<Name>("cuGetErrorName")(12345, &mut text), 1);
        assert!(text.is_null());
    }
}

#[test]
fn functions_are_found_by_name() {
    let _softcuda = Softcuda::with(&[]);
    let (mut function, mut status) =
        (null_mut::<c_void>(), sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS);
    let mut find = |name: &CStr, version| unsafe {
        let result = sys::cuGetProcAddress_v2(name.as_ptr(), &mut function, version, 0, &mut status);
        (code(result), function as usize, status as u32)
    };
    let exported = |name| symbol::<unsafe extern "C" fn()>(name) as usize;
    assert_eq!(find(c"cuMemAlloc", 12080), (0, exported("cuMemAlloc"), 0));
    assert_eq!(find(c"cuGraphInstantiate", 12080), (0, exported("cuGraphInstantiateWithFlags"), 0));
    assert_eq!(find(c"cuGraphInstantiate", 11040), (0, exported("cuGraphInstantiate"), 0));
    assert_eq!(find(c"cuNoSuchThing", 12080), (500, 0, 1));
    let mut version = 0;
    unsafe { ok(sys::cuDriverGetVersion(&mut version)) };
    assert_eq!(version, 12080);
}

#[test]
fn handles_of_another_kind_are_refused() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.context();
    let stream = context.new_stream().unwrap();
    let event = context.new_event(None).unwrap();
    unsafe {
        let (stream, event) = (stream.cu_stream().cast::<c_void>(), event.cu_event().cast::<c_void>());
        assert_eq!(code(sys::cuStreamSynchronize(event.cast())), 400);
        assert_eq!(code(sys::cuEventSynchronize(stream.cast())), 400);
        assert_eq!(code(sys::cuEventDestroy_v2(null_mut())), 400);
        assert_eq!(code(sys::cuStreamDestroy_v2(null_mut())), 400);
        assert_eq!(code(sys::cuModuleUnload(stream.cast())), 400);
        assert_eq!(code(sys::cuGraphDestroy(stream.cast())), 1);
        let mut value = 0;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NUM_REGS;
        assert_eq!(code(sys::cuFuncGetAttribute(&mut value, attribute, event.cast())), 400);
    }
}
