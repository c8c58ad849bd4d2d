//! Mbarriers, and the copies that they hear of.

mod common;

use common::{Arguments, Bench};
use softcuda::checks::{Check, Checks, DeviceError, Finding};

/// Runs a body of a kernel with one pointer, in `%p` (and as an argument `out`), and `%t`, the thread.
fn text(target: u32, body: &str) -> Bench {
    let ptx = format!(
        ".version 8.0
.target sm_{target}
.address_size 64
.visible .entry test(.param .u64 out)
{{
    .shared .align 16 .b8 cells[1024];
    .shared .align 8 .b64 bar;
    .reg .b64 %p, %s<8>;
    .reg .b32 %t, %r<16>;
    .reg .pred %q<8>;
    ld.param.u64 %p, [out];
    cvta.to.global.u64 %p, %p;
    mov.u32 %t, %tid.x;
{body}
    ret;
}}
"
    );
    Bench::of(ptx.as_bytes())
}

/// The one thing that a launch finds.
fn found(bench: &Bench, threads: u32, out: u64) -> Finding {
    let outcome = bench.launch("test", [1; 3], [threads, 1, 1], 0, &Arguments::default().u64(out));
    outcome.findings.first().cloned().expect("something is found")
}

/// `mbarrier.init` by thread 0, and a barrier of the block.
const INIT: &str = "
    setp.eq.u32 %q0, %t, 0;
    @%q0 mbarrier.init.shared::cta.b64 [bar], COUNT;
    bar.sync 0;
";

/// Waits for the end of the phase of parity PHASE.
const WAIT: &str = "
WAITS_PHASE:
    mbarrier.try_wait.parity.shared::cta.b64 %q1, [bar], PHASE;
    @!%q1 bra WAITS_PHASE;
";

fn init(count: u32) -> String {
    INIT.replace("COUNT", &count.to_string())
}

fn wait(phase: u32) -> String {
    WAIT.replace("PHASE", &phase.to_string())
}

#[test]
fn all_threads_meet_at_an_mbarrier() {
    let input: Vec<i32> = (0..384).map(|i| i * 7 - 100).collect();
    let want: Vec<i32> = (0..384).map(|i| input[i / 128 * 128 + 127 - i % 128]).collect();
    for seed in 0..8 {
        let mut bench = Bench::new("mbarrier");
        bench.seed = seed;
        let (x, out) = (bench.put(&input), bench.room::<i32>(384));
        bench.run("mbarrier_reverse", 3, 128, 0, &Arguments::default().u64(x).u64(out));
        assert_eq!(bench.get::<i32>(out, 384), want, "seed {seed}");
    }
}

#[test]
fn a_pipeline_of_copies_gives_the_right_result_in_any_order() {
    for (seed, rounds) in [(0, 1), (1, 2), (2, 3), (3, 17), (4, 64), (5, 5)] {
        let input: Vec<i32> = (0..rounds * 64).map(|i| i * 3 - 1000).collect();
        let mut bench = Bench::new("mbarrier");
        bench.seed = seed;
        let (x, out) = (bench.put(&input), bench.room::<i32>(input.len()));
        let arguments = Arguments::default().u64(x).u64(out).u32(rounds as u32);
        bench.run("mbarrier_pipeline", 1, 128, 0, &arguments);
        let want: Vec<i32> = input.iter().map(|x| 2 * x).collect();
        assert_eq!(bench.get::<i32>(out, input.len()), want, "seed {seed}");
    }
}

#[test]
fn those_who_drop_are_not_waited_for_again() {
    for seed in 0..6 {
        let mut bench = Bench::new("mbarrier");
        bench.seed = seed;
        let out = bench.room::<i32>(64);
        bench.run("mbarrier_drop", 1, 64, 0, &Arguments::default().u64(out));
        assert_eq!(bench.get::<i32>(out, 64), [[3; 32], [1; 32]].concat());
    }
}

