//! Modules, functions, and what launches may ask for.
#![allow(unsafe_code)] // the driver API is a C interface

mod driver;

use std::ffi::{CStr, CString, c_uint, c_void};
use std::ptr::null_mut;

use cudarc::driver::{CudaFunction, LaunchConfig, PushKernelArg, sys};
use cudarc::nvrtc::Ptx;
use driver::{INTEGERS, Softcuda, code, kernel, ok};

fn configuration(grid: [u32; 3], block: [u32; 3], shared: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: grid.into(), block_dim: block.into(), shared_mem_bytes: shared }
}

/// The code of a launch without parameters, on the default stream.
fn launch(function: &CudaFunction, grid: [u32; 3], block: [u32; 3], shared: u32) -> u32 {
    let ([x, y, z], [i, j, k]) = (grid, block);
    let mut parameters: [*mut c_void; 0] = [];
    let result = unsafe {
        let (stream, parameters) = (null_mut(), parameters.as_mut_ptr());
        sys::cuLaunchKernel(function.cu_function(), x, y, z, i, j, k, shared, stream, parameters, null_mut())
    };
    code(result)
}

#[test]
fn a_launch_outside_the_limits_is_refused_and_nothing_sticks() {
    for checks in ["all", "none"] {
        let softcuda = Softcuda::with(&[("CHECKS", checks)]);
        let context = softcuda.context();
        let [nothing, bounded, required, shared] =
            ["nothing", "bounded", "required", "shared_memory"].map(|name| kernel(&context, name));
        let one = [1, 1, 1];
        for (grid, block, expected) in [
            (one, one, 0),
            (one, [1024, 1, 1], 0),
            (one, [32, 32, 1], 0),
            (one, [1, 1, 64], 0),
            ([100_000, 1, 1], one, 0),
            ([1, 65_535, 1], one, 0),
            (one, [1025, 1, 1], 1),
            (one, [32, 33, 1], 1),
            (one, [1, 1, 65], 1),
            (one, [0, 1, 1], 1),
            ([0, 1, 1], one, 1),
            ([1, 65_536, 1], one, 1),
            ([1, 1, 65_536], one, 1),
            ([0x8000_0000, 1, 1], one, 1),
        ] {
            assert_eq!(launch(&nothing, grid, block, 0), expected, "{grid:?} {block:?}");
        }
        assert_eq!(launch(&bounded, one, [16, 8, 1], 0), 0);
        assert_eq!(launch(&bounded, one, [129, 1, 1], 0), 1);
        assert_eq!(launch(&required, one, [32, 4, 1], 0), 0);
        assert_eq!(launch(&required, one, [4, 32, 1], 0), 1);
        // 48 KiB without opting in, static shared memory counts.
        assert_eq!(launch(&nothing, one, one, 49_152), 0);
        assert_eq!(launch(&nothing, one, one, 49_153), 1);
        assert_eq!(launch(&shared, one, one, 9152), 0);
        assert_eq!(launch(&shared, one, one, 9153), 1);
        use sys::CUfunction_attribute_enum as Attribute;
        let dynamic = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        assert_eq!(shared.get_attribute(dynamic).unwrap(), 9152);
        assert!(shared.set_attribute(dynamic, 163 * 1024 - 39_999).is_err());
        shared.set_attribute(dynamic, 163 * 1024 - 40_000).unwrap();
        assert_eq!(launch(&shared, one, one, 163 * 1024 - 40_000), 0);
        assert_eq!(launch(&shared, one, one, 163 * 1024 - 39_999), 1);
        context.synchronize().unwrap();
        assert_eq!(softcuda.findings(), "");
    }
}

