//! For tests of the driver: loads the library beside the test as programs do, a fresh driver a test.
#![allow(unsafe_code, dead_code)] // the driver API is a C interface; not every test file needs everything

use std::ffi::{CString, c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
use cudarc::nvrtc::Ptx;

/// Kernels on 32-bit integers: what the tests launch.
pub const INTEGERS: &str = include_str!("integers.ptx");

/// A driver that a test has for itself.
pub struct Softcuda {
    _alone: MutexGuard<'static, ()>,
}

fn load() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
        let path = CString::new(folder.join("libsoftcuda.so").into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: loading the library runs no code of its own.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!library.is_null(), "cannot load {path:?}");
        // SAFETY: the marker takes nothing.
        let version = unsafe { symbol::<unsafe extern "C" fn() -> u32>("softcuda_marker")() };
        assert_eq!(version, 1, "not softcuda");
    });
}

/// A function of the library.
pub fn symbol<T: Copy>(name: &str) -> T {
    // SAFETY: the caller knows the function's type.
    unsafe { *sys::culib().get::<T>(name.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}")) }
}

/// Whether the library has a function.
pub fn has(name: &str) -> bool {
    load();
    // SAFETY: the function is not called.
    unsafe { sys::culib().get::<*const c_void>(name.as_bytes()).is_ok() }
}

impl Softcuda {
    /// A driver that has not been initialised, in an environment with nothing but these settings.
    pub fn with(settings: &[(&str, &str)]) -> Softcuda {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        load();
        for name in ["DEVICE", "CHECKS", "SEED", "PROFILE", "SKIP_LAUNCHES", "REGISTERS"] {
            let value = settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
            let name = format!("SOFTCUDA_{name}");
            // SAFETY: the tests of this process run one at a time, and only the driver reads these.
            unsafe {
                match value {
                    Some(value) => std::env::set_var(name, value),
                    None => std::env::remove_var(name),
                }
            }
        }
        // SAFETY: nothing of an earlier test uses the driver any more.
        unsafe { symbol::<unsafe extern "C" fn()>("softcuda_reset")() }
        Softcuda { _alone: alone }
    }

    /// The same with a seed.
    pub fn seeded(seed: u64) -> Softcuda {
        Softcuda::with(&[("SEED", &seed.to_string())])
    }

    /// A context.
    pub fn context(&self) -> Arc<CudaContext> {
        CudaContext::new(0).unwrap()
    }

    /// A context that does not order streams by itself.
    pub fn plain_context(&self) -> Arc<CudaContext> {
        let context = self.context();
        // SAFETY: the tests order their streams.
        unsafe { context.disable_event_tracking() };
        context
    }

    /// All findings so far.
    pub fn findings(&self) -> String {
        let mut buffer = vec![0u8; 1 << 16];
        // SAFETY: the buffer has so many bytes.
        let needed = unsafe {
            symbol::<unsafe extern "C" fn(*mut c_char, usize) -> usize>("softcuda_last_findings")(
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        buffer.truncate(needed - 1);
        String::from_utf8(buffer).unwrap()
    }

    /// The most device memory so far.
    pub fn peak(&self) -> u64 {
        // SAFETY: it takes nothing.
        unsafe { symbol::<unsafe extern "C" fn() -> u64>("softcuda_peak_memory")() }
    }
}

/// A kernel of [`INTEGERS`].
pub fn kernel(context: &Arc<CudaContext>, name: &str) -> CudaFunction {
    context.load_module(Ptx::from_src(INTEGERS)).unwrap().load_function(name).unwrap()
}

/// A stream beside the default one.
pub fn stream(context: &Arc<CudaContext>) -> Arc<CudaStream> {
    context.new_stream().unwrap()
}

/// The code of a call.
pub fn code(result: CUresult) -> u32 {
    result as u32
}

/// Requires success.
pub fn ok(result: CUresult) {
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}
