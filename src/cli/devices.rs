//! `dit-engine devices`: what there is to compute on.

use anyhow::Result;
use dit_engine::backend::Backend;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::devices::{self, Description};
use dit_engine::cuda::driver;
use dit_engine::error::human_bytes;

use super::{device, print};

/// Prints a line a device, and which of them `--device auto` takes.
pub fn run() -> Result<()> {
    let cpu = Cpu::new();
    let free = cpu.available_bytes().map(|free| format!(", {} free", human_bytes(free))).unwrap_or_default();
    let mut lines =
        vec![format!("cpu       {}, {} threads{free}; computes in f32", cpu.name(), Cpu::threads())];
    let found = driver::refuse_software_driver().and_then(|()| devices::list());
    let best = found.as_ref().ok().and_then(|gpus| gpus.first()).is_some_and(|gpu| gpu.precision().is_some());
    match found {
        Ok(gpus) if gpus.is_empty() => {
            lines.push("cuda      none: the NVIDIA driver sees no GPU".to_string())
        }
        Ok(gpus) => lines.extend(gpus.iter().enumerate().map(|(ordinal, gpu)| line(ordinal, gpu))),
        Err(reason) => lines.push(format!("cuda      none: {reason}")),
    }
    lines.push(match device::softcuda_is_there() {
        true => {
            "softcuda  the GPU's code on the CPU, every access checked; computes in bf16 (f32 on request)"
                .to_string()
        }
        false => "softcuda  not built; `cargo build --release` in the project's folder makes it".to_string(),
    });
    lines.push(format!("auto      is {}", if best { "cuda:0" } else { "cpu" }));
    print(lines.join("\n") + "\n")
}

fn line(ordinal: usize, gpu: &Description) -> String {
    let driver = driver::version()
        .map(|version| format!(", driver for CUDA {}.{}", version / 1000, version % 1000 / 10));
    let computes = match gpu.precision() {
        None => "too old for the kernels, which need 7.5".to_string(),
        Some(dit_engine::backend::Precision::F32) => "computes in f32".to_string(),
        Some(best) => format!("computes in {best} (f32 on request)"),
    };
    format!(
        "{:<9} {}, compute capability {}.{}{}, {} of {} free; {computes}",
        format!("cuda:{ordinal}"),
        gpu.name,
        gpu.capability / 10,
        gpu.capability % 10,
        driver.unwrap_or_default(),
        human_bytes(gpu.free_bytes),
        human_bytes(gpu.total_bytes),
    )
}