#[test]
fn registers_that_ptxas_allotted_limit_the_threads_of_a_block() {
    let table = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("registers.tsv");
    std::fs::write(&table, "kernel\tarch\tregisters\nnothing\tsm_80\t65\n").unwrap();
    let softcuda = Softcuda::with(&[("REGISTERS", table.to_str().unwrap())]);
    let nothing = kernel(&softcuda.context(), "nothing");
    // 65 registers are 72 a thread: 28 warps.
    assert_eq!(launch(&nothing, [1, 1, 1], [28 * 32, 1, 1], 0), 0);
    assert_eq!(launch(&nothing, [1, 1, 1], [28 * 32 + 1, 1, 1], 0), 701);
    use sys::CUfunction_attribute_enum as Attribute;
    let get = |attribute| nothing.get_attribute(attribute).unwrap();
    assert_eq!(get(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS), 65);
    assert_eq!(get(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 28 * 32);
}

#[test]
fn cooperative_launches_must_fit_the_device() {
    let softcuda = Softcuda::with(&[("DEVICE", "t4")]);
    let function = kernel(&softcuda.context(), "nothing");
    let launch = |blocks| unsafe {
        let (function, none) = (function.cu_function(), null_mut());
        code(sys::cuLaunchCooperativeKernel(function, blocks, 1, 1, 1024, 1, 1, 0, null_mut(), none))
    };
    assert_eq!((launch(40), launch(41)), (0, 720));
}

#[test]
fn parameters_of_all_sizes_arrive_in_both_forms() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.context();
    let stream = context.default_stream();
    let mixed = kernel(&context, "mixed");
    let mut out = stream.alloc_zeros::<u64>(1).unwrap();
    let (byte, short, word, long) = (0xf1u8, 0xf234u16, 0xf567_89abu32, 0x0123_4567_89ab_cdefu64);
    let expected = u64::from(byte) + u64::from(short) + u64::from(word) + long;
    let one = configuration([1, 1, 1], [1, 1, 1], 0);
    unsafe {
        stream
            .launch_builder(&mixed)
            .arg(&mut out)
            .arg(&byte)
            .arg(&short)
            .arg(&word)
            .arg(&long)
            .launch(one)
            .unwrap();
    }
    assert_eq!(stream.clone_dtoh(&out).unwrap(), [expected]);

    stream.memset_zeros(&mut out).unwrap();
    use cudarc::driver::DevicePtr;
    let address = out.device_ptr(&stream).0;
    let mut buffer = [0u8; 24];
    buffer[..8].copy_from_slice(&address.to_le_bytes());
    buffer[8] = byte;
    buffer[10..12].copy_from_slice(&short.to_le_bytes());
    buffer[12..16].copy_from_slice(&word.to_le_bytes());
    buffer[16..].copy_from_slice(&long.to_le_bytes());
    let mut size = buffer.len();
    let launch = |size: &mut usize, buffer: *mut c_void| unsafe {
        let mut extra =
            [1 as *mut c_void, buffer, 2 as *mut c_void, std::ptr::from_mut(size).cast(), null_mut()];
        let function = mixed.cu_function();
        code(sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), null_mut(), extra.as_mut_ptr()))
    };
    assert_eq!(launch(&mut size, buffer.as_mut_ptr().cast()), 0);
    assert_eq!(stream.clone_dtoh(&out).unwrap(), [expected]);
    assert_eq!(launch(&mut 23, buffer.as_mut_ptr().cast()), 1);
    assert_eq!(launch(&mut size, null_mut()), 1);
    // No parameters at all, or a null pointer among them.
    let function = mixed.cu_function();
    unsafe {
        let none = sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), null_mut(), null_mut());
        assert_eq!(code(none), 1);
        let mut pointers = [null_mut::<c_void>(); 5];
        let parameters = pointers.as_mut_ptr();
        let null = sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), parameters, null_mut());
        assert_eq!(code(null), 1);
    }
}

#[test]
fn functions_know_their_parameters_and_modules() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.context();
    let mixed = kernel(&context, "mixed");
    let (mut offset, mut bytes, mut name) = (0, 0, std::ptr::null());
    let mut layout = Vec::new();
    unsafe {
        while code(sys::cuFuncGetParamInfo(mixed.cu_function(), layout.len(), &mut offset, &mut bytes)) == 0 {
            layout.push((offset, bytes));
        }
        ok(sys::cuFuncGetName(&mut name, mixed.cu_function()));
        assert_eq!(CStr::from_ptr(name), c"mixed");
    }
    assert_eq!(layout, [(0, 8), (8, 1), (10, 2), (12, 4), (16, 8)]);
    use sys::CUfunction_attribute_enum as Attribute;
    let get = |name, attribute| kernel(&context, name).get_attribute(attribute).unwrap();
    assert_eq!(get("shared_memory", Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), 40_000);
    assert_eq!(get("bounded", Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 128);
    assert_eq!(get("mixed", Attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION), 75);
    assert_eq!(get("mixed", Attribute::CU_FUNC_ATTRIBUTE_BINARY_VERSION), 80);
}

