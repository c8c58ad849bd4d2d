//! Memory through the driver API: allocation and its limits, copies of every kind, fills, pinned memory, pools.
#![allow(unsafe_code)] // the driver API is a C interface

mod driver;

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use cudarc::driver::sys;
use driver::{Softcuda, code, ok};

fn allocate(bytes: usize) -> u64 {
    let mut address = 0;
    // SAFETY: the place for the answer is there.
    ok(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) });
    address
}

fn to_device(to: u64, bytes: &[u8]) -> u32 {
    // SAFETY: the bytes are there.
    code(unsafe { sys::cuMemcpyHtoD_v2(to, bytes.as_ptr().cast(), bytes.len()) })
}

fn to_host(from: u64, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    // SAFETY: the buffer has so many bytes.
    ok(unsafe { sys::cuMemcpyDtoH_v2(buffer.as_mut_ptr().cast(), from, bytes) });
    buffer
}

#[test]
fn what_is_copied_to_the_device_comes_back() {
    let softcuda = Softcuda::with(&[]);
    let stream = softcuda.context().default_stream();
    let data: Vec<u64> = (0..1000).map(|i| i * 0x1_0001_0003).collect();
    let device = stream.clone_htod(&data).unwrap();
    let copy = stream.clone_dtod(&device).unwrap();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), data);
    assert_eq!(stream.clone_dtoh(&stream.alloc_zeros::<u32>(77).unwrap()).unwrap(), [0; 77]);
    assert_eq!(softcuda.findings(), "");
}

#[test]
fn memory_ends_where_the_devices_does_and_the_peak_is_known() {
    let softcuda = Softcuda::with(&[("DEVICE", "t4")]);
    let context = softcuda.context();
    let (free, total) = context.mem_get_info().unwrap();
    assert_eq!(total, 15_843_721_216);
    assert_eq!(free, total);
    let first = allocate(1000);
    assert_eq!((first % 256, softcuda.peak()), (0, 1024));
    let mut address = 0;
    let most = context.mem_get_info().unwrap().0;
    unsafe {
        assert_eq!(code(sys::cuMemAlloc_v2(&mut address, most + 1)), 2);
        assert_eq!(code(sys::cuMemAlloc_v2(&mut address, 0)), 1);
        assert_eq!(code(sys::cuMemAlloc_v2(null_mut(), 8)), 1);
        ok(sys::cuMemFree_v2(first));
        assert_eq!(code(sys::cuMemFree_v2(first)), 1);
        ok(sys::cuMemFree_v2(0));
    }
    assert_eq!((context.mem_get_info().unwrap().0, softcuda.peak()), (total, 1024));
}

#[test]
fn an_allocation_waits_for_frees_that_are_pending() {
    let softcuda = Softcuda::with(&[("DEVICE", "t4"), ("CHECKS", "none")]);
    let context = softcuda.context();
    let stream = context.new_stream().unwrap();
    let (_, total) = context.mem_get_info().unwrap();
    // Sparse: pages that nobody touches cost nothing.
    let first = unsafe { stream.alloc::<u8>(total / 2 + 1).unwrap() };
    drop(first);
    drop(unsafe { stream.alloc::<u8>(total / 2 + 1).unwrap() });
    let both = [(); 2].map(|()| unsafe { stream.alloc::<u8>(total / 2 + 1) });
    assert!(both[0].is_ok() && both[1].is_err());
}

#[test]
fn wrong_addresses_and_sizes_are_refused_at_once() {
    let softcuda = Softcuda::with(&[]);
    let _context = softcuda.context();
    let address = allocate(100);
    assert_eq!(to_device(address + 1, &[7; 100]), 1);
    assert_eq!(to_device(address + 200, &[7; 1]), 1);
    assert_eq!(to_device(0, &[7; 1]), 1);
    assert_eq!(to_device(0, &[]), 0);
    let local = [0u8; 4];
    assert_eq!(to_device(local.as_ptr() as u64, &[7; 4]), 1);
    unsafe {
        assert_eq!(code(sys::cuMemcpyHtoD_v2(address, null(), 4)), 1);
        assert_eq!(code(sys::cuMemcpyHtoD_v2(address, address as *const c_void, 4)), 1);
        assert_eq!(code(sys::cuMemcpyDtoD_v2(address, address + 99, 2)), 1);
        assert_eq!(code(sys::cuMemsetD32_v2(address + 2, 1, 1)), 1);
        assert_eq!(code(sys::cuMemsetD32_v2(address, 1, 26)), 1);
        assert_eq!(code(sys::cuMemsetD32_v2(address, 1, usize::MAX / 2)), 1);
        assert_eq!(code(sys::cuMemsetD2D8_v2(address, 3, 1, 4, 2)), 1);
    }
    // None of these is sticky.
    assert_eq!(to_device(address, &[7; 100]), 0);
    assert_eq!(to_host(address, 100), [7; 100]);
}

