//! Integers and doubles as nvcc compiles them, against the host's own.

mod common;

use common::{Arguments, Random, agree, compare, rows};

/// Integers of all magnitudes, with the extremes.
fn integers(seed: u64, n: usize) -> Vec<i64> {
    let mut random = Random(seed);
    let mut all = random.list(n, |random| random.bits() as i64 >> random.below(64));
    all.extend([i64::MAX, i64::MIN, 0, -1, 1, i64::from(u32::MAX), i64::from(i32::MIN)]);
    all
}

/// The same without 0, in another order.
fn divisors(seed: u64, n: usize) -> Vec<i64> {
    integers(seed, n).into_iter().rev().map(|x| if x == 0 { 3 } else { x }).collect()
}

#[test]
fn integers_of_64_bits() {
    let (a, b) = (integers(1, 800), divisors(2, 800));
    let found = rows::<_, _, i64>("integers", "arithmetic_64", &a, &b, 10);
    let high = |product: i128| (product >> 64) as i64;
    compare(
        &found,
        &a,
        &b,
        &[
            &|a, b| a.wrapping_mul(b),
            &|a, b| a.wrapping_div(b),
            &|a, b| a.wrapping_rem(b),
            &|a, b| (a as u64 / b as u64) as i64,
            &|a, b| (a as u64 % b as u64) as i64,
            &|a, b| high(i128::from(a) * i128::from(b)),
            &|a, b| high((u128::from(a as u64) * u128::from(b as u64)) as i128),
            &|a, b| a >> (b & 63),
            &|a, b| (a as u64 >> (b & 63)) as i64,
            &|a, b| a << (b & 63),
        ],
    );
    let unsigned = |list: &[i64]| list.iter().map(|&x| x as u64).collect::<Vec<u64>>();
    let (a, b) = (unsigned(&a), unsigned(&b));
    let found = rows::<_, _, u64>("integers", "bits_64", &a, &b, 6);
    compare(
        &found,
        &a,
        &b,
        &[
            &|a, _| a.count_ones().into(),
            &|a, _| a.leading_zeros().into(),
            &|a, _| a.reverse_bits(),
            &|a, _| if a == 0 { 0 } else { u64::from(a.trailing_zeros()) + 1 },
            &|a, b| a.rotate_left((b & 63) as u32),
            &|a, b| {
                let wide = u128::from(a) * u128::from(a) + u128::from(b);
                (wide as u64).wrapping_add((wide >> 64) as u64)
            },
        ],
    );
}

#[test]
fn integers_of_32_bits() {
    let narrow = |list: Vec<i64>| list.into_iter().map(|x| x as i32).collect::<Vec<i32>>();
    let a = narrow(integers(3, 900));
    let b: Vec<i32> = narrow(divisors(4, 900)).into_iter().map(|x| if x == 0 { -7 } else { x }).collect();
    let found = rows::<_, _, i32>("integers", "arithmetic_32", &a, &b, 10);
    let cut = |x: i32| i64::from(x << 8 >> 8);
    let cut_unsigned = |x: i32| x as u32 & 0xff_ffff;
    compare(
        &found,
        &a,
        &b,
        &[
            &|a, b| a.wrapping_div(b),
            &|a, b| a.wrapping_rem(b),
            &|a, b| (a as u32 / b as u32) as i32,
            &|a, b| (a as u32 % b as u32) as i32,
            &|a, b| (i64::from(a) * i64::from(b) >> 32) as i32,
            &|a, b| (u64::from(a as u32) * u64::from(b as u32) >> 32) as i32,
            &|a, b| (cut(a) * cut(b)) as i32,
            &|a, b| cut_unsigned(a).wrapping_mul(cut_unsigned(b)) as i32,
            &|a, b| (i64::from(a) + i64::from(b) >> 1) as i32,
            &|a, b| a.abs_diff(b).wrapping_add(1) as i32,
        ],
    );
}

/// The bytes of a word.
fn bytes(x: u32) -> [i64; 4] {
    x.to_le_bytes().map(i64::from)
}

/// The same, signed.
fn signed_bytes(x: u32) -> [i64; 4] {
    x.to_le_bytes().map(|byte| i64::from(byte as i8))
}

/// Bytes of two words, chosen by the low three bits of a selector's digits.
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let all = [a.to_le_bytes(), b.to_le_bytes()].concat();
    u32::from_le_bytes(std::array::from_fn(|digit| all[(selector >> (4 * digit) & 7) as usize]))
}