#[test]
fn a_bulk_copy_completes_a_transaction() {
    let input: Vec<i32> = (0..1024).map(|i| i * 5).collect();
    let want: Vec<i32> = (0..1024).map(|i| input[i / 256 * 256 + 255 - i % 256]).collect();
    for seed in 0..6 {
        let mut bench = Bench::new("hopper");
        bench.seed = seed;
        let (x, out) = (bench.put(&input), bench.room::<i32>(1024));
        let outcome = bench.run("bulk_reverse", 4, 256, 0, &Arguments::default().u64(x).u64(out));
        assert_eq!(bench.get::<i32>(out, 1024), want, "seed {seed}");
        assert_eq!(outcome.counters.global_load_sectors, 4 * 1024 / 32);
    }
}

#[test]
fn one_lane_is_elected() {
    let bench = Bench::new("hopper");
    let out = bench.put(&[0u32; 33]);
    bench.run("elect", 1, 32, 0, &Arguments::default().u64(out));
    let values = bench.get::<u32>(out, 33);
    assert_eq!(values[0], 1);
    assert!(values[1..].iter().all(|&leader| leader == values[1] && leader < 32));
}

#[test]
fn states_hold_the_arrivals_that_were_pending() {
    let body = init(5)
        + "
    @!%q0 bra END;
    mbarrier.arrive.noComplete.shared.b64 %s0, [bar], 2;
    mbarrier.arrive_drop.shared.b64 %s1, [bar];
    mbarrier.arrive.release.cta.shared::cta.b64 %s2, [bar], 2;
    mbarrier.arrive.shared.b64 %s3, [bar];
    mbarrier.pending_count.b64 %r0, %s0;
    mbarrier.pending_count.b64 %r1, %s1;
    mbarrier.pending_count.b64 %r2, %s2;
    mbarrier.pending_count.b64 %r3, %s3;
    mbarrier.test_wait.shared.b64 %q2, [bar], %s0;
    selp.u32 %r4, 1, 0, %q2;
    mbarrier.test_wait.shared.b64 %q2, [bar], %s3;
    selp.u32 %r5, 1, 0, %q2;
    mbarrier.test_wait.parity.shared.b64 %q2, [bar], 0;
    selp.u32 %r6, 1, 0, %q2;
    mbarrier.test_wait.parity.shared.b64 %q2, [bar], 1;
    selp.u32 %r7, 1, 0, %q2;
    st.global.v4.u32 [%p], {%r0, %r1, %r2, %r3};
    st.global.v4.u32 [%p+16], {%r4, %r5, %r6, %r7};
END:
";
    let bench = text(80, &body);
    let out = bench.room::<u32>(8);
    bench.run("test", 1, 32, 0, &Arguments::default().u64(out));
    assert_eq!(bench.get::<u32>(out, 8), [5, 3, 2, 4, 1, 0, 1, 0]);
}

#[test]
fn generic_addresses_and_separate_transactions() {
    let body = init(1)
        + "
    @!%q0 bra OTHERS;
    mov.u64 %s1, bar;
    cvta.shared.u64 %s1, %s1;
    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 48;
    mbarrier.arrive.b64 %s2, [%s1];
    mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 16;
    mbarrier.test_wait.b64 %q2, [%s1], %s2;
    selp.u32 %r0, 1, 0, %q2;
    mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 32;
    mbarrier.test_wait.b64 %q2, [%s1], %s2;
    selp.u32 %r1, 1, 0, %q2;
    st.global.v2.u32 [%p], {%r0, %r1};
OTHERS:
" + &wait(0);
    let bench = text(90, &body);
    let out = bench.room::<u32>(2);
    bench.run("test", 1, 64, 0, &Arguments::default().u64(out));
    assert_eq!(bench.get::<u32>(out, 2), [0, 1]);
}

/// Thread 0 brings cells, everybody doubles one, thread 0 takes them away again.
fn round_trip(before_store: &str, after_store: &str) -> Bench {
    let body = init(1)
        + "
    @!%q0 bra LOADED;
    mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [bar], 512;
    mov.u32 %r0, 256;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [cells], [%p], %r0, [bar];
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [cells+256], [%p+256], 256, [bar];
LOADED:
" + &wait(0)
        + "
    shl.b32 %r1, %t, 2;
    mov.u32 %r2, cells;
    add.u32 %r1, %r1, %r2;
    ld.shared.u32 %r3, [%r1];
    add.u32 %r3, %r3, %r3;
    st.shared.u32 [%r1], %r3;
    fence.proxy.async.shared::cta;
" + before_store
        + "
    @!%q0 bra STORED;
    cp.async.bulk.global.shared::cta.bulk_group [%p], [cells], 512;
    cp.async.bulk.commit_group;
" + after_store
        + "
STORED:
";
    text(90, &body)
}

