//! Kernels in their textbook form, compiled by nvcc, against what the host computes.

mod common;

use common::{Arguments, Bench};

#[test]
fn vector_add_adds() {
    let bench = Bench::new("vector_add");
    let n = 1000;
    let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.5).collect();
    let b: Vec<f32> = (0..n).map(|i| 1000.0 - i as f32).collect();
    let (x, y, out) = (bench.put(&a), bench.put(&b), bench.room::<f32>(n));
    bench.run("vector_add", 8, 128, 0, &Arguments::default().u64(x).u64(y).u64(out).u32(n as u32));
    let want: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    assert_eq!(bench.get::<f32>(out, n), want);
}