#[test]
fn bytes_that_nothing_wrote_are_found_when_they_are_copied_out() {
    let softcuda = Softcuda::with(&[]);
    let _context = softcuda.context();
    let address = allocate(100);
    assert_eq!(to_device(address, &[1; 50]), 0);
    let mut buffer = [0u8; 51];
    assert_eq!(code(unsafe { sys::cuMemcpyDtoH_v2(buffer.as_mut_ptr().cast(), address, 51) }), 719);
    assert!(softcuda.findings().starts_with("init check:"), "{}", softcuda.findings());
    // Sticky, until the primary context is reset.
    let mut other = 0;
    unsafe {
        assert_eq!(code(sys::cuMemAlloc_v2(&mut other, 8)), 719);
        assert_eq!(code(sys::cuCtxSynchronize()), 719);
        ok(sys::cuDevicePrimaryCtxReset_v2(0));
        ok(sys::cuMemAlloc_v2(&mut other, 8));
    }
}

#[test]
fn fills_have_the_width_of_their_elements() {
    let softcuda = Softcuda::with(&[]);
    let _context = softcuda.context();
    let address = allocate(64);
    unsafe {
        ok(sys::cuMemsetD8_v2(address, 0x11, 64));
        ok(sys::cuMemsetD16_v2(address + 2, 0x2223, 2));
        ok(sys::cuMemsetD32_v2(address + 8, 0x4445_4647, 1));
        // Two rows of three elements, 16 bytes apart.
        ok(sys::cuMemsetD2D16_v2(address + 32, 16, 0x5556, 3, 2));
    }
    let mut expected = vec![0x11; 64];
    expected[2..6].copy_from_slice(&[0x23, 0x22, 0x23, 0x22]);
    expected[8..12].copy_from_slice(&[0x47, 0x46, 0x45, 0x44]);
    for row in [32, 48] {
        expected[row..row + 6].copy_from_slice(&[0x56, 0x55, 0x56, 0x55, 0x56, 0x55]);
    }
    assert_eq!(to_host(address, 64), expected);
}

#[test]
fn planes_are_copied_by_their_pitches() {
    let softcuda = Softcuda::with(&[]);
    let _context = softcuda.context();
    let (mut address, mut pitch) = (0, 0);
    let source: Vec<u8> = (0..60).collect();
    let mut back = vec![0xee; 60];
    unsafe {
        ok(sys::cuMemAllocPitch_v2(&mut address, &mut pitch, 10, 6, 4));
        assert_eq!(pitch, 512);
        let mut copy = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
            srcHost: source.as_ptr().cast(),
            srcDevice: 0,
            srcArray: null_mut(),
            srcPitch: 10,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: null_mut(),
            dstDevice: address,
            dstArray: null_mut(),
            dstPitch: pitch,
            WidthInBytes: 10,
            Height: 6,
        };
        ok(sys::cuMemcpy2D_v2(&copy));
        // Rows 1 and 2, bytes 3 to 6, to the same places.
        (copy.srcMemoryType, copy.srcDevice, copy.srcPitch) = (copy.dstMemoryType, address, pitch);
        copy.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
        (copy.dstHost, copy.dstPitch) = (back.as_mut_ptr().cast(), 10);
        (copy.srcXInBytes, copy.srcY, copy.dstXInBytes, copy.dstY) = (3, 1, 3, 1);
        (copy.WidthInBytes, copy.Height) = (4, 2);
        ok(sys::cuMemcpy2D_v2(&copy));
        copy.Height = 6;
        assert_eq!(code(sys::cuMemcpy2D_v2(&copy)), 1, "the seventh row is outside");
        copy.Height = usize::MAX;
        assert_eq!(code(sys::cuMemcpy2D_v2(&copy)), 1);
        copy.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_ARRAY;
        copy.Height = 2;
        assert_eq!(code(sys::cuMemcpy2D_v2(&copy)), 801);
    }
    let expected: Vec<u8> = (0..60)
        .map(|at| if matches!((at / 10, at % 10), (1 | 2, 3..=6)) { at as u8 } else { 0xee })
        .collect();
    assert_eq!(back, expected);
}

#[test]
fn pointers_know_what_they_point_at() {
    let softcuda = Softcuda::with(&[]);
    let _context = softcuda.context();
    let address = allocate(1000);
    let attribute = |which, address| {
        let mut value = 0u64;
        let which: sys::CUpointer_attribute = which;
        let result = unsafe { sys::cuPointerGetAttribute((&raw mut value).cast(), which, address) };
        (code(result), value)
    };
    use sys::CUpointer_attribute_enum as Attribute;
    let (mut base, mut bytes, mut context) = (0, 0, null_mut());
    unsafe {
        ok(sys::cuMemGetAddressRange_v2(&mut base, &mut bytes, address + 999));
        assert_eq!((base, bytes), (address, 1000));
        assert_eq!(code(sys::cuMemGetAddressRange_v2(&mut base, &mut bytes, address + 1000)), 500);
        ok(sys::cuCtxGetCurrent(&mut context));
    }
    let inside = address + 500;
    assert_eq!(attribute(Attribute::CU_POINTER_ATTRIBUTE_CONTEXT, inside), (0, context as u64));
    assert_eq!(attribute(Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside), (0, 2));
    assert_eq!(attribute(Attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, inside), (0, address));
    assert_eq!(attribute(Attribute::CU_POINTER_ATTRIBUTE_HOST_POINTER, inside).0, 1);
    let mut pinned = null_mut();
    unsafe { ok(sys::cuMemHostAlloc(&mut pinned, 100, 0)) };
    assert_eq!(attribute(Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pinned as u64), (0, 1));
    assert_eq!(
        attribute(Attribute::CU_POINTER_ATTRIBUTE_HOST_POINTER, pinned as u64 + 4),
        (0, pinned as u64 + 4)
    );
    assert_eq!(attribute(Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, &raw const base as u64).0, 1);
    unsafe {
        ok(sys::cuMemFreeHost(pinned));
        assert_eq!(code(sys::cuMemFreeHost(pinned)), 1);
    }
}

