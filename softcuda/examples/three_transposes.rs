//! An ordinary CUDA program, through cudarc: three kernels that transpose a matrix, two streams, events, a captured graph.
//! It knows nothing of softcuda; on a machine with a GPU it runs there.
//!
//! ```text
//! cargo build --release -p softcuda --examples --bins
//! target/release/softcuda-prof target/release/examples/three_transposes
//! ```
#![allow(unsafe_code)] // launches are unsafe: nobody checks their arguments

use cudarc::driver::sys::CUstreamCaptureMode;
use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

const WIDTH: usize = 512;
const HEIGHT: usize = 384;

fn main() -> Result<(), DriverError> {
    let context = CudaContext::new(0)?;
    println!("{}", context.name()?);
    // SAFETY: one stream waits for the other by an event below.
    unsafe { context.disable_event_tracking() };
    let module = context.load_module(Ptx::from_src(include_str!("../tests/ptx/transpose.ptx")))?;
    let (copies, stream) = (context.new_stream()?, context.new_stream()?);
    let host: Vec<f32> = (0..WIDTH * HEIGHT).map(|i| i as f32).collect();
    let input = copies.clone_htod(&host)?;
    stream.wait(&copies.record_event(None)?)?;
    let (width, height) = (WIDTH as i32, HEIGHT as i32);
    let grid_dim = (WIDTH.div_ceil(32) as u32, HEIGHT.div_ceil(32) as u32, 1);
    let config = LaunchConfig { grid_dim, block_dim: (32, 8, 1), shared_mem_bytes: 0 };
    for name in ["transpose_naive", "transpose_conflicts", "transpose_padded"] {
        let kernel = module.load_function(name)?;
        let mut output = stream.alloc_zeros::<f32>(WIDTH * HEIGHT)?;
        let mut launch = |stream: &std::sync::Arc<cudarc::driver::CudaStream>| {
            let mut builder = stream.launch_builder(&kernel);
            builder.arg(&input).arg(&mut output).arg(&width).arg(&height);
            // SAFETY: the arguments are those of the kernel.
            unsafe { builder.launch(config) }.map(drop)
        };
        let timed = Some(cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT);
        let start = stream.record_event(timed)?;
        launch(&stream)?;
        let end = stream.record_event(timed)?;
        // The same once more, captured and replayed.
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        launch(&stream)?;
        let flags =
            cudarc::driver::sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        if let Some(graph) = stream.end_capture(flags)? {
            graph.launch()?;
        }
        let found = stream.clone_dtoh(&output)?;
        stream.synchronize()?;
        let right = (0..WIDTH * HEIGHT).all(|i| found[i] == host[i % HEIGHT * WIDTH + i / HEIGHT]);
        let time = start.elapsed_ms(&end)? * 1000.0;
        println!("{name}: {}, {time:.1} us", if right { "right" } else { "WRONG" });
    }
    Ok(())
}
