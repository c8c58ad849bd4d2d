//! Products against matrices multiplied element by element.

use super::super::format::Format;
use super::super::layout::Fragment;
use super::super::vectors::IS_PLAIN;
use super::super::{Lanes, Mma};
use super::names::MMA;
use super::{Random, mma_counts, product};
use half::{bf16, f16};

/// A matrix of elements as bits, row by row.
#[derive(Clone, Debug)]
pub struct Matrix {
    columns: u32,
    bits: Vec<u64>,
}

impl Matrix {
    pub fn new(rows: u32, columns: u32, mut element: impl FnMut(u32, u32) -> u64) -> Matrix {
        let places = (0..rows * columns).map(|index| (index / columns, index % columns));
        Matrix { columns, bits: places.map(|(row, column)| element(row, column)).collect() }
    }

    pub fn at(&self, row: u32, column: u32) -> u64 {
        self.bits[(row * self.columns + column) as usize]
    }

    /// As a warp's registers.
    pub fn to_registers(&self, fragment: &Fragment) -> Vec<Lanes<u64>> {
        let word = |register: u32, lane: u32| {
            (0..fragment.parts()).fold(0, |word, part| {
                let (row, column) = fragment.element(lane, register, part);
                word | self.at(row, column) << (part * fragment.format.bits())
            })
        };
        (0..fragment.registers)
            .map(|register| std::array::from_fn(|lane| word(register, lane as u32)))
            .collect()
    }

    /// From a warp's registers.
    fn of_registers(fragment: &Fragment, registers: &[Lanes<u64>]) -> Matrix {
        let mut matrix = Matrix::new(fragment.rows, fragment.columns, |_, _| 0);
        let bits = fragment.format.bits();
        for (register, lanes) in registers.iter().enumerate() {
            for (lane, word) in lanes.iter().enumerate() {
                for part in 0..fragment.parts() {
                    let (row, column) = fragment.element(lane as u32, register as u32, part);
                    matrix.bits[(row * fragment.columns + column) as usize] =
                        word >> (part * bits) & (u64::MAX >> (64 - bits));
                }
            }
        }
        matrix
    }
}

/// The product through a warp's registers.
pub fn through_registers(mma: &Mma, a: &Matrix, b: &Matrix, c: &Matrix) -> Matrix {
    let [a, b, c] = [a.to_registers(&mma.a), b.to_registers(&mma.b), c.to_registers(&mma.c)];
    let mut d = vec![[0; 32]; mma.d.registers as usize];
    if mma.is_double() {
        mma.multiply_double(&a, &b, &c, &mut d);
    } else {
        let narrow = |registers: Vec<Lanes<u64>>| -> Vec<Lanes<u32>> {
            registers.iter().map(|lanes| lanes.map(|word| word as u32)).collect()
        };
        let mut words = narrow(d.clone());
        mma.multiply(&narrow(a), &narrow(b), &narrow(c), &mut words);
        d = words.iter().map(|lanes| lanes.map(u64::from)).collect();
    }
    Matrix::of_registers(&mma.d, &d)
}

