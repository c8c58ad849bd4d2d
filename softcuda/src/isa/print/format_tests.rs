//! Against the C library's `snprintf`.
#![allow(unsafe_code)] // calls it

use std::convert::Infallible;
use std::ffi::CString;

use proptest::prelude::*;

use super::*;

/// Arguments in a list; strings are known by their index.
struct List<'l>(&'l [u64], usize);

const STRINGS: [&[u8]; 3] = [b"", b"text", b"a longer one"];

impl Arguments for List<'_> {
    type Failure = Infallible;

    fn value(&mut self, bytes: u32) -> Result<u64, Infallible> {
        let value = self.0[self.1];
        self.1 += 1;
        // What lies beside a narrow argument must not matter.
        Ok(if bytes == 4 { value & 0xffff_ffff } else { value })
    }

    fn string(&mut self, address: u64, most: usize) -> Result<Vec<u8>, Infallible> {
        let string = STRINGS[address as usize - 1];
        Ok(string[..string.len().min(most)].to_vec())
    }
}

fn ours(text: &str, arguments: &[u64]) -> String {
    let (out, used) = format(text.as_bytes(), &mut List(arguments, 0)).unwrap();
    assert_eq!(used as usize, arguments.len());
    String::from_utf8(out).unwrap()
}

/// What the C library makes of one argument.
macro_rules! theirs {
    ($text:expr, $($argument:expr),+) => {{
        let text = CString::new($text).unwrap();
        let mut out = vec![0u8; 1 << 13];
        // SAFETY: the buffer is as long as said, and the argument is of the kind that the format names.
        let length = unsafe {
            libc::snprintf(out.as_mut_ptr().cast(), out.len(), text.as_ptr(), $($argument),+)
        };
        out.truncate(length as usize);
        String::from_utf8(out).unwrap()
    }};
}

prop_compose! {
    fn specification()(
        flags in "[-+ #0]{0,3}",
        width in prop_oneof![Just(String::new()), (1..40u32).prop_map(|n| n.to_string())],
        precision in prop_oneof![Just(String::new()), Just(".".to_string()), (0..30u32).prop_map(|n| format!(".{n}"))],
    ) -> String {
        format!("%{flags}{width}{precision}")
    }
}

fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(|x| f64::from(x) / 64.0),
        (-400..400i32).prop_map(|x| f64::from(x) / 16.0),
        (0..2000u32).prop_map(f64::from),
        (-30..30i32).prop_map(|power| 10f64.powi(power)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn integers(
        how in specification(),
        size in prop_oneof![Just(""), Just("h"), Just("hh"), Just("l"), Just("ll")],
        letter in "[diuoxX]",
        value in prop_oneof![any::<u64>(), 0..20u64],
    ) {
        let text = format!("{how}{size}{letter}");
        let want = if size.starts_with('l') { theirs!(text.as_str(), value) } else { theirs!(text.as_str(), value as u32) };
        prop_assert_eq!(ours(&text, &[value]), want, "{}", text);
    }

    #[test]
    fn floats(how in specification(), letter in "[eEfFgGaA]", value in doubles()) {
        let text = format!("{how}{letter}");
        prop_assert_eq!(ours(&text, &[value.to_bits()]), theirs!(text.as_str(), value), "{}", text);
    }

    #[test]
    fn any_text_is_printed(text in proptest::collection::vec(prop_oneof![Just(b'%'), any::<u8>(), "[-+#0-9.*hld]".prop_map(|s| s.as_bytes()[0])], 0..40)) {
        let text: Vec<u8> = text.into_iter().filter(|&byte| byte != b's').collect();
        format(&text, &mut List(&[u64::MAX; 64], 0)).unwrap();
    }
}

#[test]
fn specials() {
    let values =
        [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN, f64::MIN_POSITIVE, 5e-324];
    for value in values.into_iter().chain([f64::MAX, 0.5, 1.5, 2.5, 9.995, 99999.5, 999_999.5, 1e-5, 1e-4]) {
        for text in
            ["%f", "%e", "%g", "%a", "%09F", "%-9E|", "%+G", "%#.0f", "%#.0e", "%#g", "%.0a", "%.1a", "% .3A"]
        {
            assert_eq!(ours(text, &[value.to_bits()]), theirs!(text, value), "{text} of {value:e}");
        }
    }
}

#[test]
fn long_precisions() {
    for text in ["%.2000f", "%.2000e", "%.2000g", "%.2000a", "%#.2000g"] {
        assert_eq!(ours(text, &[5e-324f64.to_bits()]), theirs!(text, 5e-324f64), "{text}");
    }
}

#[test]
fn characters_strings_and_pointers() {
    assert_eq!(ours("%c%3c|%-3c|", &[97, 98, 99]), "a  b|c  |");
    assert_eq!(ours("[%s] [%8s] [%-8s] [%.2s]", &[2, 2, 2, 3]), "[text] [    text] [text    ] [a ]");
    assert_eq!(ours("%s %.3s %p %p", &[0, 0, 0, 0x1f]), "(null)  (nil) 0x1f");
    for text in ["%20p", "%-20p|", "%020p", "%+p", "%.12p"] {
        assert_eq!(ours(text, &[0xabc]), theirs!(text, 0xabcu64), "{text}");
    }
}

#[test]
fn widths_and_precisions_may_be_arguments() {
    for width in [-7, 0, 7i32] {
        let want = theirs!("%*d|", width, 42);
        assert_eq!(ours("%*d|", &[u64::from(width as u32), 42]), want);
        let want = theirs!("%.*f|", width, 1.25f64);
        assert_eq!(ours("%.*f|", &[u64::from(width as u32), 1.25f64.to_bits()]), want);
    }
}

#[test]
fn what_is_no_conversion_stays() {
    assert_eq!(ours("100%% %y %", &[]), "100% %y %");
    let text = "%d".repeat(33);
    let (out, used) = format(text.as_bytes(), &mut List(&[7; 40], 0)).unwrap();
    assert_eq!((String::from_utf8(out).unwrap(), used), ("7".repeat(32) + "%d", 32));
}
