//! What counts as hung: lanes that repeat themselves, not lanes that compute for long.

mod common;

use common::{Arguments, Bench};
use softcuda::checks::Check;

/// An entry with a pointer in `%rd1`, its first cell in `%r1`, the block in `%r2`.
fn kernel(body: &str) -> Bench {
    let text = format!(
        ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {{\n\
         .reg .u64 %rd<4>;\n.reg .u32 %r<8>;\n.reg .pred %p<4>;\n.shared .align 4 .b8 cells[4];\n\
         ld.param.u64 %rd1, [p];\nmov.u32 %r2, %ctaid.x;\nmov.u32 %r4, 0;\n{body}\nret;\n}}\n"
    );
    Bench::of(text.as_bytes())
}

fn run(body: &str, grid: u32, block: u32) -> Vec<softcuda::checks::Finding> {
    let bench = kernel(body);
    let cells = bench.put(&[0u32; 4]);
    bench.launch("k", [grid, 1, 1], [block, 1, 1], 0, &Arguments::default().u64(cells)).findings
}

#[test]
fn long_computations_do_not_hang() {
    let body = "loop:\nadd.u32 %r4, %r4, 1;\nsetp.ne.u32 %p1, %r4, 3000000;\n@%p1 bra loop;\n\
                st.global.u32 [%rd1], %r4;";
    assert_eq!(run(body, 1, 1), []);
}

#[test]
fn a_loop_of_many_steps_that_repeats_itself_hangs() {
    let body =
        "loop:\nadd.u32 %r4, %r4, 1;\nand.b32 %r4, %r4, 255;\nsetp.ne.u32 %p1, %r4, 999;\n@%p1 bra loop;";
    let findings = run(body, 3, 64);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].check, Check::Deadlock);
    assert!(findings[0].what.contains("waits for memory to change"), "{}", findings[0]);
}

#[test]
fn blocks_that_wait_for_a_long_computation_do_not_hang() {
    let body = "setp.eq.u32 %p2, %r2, 0;\n@%p2 bra loop;\n\
                spin:\nld.volatile.global.u32 %r1, [%rd1];\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra spin;\nbra done;\n\
                loop:\nadd.u32 %r4, %r4, 1;\nsetp.ne.u32 %p1, %r4, 2000000;\n@%p1 bra loop;\n\
                st.volatile.global.u32 [%rd1], %r4;\ndone:";
    assert_eq!(run(body, 4, 1), []);
}

#[test]
fn a_warp_may_wait_for_another_in_shared_memory() {
    let body = "mov.u32 %r3, %tid.x;\nsetp.eq.u32 %p3, %r3, 0;\n@%p3 st.volatile.shared.u32 [cells], 0;\n\
                bar.sync 0;\nsetp.ge.u32 %p2, %r3, 32;\n@%p2 bra loop;\n\
                spin:\nld.volatile.shared.u32 %r1, [cells];\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra spin;\nbra done;\n\
                loop:\nadd.u32 %r4, %r4, 1;\nsetp.ne.u32 %p1, %r4, 1000000;\n@%p1 bra loop;\n\
                st.volatile.shared.u32 [cells], %r4;\ndone:";
    assert_eq!(run(body, 1, 64), []);
}
