//! The CUDA backend in tests: on softcuda, with all its checks, or with `DIT_TEST_DEVICE=cuda` on a real GPU.

use dit_engine::backend::{Backend, Precision};
use dit_engine::cuda::{Cuda, Options, driver};

/// A device that computes activations in this precision; steps are captured as graphs.
pub fn cuda(precision: Precision) -> Cuda {
    open(Options { precision: Some(precision), ..Options::default() })
}

/// A device as asked for.
pub fn open(options: Options) -> Cuda {
    if std::env::var("DIT_TEST_DEVICE").as_deref() != Ok("cuda") {
        let tests = std::env::current_exe().expect("a test has a path");
        let library = tests.parent().expect("a test lies in a folder").join("libsoftcuda.so");
        driver::load_software_driver(&library).expect("softcuda is built with the tests");
    }
    Cuda::open(options).expect("the first device")
}

/// Nothing went wrong, and softcuda's checks found nothing.
pub fn assert_clean(device: &Cuda) {
    device.check().expect("no kernel failed");
    assert_eq!(driver::findings(), "");
}

/// Both precisions.
pub fn both() -> [Cuda; 2] {
    [cuda(Precision::F32), cuda(Precision::Bf16)]
}
