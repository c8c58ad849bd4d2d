//! Kernels whose threads work together: atomics, warp intrinsics, barriers of all kinds, against what the host computes.

mod common;

use common::{Arguments, Bench, Random, agree};

/// Cells after a kernel of the form (x[n], cells, n).
fn cells<T: common::Plain + PartialEq + std::fmt::Debug, C: common::Plain + PartialEq + std::fmt::Debug>(
    kernel: &str,
    x: &[T],
    start: &[C],
) -> Vec<C> {
    agree("atomics", |bench| {
        let (from, cells) = (bench.put(x), bench.put(start));
        bench.run(kernel, 3, 80, 0, &Arguments::default().u64(from).u64(cells).u32(x.len() as u32));
        bench.get::<C>(cells, start.len())
    })
}

#[test]
fn atomics_on_integers_apply_every_value() {
    let mut random = Random(5);
    let x = random.list(500, |random| random.bits() as i32);
    let sum = x.iter().fold(0i32, |sum, &x| sum.wrapping_add(x));
    let found = cells("atomics_i32", &x, &[7i32, 7, i32::MAX, i32::MIN, -1, 0, 3]);
    assert_eq!(
        found,
        [
            sum.wrapping_add(7),
            7i32.wrapping_sub(sum),
            *x.iter().min().unwrap(),
            *x.iter().max().unwrap(),
            x.iter().fold(-1, |all, x| all & x),
            x.iter().fold(0, |all, x| all | x),
            x.iter().fold(3, |all, x| all ^ x),
        ]
    );
    let x = random.list(500, |random| random.bits() as i64);
    let found = cells("atomics_i64", &x, &[i64::MAX, i64::MIN]);
    assert_eq!(found, [*x.iter().min().unwrap(), *x.iter().max().unwrap()]);
    let x = random.list(500, Random::bits);
    let sum = x.iter().fold(0u64, |sum, &x| sum.wrapping_add(x));
    let found = agree("atomics", |bench| {
        let (from, cells) = (bench.put(&x), bench.put(&[1u64, u64::MAX, 0, u64::MAX, 0, 1 << 40, 9, 0]));
        bench.run("atomics_u64", 3, 80, 0, &Arguments::default().u64(from).u64(cells).u32(500));
        let mut found = bench.get::<u64>(cells, 8);
        // Which of the values was exchanged last is not determined.
        assert!(x.contains(&found.pop().unwrap()));
        found
    });
    assert_eq!(
        found,
        [
            sum.wrapping_add(1),
            *x.iter().min().unwrap(),
            *x.iter().max().unwrap(),
            x.iter().fold(u64::MAX, |all, x| all & x),
            x.iter().fold(0, |all, x| all | x),
            x.iter().fold(1 << 40, |all, x| all ^ x),
            sum.wrapping_add(9),
        ]
    );
}

#[test]
fn atomics_give_back_what_was_there() {
    let n = 300;
    let x = Random(6).list(n, |random| random.below(1000) as u32 + 1);
    let sum: u32 = x.iter().sum();
    let found = agree("atomics", |bench| {
        let (from, old) = (bench.put(&x), bench.room::<u32>(n));
        let cells = bench.put(&[0u32, u32::MAX, 0, 2, 2, 0, 5]);
        let arguments = Arguments::default().u64(from).u64(cells).u64(old).u32(n as u32);
        bench.run("atomics_u32", 4, 64, 0, &arguments);
        let mut pairs: Vec<(u32, u32)> =
            bench.get::<u32>(old, n).into_iter().zip(x.iter().copied()).collect();
        pairs.sort_unstable();
        // In the order of the old values they add up.
        let end = pairs.iter().fold(0, |sum, &(old, x)| {
            assert_eq!(old, sum);
            sum + x
        });
        assert_eq!(end, sum);
        let mut found = bench.get::<u32>(cells, 7);
        assert!(x.contains(&found.remove(5)));
        found
    });
    let n = n as u32;
    let (least, most) = (*x.iter().min().unwrap(), *x.iter().max().unwrap());
    // inc and dec go round in steps of 7.
    assert_eq!(found, [sum, least, most, (2 + n) % 7, (2 + 7 * n - n) % 7, sum + 5]);
}