#[test]
fn bulk_copies_there_and_back() {
    let values: Vec<u32> = (0..128).map(|i| i * i).collect();
    for seed in 0..5 {
        let mut bench = round_trip("bar.sync 0;", "cp.async.bulk.wait_group.read 0;");
        bench.seed = seed;
        let out = bench.put(&values);
        let outcome = bench.run("test", 1, 128, 0, &Arguments::default().u64(out));
        assert_eq!(bench.get::<u32>(out, 128), values.iter().map(|x| 2 * x).collect::<Vec<_>>());
        assert_eq!((outcome.counters.global_load_sectors, outcome.counters.global_store_sectors), (16, 16));
    }
}

#[test]
fn faults_of_bulk_copies_are_found() {
    let values = vec![1u32; 128];
    let check = |before, after, check| {
        let bench = round_trip(before, after);
        let finding = found(&bench, 128, bench.put(&values));
        assert_eq!(finding.check, check, "{finding}");
        finding
    };
    check("", "cp.async.bulk.wait_group 0;", Check::Race);
    assert!(check("bar.sync 0;", "", Check::Async).what.contains("nobody waits"));
    let changed = "st.shared.u32 [cells], 77; cp.async.bulk.wait_group 0;";
    assert!(check("bar.sync 0;", changed, Check::Async).what.contains("has changed"));
    for body in ["[cells+4], [%p], 16", "[cells], [%p+8], 16", "[cells], [%p], 24"] {
        let body = format!(
            "{}@%q0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes {body}, [bar];",
            init(1)
        );
        let bench = text(90, &body);
        let finding = found(&bench, 32, bench.put(&values));
        assert_eq!(finding.error, DeviceError::MisalignedAddress, "{finding}");
    }
    let body = format!(
        "{}@%q0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [cells+512], [%p], 4096, [bar];",
        init(1)
    );
    let bench = text(90, &body);
    let finding = found(&bench, 32, bench.put(&[0u32; 1024]));
    assert_eq!((finding.check, finding.error), (Check::Memory, DeviceError::IllegalAddress));
}

#[test]
fn data_is_not_there_before_the_wait() {
    let start = "
    @%q0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;
    @%q0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [cells], [%p], 16, [bar];
    bar.sync 0;
";
    let read = "ld.shared.u32 %r3, [cells];";
    let bench = text(90, &format!("{}{start}{read}", init(1)));
    assert_eq!(found(&bench, 64, bench.put(&[1u32; 4])).check, Check::Async);
    let bench = text(90, &format!("{}{start}{}{read}", init(1), wait(0)));
    bench.run("test", 1, 64, 0, &Arguments::default().u64(bench.put(&[1u32; 4])));
    // Without a copy's own wait its thread may not read either.
    let own = "
    cp.async.ca.shared.global [cells], [%p], 4;
    cp.async.mbarrier.arrive.shared.b64 [bar];
";
    let bench = text(80, &format!("{}{own}{read}", init(1)));
    assert_eq!(found(&bench, 1, bench.put(&[1u32; 4])).check, Check::Async);
    let bench = text(80, &format!("{}{own}cp.async.wait_all;{read}", init(1)));
    bench.run("test", 1, 1, 0, &Arguments::default().u64(bench.put(&[1u32; 4])));
}

#[test]
fn an_arrival_orders_what_came_before_it_only() {
    // Warp 0 writes, arrives, and writes again; warp 1 waits and reads.
    let body = |last: &str| {
        init(1)
            + "
    setp.lt.u32 %q3, %t, 32;
    @!%q3 bra READS;
    @!%q0 bra END;
    st.shared.u32 [cells], 5;
    mbarrier.arrive.shared.b64 _, [bar];
    LAST
    bra END;
READS:
"
            .replace("LAST", last)
            .as_str()
            + &wait(0)
            + "
    ld.shared.u32 %r3, [cells];
    st.global.u32 [%p], %r3;
END:
"
    };
    for seed in 0..6 {
        let mut bench = text(80, &body(""));
        bench.seed = seed;
        let out = bench.room::<u32>(1);
        bench.run("test", 1, 64, 0, &Arguments::default().u64(out));
        assert_eq!(bench.get::<u32>(out, 1), [5]);
        let mut bench = text(80, &body("st.shared.u32 [cells], 6;"));
        bench.seed = seed;
        assert_eq!(found(&bench, 64, bench.room::<u32>(1)).check, Check::Race);
    }
    // A wait for the phase before the present one orders nothing.
    let bench = text(80, &body("").replace("[bar], 0;", "[bar], 1;"));
    assert_eq!(found(&bench, 64, bench.room::<u32>(1)).check, Check::Race);
}

