//! The driver: everything that is unsafe about a GPU, behind functions that are not.
//!
//! Device memory is an address and a length in bytes here; who owns it and what lies in it is known in `memory`. All
//! work goes to one stream, in order, except copies made ahead, which have a second one.

#![expect(unsafe_code, reason = "the CUDA driver API is a C interface")]

use std::ffi::c_void;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction_attribute_enum, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaStream, DriverError, result};

use super::contract::Contract;
use crate::error::{Error, Result};

/// A device with its two streams.
pub struct Driver {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    copies: Arc<CudaStream>,
    /// Shared memory that a block may be given when it asks, in bytes.
    largest_shared_bytes: u32,
}

/// A kernel: the driver's handle, and what its PTX says about launching it.
pub struct Kernel {
    function: sys::CUfunction,
    contract: Contract,
    // Functions live as long as their module.
    _module: Rc<Module>,
}

/// A loaded PTX.
pub struct Module {
    handle: sys::CUmodule,
    context: Arc<CudaContext>,
}

impl Drop for Module {
    fn drop(&mut self) {
        // The process may be ending, or an earlier error may have taken the context along: nothing is left to be done then.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the handle came from cuModuleLoadData, and every kernel of it held this module.
            let _ = unsafe { result::module::unload(self.handle) };
        }
    }
}

impl Driver {
    /// Device number `ordinal` of the driver that is loaded.
    ///
    /// # Errors
    /// [`Error::Device`] when there is no driver or no such device.
    pub fn open(ordinal: usize) -> Result<Driver> {
        let context = CudaContext::new(ordinal).map_err(|error| failure("cannot open the device", error))?;
        // SAFETY: no memory is handed from stream to stream except by `Ahead`, which waits by events of its own.
        unsafe { context.disable_event_tracking() };
        let new_stream = || context.new_stream().map_err(|error| failure("cannot make a stream", error));
        let (stream, copies) = (new_stream()?, new_stream()?);
        let largest =
            context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
        let largest_shared_bytes = largest.map_err(|error| failure("cannot ask the device", error))? as u32;
        Ok(Driver { context, stream, copies, largest_shared_bytes })
    }

    /// The device's name, as its maker has it.
    pub fn name(&self) -> Result<String> {
        self.context.name().map_err(|error| failure("cannot ask the device", error))
    }

    /// Compute capability: 80 for 8.0.
    pub fn capability(&self) -> Result<u32> {
        let (major, minor) =
            self.context.compute_capability().map_err(|error| failure("cannot ask the device", error))?;
        Ok((10 * major + minor) as u32)
    }

    /// Number of multiprocessors.
    pub fn multiprocessors(&self) -> Result<u32> {
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let count =
            self.context.attribute(attribute).map_err(|error| failure("cannot ask the device", error))?;
        Ok(count as u32)
    }

    /// (free, total) device memory in bytes.
    pub fn memory_bytes(&self) -> Result<(u64, u64)> {
        let (free, total) =
            self.context.mem_get_info().map_err(|error| failure("cannot ask the device", error))?;
        Ok((free as u64, total as u64))
    }

    /// Loads a PTX; the driver compiles it for the device.
    pub fn load(&self, ptx: &str, name: &str) -> Result<Rc<Module>> {
        self.bind()?;
        let text =
            std::ffi::CString::new(ptx).map_err(|_| Error::device(format!("{name}: holds a zero byte")))?;
        // SAFETY: the image is a text that ends with a zero byte, and outlives the call.
        let handle = unsafe { result::module::load_data(text.as_ptr().cast()) };
        let handle = handle.map_err(|error| failure(&format!("cannot load the kernels {name}"), error))?;
        Ok(Rc::new(Module { handle, context: self.context.clone() }))
    }