#[test]
fn atomics_on_floats_add() {
    let n = 200;
    // Whole numbers whose sums even a half holds exactly.
    let x = Random(7).list(n, |random| random.below(9) as f32 - 3.0);
    let sum: f32 = x.iter().sum();
    let half = |value: f32| half::f16::from_f32(value);
    agree("atomics", |bench| {
        let (f, d) = (bench.put(&[0.5f32]), bench.put(&[0.25f64]));
        let (h, s, m) = (bench.put(&[half(1.0), half(2.0)]), bench.put(&[half(3.0)]), bench.put(&[0f32]));
        let arguments = Arguments::default().u64(bench.put(&x)).u64(f).u64(d).u64(h).u64(s).u64(m);
        bench.run("atomics_float", 2, 96, 0, &arguments.u32(n as u32));
        assert_eq!(bench.get::<f32>(f, 1), [sum + 0.5]);
        assert_eq!(bench.get::<f64>(d, 1), [f64::from(sum) + 0.25]);
        assert_eq!(bench.get::<half::f16>(h, 2), [half(sum + 1.0), half(n as f32 + 2.0)]);
        assert_eq!(bench.get::<half::f16>(s, 1), [half(sum + 3.0)]);
        assert_eq!(bench.get::<f32>(m, 1), [5.0]);
    });
}

#[test]
fn atomics_of_16_bits_leave_the_other_half_alone() {
    agree("atomics", |bench| {
        let at = bench.put(&[3u16, 77]);
        bench.run("atomics_u16", 3, 50, 0, &Arguments::default().u64(at).u32(140));
        assert_eq!(bench.get::<u16>(at, 2), [143, 77]);
    });
}

#[test]
fn atomics_of_all_scopes_and_without_results_add() {
    let n = 260;
    let x = Random(8).list(n, |random| random.below(5000) as u32);
    let sum: u32 = x.iter().sum();
    assert_eq!(cells("atomics_scopes", &x, &[0u32; 4]), [sum, sum, sum, n as u32]);
    agree("atomics", |bench| {
        let (cells, f) = (bench.put(&[0u32; 3]), bench.put(&[0f32]));
        let arguments = Arguments::default().u64(bench.put(&x)).u64(cells).u64(f).u32(n as u32);
        bench.run("atomics_return", 2, 64, 0, &arguments);
        let (most, bits) = (*x.iter().max().unwrap(), x.iter().fold(0, |all, x| all | x));
        assert_eq!(bench.get::<u32>(cells, 3), [sum, most, bits]);
        assert_eq!(bench.get::<f32>(f, 1), [sum as f32]);
    });
}

/// Inputs of a warp with both signs and repeated values.
fn warp_inputs() -> Vec<Vec<i32>> {
    let mut random = Random(9);
    let mut all: Vec<Vec<i32>> =
        (0..3).map(|_| random.list(32, |random| random.below(9) as i32 - 4)).collect();
    all.push(random.list(32, |random| random.bits() as i32));
    all.extend([vec![5; 32], (1..33).map(|i| 4 * i).collect()]);
    all
}

/// What a kernel of the form (x[32], out[rows * 32]) gives, a row each.
fn rows(kernel: &str, x: &[i32], count: usize) -> Vec<Vec<u32>> {
    let found = agree("warp", |bench| {
        let (from, out) = (bench.put(x), bench.room::<u32>(32 * count));
        bench.run(kernel, 1, 32, 0, &Arguments::default().u64(from).u64(out));
        bench.get::<u32>(out, 32 * count)
    });
    found.chunks(32).map(<[u32]>::to_vec).collect()
}