#[test]
fn variables_of_modules_can_be_read_and_written() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.context();
    let stream = context.default_stream();
    let text = CString::new(INTEGERS).unwrap();
    let (mut module, mut function, mut address, mut bytes, mut count) = (null_mut(), null_mut(), 0, 0, 0);
    unsafe {
        ok(sys::cuModuleLoadData(&mut module, text.as_ptr().cast()));
        assert_eq!(code(sys::cuModuleGetFunction(&mut function, module, c"no_such".as_ptr())), 500);
        ok(sys::cuModuleGetFunction(&mut function, module, c"count".as_ptr()));
        let mut again = null_mut();
        ok(sys::cuModuleGetFunction(&mut again, module, c"count".as_ptr()));
        assert_eq!(again, function);
        assert_eq!(
            code(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"no_such".as_ptr())),
            500
        );
        ok(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"table".as_ptr()));
        let mut table = [9u8; 16];
        assert_eq!(bytes, 16);
        ok(sys::cuMemcpyDtoH_v2(table.as_mut_ptr().cast(), address, 16));
        assert_eq!(table, [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ok(sys::cuModuleGetFunctionCount(&mut count, module));
        let mut functions = vec![null_mut(); count as usize];
        ok(sys::cuModuleEnumerateFunctions(functions.as_mut_ptr(), count, module));
        assert!(functions.contains(&function));

        ok(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"counter".as_ptr()));
        let out = stream.alloc_zeros::<u32>(1).unwrap();
        use cudarc::driver::DevicePtr;
        let mut pointer = out.device_ptr(&stream).0;
        let mut parameters = [(&raw mut pointer).cast()];
        let parameters = parameters.as_mut_ptr();
        ok(sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), parameters, null_mut()));
        assert_eq!(stream.clone_dtoh(&out).unwrap(), [42]);
        ok(sys::cuMemsetD32_v2(address, 99, 1));
        ok(sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), parameters, null_mut()));
        assert_eq!(stream.clone_dtoh(&out).unwrap(), [100]);

        ok(sys::cuModuleUnload(module));
        assert_eq!(code(sys::cuModuleUnload(module)), 400);
        let dead = sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), parameters, null_mut());
        assert_eq!(code(dead), 400);
        assert_eq!(code(sys::cuMemsetD32_v2(address, 99, 1)), 1);
    }
}

#[test]
fn a_module_that_cannot_be_loaded_says_why_in_its_log() {
    let softcuda = Softcuda::with(&[("DEVICE", "a100")]);
    let _context = softcuda.context();
    let load = |text: &CStr, size: usize| {
        let (mut module, mut log) = (null_mut(), vec![7u8; 300]);
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            sys::CUjit_option::CU_JIT_OPTIMIZATION_LEVEL,
        ];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), size as *mut c_void, 4 as *mut c_void];
        let result = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 3, options, values)
        };
        let filled = values[1] as usize;
        assert!(filled < size && log[filled] == 0 && log[size..].iter().all(|&byte| byte == 7));
        (code(result), String::from_utf8(log[..filled].to_vec()).unwrap())
    };
    let (result, log) = load(c".version 7.8\n.target sm_80\n.entry broken() { ret }", 200);
    assert_eq!(result, 218);
    assert!(log.contains("line 3"), "{log}");
    assert_eq!(
        load(c".version 7.8\n.target sm_80\n.entry broken() { ret }", 10),
        (218, log[..9].to_string())
    );
    assert_eq!(load(c".version 99.0\n.target sm_80\n.entry newer() { ret; }", 200).0, 222);
    assert_eq!(load(c".version 7.8\n.target sm_90\n.entry newer() { ret; }", 200).0, 209);
    assert_eq!(load(c".version 7.8\n.target sm_80\n.entry fine() { ret; }", 200), (0, String::new()));
    assert_eq!(load(c"\x7fELF\x02\x01", 200).0, 209);
    let mut module = null_mut();
    unsafe {
        assert_eq!(code(sys::cuModuleLoad(&mut module, c"/no/such/file.ptx".as_ptr())), 301);
        assert_eq!(code(sys::cuModuleLoadData(&mut module, std::ptr::null())), 1);
    }
}

