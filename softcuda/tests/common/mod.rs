//! Runs kernels of `tests/ptx` on the machine, without the driver above it.
#![allow(dead_code)] // each test uses a part of it

use std::fmt::Debug;

use softcuda::checks::{Checks, Finding};
use softcuda::machine::memory::{Kind, Memory};
use softcuda::machine::{Launch, Outcome, run};
use softcuda::model::devices::Device;
use softcuda::module::Module;

/// A device with a module.
pub struct Bench {
    /// Its memory.
    pub memory: Memory,
    /// The module.
    pub module: Module,
    /// What it presents itself as.
    pub device: &'static Device,
    /// Checks of the launches.
    pub checks: Checks,
    /// Seed of the launches.
    pub seed: u64,
}

/// Parameters of a launch, one behind the other, each aligned to its size.
#[derive(Clone, Debug, Default)]
pub struct Arguments(Vec<u8>);

impl Arguments {
    /// Appends any plain value.
    pub fn push(mut self, bytes: &[u8], align: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(align), 0);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A pointer or a 64-bit integer.
    pub fn u64(self, value: u64) -> Self {
        self.push(&value.to_le_bytes(), 8)
    }

    /// A 32-bit integer.
    pub fn u32(self, value: u32) -> Self {
        self.push(&value.to_le_bytes(), 4)
    }

    /// A signed 32-bit integer.
    pub fn i32(self, value: i32) -> Self {
        self.push(&value.to_le_bytes(), 4)
    }

    /// A double.
    pub fn f64(self, value: f64) -> Self {
        self.push(&value.to_le_bytes(), 8)
    }

    /// A single.
    pub fn f32(self, value: f32) -> Self {
        self.push(&value.to_le_bytes(), 4)
    }
}

/// Plain values, as bytes.
pub trait Plain: Copy + Default {
    /// Its size.
    const SIZE: usize;
    /// Appends its bytes.
    fn put(self, bytes: &mut Vec<u8>);
    /// From its bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        impl Plain for $ty {
            const SIZE: usize = size_of::<$ty>();
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                <$ty>::from_le_bytes(bytes.try_into().unwrap())
            }
        }
    )*};
}

plain!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, half::f16, half::bf16);

impl Bench {
    /// `tests/ptx/NAME.ptx` on an H100, with every check on.
    pub fn new(name: &str) -> Bench {
        let path = format!("{}/tests/ptx/{name}.ptx", env!("CARGO_MANIFEST_DIR"));
        Bench::of(&std::fs::read(path).unwrap())
    }

    /// A PTX text.
    pub fn of(ptx: &[u8]) -> Bench {
        let device = Device::by_name("h100").unwrap();
        let memory = Memory::new(device.total_memory_bytes);
        let module = Module::load(ptx, device, &memory).unwrap();
        Bench { memory, module, device, checks: Checks::all(), seed: 0 }
    }

    /// An allocation that holds values.
    pub fn put<T: Plain>(&self, values: &[T]) -> u64 {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.put(&mut bytes));
        let address = self.memory.allocate(bytes.len() as u64, Kind::Device).unwrap();
        self.memory.write(address, &bytes).unwrap();
        address
    }

    /// An allocation that nobody has written, for so many values.
    pub fn room<T: Plain>(&self, count: usize) -> u64 {
        self.memory.allocate((count * T::SIZE) as u64, Kind::Device).unwrap()
    }

    /// Values that must have been written.
    pub fn get<T: Plain>(&self, address: u64, count: usize) -> Vec<T> {
        let mut bytes = vec![0; count * T::SIZE];
        self.memory.read(address, &mut bytes, Checks::all()).unwrap_or_else(|finding| panic!("{finding}"));
        bytes.chunks(T::SIZE).map(T::get).collect()
    }

    /// Launches with dynamic shared memory.
    pub fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &Arguments,
    ) -> Outcome {
        let kernel = self.module.kernel(kernel).unwrap_or_else(|| panic!("no kernel is called {kernel}"));
        assert!(arguments.0.len() <= kernel.parameter_bytes as usize);
        let mut parameters = arguments.0.clone();
        parameters.resize(kernel.parameter_bytes as usize, 0);
        run(
            &Launch {
                kernel: &kernel,
                grid,
                block,
                dynamic_shared_bytes: shared,
                parameters: &parameters,
                seed: self.seed,
                checks: self.checks,
                device: self.device,
            },
            &self.memory,
        )
    }

    /// Launches in one dimension; nothing may be found.
    pub fn run(&self, kernel: &str, grid: u32, block: u32, shared: u32, arguments: &Arguments) -> Outcome {
        self.run_in(kernel, [grid, 1, 1], [block, 1, 1], shared, arguments)
    }

    /// Launches in three dimensions; nothing may be found.
    pub fn run_in(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &Arguments,
    ) -> Outcome {
        let outcome = self.launch(kernel, grid, block, shared, arguments);
        let found: Vec<String> = outcome.findings.iter().map(Finding::to_string).collect();
        assert!(found.is_empty(), "{kernel}: {}", found.join("\n"));
        outcome
    }
}