/// Lanes for which something holds.
fn ballot(x: &[i32], f: impl Fn(i32) -> bool) -> u32 {
    x.iter().enumerate().fold(0, |mask, (lane, &x)| mask | u32::from(f(x)) << lane)
}

#[test]
fn votes_see_all_lanes() {
    for x in warp_inputs() {
        let found = rows("warp_vote", &x, 6);
        let same = |value: u32| vec![value; 32];
        assert_eq!(found[0], same(ballot(&x, |x| x > 0)));
        assert_eq!(found[1], same(x.iter().any(|&x| x > 100).into()));
        assert_eq!(found[2], same(x.iter().all(|&x| x > 0).into()));
        assert_eq!(found[3], same(u32::MAX));
        assert_eq!(found[4], (0..32).map(|lane| (1u32 << lane) - 1).collect::<Vec<u32>>());
        assert_eq!(found[5], (0..32).map(|lane| u32::MAX << lane).collect::<Vec<u32>>());
    }
}

#[test]
fn matches_find_equal_values() {
    for x in warp_inputs() {
        let found = rows("warp_match", &x, 4);
        let equal: Vec<u32> = x.iter().map(|&mine| ballot(&x, |other| other == mine)).collect();
        let all = x.iter().all(|&other| other == x[0]);
        assert_eq!(found[0], equal);
        assert_eq!(found[1], [if all { u32::MAX } else { 0 }; 32]);
        assert_eq!(found[2].iter().map(|&p| p != 0).collect::<Vec<bool>>(), [all; 32]);
        assert_eq!(found[3], equal);
    }
}

#[test]
fn shuffles_move_values_between_lanes() {
    for x in warp_inputs() {
        let found = rows("warp_shuffle", &x, 8);
        // The lane that each lane reads; itself where that lies outside its segment.
        let sources: [fn(usize) -> usize; 8] = [
            |lane| lane.saturating_sub(1),
            |lane| if lane + 2 < 32 { lane + 2 } else { lane },
            |lane| lane ^ 5,
            |_| 7,
            |lane| if lane % 8 >= 1 { lane - 1 } else { lane },
            |lane| if lane % 8 + 2 < 8 { lane + 2 } else { lane },
            |lane| lane ^ 3,
            |lane| lane / 4 * 4 + (lane + 1) % 4,
        ];
        for (row, (found, source)) in found.iter().zip(sources).enumerate() {
            let wanted: Vec<u32> = (0..32).map(|lane| x[source(lane)] as u32).collect();
            assert_eq!(*found, wanted, "row {row}");
        }
    }
}

#[test]
fn reductions_of_a_warp_combine_its_lanes() {
    for x in warp_inputs() {
        let found = rows("warp_reduce", &x, 9);
        let unsigned: Vec<u32> = x.iter().map(|&x| x as u32).collect();
        let add = |part: &[u32]| part.iter().fold(0u32, |sum, &x| sum.wrapping_add(x));
        let wanted = [
            add(&unsigned),
            *x.iter().min().unwrap() as u32,
            *x.iter().max().unwrap() as u32,
            *unsigned.iter().min().unwrap(),
            *unsigned.iter().max().unwrap(),
            unsigned.iter().fold(u32::MAX, |all, x| all & x),
            unsigned.iter().fold(0, |all, x| all | x),
            unsigned.iter().fold(0, |all, x| all ^ x),
        ];
        for (row, wanted) in wanted.into_iter().enumerate() {
            assert_eq!(found[row], [wanted; 32], "row {row}");
        }
        assert_eq!(found[8][..16], [add(&unsigned[..16]); 16]);
        assert_eq!(found[8][16..], [add(&unsigned[16..]); 16]);
    }
}

#[test]
fn parted_lanes_shuffle_and_vote_among_themselves() {
    for x in warp_inputs() {
        let votes = ballot(&x, |x| x > 0) & 0x5555_5555;
        let wanted: Vec<u32> =
            (0..32).map(|lane| if lane % 2 == 1 { x[lane ^ 2] as u32 } else { votes }).collect();
        assert_eq!(rows("warp_divergent", &x, 1), [wanted]);
    }
}

