//! Contexts, the primary one among them, and which is current.

use std::cell::RefCell;
use std::collections::HashMap;
use std::thread::ThreadId;

use super::streams::Kind;
use super::{Driver, Handle, State, Status};
use crate::model::devices::Device;

/// `CU_LIMIT_MAX`
pub const LIMITS: usize = 10;

/// A context.
#[derive(Debug)]
pub struct Context {
    /// `cuCtxGetId`
    pub id: u64,
    /// Flags of `cuCtxCreate`.
    pub flags: u32,
    /// `cuCtxSetLimit`
    pub limits: [u64; LIMITS],
    /// `cuCtxSetCacheConfig`
    pub cache_config: u32,
    /// The error that every call gives once something has failed on the device.
    pub sticky: Option<Status>,
    /// The legacy default stream.
    pub legacy: Handle,
    /// The default streams of threads.
    pub per_thread: HashMap<ThreadId, Handle>,
}

/// The primary context of the device.
#[derive(Debug, Default)]
pub struct Primary {
    /// Its handle: the same whenever it comes to life again. 0 before the first time.
    pub handle: Handle,
    /// `cuDevicePrimaryCtxRetain` less `cuDevicePrimaryCtxRelease`.
    pub references: u32,
    /// `cuDevicePrimaryCtxSetFlags`
    pub flags: u32,
}

thread_local! {
    /// The thread's stack of contexts; the last one is current.
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The thread's current context, whether or not it is still there.
pub fn current() -> Option<Handle> {
    STACK.with_borrow(|stack| stack.last().copied()).filter(|&context| context != 0)
}

/// `cuCtxSetCurrent`: replaces the top of the stack; 0 empties it.
pub fn set_current(context: Handle) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
}

/// `cuCtxPushCurrent`
pub fn push(context: Handle) {
    STACK.with_borrow_mut(|stack| stack.push(context));
}

/// `cuCtxPopCurrent`
pub fn pop() -> Option<Handle> {
    STACK.with_borrow_mut(Vec::pop)
}

impl State {
    /// The current context.
    ///
    /// # Errors
    /// `ERROR_INVALID_CONTEXT` where there is none, `ERROR_CONTEXT_IS_DESTROYED` where it is gone.
    pub fn current_context(&self) -> Result<Handle, Status> {
        let context = current().ok_or(Status::ERROR_INVALID_CONTEXT)?;
        if self.contexts.contains_key(&context) {
            Ok(context)
        } else {
            Err(Status::ERROR_CONTEXT_IS_DESTROYED)
        }
    }

    /// A context by its handle, the current one for 0.
    ///
    /// # Errors
    /// `ERROR_INVALID_CONTEXT`
    pub fn context(&mut self, handle: Handle) -> Result<&mut Context, Status> {
        let handle = if handle == 0 { self.current_context()? } else { handle };
        self.contexts.get_mut(&handle).ok_or(Status::ERROR_INVALID_CONTEXT)
    }

    /// Whether nothing has failed in the context.
    ///
    /// # Errors
    /// The sticky error.
    pub fn sound(&self, context: Handle) -> Result<(), Status> {
        match self.contexts.get(&context).and_then(|context| context.sticky) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// A new context; the primary one where it is to have that handle.
    pub fn create_context(&mut self, handle: Option<Handle>, flags: u32) -> Handle {
        let handle = handle.unwrap_or_else(|| self.new_handle());
        let id = self.new_id();
        let mut limits = [0; LIMITS];
        limits[0] = 1024; // stack of a thread
        limits[1] = 1 << 20; // printf's buffer
        limits[2] = 8 << 20; // malloc's heap
        limits[4] = 2048; // pending launches of the device
        limits[5] = 64; // granularity of fetches into L2
        let context = Context {
            id,
            flags,
            limits,
            cache_config: 0,
            sticky: None,
            legacy: 0,
            per_thread: HashMap::new(),
        };
        self.contexts.insert(handle, context);
        let legacy = self.create_stream(handle, 0, 0, Kind::Legacy);
        if let Some(context) = self.contexts.get_mut(&handle) {
            context.legacy = legacy;
        }
        handle
    }

    /// `cuDevicePrimaryCtxRetain`
    pub fn retain_primary(&mut self) -> Handle {
        if self.primary.handle == 0 {
            self.primary.handle = self.new_handle();
        }
        let Primary { handle, flags, .. } = self.primary;
        if !self.contexts.contains_key(&handle) {
            self.create_context(Some(handle), flags);
        }
        self.primary.references += 1;
        handle
    }

    /// Takes a context away with everything that belongs to it. Nothing of it may be pending.
    fn destroy_context(&mut self, context: Handle) {
        self.queue.forget(context);
        self.captures.retain(|_, capture| capture.context != context);
        let of = |owner: &Handle| *owner == context;
        let modules: Vec<Handle> =
            self.modules.iter().filter(|(_, m)| of(&m.context)).map(|(h, _)| *h).collect();
        modules.into_iter().for_each(|module| _ = self.unload_module(module));
        let streams: Vec<Handle> =
            self.streams.iter().filter(|(_, s)| of(&s.context)).map(|(h, _)| *h).collect();
        streams.into_iter().for_each(|stream| self.remove_stream(stream));
        self.events.retain(|_, event| event.context != context);
        let memory: Vec<u64> =
            self.allocations.iter().filter(|(_, a)| of(&a.context)).map(|(base, _)| *base).collect();
        memory.into_iter().for_each(|base| self.release(base));
        let pinned: Vec<u64> =
            self.pinned.iter().filter(|(_, p)| of(&p.context)).map(|(base, _)| *base).collect();
        pinned.into_iter().for_each(|base| self.unpin(base));
        self.contexts.remove(&context);
    }
}

impl Driver {
    /// Executes everything that a context has pending.
    pub fn drain_context(&'static self, context: Handle) {
        let newest = self.peek(|state| state.queue.newest()).unwrap_or(0);
        self.drain(|state| !state.queue.has_before(context, newest));
    }

    /// `cuCtxSynchronize`: the same, and the host sees it.
    ///
    /// # Errors
    /// The sticky error.
    pub fn synchronise(&'static self, context: Handle) -> Result<(), Status> {
        self.drain_context(context);
        self.with(|state| {
            state.queue.host_saw_all();
            state.forget_accesses();
            state.sound(context)
        })
    }

    /// Finishes what is pending in a context and takes it away.
    ///
    /// # Errors
    /// Where the driver may not be called.
    pub fn destroy(&'static self, context: Handle) -> Result<(), Status> {
        self.drain_context(context);
        self.with(|state| {
            state.destroy_context(context);
            Ok(())
        })
    }
}

/// The flags that contexts can be created with.
pub const VALID_FLAGS: u32 = 0x1ff;

/// Whether a limit can be set, and how far.
pub fn limit_allows(limit: usize, value: u64, device: &Device) -> bool {
    match limit {
        0 => value <= 512 << 10,
        1 | 2 | 4 => true,
        5 => matches!(value, 0..=128),
        6 => device.persisting_l2_bytes > 0 || value == 0,
        _ => false,
    }
}
