//! Looks for a CUDA compiler and says in one warning what it found. The build works without one.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["DIT_NVCC", "CUDA_HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let found = candidates().into_iter().find(|path| path.is_file());
    if let Some(nvcc) = found {
        println!(
            "cargo:warning=found {}; this version has no CUDA kernels yet and computes on the CPU",
            nvcc.display()
        );
    } else if let Ok(wanted) = env::var("DIT_NVCC") {
        println!("cargo:warning=DIT_NVCC: {wanted} is no file; this build computes on the CPU");
    }
}

/// $DIT_NVCC, the project's .cuda folder, $CUDA_HOME, then PATH.
fn candidates() -> Vec<PathBuf> {
    let mut candidates: Vec<PathBuf> = env::var_os("DIT_NVCC").map(PathBuf::from).into_iter().collect();
    candidates.push(PathBuf::from(".cuda/nvidia/cu13/bin/nvcc"));
    candidates.extend(env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc")));
    let path = env::var_os("PATH").unwrap_or_default();
    candidates.extend(env::split_paths(&path).map(|folder| folder.join("nvcc")));
    candidates
}
