//! Device memory: a pool keyed by size, buffers that return to it, and views of them.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::Range;
use std::rc::Rc;

use half::bf16;

use super::driver::Driver;
use crate::backend::MemoryUse;
use crate::error::Result;
use crate::pool::Shelves;

/// Alignment of addresses that mean nothing.
const MADE_UP_ALIGN: u64 = 256;

/// What a buffer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32 bits.
    F32,
    /// The upper 16 bits of an f32, rounded to nearest even.
    Bf16,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
        }
    }
}

/// The memory of a device. Cloning shares it.
#[derive(Clone)]
pub struct Pool {
    driver: Rc<Driver>,
    shelves: Rc<RefCell<Shelves<u64>>>,
    /// Of a pool that only keeps account: the address that it makes up next.
    made_up: Option<Rc<Cell<u64>>>,
}

impl Pool {
    /// An empty pool.
    pub fn new(driver: Rc<Driver>) -> Pool {
        Pool { driver, shelves: Rc::default(), made_up: None }
    }

    /// A pool that keeps account of what it would take, and takes nothing: its addresses mean nothing.
    pub fn rehearsing(driver: Rc<Driver>) -> Pool {
        let made_up = Some(Rc::new(Cell::new(MADE_UP_ALIGN)));
        Pool { driver, shelves: Rc::default(), made_up }
    }

    /// Whether it only keeps account.
    pub fn is_rehearsing(&self) -> bool {
        self.made_up.is_some()
    }

    /// `len` elements with unspecified contents. With `half_copy` the buffer of f32 has a bf16 copy beside it.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device has not so much left ([`Self::give_up_idle`] may help).
    pub fn take(&self, len: usize, element: Element, half_copy: bool) -> Result<Buffer> {
        let main = self.take_bytes(len * element.bytes())?;
        let copy = if half_copy { Some(self.take_bytes(len * Element::Bf16.bytes())?) } else { None };
        Ok(Buffer { main, copy, len, element })
    }

    fn take_bytes(&self, bytes: usize) -> Result<Block> {
        // The driver gives no empty memory.
        let bytes = bytes.max(Element::F32.bytes()) as u64;
        let reused = self.shelves.borrow_mut().take_least(bytes);
        let address = match reused {
            Some(address) => address,
            None => self.allocate(bytes).inspect_err(|_| self.shelves.borrow_mut().forget(bytes))?,
        };
        Ok(Block { address, bytes, home: self.clone() })
    }

    fn allocate(&self, bytes: u64) -> Result<u64> {
        match &self.made_up {
            Some(next) => Ok(next.replace(next.get() + bytes.next_multiple_of(MADE_UP_ALIGN))),
            None => self.driver.allocate(bytes),
        }
    }

    /// Gives what waits on the shelves back to the device; whether there was anything. Commands that were collected and have
    /// not run yet may use it: they have to be put on the stream first.
    pub fn give_up_idle(&self) -> bool {
        let idle = self.shelves.borrow_mut().clear();
        let any = !idle.is_empty();
        if self.made_up.is_none() {
            idle.into_iter().for_each(|address| self.driver.free(address));
        }
        any
    }

    /// Live, peak and held bytes, and how often the device was asked.
    pub fn usage(&self) -> MemoryUse {
        self.shelves.borrow().usage()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.made_up.is_none() && Rc::strong_count(&self.shelves) == 1 {
            self.shelves.borrow_mut().clear().into_iter().for_each(|address| self.driver.free(address));
        }
    }
}

/// A piece of device memory; goes back to its pool when dropped.
struct Block {
    address: u64,
    bytes: u64,
    home: Pool,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.home.shelves.borrow_mut().give_back(self.bytes, self.address);
    }
}

/// Owned device memory.
pub struct Buffer {
    main: Block,
    /// Of parameters: the same numbers in bf16, kept up by whatever writes the buffer.
    copy: Option<Block>,
    len: usize,
    element: Element,
}

impl Buffer {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it is made of.
    pub fn element(&self) -> Element {
        self.element
    }

    fn span(&self, range: Range<usize>) -> Span {
        assert!(range.start <= range.end && range.end <= self.len, "a view of {range:?} of {}", self.len);
        let at = |block: &Block, element: Element| block.address + (range.start * element.bytes()) as u64;
        Span {
            address: at(&self.main, self.element),
            copy: self.copy.as_ref().map(|copy| at(copy, Element::Bf16)),
            len: range.len(),
            element: self.element,
        }
    }

    /// A read-only view of a part.
    pub fn view(&self, range: Range<usize>) -> Ref<'_> {
        Ref { span: self.span(range), life: PhantomData }
    }

    /// A writable view of a part.
    pub fn view_mut(&mut self, range: Range<usize>) -> Mut<'_> {
        Mut { span: self.span(range), life: PhantomData }
    }

    /// Two writable views of parts that do not overlap.
    pub fn view_two_mut(&mut self, first: Range<usize>, second: Range<usize>) -> (Mut<'_>, Mut<'_>) {
        assert!(first.end <= second.start || second.end <= first.start, "{first:?} and {second:?} overlap");
        (
            Mut { span: self.span(first), life: PhantomData },
            Mut { span: self.span(second), life: PhantomData },
        )
    }
}

/// Part of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Of the first element, on the device.
    pub address: u64,
    /// Of the first element's bf16 copy, where the buffer has one.
    pub copy: Option<u64>,
    /// Number of elements.
    pub len: usize,
    /// What it is made of.
    pub element: Element,
}

/// A read-only view.
#[derive(Clone, Copy, Debug)]
pub struct Ref<'a> {
    span: Span,
    life: PhantomData<&'a Buffer>,
}

/// A writable view.
#[derive(Debug)]
pub struct Mut<'a> {
    span: Span,
    life: PhantomData<&'a mut Buffer>,
}

impl<'a> Ref<'a> {
    /// The bf16 copy of parameters, where the buffer has one.
    pub fn half_copy(self) -> Option<Ref<'a>> {
        let address = self.span.copy?;
        Some(Ref {
            span: Span { address, copy: None, element: Element::Bf16, ..self.span },
            life: PhantomData,
        })
    }
}

impl std::ops::Deref for Ref<'_> {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.span
    }
}

impl std::ops::Deref for Mut<'_> {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.span
    }
}

impl Span {
    /// Whether packs of 16 bytes can be read from its beginning.
    pub fn is_aligned(&self) -> bool {
        self.address.is_multiple_of(16)
    }

    /// Bytes of the elements (the bf16 copy not counted).
    pub fn bytes(&self) -> usize {
        self.len * self.element.bytes()
    }
}

/// The bytes of f32 numbers as a buffer of `element` has them.
pub fn encode(host: &[f32], element: Element) -> Vec<u8> {
    match element {
        Element::F32 => bytemuck::cast_slice(host).to_vec(),
        Element::Bf16 => host.iter().flat_map(|&x| bf16::from_f32(x).to_ne_bytes()).collect(),
    }
}

/// The f32 numbers in the bytes of a buffer of `element`.
pub fn decode(bytes: &[u8], element: Element, to: &mut [f32]) {
    match element {
        Element::F32 => bytemuck::cast_slice_mut::<f32, u8>(to).copy_from_slice(bytes),
        Element::Bf16 => {
            for (to, pair) in to.iter_mut().zip(bytes.chunks_exact(2)) {
                *to = bf16::from_ne_bytes([pair[0], pair[1]]).to_f32();
            }
        }
    }
}