#[test]
fn misuse_is_found() {
    let cases = [
        ("mbarrier.arrive.shared.b64 _, [bar];", Check::Init),
        ("st.shared.u64 [bar], 7; mbarrier.arrive.shared.b64 _, [bar];", Check::Sync),
        ("mbarrier.init.shared.b64 [bar], 0;", Check::Sync),
        ("mbarrier.init.shared.b64 [bar], 1; mbarrier.arrive.shared.b64 _, [bar], 2;", Check::Sync),
        (
            "mbarrier.init.shared.b64 [bar], 1; mbarrier.arrive.noComplete.shared.b64 _, [bar], 1;",
            Check::Sync,
        ),
        (
            "mbarrier.init.shared.b64 [bar], 1; mbarrier.inval.shared.b64 [bar]; mbarrier.arrive.shared.b64 _, [bar];",
            Check::Init,
        ),
        ("mbarrier.init.b64 [%p], 1;", Check::Memory),
        ("mbarrier.init.shared.b64 [cells+4], 1;", Check::Memory),
    ];
    for (body, check) in cases {
        let bench = text(80, body);
        let finding = found(&bench, 1, bench.put(&[0u64; 1]));
        assert_eq!(finding.check, check, "{body}: {finding}");
    }
    let mut bench = text(80, &(init(2) + &wait(0)));
    assert_eq!(found(&bench, 32, bench.put(&[0u64; 1])).check, Check::Deadlock);
    bench.checks = Checks::none();
    assert_eq!(found(&bench, 32, bench.put(&[0u64; 1])).check, Check::Deadlock);
}

#[test]
fn a_missing_barrier_behind_the_initialisation_is_a_race() {
    let body = init(64).replace("bar.sync 0;", "") + "mbarrier.arrive.shared.b64 _, [bar];";
    let bench = text(80, &body);
    assert_eq!(found(&bench, 64, bench.put(&[0u64; 1])).check, Check::Race);
}

#[test]
fn clusters_have_one_block() {
    let body = "
    mov.u32 %r0, cells;
    mapa.shared::cluster.u32 %r1, %r0, 0;
    sub.u32 %r1, %r1, %r0;
    mov.u32 %r2, %cluster_ctarank;
    mov.u32 %r3, %cluster_nctarank;
    st.shared::cluster.u32 [%r0], 9;
    ld.shared.u32 %r4, [%r0];
    mov.u32 %r5, %clusterid.x;
    mov.u32 %r6, %nclusterid.x;
    mov.u32 %r7, %cluster_nctaid.y;
    st.global.v4.u32 [%p], {%r1, %r2, %r3, %r4};
    st.global.v4.u32 [%p+16], {%r5, %r6, %r7, %r0};
";
    let bench = text(90, body);
    let out = bench.room::<u32>(8);
    bench.run("test", 1, 1, 0, &Arguments::default().u64(out));
    assert_eq!(bench.get::<u32>(out, 7), [0, 0, 1, 9, 0, 1, 1]);
    let bench = text(90, "mapa.u64 %s0, %p, 1;");
    assert!(found(&bench, 1, bench.room::<u32>(8)).what.contains("block 1 of a cluster"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for instruction in [
        "wgmma.fence.sync.aligned;",
        "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [cells], [%p, {%r0}], [bar];",
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r0], %r1, [%r2];",
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%p], [cells], 16;",
    ] {
        let bench = text(90, instruction);
        let what = found(&bench, 1, bench.room::<u32>(8)).what;
        let name = instruction.split([' ', ';']).next().unwrap();
        assert!(what.contains(&format!("unsupported instruction `{name}`")), "{what}");
    }
}