#[test]
fn warps_of_any_size_work_together() {
    let x = Random(10).list(500, |random| random.below(20) as i32 - 9);
    let mut positive: Vec<i32> = x.iter().copied().filter(|&x| x > 0).collect();
    positive.sort_unstable();
    let found = agree("warp", |bench| {
        let (from, out, counter) = (bench.put(&x), bench.room::<i32>(500), bench.put(&[0i32]));
        let arguments = Arguments::default().u64(from).u64(out).u64(counter).u32(500);
        bench.run("warp_aggregate", 8, 64, 0, &arguments);
        let count = bench.get::<i32>(counter, 1)[0] as usize;
        let mut found = bench.get::<i32>(out, count);
        found.sort_unstable();
        found
    });
    assert_eq!(found, positive);
    let x = &x[..64];
    let exchanged = agree("warp", |bench| {
        let (from, out) = (bench.put(x), bench.room::<i32>(64));
        bench.run("warp_syncwarp", 1, 64, 0, &Arguments::default().u64(from).u64(out));
        bench.get::<i32>(out, 64)
    });
    assert_eq!(exchanged, (0..64).map(|i| x[i ^ 1]).collect::<Vec<i32>>());
    let x = &x[..40];
    let votes = agree("warp", |bench| {
        let (from, out) = (bench.put(x), bench.room::<u32>(40));
        bench.run("warp_partial", 1, 40, 0, &Arguments::default().u64(from).u64(out));
        bench.get::<u32>(out, 40)
    });
    assert_eq!(votes[..32], [ballot(&x[..32], |x| x > 0); 32]);
    assert_eq!(votes[32..], [ballot(&x[32..], |x| x > 0); 8]);
}

#[test]
fn numbered_barriers_order_parts_of_a_block() {
    let input: Vec<i32> = (0..128).map(|i| i * i).collect();
    let found = agree("named_barrier", |bench| {
        let (from, out) = (bench.put(&input), bench.room::<i32>(128));
        bench.run("pair_barriers", 1, 128, 0, &Arguments::default().u64(from).u64(out));
        bench.get::<i32>(out, 128)
    });
    assert_eq!(found, (0..128).map(|i| input[i / 64 * 64 + 63 - i % 64]).collect::<Vec<i32>>());
    for rounds in [1, 2, 7] {
        let input: Vec<i32> = (0..64 * rounds).map(|i| 5 - i).collect();
        let found = agree("named_barrier", |bench| {
            let (from, out) = (bench.put(&input), bench.room::<i32>(input.len()));
            let arguments = Arguments::default().u64(from).u64(out).i32(rounds);
            bench.run("producer_consumer", 1, 128, 0, &arguments);
            bench.get::<i32>(out, input.len())
        });
        assert_eq!(found, input.iter().map(|x| 3 * x).collect::<Vec<i32>>());
    }
}

#[test]
fn barriers_vote() {
    for block in [1, 40, 256, 1024] {
        for (least, limit) in [(-4, 9), (1, 4), (-4, 4)] {
            let x = Random(block).list(block as usize, |random| random.below(limit) as i32 + least);
            let count = x.iter().filter(|&&x| x > 0).count() as i32;
            let found = agree("named_barrier", |bench| {
                let (from, out) = (bench.put(&x), bench.room::<i32>(3 * x.len()));
                bench.run("barrier_vote", 1, block as u32, 0, &Arguments::default().u64(from).u64(out));
                bench.get::<i32>(out, 3 * x.len())
            });
            let n = x.len();
            assert_eq!(found[..n], vec![count; n], "in a block of {block}");
            let holds = |part: &[i32]| part.iter().map(|&x| x != 0).collect::<Vec<bool>>();
            assert_eq!(holds(&found[n..2 * n]), vec![count as usize == n; n], "in a block of {block}");
            assert_eq!(holds(&found[2 * n..]), vec![count > 0; n], "in a block of {block}");
        }
    }
}

