//! `printf` and `assert` in device code.

mod common;

use common::{Arguments, Bench};
use softcuda::checks::{Checks, DeviceError};

#[test]
fn every_thread_prints_its_line() {
    let bench = Bench::new("printf");
    let values: Vec<i32> = (0..70).map(|t| t * 3 - 100).collect();
    let input = bench.put(&values);
    let outcome = bench.run("print_values", 2, 70, 0, &Arguments::default().u64(input));
    let mut lines: Vec<String> =
        String::from_utf8(outcome.printed).unwrap().lines().map(str::to_string).collect();
    let mut want: Vec<String> = (0..2)
        .flat_map(|block| (0..70).map(move |thread| (block, thread)))
        .map(|(block, thread)| {
            let i = values[thread];
            format!("thread {thread} of block {block}: i {i}, x {:.2}, s text", f64::from(i) * 0.5)
        })
        .collect();
    lines.sort();
    want.sort();
    assert_eq!(lines, want);
    // The buffer of arguments and `in` are what the device touches; the strings are not its traffic.
    assert_eq!(outcome.counters.global_load_sectors, 2 * 70u64.div_ceil(8));
}

#[test]
fn all_kinds_of_conversions() {
    let bench = Bench::new("printf");
    let outcome = bench.run("print_kinds", 1, 1, 0, &Arguments::default().u64(0x7f00_1234));
    let want = "-7 7 ff -5000000000 c word  3.14 1.500000e+10 0x7f001234 100%\nno arguments\n";
    assert_eq!(String::from_utf8(outcome.printed).unwrap(), want);
}

#[test]
fn a_failed_assertion_ends_the_launch() {
    let mut bench = Bench::new("assertion");
    let mut values = vec![1i32; 100];
    values[71] = 0;
    for checks in [Checks::all(), Checks::none()] {
        bench.checks = checks;
        let (input, out) = (bench.put(&values), bench.room::<i32>(100));
        let arguments = Arguments::default().u64(input).u64(out).u32(100);
        let outcome = bench.launch("check_positive", [2, 1, 1], [64, 1, 1], 0, &arguments);
        let [finding] = outcome.findings.as_slice() else { panic!("{:?}", outcome.findings) };
        assert_eq!(finding.error, DeviceError::Assert);
        assert_eq!(
            finding.what,
            "softcuda/tests/cuda/assertion.cu:12: void check_positive(const int *, int *, int): \
             block: [1,0,0], thread: [7,0,0] Assertion `in[i] > 0` failed."
        );
    }
    let input = bench.put(&vec![5i32; 100]);
    let out = bench.room::<i32>(100);
    bench.run("check_positive", 2, 64, 0, &Arguments::default().u64(input).u64(out).u32(100));
    assert_eq!(bench.get::<i32>(out, 100), vec![5; 100]);
}

#[test]
fn allocation_in_device_code_is_refused_by_name() {
    let ptx = b".version 7.8
.target sm_80
.address_size 64
.extern .func (.param .b64 result) malloc (.param .b64 bytes);
.visible .entry allocates()
{
    .param .b64 bytes;
    .param .b64 result;
    st.param.b64 [bytes], 8;
    call.uni (result), malloc, (bytes);
    ret;
}
";
    let bench = Bench::of(ptx);
    let outcome = bench.launch("allocates", [1; 3], [1; 3], 0, &Arguments::default());
    let what = &outcome.findings[0].what;
    assert!(what.contains("`malloc` in device code is not supported"), "{what}");
}
