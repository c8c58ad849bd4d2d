//! Memory pools: their settings and what was taken from them.

use super::{Handle, State, Status};

/// A pool.
#[derive(Debug, Default)]
pub struct Pool {
    /// Whether it is the device's own, which cannot be destroyed.
    pub is_default: bool,
    /// Three switches of reuse: by events, opportunistic, with internal dependencies.
    pub reuse: [i32; 3],
    /// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`
    pub release_threshold: u64,
    used: u64,
    used_high: u64,
}

impl Pool {
    pub(super) fn take(&mut self, bytes: u64) {
        self.used += bytes;
        self.used_high = self.used_high.max(self.used);
    }

    pub(super) fn give(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// `cuMemPoolGetAttribute`: the value and its size in bytes. The pool reserves what is used, no more.
    pub fn attribute(&self, attribute: u32) -> Result<(u64, usize), Status> {
        match attribute {
            1..=3 => Ok((self.reuse[attribute as usize - 1] as u64, 4)),
            4 => Ok((self.release_threshold, 8)),
            5 | 7 => Ok((self.used, 8)),
            6 | 8 => Ok((self.used_high, 8)),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    /// `cuMemPoolSetAttribute`
    pub fn set_attribute(&mut self, attribute: u32, value: u64) -> Result<(), Status> {
        match attribute {
            1..=3 => self.reuse[attribute as usize - 1] = value as i32,
            4 => self.release_threshold = value,
            // High-water marks can be set back, to 0 only.
            6 | 8 if value == 0 => self.used_high = self.used,
            _ => return Err(Status::ERROR_INVALID_VALUE),
        }
        Ok(())
    }
}

impl State {
    /// A new pool.
    pub fn create_pool(&mut self, is_default: bool) -> Handle {
        let handle = self.new_handle();
        self.pools.insert(handle, Pool { is_default, reuse: [1; 3], ..Pool::default() });
        handle
    }

    /// A pool by its handle.
    pub fn pool(&mut self, handle: Handle) -> Result<&mut Pool, Status> {
        self.pools.get_mut(&handle).ok_or(Status::ERROR_INVALID_VALUE)
    }

    /// `cuMemPoolDestroy`: what was taken from it lives on.
    pub fn destroy_pool(&mut self, handle: Handle) -> Result<(), Status> {
        if self.pool(handle)?.is_default {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.pools.remove(&handle);
        if self.current_pool == handle {
            self.current_pool = self.default_pool;
        }
        Ok(())
    }
}