/// Nine bits from a position; those beyond the word are zeros, or its sign.
fn extract(a: u32, position: u32, signed: bool) -> u32 {
    let wide = if signed { i64::from(a as i32) } else { i64::from(a) };
    let field = (wide >> position) as u32 & 0x1ff;
    if signed && field & 0x100 != 0 { field | !0x1ff } else { field }
}

#[test]
fn bits_of_words() {
    let narrow = |list: Vec<i64>| list.into_iter().map(|x| x as u32).collect::<Vec<u32>>();
    let (a, b) = (narrow(integers(5, 900)), narrow(divisors(6, 900)));
    let found = rows::<_, _, u32>("integers", "bits", &a, &b, 16);
    let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let dot = |a: [i64; 4], b: [i64; 4]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i64>() as u32;
    compare(
        &found,
        &a,
        &b,
        &[
            &|a, _| a.count_ones(),
            &|a, _| a.leading_zeros(),
            &|a, _| a.reverse_bits(),
            &|a, _| if a == 0 { 0 } else { a.trailing_zeros() + 1 },
            // funnelshift(low, high, shift)
            &|a, b| (pair(b, a) << (b & 31) >> 32) as u32,
            &|a, b| (pair(b, a) >> (b & 31)) as u32,
            &|a, b| permute(a, b, 0x6420),
            &|a, b| permute(a, b, b),
            &|a, b| dot(signed_bytes(a), signed_bytes(b)).wrapping_add(7),
            &|a, b| dot(bytes(a), bytes(b)).wrapping_add(7),
            &|a, b| {
                let halves = [i64::from(a as i16), i64::from((a >> 16) as i16)];
                let low = signed_bytes(b);
                (halves[0] * low[0] + halves[1] * low[1] + 7) as u32
            },
            &|a, b| extract(a, b & 31, false),
            &|a, b| extract(a, b & 31, true),
            &|a, b| b & !(0x7ff << 5) | (a & 0x7ff) << 5,
            &|a, b| {
                let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
                u32::from_le_bytes(std::array::from_fn(|i| a[i].abs_diff(b[i])))
            },
            &|a, b| (a & b) | (a & 0x0f0f_0f0f) | (b & 0x0f0f_0f0f),
        ],
    );
}

#[test]
fn narrow_integers_in_memory() {
    let n = 500;
    let mut random = Random(7);
    let a = random.list(n, |random| random.bits() as i8);
    let b = random.list(n, |random| random.bits() as u8);
    let c = random.list(n, |random| random.bits() as i16);
    let d = random.list(n, |random| random.bits() as u16);
    let (sums, out) = agree("integers", |bench| {
        let (sums, out) = (bench.room::<i8>(n), bench.room::<i32>(n));
        let arguments = Arguments::default().u64(bench.put(&a)).u64(bench.put(&b));
        let arguments = arguments.u64(bench.put(&c)).u64(bench.put(&d)).u64(sums).u64(out);
        bench.run("narrow", 3, 64, 0, &arguments.u32(n as u32));
        (bench.get::<i8>(sums, n), bench.get::<i32>(out, n))
    });
    for i in 0..n {
        let sum = i32::from(a[i]) + i32::from(b[i]);
        assert_eq!(sums[i], sum as i8);
        assert_eq!(out[i], sum + i32::from(c[i]) * i32::from(d[i]));
    }
}

/// The single next to an integer towards a side: 0 nearest, 1 towards zero, 2 up, 3 down.
fn to_single(k: i32, side: u32) -> i32 {
    let exact = f64::from(k);
    let near = k as f32;
    let towards = |up: bool| match f64::from(near) - exact {
        difference if up && difference < 0.0 => near.next_up(),
        difference if !up && difference > 0.0 => near.next_down(),
        _ => near,
    };
    let rounded = match side {
        0 => near,
        1 => towards(k < 0),
        2 => towards(true),
        _ => towards(false),
    };
    rounded.to_bits() as i32
}

