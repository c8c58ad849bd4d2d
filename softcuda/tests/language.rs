//! What CUDA C++ compiles to beyond arithmetic: switches, structs as parameters, local arrays, module variables, calls, dynamic
//! shared memory, against what the host computes.

mod common;

use common::{Arguments, Bench, Random, agree};

#[test]
fn a_switch_takes_each_lane_to_its_case() {
    let n = 1000;
    let mut random = Random(1);
    let kind = random.list(n, |random| random.below(24) as i32 - 1);
    let x = random.list(n, |random| random.bits() as i32 >> random.below(32));
    let found = agree("switch", |bench| {
        let (which, from, to) = (bench.put(&kind), bench.put(&x), bench.room::<i32>(n));
        let arguments = Arguments::default().u64(which).u64(from).u64(to).u32(n as u32);
        bench.run("dispatch", 7, 160, 0, &arguments);
        bench.get::<i32>(to, n)
    });
    let case = |(&kind, &v): (&i32, &i32)| match kind {
        0 => v.wrapping_add(1),
        1 => v.wrapping_sub(2),
        2 => v.wrapping_mul(3),
        3 => v / 4,
        4 => v % 5,
        5 => v & 6,
        6 => v | 7,
        7 => v ^ 8,
        8 => v << 9,
        9 => v >> 10,
        10 => !v,
        11 => v.wrapping_neg(),
        12 => v.wrapping_mul(v),
        13 => v.count_ones() as i32,
        14 => v.leading_zeros() as i32,
        15 => v.reverse_bits(),
        16 => v.min(17),
        17 => v.max(18),
        18 => v.wrapping_abs(),
        19 => v.wrapping_mul(v).wrapping_mul(v),
        20 => v.rotate_left(21),
        _ => -1,
    };
    assert_eq!(found, kind.iter().zip(&x).map(case).collect::<Vec<i32>>());
}

#[test]
fn structs_are_passed_by_value() {
    let (count, offset, stride) = (77, 400i64, -3i64);
    let input = Random(2).list(500, Random::unit);
    let shift = [0.5f32, -1.0, 2.0, 8.0];
    let found = agree("struct_params", |bench| {
        let out = bench.room::<f32>(count);
        let view = Arguments::default().u64(bench.put(&input)).u32(count as u32).u32(offset as u32);
        let view = shift.iter().fold(view.u64(stride as u64).f64(1.25), |view, &shift| view.f32(shift));
        bench.run("affine", 2, 32, 0, &view.u64(out));
        bench.get::<f32>(out, count)
    });
    let cell =
        |i: usize| (1.25 * f64::from(input[(offset + i as i64 * stride) as usize])) as f32 + shift[i % 4];
    assert_eq!(found, (0..count).map(cell).collect::<Vec<f32>>());
}