/// What a module's kernels give in three orders of blocks and warps, which must not matter.
pub fn agree<T: PartialEq + Debug>(name: &str, run: impl Fn(&Bench) -> T) -> T {
    let of = |seed| run(&Bench { seed, ..Bench::new(name) });
    let first = of(0);
    for seed in 1..3 {
        assert_eq!(of(seed), first, "{name} with seed {seed}");
    }
    first
}

/// Numbers that look random (splitmix64, Steele et al. 2014).
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// An integer from 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// Between -1 and 1, with 24 bits.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// So many of what `f` makes.
    pub fn list<T>(&mut self, count: usize, f: impl Fn(&mut Random) -> T) -> Vec<T> {
        (0..count).map(|_| f(self)).collect()
    }
}

/// Largest difference of two lists, relative to the second's values or to 1, whichever is larger.
pub fn distance(found: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let one = |(&found, &wanted): (&f32, &f64)| (f64::from(found) - wanted).abs() / wanted.abs().max(1.0);
    found
        .iter()
        .zip(wanted)
        .map(one)
        .fold(0.0, |most, next| if next > most || next.is_nan() { next } else { most })
}

/// Rows of a kernel of the form (a[n], b[n], out[rows * n], n).
pub fn rows<A: Plain, B: Plain, R: Plain + PartialEq + Debug>(
    module: &str,
    kernel: &str,
    a: &[A],
    b: &[B],
    count: usize,
) -> Vec<Vec<R>> {
    let n = a.len();
    let found = agree(module, |bench| {
        let (x, y, out) = (bench.put(a), bench.put(b), bench.room::<R>(n * count));
        let arguments = Arguments::default().u64(x).u64(y).u64(out).u32(n as u32);
        bench.run(kernel, 3, 96, 0, &arguments);
        bench.get::<R>(out, n * count)
    });
    found.chunks(n).map(<[R]>::to_vec).collect()
}

/// The same of the form (x[n], out[rows * n], n).
pub fn rows_of_one<A: Plain, R: Plain + PartialEq + Debug>(
    module: &str,
    kernel: &str,
    x: &[A],
    n: usize,
    count: usize,
) -> Vec<Vec<R>> {
    let found = agree(module, |bench| {
        let (from, out) = (bench.put(x), bench.room::<R>(n * count));
        bench.run(kernel, 2, 64, 0, &Arguments::default().u64(from).u64(out).u32(n as u32));
        bench.get::<R>(out, n * count)
    });
    found.chunks(n).map(<[R]>::to_vec).collect()
}

/// Each row against its function.
pub fn compare<A: Copy + Debug, B: Copy + Debug, R: PartialEq + Copy + Debug>(
    found: &[Vec<R>],
    a: &[A],
    b: &[B],
    functions: &[&dyn Fn(A, B) -> R],
) {
    assert_eq!(found.len(), functions.len());
    for (index, (row, function)) in found.iter().zip(functions).enumerate() {
        for ((&found, &a), &b) in row.iter().zip(a).zip(b) {
            assert_eq!(found, function(a, b), "row {index} of {a:?}, {b:?}");
        }
    }
}