/// What the bits mean; no format here but f64 has values that f32 has not.
pub fn value(format: Format, bits: u64) -> f64 {
    let small = |exponent_bits: i32, fraction_bits: i32| {
        let bits = bits as i32;
        let fraction = f64::from(bits & ((1 << fraction_bits) - 1));
        let exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
        let one = f64::from(1 << fraction_bits);
        let leading = if exponent == 0 { 0.0 } else { one };
        let unit = 2f64.powi(exponent.max(1) - (1 << (exponent_bits - 1)) + 1) / one;
        (leading + fraction) * unit * if bits & 0x80 == 0 { 1.0 } else { -1.0 }
    };
    match format {
        Format::F16 => f64::from(f16::from_bits(bits as u16)),
        Format::Bf16 => f64::from(bf16::from_bits(bits as u16)),
        Format::Tf32 => f64::from(f32::from_bits((bits as u32) >> 13 << 13)),
        Format::F32 => f64::from(f32::from_bits(bits as u32)),
        Format::F64 => f64::from_bits(bits),
        Format::E4m3 if bits & 0x7f == 0x7f => f64::NAN,
        Format::E4m3 => small(4, 3),
        Format::E5m2 if bits & 0x7f > 0x7c => f64::NAN,
        Format::E5m2 if bits & 0x7f == 0x7c => f64::INFINITY * small(5, 2).signum(),
        Format::E5m2 => small(5, 2),
        Format::S32 => f64::from(bits as i32),
        Format::S8 => f64::from(bits as i8),
        Format::U8 | Format::U4 | Format::B1 => bits as f64,
        Format::S4 => f64::from((bits as i8) << 4 >> 4),
    }
}

/// An element of D in the order of sums that `multiply` promises.
fn expected(mma: &Mma, a: &[u64], b: &[u64], c: u64) -> u64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (value(mma.a.format, *a), value(mma.b.format, *b)));
    let to_single = |sum: f32| if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits() };
    match mma.d.format {
        Format::F64 => pairs().fold(f64::from_bits(c), |sum, (a, b)| a.mul_add(b, sum)).to_bits(),
        Format::F32 | Format::F16 => {
            let start = value(mma.c.format, c) as f32;
            let sum = pairs().fold(start, |sum, (a, b)| (a as f32).mul_add(b as f32, sum));
            if mma.d.format == Format::F32 {
                return u64::from(to_single(sum));
            }
            if sum.is_nan() { 0x7fff } else { u64::from(f16::from_f32(sum).to_bits()) }
        }
        _ => {
            let is_bits = mma.a.format == Format::B1;
            let bit = |(a, b): (f64, f64)| (if mma.is_and { a * b == 1.0 } else { a != b }) as i64;
            let sum: i64 =
                if is_bits { pairs().map(bit).sum() } else { pairs().map(|(a, b)| (a * b) as i64).sum() };
            let sum = sum + i64::from(c as i32);
            let clamped = sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            u64::from(if mma.is_saturating { clamped as u32 } else { sum as u32 })
        }
    }
}

/// Elements of all kinds: any bits, or the special ones of the format, or small numbers.
fn element(random: &mut Random, format: Format, kind: u32) -> u64 {
    let bits = format.bits();
    let any = random.next() >> (64 - bits);
    let top = u64::MAX >> (64 - bits);
    let fraction = match format {
        Format::F16 => 10,
        Format::Bf16 => 7,
        Format::Tf32 | Format::F32 => 23,
        Format::F64 => 52,
        Format::E4m3 => 3,
        Format::E5m2 => 2,
        _ => {
            let edges = [0, 1, top, top >> 1, (top >> 1) + 1, top - 1];
            return if kind == 1 { edges[random.word() as usize % 6] & top } else { any };
        }
    };
    let infinity = top >> (fraction + 1) << fraction;
    let one = infinity >> 1 >> fraction << fraction;
    match kind {
        0 => any,
        1 => {
            let edges = [
                0,
                1,
                infinity,
                infinity - 1,
                infinity + 1,
                one,
                one + 1,
                1 << fraction,
                (1 << fraction) - 1,
            ];
            edges[random.word() as usize % 9] & (top >> 1) | any & !(top >> 1) & top
        }
        // Without infinities and NaNs, around 1.
        _ => any & !(infinity & !one) & top | one & !(1 << fraction),
    }
}