#[test]
fn persistent_blocks_fetch_their_work() {
    let n = 1000;
    let steps = |i: usize| {
        let collatz = |&x: &u64| Some(if x % 2 == 0 { x / 2 } else { 3 * x + 1 });
        std::iter::successors(Some(i as u64 + 1), collatz).take_while(|&x| x != 1).count() as u32
    };
    let found = agree("persistent", |bench| {
        let (out, next) = (bench.room::<u32>(n), bench.put(&[0i32]));
        let arguments = Arguments::default().u64(out).u32(n as u32).u64(next);
        bench.run("collatz_queue", 5, 64, 0, &arguments);
        bench.get::<u32>(out, n)
    });
    assert_eq!(found, (0..n).map(steps).collect::<Vec<u32>>());
}

#[test]
fn threads_know_their_coordinates() {
    for (grid, block) in [([1, 1, 1], [1, 1, 1]), ([2, 3, 4], [5, 3, 2]), ([3, 1, 2], [64, 2, 3])] {
        let threads = grid.iter().chain(&block).product::<u32>() as usize;
        let found = agree("persistent", |bench| {
            let out = bench.room::<u32>(12 * threads);
            bench.run_in("special_registers", grid, block, 0, &Arguments::default().u64(out));
            bench.get::<u32>(out, 12 * threads)
        });
        let mut wanted = Vec::new();
        let [all, inside] = [grid, block].map(|[x, y, z]| {
            (0..z).flat_map(move |k| (0..y).flat_map(move |j| (0..x).map(move |i| [i, j, k])))
        });
        for at in all {
            inside.clone().for_each(|thread| wanted.extend([thread, block, at, grid].concat()));
        }
        assert_eq!(found, wanted);
    }
}

#[test]
fn blocks_wait_for_each_other() {
    let (n, steps) = (500usize, 9usize);
    let start = Random(11).list(n, Random::unit);
    let found = agree("grid_barrier", |bench| {
        let (a, arrived) = (bench.put(&[start.clone(), start.clone()].concat()), bench.put(&[0u32]));
        let arguments = Arguments::default().u64(a).u32(n as u32).u32(steps as u32).u64(arrived);
        bench.run("grid_barrier", 4, 128, 0, &arguments);
        bench.get::<f32>(a + (steps % 2 * n * 4) as u64, n)
    });
    let mut wanted = start;
    for _ in 0..steps {
        let from = wanted.clone();
        for i in 1..n - 1 {
            // Doubling is exact, so that a fused addition gives the same.
            wanted[i] = 0.25 * (from[i - 1] + 2.0 * from[i] + from[i + 1]);
        }
    }
    assert_eq!(found, wanted);
    let input = Random(12).list(128, Random::unit);
    let found = agree("grid_barrier", |bench| {
        let (buffer, out, flag) = (bench.room::<f32>(128), bench.room::<f32>(128), bench.put(&[0u32]));
        let arguments = Arguments::default().u64(bench.put(&input)).u64(buffer).u64(out).u64(flag);
        bench.run("hand_over", 2, 128, 0, &arguments);
        bench.get::<f32>(out, 128)
    });
    assert_eq!(found, input.iter().map(|x| 2.0 * x).collect::<Vec<f32>>());
}

#[test]
fn lanes_of_a_warp_take_a_lock_in_turn() {
    for (grid, block) in [(1, 32), (2, 48), (3, 5)] {
        agree("grid_barrier", |bench: &Bench| {
            let (lock, counter) = (bench.put(&[0u32]), bench.put(&[0u32]));
            bench.run("lane_lock", grid, block, 0, &Arguments::default().u64(lock).u64(counter));
            assert_eq!(bench.get::<u32>(counter, 1), [grid * block]);
        });
    }
}
