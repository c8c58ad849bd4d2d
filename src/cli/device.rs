//! `--device` and `--precision`: where to compute, and in what.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dit_engine::backend::Precision;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::{self, Cuda, driver};

use super::Usage;

/// The software driver's file, beside the program.
const SOFTCUDA: &str = "libsoftcuda.so";

/// The flags that choose a device.
#[derive(Args, Clone, Copy, Debug)]
pub struct DeviceArgs {
    /// Where to compute: auto (a GPU where there is one, else the CPU), cpu, cuda, cuda:1, or softcuda (the GPU's code on the CPU,
    /// with every access checked: slow)
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: Device,
    /// What activations are computed in [default: bf16 on GPUs from compute capability 8.0 on, else f32]
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Auto,
    Cpu,
    Cuda(usize),
    Softcuda,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Device, String> {
        match name {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            "softcuda" => Ok(Device::Softcuda),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok().map(Device::Cuda))
                .ok_or_else(|| "the devices are auto, cpu, cuda, cuda:NUMBER and softcuda".to_string()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    /// 32 bits
    F32,
    /// bfloat16 activations; sums, statistics and weights stay 32 bits
    Bf16,
}

/// The device that was chosen.
pub enum Chosen {
    /// The processor; with the reason why no GPU is used, where one would have been.
    Cpu(Cpu, Option<String>),
    /// A GPU, or the software driver.
    Cuda(Box<Cuda>),
}

impl DeviceArgs {
    /// Opens the device.
    ///
    /// # Errors
    /// When it is not there, or cannot compute in the precision asked for.
    pub fn open(&self) -> Result<Chosen> {
        let precision = self.precision.map(|precision| match precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Bf16 => Precision::Bf16,
        });
        let options = |ordinal| cuda::Options { ordinal, precision, ..cuda::Options::default() };
        match self.device {
            Device::Auto => match open_gpu(options(0)) {
                Ok(gpu) => Ok(Chosen::Cuda(gpu.into())),
                Err(reason) => cpu(precision, Some(reason.to_string())),
            },
            Device::Cpu => cpu(precision, None),
            Device::Cuda(ordinal) => match open_gpu(options(ordinal)) {
                Ok(gpu) => Ok(Chosen::Cuda(gpu.into())),
                Err(reason) => bail!("--device cuda: {reason}; `--device cpu` computes without a GPU"),
            },
            Device::Softcuda => {
                load_softcuda()?;
                Ok(Chosen::Cuda(Cuda::open(options(0))?.into()))
            }
        }
    }
}

fn cpu(precision: Option<Precision>, reason: Option<String>) -> Result<Chosen> {
    if precision == Some(Precision::Bf16) {
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        bail!(Usage(format!("--precision: the CPU computes in f32{reason}; leave --precision out")));
    }
    Ok(Chosen::Cpu(Cpu::new(), reason))
}

fn open_gpu(options: cuda::Options) -> dit_engine::Result<Cuda> {
    driver::refuse_software_driver()?;
    Cuda::open(options)
}

/// Where the software driver lies: beside the program, or in `deps` beside it, where cargo puts it first.
fn softcuda_library() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.to_path_buf();
    [folder.join(SOFTCUDA), folder.join("deps").join(SOFTCUDA)].into_iter().find(|path| path.is_file())
}

fn load_softcuda() -> Result<()> {
    let Some(library) = softcuda_library() else {
        bail!(
            "--device softcuda: there is no {SOFTCUDA} beside this program; `cargo build --release` in the project's folder \
             makes it"
        );
    };
    Ok(driver::load_software_driver(&library)?)
}

/// Whether `--device softcuda` would find its driver.
pub fn softcuda_is_there() -> bool {
    softcuda_library().is_some()
}
