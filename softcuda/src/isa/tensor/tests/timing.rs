//! `cargo test --release -p softcuda --lib isa::tensor::tests::timing -- --ignored --nocapture` prints the time of a
//! product.

use super::super::{Lanes, Mma};
use super::{Random, mma_counts, product};
use std::hint::black_box;
use std::time::Instant;

/// Instructions and the most that one may take, in nanoseconds.
const LIMITS: [(&str, f64); 9] = [
    ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 200.0),
    ("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", 200.0),
    ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 200.0),
    ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 200.0),
    ("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", 200.0),
    ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 200.0),
    ("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", 1000.0),
    ("mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32", 2000.0),
    ("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32", 1000.0),
];

/// The least of several measurements.
fn nanoseconds(mut work: impl FnMut()) -> f64 {
    let repetitions = 20_000;
    let mut measure = || {
        let start = Instant::now();
        (0..repetitions).for_each(|_| work());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(repetitions)
    };
    (0..10).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "measures"]
fn products_are_fast() {
    let (mut random, mut slow) = (Random(1), 0);
    for (name, limit) in LIMITS {
        let mma = Mma::parse(&product(name, mma_counts(name))).unwrap();
        // Values around 1 in f16, whatever they are in other formats.
        let mut fragment = || -> [Lanes<u32>; 4] {
            std::array::from_fn(|_| std::array::from_fn(|_| random.word() & 0x83ff_83ff | 0x3800_3800))
        };
        let (a, b, c) = (fragment(), fragment(), fragment());
        let mut d = [[0u32; 32]; 4];
        let time = nanoseconds(|| {
            let (a, b, c) = (black_box(&a), black_box(&b), black_box(&c));
            mma.multiply(a, b, c, &mut d);
            black_box(&mut d);
        });
        println!("{time:7.1} ns  {name}");
        slow += usize::from(time > limit);
    }
    assert_eq!(slow, 0);
}
