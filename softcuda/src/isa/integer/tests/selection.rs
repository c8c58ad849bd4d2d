use super::*;

const TYPES: [(&str, u32); 16] = [
    ("b16", 16),
    ("u16", 16),
    ("s16", 16),
    ("f16", 16),
    ("bf16", 16),
    ("b32", 32),
    ("u32", 32),
    ("s32", 32),
    ("f32", 32),
    ("f16x2", 32),
    ("bf16x2", 32),
    ("b64", 64),
    ("u64", 64),
    ("s64", 64),
    ("f64", 64),
    ("b64", 64),
];

#[test]
fn moves_keep_all_bits() {
    for (ty, bits) in TYPES {
        for a in edges(bits) {
            assert_eq!(lane(&format!("mov.{ty}"), 1)(&[a]), [a], "mov.{ty}");
        }
    }
    assert_eq!(lane("mov.u16", 1)(&[0xffff_ffff]), [0xffff]);
    assert_eq!(lane("mov.pred", 1)(&[1]), [1]);
    assert_eq!(lane("mov.pred", 1)(&[0]), [0]);
    for constant in
        ["mov.u32 d, -5", "mov.f32 d, 0f3F800000", "mov.f64 d, 0d3FF0000000000000", "mov.pred p, 1"]
    {
        assert!(!refused(constant), "{constant}");
    }
}

#[test]
fn choices() {
    for (ty, bits) in TYPES {
        let selp = lane(&format!("selp.{ty}"), 3);
        let (a, b) = (mask(bits), 1);
        assert_eq!(selp(&[a, b, 1]), [a], "selp.{ty}");
        assert_eq!(selp(&[a, b, 0]), [b], "selp.{ty}");
        let by_sign = |name: &str, c: u64| lane(&format!("slct.{name}"), 3)(&[a, b, c])[0];
        for (c, expected) in [(0, a), (5, a), (0x7fff_ffff, a), (0x8000_0000, b), (0xffff_ffff, b)] {
            assert_eq!(by_sign(&format!("{ty}.s32"), c), expected, "slct.{ty}.s32 by {c:#x}");
        }
        let float = |name: String, c: f32| by_sign(&name, c.to_bits().into());
        let subnormal = f32::from_bits(0x8000_0001);
        for (c, expected) in [(0.0, a), (-0.0, a), (1.0, a), (f32::INFINITY, a), (-1.0, b), (f32::NAN, b)] {
            assert_eq!(float(format!("{ty}.f32"), c), expected, "slct.{ty}.f32 by {c}");
            assert_eq!(float(format!("ftz.{ty}.f32"), c), expected, "slct.ftz.{ty}.f32 by {c}");
        }
        assert_eq!(float(format!("{ty}.f32"), subnormal), b);
        assert_eq!(float(format!("ftz.{ty}.f32"), subnormal), a);
    }
}