#[test]
fn small_parameters_stand_at_their_alignment() {
    let bench = Bench::new("struct_params");
    let out = bench.room::<f64>(6);
    let arguments = Arguments::default().push(&[(-5i8) as u8], 1).push(&60_000u16.to_le_bytes(), 2).f32(0.75);
    let arguments = arguments.push(&[(-128i8) as u8], 1).f64(1e300).push(&[1], 1).u64(out);
    bench.run("small", 1, 1, 0, &arguments);
    assert_eq!(bench.get::<f64>(out, 6), [-5.0, 60_000.0, 0.75, -128.0, 1e300, 1.0]);
    let out = bench.room::<i32>(16);
    let table: Vec<i32> = (0..16).map(|i| 1000 - i * i).collect();
    let arguments = table.iter().fold(Arguments::default(), |list, &value| list.i32(value));
    bench.run("pick", 1, 16, 0, &arguments.u64(out));
    assert_eq!(bench.get::<i32>(out, 16), table);
    let out = bench.room::<f32>(3);
    let arguments = Arguments::default().f32(1.0).f32(2.0).f32(3.0);
    let four: Vec<u8> = [0.5f32, 0.25, 0.125, 9.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    bench.run("vectors", 1, 1, 0, &arguments.push(&four, 16).u64(out));
    assert_eq!(bench.get::<f32>(out, 3), [1.5, 2.25, 3.125]);
}

#[test]
fn local_arrays_belong_to_their_thread() {
    let n = 300;
    let mut random = Random(3);
    let (input, pick) = (random.list(8 * n, Random::unit), random.list(n, |random| random.bits() as i32));
    let found = agree("local_arrays", |bench| {
        let out = bench.room::<f32>(n);
        let arguments = Arguments::default().u64(bench.put(&input)).u64(bench.put(&pick)).u64(out);
        bench.run("local_permute", 3, 128, 0, &arguments.u32(n as u32));
        bench.get::<f32>(out, n)
    });
    let wanted: Vec<f32> = input
        .chunks(8)
        .zip(&pick)
        .map(|(window, &pick)| {
            let mut window = window.to_vec();
            window.sort_by(f32::total_cmp);
            window[(pick & 7) as usize]
        })
        .collect();
    assert_eq!(found, wanted);
}

/// Rows of a kernel of the form (x[n], out[rows * n], n).
fn functions(kernel: &str, x: &[f32], count: usize) -> Vec<Vec<f32>> {
    let found = agree("local_arrays", |bench| {
        let out = bench.room::<u32>(count * x.len());
        let arguments = Arguments::default().u64(bench.put(x)).u64(out).u32(x.len() as u32);
        bench.run(kernel, x.len().div_ceil(64) as u32, 64, 0, &arguments);
        bench.get::<u32>(out, count * x.len())
    });
    found.chunks(x.len()).map(|row| row.iter().map(|&bits| f32::from_bits(bits)).collect()).collect()
}

/// A function, a row's error limit in units in the last place, and the same in f64.
type Function = (&'static str, f64, fn(f64) -> f64);

fn check(x: &[f32], found: &[Vec<f32>], functions: &[Function]) {
    for (row, &(name, limit, f)) in found.iter().zip(functions) {
        for (&x, &found) in x.iter().zip(row) {
            let wanted = f(f64::from(x));
            if wanted.is_nan() {
                assert!(found.is_nan(), "{name}({x}) is {found}");
                continue;
            }
            let narrow = wanted as f32;
            if narrow.is_infinite() || narrow == 0.0 {
                assert_eq!(found, narrow, "{name}({x})");
                continue;
            }
            let ulp = f64::from(f32::from_bits(narrow.abs().to_bits() + 1)) - f64::from(narrow.abs());
            let error = (f64::from(found) - wanted).abs() / ulp;
            assert!(error <= limit, "{name}({x}) is {found}, not {wanted}: {error} ulp");
        }
    }
}

/// The error function: its Taylor series, or, further out, a continued fraction of its complement (Lentz's method).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let term = |n: u32, last: f64| -last * a * a / f64::from(n);
        let (mut sum, mut last) = (a, a);
        for n in 1..100 {
            last = term(n, last);
            sum += last / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let tail = (1..200).rev().fold(a, |tail, n| a + f64::from(n) / 2.0 / tail);
        1.0 - (-a * a).exp() / (tail * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

#[test]
fn functions_of_libdevice_keep_their_documented_errors() {
    let mut x = Random(4).list(400, |random| random.unit() * 12.0);
    x.extend(Random(5).list(100, |random| random.unit() * 1e5));
    x.extend(Random(6).list(100, |random| random.unit() * 1e-6));
    x.extend([0.0, 1.0, -1.0, 100.0, -100.0, 88.5, 126.0, f32::INFINITY, 0.7, 1e-3]);
    let found = functions("transcendental", &x, 14);
    // Maximum errors by the CUDA C++ Programming Guide, table of mathematical functions.
    let list: [Function; 14] = [
        ("sinf", 2.0, f64::sin),
        ("cosf", 2.0, f64::cos),
        ("expf", 2.0, f64::exp),
        ("logf", 1.0, f64::ln),
        ("powf", 4.0, |x| x.abs().powf(f64::from(1.7f32))),
        ("tanhf", 2.0, f64::tanh),
        ("erff", 2.0, erf),
        ("sqrtf", 0.5, f64::sqrt),
        ("rsqrtf", 2.0, |x| 1.0 / x.sqrt()),
        ("cbrtf", 1.0, f64::cbrt),
        ("exp2f", 2.0, f64::exp2),
        ("log2f", 1.0, f64::log2),
        ("fmodf", 0.0, |x| x % f64::from(0.7f32)),
        ("x / 3", 0.5, |x| x / 3.0),
    ];
    check(&x, &found, &list);
}

#[test]
fn fast_functions_are_approximate() {
    let x: Vec<f32> = Random(7).list(300, |random| random.unit() * 3.0);
    let found = functions("fast_math", &x, 6);
    for (i, &x) in x.iter().enumerate() {
        let v = f64::from(x);
        // Absolute errors by the programming guide: 2^-21.4 and 2^-21.2 for sine and cosine, 2^-21.4 for the logarithm
        // near 1; 2 + floor(|1.16 x|) units for the exponential.
        let close = |row: usize, wanted: f64, limit: f64| {
            let found = f64::from(found[row][i]);
            assert!((found - wanted).abs() <= limit, "row {row} of {x}: {found}, not {wanted}");
        };
        close(0, v.sin(), 2f64.powf(-21.4));
        close(1, v.cos(), 2f64.powf(-21.2));
        close(2, v.exp(), v.exp() * 5.5 * 2f64.powi(-23));
        if x > 0.0 {
            close(3, v.ln(), 2f64.powf(-21.4).max(v.ln().abs() * 3.0 * 2f64.powi(-23)));
        } else {
            assert!(found[3][i].is_nan() || x == 0.0);
        }
        close(4, 1.0 / v, (1.0 / v).abs() * 2.0 * 2f64.powi(-23));
        let power = v.abs().powf(f64::from(1.7f32));
        // exp2(1.7 * log2 |x|): the error of log2 times 1.7, and that of exp2.
        close(5, power, power * 2f64.powi(-18));
    }
}

#[test]
fn module_variables_hold_their_initial_values() {
    let mut random = Random(8);
    let x = random.list(100, Random::unit);
    let index = random.list(100, |random| random.bits() as i32);
    let polynomial = |coefficients: [f32; 5]| -> Vec<f32> {
        x.iter()
            .map(|&x| coefficients.iter().rev().copied().reduce(|y, c| y.mul_add(x, c)).unwrap())
            .collect()
    };
    agree("constant_memory", |bench| {
        let (from, out) = (bench.put(&x), bench.room::<f32>(100));
        let arguments = Arguments::default().u64(from).u64(out).u32(100);
        bench.run("polynomial", 2, 32, 0, &arguments);
        assert_eq!(bench.get::<f32>(out, 100), polynomial([1.0, 0.5, 0.25, 0.125, 0.0625]));
        let (address, bytes) = bench.module.global("COEFFICIENTS").unwrap();
        assert_eq!(bytes, 20);
        let other = [3.0f32, -1.0, 0.1, 0.0, 7.0];
        let bytes: Vec<u8> = other.iter().flat_map(|x| x.to_le_bytes()).collect();
        bench.memory.write(address, &bytes).unwrap();
        bench.run("polynomial", 2, 32, 0, &arguments);
        assert_eq!(bench.get::<f32>(out, 100), polynomial(other));

        let (from, out) = (bench.put(&index), bench.room::<i32>(100));
        bench.run("table_lookup", 1, 70, 0, &Arguments::default().u64(from).u64(out).u32(100));
        let primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53];
        let wanted: Vec<i32> = index.iter().map(|i| primes[(i & 15) as usize] + 100).collect();
        assert_eq!(bench.get::<i32>(out, 100), wanted);

        let out = bench.room::<u32>(1);
        for launches in 0..3 {
            bench.run("count_launches", 1, 1, 0, &Arguments::default().u64(out));
            assert_eq!(bench.get::<u32>(out, 1), [launches]);
        }
        let out = bench.room::<u8>(14);
        bench.run("read_message", 1, 14, 0, &Arguments::default().u64(out));
        assert_eq!(bench.get::<u8>(out, 14), b"hello, device\0");
        let out = bench.room::<f32>(64);
        bench.run("zeroed", 1, 64, 0, &Arguments::default().u64(out));
        assert_eq!(bench.get::<f32>(out, 64), [0.0; 64]);
    });
}

#[test]
fn calls_pass_structs_and_pointers() {
    let n = 70;
    let z = Random(9).list(2 * n, Random::unit);
    for power in [0, 1, 2, 5, 6] {
        let found = agree("device_functions", |bench| {
            let at = bench.put(&z);
            bench.run("complex_power", 3, 32, 0, &Arguments::default().u64(at).u32(n as u32).i32(power));
            bench.get::<f32>(at, 2 * n)
        });
        let wanted: Vec<f64> = z
            .chunks(2)
            .flat_map(|z| {
                let (x, y) = (f64::from(z[0]), f64::from(z[1]));
                (0..power).fold([1.0, 0.0], |[re, im], _| [re * x - im * y, re * y + im * x])
            })
            .collect();
        let error = common::distance(&found, &wanted);
        assert!(error < 2e-6, "{error} for power {power}");
    }
}

#[test]
fn recursion_and_calls_through_pointers_are_refused_by_name() {
    let bench = Bench::new("device_functions");
    for (kernel, arrays, what) in [
        ("ackermann", 2, "recursion (of `"),
        ("through_pointer", 3, "calls through a pointer are not supported"),
    ] {
        let arguments = (0..arrays).fold(Arguments::default(), |list, _| list.u64(bench.put(&[1i32])));
        let outcome = bench.launch(kernel, [1, 1, 1], [1, 1, 1], 0, &arguments.u32(1));
        assert_eq!(outcome.findings.len(), 1);
        let found = outcome.findings[0].to_string();
        assert!(
            found.contains(what)
                && found.contains("not supported")
                && found.contains(" at device_functions.cu:"),
            "{found}"
        );
    }
}

#[test]
fn dynamic_shared_memory_lies_behind_the_static() {
    for (grid, block) in [(1, 1), (3, 77), (2, 1024)] {
        let input: Vec<i32> = (0..(grid * block) as i32).map(|i| i * 3).collect();
        let found = agree("dynamic_shared", |bench| {
            let (from, out) = (bench.put(&input), bench.room::<i32>(input.len()));
            let arguments = Arguments::default().u64(from).u64(out);
            bench.run("reverse_dynamic", grid, block, 4 * block, &arguments);
            bench.get::<i32>(out, input.len())
        });
        let wanted: Vec<i32> =
            input.chunks(block as usize).flat_map(|part| part.iter().rev().copied()).collect();
        assert_eq!(found, wanted);
    }
    for block in [16, 100, 512] {
        let input = Random(block.into()).list(block as usize, Random::unit);
        let found = agree("dynamic_shared", |bench| {
            let (from, out) = (bench.put(&input), bench.room::<f64>(input.len()));
            bench.run("carve_dynamic", 1, block, 12 * block, &Arguments::default().u64(from).u64(out));
            bench.get::<f64>(out, input.len())
        });
        let wanted: Vec<f64> = input.iter().rev().map(|&x| 3.0 * f64::from(x)).collect();
        assert_eq!(found, wanted);
    }
    for words in [1u32, 1000, 50_000] {
        agree("dynamic_shared", |bench| {
            let out = bench.put(&[0u32]);
            bench.run("large_dynamic", 1, 256, 4 * words, &Arguments::default().u64(out).u32(words));
            let wanted = (u64::from(words) * u64::from(words - 1) / 2) as u32;
            assert_eq!(bench.get::<u32>(out, 1), [wanted]);
        });
    }
    let bench = Bench::new("dynamic_shared");
    let out = bench.room::<u32>(2);
    bench.run("dynamic_size", 1, 1, 48, &Arguments::default().u64(out));
    assert_eq!(bench.get::<u32>(out, 2), [48, 64]);
}