#[test]
fn an_error_on_the_device_sticks_and_is_told() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = context.default_stream();
    let fill = kernel(&context, "fill");
    let out = stream.alloc_zeros::<u32>(16).unwrap();
    let one = configuration([1, 1, 1], [32, 1, 1], 0);
    unsafe { stream.launch_builder(&fill).arg(&out).arg(&7u32).arg(&17u32).launch(one).unwrap() };
    let error = stream.synchronize().unwrap_err();
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    let findings = softcuda.findings();
    assert!(findings.starts_with("memory check:") && findings.contains("in fill"), "{findings}");
    assert_eq!(findings.lines().count(), 1);
    assert_eq!(launch(&fill, [1, 1, 1], [1, 1, 1], 0), 700);
    drop(out);
    unsafe {
        assert_eq!(code(sys::cuCtxSynchronize()), 700);
        ok(sys::cuDevicePrimaryCtxReset_v2(0));
        ok(sys::cuCtxSynchronize());
    }
}

#[test]
fn occupancy_is_that_of_the_model() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.context();
    let nothing = kernel(&context, "nothing");
    let blocks = |threads, shared| {
        nothing.occupancy_max_active_blocks_per_multiprocessor(threads, shared, None).unwrap()
    };
    assert_eq!((blocks(1024, 0), blocks(64, 0), blocks(128, 81 * 1024), blocks(1025, 0)), (2, 32, 2, 0));
    // What is available for two blocks: 164 KiB less 1 KiB each that the system takes.
    assert_eq!(nothing.occupancy_available_dynamic_smem_per_block(2, 128).unwrap(), 81 * 1024);
    extern "C" fn none(_threads: std::ffi::c_int) -> usize {
        0
    }
    assert_eq!(nothing.occupancy_max_potential_block_size(none, 0, 0, None).unwrap(), (2 * 108, 1024));
}

#[test]
fn launches_can_be_skipped_and_are_counted_in_the_profile() {
    let profile = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("skipped.jsonl");
    let _ = std::fs::remove_file(&profile);
    for skip in ["0", "1"] {
        let softcuda = Softcuda::with(&[
            ("SKIP_LAUNCHES", skip),
            ("PROFILE", profile.to_str().unwrap()),
            ("DEVICE", "h100"),
        ]);
        let context = softcuda.context();
        let stream = context.default_stream();
        let fill = kernel(&context, "fill");
        let mut out = stream.alloc_zeros::<u32>(100).unwrap();
        let shape = configuration([1, 1, 1], [64, 1, 1], 0);
        unsafe { stream.launch_builder(&fill).arg(&mut out).arg(&7u32).arg(&100u32).launch(shape).unwrap() };
        let expected = if skip == "1" { 0 } else { 7 };
        assert_eq!(stream.clone_dtoh(&out).unwrap(), [expected; 100]);
    }
    let lines = std::fs::read_to_string(&profile).unwrap();
    let launches = softcuda::model::profile::read_json_lines(&lines).unwrap();
    let [run, skipped] = launches.as_slice() else { panic!("{lines}") };
    assert_eq!((run.kernel.as_str(), run.device.as_str(), run.block), ("fill", "h100", [64, 1, 1]));
    // 100 words of 4 bytes are 12.5 sectors.
    assert_eq!((run.counters.unique_sectors_written, skipped.counters.unique_sectors_written), (13, 0));
}

#[test]
fn launch_attributes_are_read() {
    let softcuda = Softcuda::with(&[("DEVICE", "t4")]);
    let function = kernel(&softcuda.context(), "nothing");
    #[repr(C)]
    struct Attribute {
        id: c_uint,
        padding: c_uint,
        value: [u32; 16],
    }
    let launch = |blocks, id, value| {
        let mut attribute = Attribute { id, padding: 0, value: [value; 16] };
        let configuration = sys::CUlaunchConfig {
            gridDimX: blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 1024,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: null_mut(),
            attrs: (&raw mut attribute).cast(),
            numAttrs: 1,
        };
        let none = null_mut();
        code(unsafe { sys::cuLaunchKernelEx(&configuration, function.cu_function(), none, none) })
    };
    assert_eq!(launch(41, 0, 0), 0);
    assert_eq!(launch(41, 2, 1), 720, "cooperative");
    assert_eq!(launch(41, 4, 1), 0, "clusters of one block");
    assert_eq!(launch(41, 4, 2), 801, "clusters");
}

#[test]
fn ptx_that_nvcc_made_is_loaded_whole() {
    let softcuda = Softcuda::with(&[("DEVICE", "h100")]);
    let context = softcuda.context();
    for file in std::fs::read_dir("tests/ptx").unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "ptx") {
            context.load_module(Ptx::from_file(&path)).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        }
    }
    assert_eq!(softcuda.findings(), "");
}
