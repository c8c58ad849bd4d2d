//! How fast the machine is, in lane instructions a second on one core: `cargo bench -p softcuda --bench speed`.
//!
//! `loop` is a load from global memory, one from shared memory, two fused multiply-adds and what a loop needs; `alu` has
//! arithmetic only; `mma` is one m16n8k16 after the other. Each plain (no checks) and with every check. Times are those that
//! the processor spent on it, so that neighbours on a shared machine disturb less.
#![allow(unsafe_code)] // the clock of the thread

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use softcuda::checks::Checks;
use softcuda::machine::memory::{Kind, Memory};
use softcuda::machine::{Launch, run};
use softcuda::model::devices::Device;
use softcuda::module::Module;

/// Trips of the loops.
const TRIPS: u32 = 1 << 12;

const PTX: &str = "
.version 7.8
.target sm_80
.address_size 64
.visible .entry loop(.param .u64 in, .param .u64 out, .param .u32 trips)
{
    .reg .pred %p; .reg .f32 %f<6>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
    .shared .align 4 .b8 tile[1024];
    ld.param.u64 %rd1, [in];
    ld.param.u64 %rd2, [out];
    ld.param.u32 %r1, [trips];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd3, %r2, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    shl.b32 %r3, %r2, 2;
    mov.u32 %r4, tile;
    add.s32 %r3, %r3, %r4;
    mov.f32 %f1, 0f3F800000;
    st.shared.f32 [%r3], %f1;
    bar.sync 0;
    mov.u32 %r5, 0;
again:
    ld.global.f32 %f2, [%rd4];
    ld.shared.f32 %f3, [%r3];
    fma.rn.f32 %f1, %f2, %f3, %f1;
    fma.rn.f32 %f1, %f1, %f3, %f2;
    add.s32 %r5, %r5, 1;
    setp.lt.s32 %p, %r5, %r1;
    @%p bra again;
    st.global.f32 [%rd5], %f1;
    ret;
}
.visible .entry alu(.param .u64 in, .param .u64 out, .param .u32 trips)
{
    .reg .pred %p; .reg .f32 %f<6>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
    ld.param.u64 %rd2, [out];
    ld.param.u32 %r1, [trips];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd3, %r2, 4;
    add.s64 %rd5, %rd2, %rd3;
    cvt.rn.f32.u32 %f1, %r2;
    mov.f32 %f2, 0f3F7FFFF0;
    mov.u32 %r5, 0;
again:
    fma.rn.f32 %f1, %f1, %f2, %f2;
    mul.f32 %f3, %f1, %f2;
    add.f32 %f1, %f3, %f2;
    xor.b32 %r6, %r5, %r2;
    mad.lo.s32 %r7, %r6, %r6, %r7;
    add.s32 %r5, %r5, 1;
    setp.lt.s32 %p, %r5, %r1;
    @%p bra again;
    cvt.rn.f32.s32 %f3, %r7;
    add.f32 %f1, %f1, %f3;
    st.global.f32 [%rd5], %f1;
    ret;
}
.visible .entry mma(.param .u64 in, .param .u64 out, .param .u32 trips)
{
    .reg .pred %p; .reg .f32 %f<6>; .reg .b32 %r<12>; .reg .b64 %rd<8>;
    ld.param.u64 %rd2, [out];
    ld.param.u32 %r1, [trips];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd3, %r2, 4;
    add.s64 %rd5, %rd2, %rd3;
    mov.f32 %f1, 0f00000000;
    mov.f32 %f2, %f1;
    mov.f32 %f3, %f1;
    mov.f32 %f4, %f1;
    mov.u32 %r6, 0x3c003c00;
    mov.u32 %r5, 0;
again:
    mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r6, %r6, %r6, %r6}, {%r6, %r6}, {%f1, %f2, %f3, %f4};
    add.s32 %r5, %r5, 1;
    setp.lt.s32 %p, %r5, %r1;
    @%p bra again;
    st.global.f32 [%rd5], %f1;
    ret;
}
";

/// What the processor has spent on this thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn speed(criterion: &mut Criterion) {
    let device = Device::by_name("a100").expect("a device");
    let memory = Memory::new(1 << 30);
    let module = Module::load(PTX.as_bytes(), device, &memory).expect("a module");
    let input = memory.allocate(1024, Kind::Device).expect("memory");
    let output = memory.allocate(1024, Kind::Device).expect("memory");
    memory.write(input, &[0; 1024]).expect("inside");
    let mut parameters = Vec::new();
    parameters.extend(input.to_le_bytes());
    parameters.extend(output.to_le_bytes());
    parameters.extend(TRIPS.to_le_bytes());
    for (name, threads) in [("loop", 256), ("alu", 256), ("mma", 32)] {
        let kernel = module.kernel(name).expect("a kernel");
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(10)
            .measurement_time(Duration::from_secs(2))
            .warm_up_time(Duration::from_millis(300));
        for (label, checks) in [("plain", Checks::none()), ("checked", Checks::all())] {
            // One block: one core.
            let launch = Launch {
                kernel: &kernel,
                grid: [1; 3],
                block: [threads, 1, 1],
                dynamic_shared_bytes: 0,
                parameters: &parameters,
                seed: 0,
                checks,
                device,
            };
            let outcome = run(&launch, &memory);
            assert!(outcome.findings.is_empty(), "{}", outcome.findings[0]);
            group.throughput(Throughput::Elements(outcome.counters.all_lane_instructions()));
            group.bench_function(label, |bencher| {
                bencher.iter_custom(|rounds| {
                    let start = processor_time();
                    (0..rounds).for_each(|_| drop(run(&launch, &memory)));
                    processor_time() - start
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, speed);
criterion_main!(benches);