    /// A kernel of a module, held to its contract.
    ///
    /// # Errors
    /// [`Error::Device`] when the module has no such kernel, or when the device cannot give it its shared memory.
    pub fn kernel(&self, module: &Rc<Module>, contract: Contract) -> Result<Kernel> {
        self.bind()?;
        let name = std::ffi::CString::new(contract.name.as_str()).unwrap_or_default();
        // SAFETY: the module is loaded: `module` holds it.
        let function = unsafe { result::module::get_function(module.handle, name) };
        let function = function.map_err(|error| failure(&format!("no kernel {}", contract.name), error))?;
        if contract.shared_bytes > self.largest_shared_bytes {
            let (wanted, largest) = (contract.shared_bytes, self.largest_shared_bytes);
            let problem =
                format!("{} needs {wanted} bytes of shared memory, the device has {largest}", contract.name);
            return Err(Error::device(problem));
        }
        if contract.shared_bytes > 0 {
            let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of a loaded module, and the size was compared with the device's.
            unsafe {
                result::function::set_function_attribute(function, attribute, contract.shared_bytes as i32)
            }
            .map_err(|error| failure(&format!("cannot set up {}", contract.name), error))?;
        }
        Ok(Kernel { function, contract, _module: module.clone() })
    }

    /// Puts a launch on the stream. `arguments` are the parameters' bits, checked against the contract by the caller.
    pub fn launch(&self, kernel: &Kernel, grid: [u32; 3], arguments: &[u64]) -> Result<()> {
        let contract = &kernel.contract;
        assert_eq!(arguments.len(), contract.parameters.len(), "{}: arguments", contract.name);
        self.bind()?;
        let mut pointers: Vec<*mut c_void> =
            arguments.iter().map(|argument| std::ptr::from_ref(argument).cast_mut().cast()).collect();
        // SAFETY: the driver reads as many arguments as the contract has (asserted above), each at most 8 bytes long
        // (`Contract` knows no longer ones); on this little-endian host a shorter one is the beginning of its slot. Which memory the
        // kernel touches follows from arguments that family files make from live buffers and their lengths; softcuda checks every access
        // of every kernel in the tests.
        unsafe {
            result::launch_kernel(
                kernel.function,
                (grid[0], grid[1], grid[2]),
                (contract.block, 1, 1),
                contract.shared_bytes,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(|error| failure(&format!("cannot launch {}", contract.name), error))
    }

    /// Memory of the device; contents unspecified.
    ///
    /// # Errors
    /// [`Error::Device`] when there is not so much left.
    pub fn allocate(&self, bytes: u64) -> Result<u64> {
        self.bind()?;
        // SAFETY: the size is not 0 (memory.rs rounds up); nothing reads the memory before it is written.
        unsafe { result::malloc_sync(bytes as usize) }
            .map_err(|error| failure(&format!("cannot allocate {bytes} bytes of device memory"), error))
    }

    /// Gives memory back to the device, when the work that was put on the stream before is done.
    pub fn free(&self, address: u64) {
        if self.bind().is_ok() {
            // SAFETY: the address came from `allocate` and is given back once, by its pool; cuMemFree waits for the device.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    /// Host to device, in the order of the stream; `from` may be changed at once.
    pub fn copy_to_device(&self, to: u64, from: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: `to` has room for `from` (memory.rs compared the lengths); the driver snapshots pageable memory at the call.
        unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) }
            .map_err(|error| failure("cannot copy to the device", error))
    }

    /// Device to host, after everything on the stream.
    pub fn copy_to_host(&self, to: &mut [u8], from: u64) -> Result<()> {
        self.synchronize()?;
        // SAFETY: `from` has as many bytes as `to` (memory.rs compared the lengths); the copy is synchronous.
        unsafe { result::memcpy_dtoh_sync(to, from) }
            .map_err(|error| failure("cannot copy from the device", error))
    }

    /// Device to device, in the order of the stream.
    pub fn copy_within(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: both have so many bytes (memory.rs compared the lengths) and are different buffers.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(|error| failure("cannot copy on the device", error))
    }

    /// Fills with a byte, in the order of the stream.
    pub fn set_bytes(&self, to: u64, byte: u8, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: `to` has so many bytes (memory.rs knows its length).
        unsafe { result::memset_d8_async(to, byte, bytes, self.stream.cu_stream()) }
            .map_err(|error| failure("cannot fill device memory", error))
    }

    /// Waits for everything on the stream.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong in any kernel before.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(|error| failure("a kernel failed", error))
    }

    /// What `work` puts on the stream, as a graph, without running it.
    pub fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let wrong = |error| failure("cannot capture a step", error);
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(wrong)?;
        let outcome = work();
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = self.stream.end_capture(flags).map_err(wrong);
        outcome?;
        graph?.map(Graph).ok_or_else(|| Error::device("cannot capture a step: it is empty"))
    }