#[test]
fn registered_memory_is_pinned_until_it_is_unregistered() {
    let softcuda = Softcuda::with(&[]);
    let _context = softcuda.context();
    let mut data = vec![3u8; 8192];
    let pointer = data.as_mut_ptr().cast::<c_void>();
    let (mut flags, mut address) = (0, 0);
    unsafe {
        assert_eq!(code(sys::cuMemHostGetDevicePointer_v2(&mut address, pointer, 0)), 1);
        ok(sys::cuMemHostRegister_v2(pointer, 8192, 0));
        assert_eq!(code(sys::cuMemHostRegister_v2(pointer.add(100), 10, 0)), 712);
        ok(sys::cuMemHostGetDevicePointer_v2(&mut address, pointer.add(8), 0));
        assert_eq!(address, pointer as u64 + 8);
        ok(sys::cuMemHostGetFlags(&mut flags, pointer));
        // It is an address of the device's too.
        let device = allocate(16);
        ok(sys::cuMemcpyDtoD_v2(device, address, 16));
        ok(sys::cuCtxSynchronize());
        assert_eq!(to_host(device, 16), [3; 16]);
        ok(sys::cuMemHostUnregister(pointer));
        assert_eq!(code(sys::cuMemHostUnregister(pointer)), 713);
        assert_eq!(code(sys::cuMemcpyDtoD_v2(device, address, 16)), 1);
    }
}

#[test]
fn pools_count_what_is_taken_from_them() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.plain_context();
    let stream = context.new_stream().unwrap();
    use sys::CUmemPool_attribute_enum as Attribute;
    let (mut pool, mut value) = (null_mut(), 0u64);
    unsafe {
        ok(sys::cuDeviceGetDefaultMemPool(&mut pool, 0));
        let mut used = |which| {
            ok(sys::cuMemPoolGetAttribute(pool, which, (&raw mut value).cast()));
            value
        };
        let memory = stream.alloc::<u8>(5000).unwrap();
        assert_eq!(used(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 5000);
        drop(memory);
        stream.synchronize().unwrap();
        assert_eq!(used(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0);
        assert_eq!(used(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH), 5000);
        let mut threshold = 1u64 << 20;
        let which = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        ok(sys::cuMemPoolSetAttribute(pool, which, (&raw mut threshold).cast()));
        assert_eq!(used(which), 1 << 20);
        ok(sys::cuMemPoolTrimTo(pool, 0));
        assert_eq!(code(sys::cuMemPoolDestroy(pool)), 1);
        let mut address = 0;
        let wrong = 16 as sys::CUmemoryPool;
        assert_eq!(code(sys::cuMemAllocFromPoolAsync(&mut address, 8, wrong, stream.cu_stream())), 1);
        assert_eq!(code(sys::cuMemAllocAsync(&mut address, 0, stream.cu_stream())), 1);
        ok(sys::cuMemAllocAsync(&mut address, 8, stream.cu_stream()));
        ok(sys::cuMemFreeAsync(address, stream.cu_stream()));
        assert_eq!(code(sys::cuMemFreeAsync(address, stream.cu_stream())), 1, "freed already");
        assert_eq!(code(sys::cuMemFree_v2(address)), 1, "freed already");
    }
    assert_eq!(softcuda.findings(), "");
}

#[test]
fn managed_memory_is_seen_from_both_sides() {
    let softcuda = Softcuda::with(&[]);
    let context = softcuda.context();
    let stream = context.default_stream();
    let mut address = 0;
    let flags = sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL as u32;
    unsafe {
        ok(sys::cuMemAllocManaged(&mut address, 64, flags));
        let words = std::slice::from_raw_parts_mut(address as *mut u32, 16);
        words.fill(5);
        let add = driver::kernel(&context, "add");
        use cudarc::driver::{LaunchConfig, PushKernelArg};
        let configuration = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };
        stream.launch_builder(&add).arg(&address).arg(&2u32).arg(&16u32).launch(configuration).unwrap();
        stream.synchronize().unwrap();
        assert_eq!(words, [7; 16]);
        ok(sys::cuMemFree_v2(address));
        assert_eq!(code(sys::cuMemFree_v2(address)), 1);
    }
    assert_eq!(softcuda.findings(), "");
}
