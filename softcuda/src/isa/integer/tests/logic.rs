use super::*;

#[test]
fn predicates() {
    let bools = [0, 1];
    for a in bools {
        assert_eq!(lane("not.pred", 1)(&[a]), [1 - a]);
        for b in bools {
            assert_eq!(lane("and.pred", 2)(&[a, b]), [a * b]);
            assert_eq!(lane("or.pred", 2)(&[a, b]), [a.max(b)]);
            assert_eq!(lane("xor.pred", 2)(&[a, b]), [a.abs_diff(b)]);
        }
    }
}

#[test]
fn words() {
    for bits in [16, 32, 64] {
        check2(&format!("and.b{bits}"), bits, |a, b| a & b);
        check2(&format!("or.b{bits}"), bits, |a, b| a | b);
        check2(&format!("xor.b{bits}"), bits, |a, b| a ^ b);
        let (not, cnot) = (lane(&format!("not.b{bits}"), 1), lane(&format!("cnot.b{bits}"), 1));
        for a in edges(bits) {
            assert_eq!(not(&[a]), [mask(bits) - a]);
            assert_eq!(cnot(&[a]), [u64::from(a == 0)]);
        }
    }
}

#[test]
fn all_tables() {
    let [a, b, c] = [0x0f35_a7c2u32, 0x9be1_30d6, 0x5582_fe1b];
    for table in 0..256u32 {
        let lop3 = decoded(&format!("lop3.b32 d, a, b, c, {table}")).1;
        let expected = (0..32).fold(0u64, |d, i| {
            let row = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
            d | u64::from(table >> row & 1) << i
        });
        assert_eq!(lop3(&[a.into(), b.into(), c.into()]), [expected], "table {table:#x}");
        // The way tables are made: the function of these three.
        assert_eq!(lop3(&[0xf0, 0xcc, 0xaa])[0] & 0xff, u64::from(table));
    }
}

/// Bytes of the result, from the lowest, for each value of the lower two bits of c: the table of the ISA.
const MODES: [(&str, [[u32; 4]; 4]); 6] = [
    ("f4e", [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
    ("b4e", [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]]),
    ("rc8", [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
    ("ecl", [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]]),
    ("ecr", [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]]),
    ("rc16", [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]),
];

proptest! {
    #[test]
    fn bytes(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
        let source: Vec<u8> = [a.to_le_bytes(), b.to_le_bytes()].concat();
        let inputs = [a.into(), b.into(), c.into()];
        let expected: [u8; 4] = std::array::from_fn(|i| {
            let nibble = c >> (4 * i) & 15;
            match (source[nibble as usize % 8], nibble >= 8) {
                (byte, false) => byte,
                (0x80.., true) => 0xff,
                (_, true) => 0,
            }
        });
        prop_assert_eq!(lane("prmt.b32", 3)(&inputs), [u64::from(u32::from_le_bytes(expected))]);
        for (mode, table) in MODES {
            let bytes = table[c as usize % 4].map(|i| source[i as usize]);
            let name = format!("prmt.b32.{mode}");
            prop_assert_eq!(lane(&name, 3)(&inputs), [u64::from(u32::from_le_bytes(bytes))], "{}", mode);
        }
    }

    #[test]
    fn tables_on_random_bits(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
        let inputs = [a.into(), b.into(), c.into()];
        let lop3 = |table: u32| decoded(&format!("lop3.b32 d, a, b, c, {table}")).1(&inputs)[0] as u32;
        prop_assert_eq!(lop3(0x80), a & b & c);
        prop_assert_eq!(lop3(0xfe), a | b | c);
        prop_assert_eq!(lop3(0x96), a ^ b ^ c);
        prop_assert_eq!(lop3(0xe8), a & b | a & c | b & c);
        prop_assert_eq!(lop3(0xca), a & b | !a & c);
    }
}