    /// Pinned host memory.
    pub fn pinned(&self, bytes: usize) -> Result<Pinned> {
        self.bind()?;
        // SAFETY: the size is not 0; `Pinned` frees it once.
        let address = unsafe { result::malloc_host(bytes.max(1), 0) }
            .map_err(|error| failure("cannot allocate pinned memory", error))?;
        // SAFETY: the memory is `bytes` long; u8 may hold anything once it is written, which this does.
        unsafe { std::ptr::write_bytes(address.cast::<u8>(), 0, bytes.max(1)) };
        Ok(Pinned { address: address.cast(), bytes, context: self.context.clone() })
    }

    /// Pinned to device, in the order of the stream: the bytes are read when the stream (or a graph captured from it)
    /// gets there. The caller does not change them before.
    pub fn copy_pinned(&self, to: u64, from: &Pinned, offset: usize, bytes: usize) -> Result<()> {
        self.bind()?;
        let from = &from.bytes()[offset..offset + bytes];
        // SAFETY: as in `copy_to_device`; the pinned memory outlives the graph, which owns it (step.rs).
        unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) }
            .map_err(|error| failure("cannot copy to the device", error))
    }

    /// Device to pinned, in the order of the stream; [`Event::wait`] for a later event before reading it.
    pub fn copy_to_pinned(&self, to: &mut Pinned, offset: usize, from: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        let to = &mut to.bytes_mut()[offset..offset + bytes];
        // SAFETY: `from` has so many bytes; the pinned memory is read only after an event that follows the copy.
        unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) }
            .map_err(|error| failure("cannot copy from the device", error))
    }

    /// Pinned to device on the second stream, after `after`; the event is when it is done.
    pub fn copy_ahead(&self, to: u64, from: &Pinned, bytes: usize, after: Option<&Event>) -> Result<Event> {
        self.bind()?;
        let wrong = |error| failure("cannot copy ahead", error);
        if let Some(after) = after {
            self.copies.wait(&after.0).map_err(wrong)?;
        }
        // SAFETY: as in `copy_pinned`; whoever reads `to` waits for the event.
        unsafe { result::memcpy_htod_async(to, &from.bytes()[..bytes], self.copies.cu_stream()) }
            .map_err(wrong)?;
        self.copies.record_event(None).map(Event).map_err(wrong)
    }

    /// The stream goes on only after `event`.
    pub fn wait_on_stream(&self, event: &Event) -> Result<()> {
        self.stream.wait(&event.0).map_err(|error| failure("cannot wait for an event", error))
    }

    /// When everything put on the stream so far is done.
    pub fn event(&self) -> Result<Event> {
        self.stream.record_event(None).map(Event).map_err(|error| failure("cannot record an event", error))
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|error| failure("cannot use the device", error))
    }
}

impl Kernel {
    /// What its PTX says.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }
}

/// A captured step.
pub struct Graph(CudaGraph);

impl Graph {
    /// Puts the whole graph on the stream that it was captured from.
    pub fn launch(&self) -> Result<()> {
        self.0.launch().map_err(|error| failure("cannot launch a captured step", error))
    }
}

/// A point in a stream.
pub struct Event(CudaEvent);

impl Event {
    /// Waits on the host.
    pub fn wait(&self) -> Result<()> {
        self.0.synchronize().map_err(|error| failure("a kernel failed", error))
    }
}

/// Host memory that the device copies from and to by itself.
pub struct Pinned {
    address: *mut u8,
    bytes: usize,
    context: Arc<CudaContext>,
}

