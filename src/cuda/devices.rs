//! What GPUs there are, for people.

use super::driver::{self, Driver};
use super::kernels::{OLDEST_BF16_CAPABILITY, OLDEST_CAPABILITY};
use crate::backend::Precision;
use crate::error::Result;

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its maker's name for it.
    pub name: String,
    /// Compute capability: 80 for 8.0.
    pub capability: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Device memory that nobody uses.
    pub free_bytes: u64,
    /// Device memory.
    pub total_bytes: u64,
}

impl Description {
    /// What it would compute in without being asked; `None` where it is too old for the kernels.
    pub fn precision(&self) -> Option<Precision> {
        if self.capability < OLDEST_CAPABILITY {
            None
        } else if self.capability < OLDEST_BF16_CAPABILITY {
            Some(Precision::F32)
        } else {
            Some(Precision::Bf16)
        }
    }
}

/// All devices of the driver that is loaded.
///
/// # Errors
/// [`crate::Error::Device`] when there is no driver, or a device does not answer.
pub fn list() -> Result<Vec<Description>> {
    let describe = |ordinal| {
        let device = Driver::open(ordinal)?;
        let (free_bytes, total_bytes) = device.memory_bytes()?;
        Ok(Description {
            name: device.name()?,
            capability: device.capability()?,
            multiprocessors: device.multiprocessors()?,
            free_bytes,
            total_bytes,
        })
    };
    (0..driver::device_count()?).map(describe).collect()
}