fn check(mma: &Mma, name: &str, random: &mut Random, kinds: [u32; 3]) {
    let mut matrix = |fragment: &Fragment, kind| {
        Matrix::new(fragment.rows, fragment.columns, |_, _| element(random, fragment.format, kind))
    };
    let [a, b, c] = [matrix(&mma.a, kinds[0]), matrix(&mma.b, kinds[1]), matrix(&mma.c, kinds[2])];
    let d = through_registers(mma, &a, &b, &c);
    let (rows, columns) = (mma.shape.m, mma.shape.n);
    for (row, column) in (0..rows * columns).map(|index| (index / columns, index % columns)) {
        let left: Vec<u64> = (0..mma.shape.k).map(|k| a.at(row, k)).collect();
        let right: Vec<u64> = (0..mma.shape.k).map(|k| b.at(k, column)).collect();
        let (found, wanted) = (d.at(row, column), expected(mma, &left, &right, c.at(row, column)));
        let is_nan = mma.is_double() && f64::from_bits(wanted).is_nan() && f64::from_bits(found).is_nan();
        assert!(found == wanted || is_nan, "{name} {kinds:?} ({row}, {column}): {found:x}, not {wanted:x}");
    }
}

/// With the machine's instructions and with none.
pub fn check_product(mma: &Mma, name: &str) {
    let mut random = Random(3);
    for is_plain in [false, true] {
        IS_PLAIN.set(is_plain);
        for kinds in [[0, 0, 0], [1, 1, 1], [2, 2, 2], [2, 2, 1], [1, 2, 2], [2, 1, 0]] {
            (0..4).for_each(|_| check(mma, name, &mut random, kinds));
        }
        IS_PLAIN.set(false);
    }
}

#[test]
fn products_are_sums_of_products() {
    for (suffixes, _) in MMA {
        let name = format!("mma.sync.aligned.{suffixes}");
        check_product(&Mma::parse(&product(&name, mma_counts(&name))).unwrap(), &name);
    }
}

/// The sums are near the true ones, whatever their order: within k + 1 roundings of the sum of magnitudes.
#[test]
fn products_are_near_the_true_ones() {
    let mut random = Random(4);
    for (suffixes, _) in MMA.iter().filter(|(suffixes, _)| suffixes.ends_with("f32")) {
        let name = format!("mma.sync.aligned.{suffixes}");
        let mma = Mma::parse(&product(&name, mma_counts(&name))).unwrap();
        let mut matrix = |fragment: &Fragment| {
            Matrix::new(fragment.rows, fragment.columns, |_, _| element(&mut random, fragment.format, 2))
        };
        let [a, b, c] = [matrix(&mma.a), matrix(&mma.b), matrix(&mma.c)];
        let d = through_registers(&mma, &a, &b, &c);
        for (row, column) in (0..mma.shape.m * 8).map(|index| (index / 8, index % 8)) {
            let term = |k| value(mma.a.format, a.at(row, k)) * value(mma.b.format, b.at(k, column));
            let terms: Vec<f64> =
                (0..mma.shape.k).map(term).chain([value(mma.c.format, c.at(row, column))]).collect();
            let bound =
                terms.iter().map(|term| term.abs()).sum::<f64>() * terms.len() as f64 * 2f64.powi(-24);
            let error = value(mma.d.format, d.at(row, column)) - terms.iter().sum::<f64>();
            assert!(error.abs() <= bound, "{name} ({row}, {column}): {error:e} of {bound:e}");
        }
    }
}

/// References to registers serve as well as registers.
#[test]
fn registers_may_be_borrowed() {
    let name = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32";
    let mma = Mma::parse(&product(name, mma_counts(name))).unwrap();
    let file: [Lanes<u32>; 10] =
        std::array::from_fn(|register| std::array::from_fn(|lane| ((register * 32 + lane) as f32).to_bits()));
    let (mut d, mut same) = ([[0; 32]; 4], [[0; 32]; 4]);
    mma.multiply(&file[..4], &[&file[4], &file[5]], &file[6..], &mut d);
    mma.multiply(&file[..4].iter().collect::<Vec<_>>(), &file[4..6], &file[6..], &mut same);
    assert_eq!(d, same);
}