#[test]
fn singles_and_integers() {
    let mut random = Random(8);
    let mut x = random.list(500, |random| f32::from_bits(random.bits() as u32));
    x.extend(random.list(1000, |random| random.unit() * 2f32.powi(random.below(36) as i32)));
    x.extend([0.5, 1.5, 2.5, -0.5, -1.5, 255.0, 255.5, 2147483648.0, -2147483648.0, 4294967296.0, 1e30]);
    x.retain(|x| !x.is_nan());
    let k = random.list(x.len(), |random| random.bits() as i32 >> random.below(32));
    let found = rows::<_, _, i32>("integers", "conversions", &x, &k, 12);
    compare(
        &found,
        &x,
        &k,
        &[
            &|x, _| x.round_ties_even() as i32,
            &|x, _| x as i32,
            &|x, _| x.ceil() as i32,
            &|x, _| x.floor() as i32,
            &|x, _| i32::from(x as u8),
            // An integer type's own range bounds every conversion to it.
            &|x, _| i32::from(x.round_ties_even() as i16),
            &|x, _| x.to_bits() as i32,
            &|x, _| x as u32 as i32,
            &|_, k| to_single(k, 0),
            &|_, k| to_single(k, 1),
            &|_, k| to_single(k, 2),
            &|_, k| to_single(k, 3),
        ],
    );
}

/// Doubles of all magnitudes within what exp and fmod bear.
fn doubles(seed: u64, n: usize) -> Vec<f64> {
    let mut random = Random(seed);
    let mut all = random.list(n, |random| {
        let fraction = random.bits() as i64 as f64 / 2f64.powi(63);
        fraction * 2f64.powi(random.below(60) as i32 - 40)
    });
    all.extend([1.0, -1.0, 0.5, 700.0, -700.0, 2.5, -2.5, 1e5, f64::MIN_POSITIVE, 5e-324]);
    all
}

#[test]
fn doubles_are_exact_where_ieee_says_so() {
    let (a, mut b) = (doubles(9, 600), doubles(10, 600));
    b.reverse();
    let found = rows::<_, _, u64>("double_precision", "dmath", &a, &b, 8);
    compare(
        &found[..6],
        &a,
        &b,
        &[
            &|a, b| (a / b).to_bits(),
            &|a, _| a.abs().sqrt().to_bits(),
            &|a, b| a.mul_add(b, a).to_bits(),
            &|a, _| a.floor().to_bits(),
            &|a, _| f64::from(a as f32).to_bits(),
            &|a, b| (a % b).to_bits(),
        ],
    );
    // One unit by the programming guide, and half of one for the host's.
    let close = |found: u64, wanted: f64| {
        let (found, unit) = (f64::from_bits(found), wanted.abs().next_up() - wanted.abs());
        assert!(found == wanted || (found - wanted).abs() <= 2.0 * unit, "{found}, not {wanted}");
    };
    found[6].iter().zip(&a).for_each(|(&found, a)| close(found, a.exp()));
    found[7].iter().zip(&b).for_each(|(&found, b)| close(found, b.abs().ln()));
}

#[test]
fn doubles_and_integers() {
    let mut a = doubles(11, 300);
    a.extend(Random(12).list(300, |random| random.bits() as i64 as f64));
    a.extend([0.5, 1.5, 1e30, -1e30, f64::INFINITY, f64::NEG_INFINITY]);
    let k = integers(13, a.len() - 7);
    assert_eq!(a.len(), k.len());
    let found = rows::<_, _, i64>("double_precision", "dconvert", &a, &k, 4);
    compare(
        &found,
        &a,
        &k,
        &[
            &|a, _| a as i64,
            &|a, _| a.round_ties_even() as i64,
            &|_, k| (k as f64).to_bits() as i64,
            &|_, k| (k as u64 as f64).to_bits() as i64,
        ],
    );
}

#[test]
fn dgemv_multiplies_a_matrix_by_a_vector() {
    for (rows, columns) in [(1, 1), (7, 100), (12, 33)] {
        let mut random = Random(columns as u64);
        // Whole numbers, whose products and sums are exact in any order.
        let mut whole = |n: usize| random.list(n, |random| random.below(2001) as f64 - 1000.0);
        let (a, x, y) = (whole(rows * columns), whole(columns), whole(rows));
        let found = agree("double_precision", |bench| {
            let at = bench.put(&y);
            let arguments = Arguments::default().u64(bench.put(&a)).u64(bench.put(&x)).u64(at);
            let arguments = arguments.u32(rows as u32).u32(columns as u32).f64(3.0).f64(-2.0);
            bench.run_in("dgemv", [rows.div_ceil(4) as u32, 1, 1], [32, 4, 1], 0, &arguments);
            bench.get::<f64>(at, rows)
        });
        let dot = |row: &[f64]| row.iter().zip(&x).map(|(a, x)| a * x).sum::<f64>();
        let wanted: Vec<f64> = a.chunks(columns).zip(&y).map(|(row, y)| 3.0 * dot(row) - 2.0 * y).collect();
        assert_eq!(found, wanted);
    }
}