impl Pinned {
    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is this long, initialised by `Driver::pinned`, and freed only by `drop`.
        unsafe { std::slice::from_raw_parts(self.address, self.bytes) }
    }

    /// Its content, to change; copies that read it must be done.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has a reference.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the address came from cuMemHostAlloc and is freed once.
            let _ = unsafe { result::free_host(self.address.cast()) };
        }
    }
}

/// Number of devices of the driver that is loaded; the reason when there is no driver.
pub fn device_count() -> Result<usize> {
    // SAFETY: it only tries to load the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::device("no NVIDIA driver is installed (no libcuda)"));
    }
    let count =
        CudaContext::device_count().map_err(|error| failure("the NVIDIA driver does not start", error))?;
    Ok(count as usize)
}

/// The driver's version: 13000 for CUDA 13.0.
pub fn version() -> Result<u32> {
    let mut version = 0;
    // SAFETY: the driver writes one int.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|error| failure("cannot ask the driver", error))?;
    Ok(version as u32)
}

/// Makes the software driver in `library` the one that cudarc finds. It has to happen before the first use of a driver,
/// and cannot be undone: a process has one driver.
///
/// # Errors
/// [`Error::Device`] when the library is not there or is not softcuda, or when another driver is in use.
pub fn load_software_driver(library: &Path) -> Result<()> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let load = || {
        let path = library.display();
        // SAFETY: softcuda's initialisation only sets up its own memory. The handle is never closed.
        let loaded = unsafe { libloading::Library::new(library) };
        std::mem::forget(loaded.map_err(|error| format!("{path}: {error}"))?);
        // SAFETY: the symbol is looked up, not called; `culib` panics only when there is no library at all, and one is.
        match unsafe { sys::culib().get::<*const c_void>(b"softcuda_marker") } {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{path}: another CUDA driver is in use already")),
        }
    };
    LOADED.get_or_init(load).clone().map_err(Error::device)
}

/// Fails when the driver that programs find here is the software driver, which nobody asked for.
///
/// # Errors
/// [`Error::Device`].
pub fn refuse_software_driver() -> Result<()> {
    // SAFETY: as in `load_software_driver`; without any library there is nothing to look into.
    let found =
        unsafe { sys::is_culib_present() && sys::culib().get::<*const c_void>(b"softcuda_marker").is_ok() };
    match found {
        true => Err(Error::device(
            "the CUDA driver that was found is softcuda; ask for it by `--device softcuda`",
        )),
        false => Ok(()),
    }
}

/// What the software driver's checks have found so far, in words; empty for another driver.
pub fn findings() -> String {
    type Findings = unsafe extern "C" fn(*mut std::ffi::c_char, usize) -> usize;
    // SAFETY: the type is that of softcuda's function; another library has none of this name.
    let Ok(function) = (unsafe { sys::culib().get::<Findings>(b"softcuda_last_findings") }) else {
        return String::new();
    };
    let mut buffer = vec![0u8; 1 << 16];
    // SAFETY: the buffer has so many bytes.
    let needed = unsafe { function(buffer.as_mut_ptr().cast(), buffer.len()) };
    buffer.truncate(needed.saturating_sub(1));
    String::from_utf8_lossy(&buffer).into_owned()
}

/// The most device memory that was ever allocated at once, by the software driver's own account; `None` for another.
pub fn peak_bytes() -> Option<u64> {
    type Peak = unsafe extern "C" fn() -> u64;
    // SAFETY: the type is that of softcuda's function; another library has none of this name.
    let function = unsafe { sys::culib().get::<Peak>(b"softcuda_peak_memory") }.ok()?;
    // SAFETY: it takes nothing.
    Some(unsafe { function() })
}

fn failure(action: &str, error: DriverError) -> Error {
    let DriverError(code) = error;
    let name =
        error.error_name().map_or_else(|_| format!("{code:?}"), |name| name.to_string_lossy().into_owned());
    Error::device(format!("{action}: {name}"))
}
