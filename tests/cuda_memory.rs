//! Device memory of a whole preset, at its full shapes, by the driver's own account. softcuda keeps that account without
//! running the kernels where `SOFTCUDA_SKIP_LAUNCHES` is set, which has to be before it is loaded: the test starts itself
//! again with it. (In a process of its own, because the account is the process's.)

mod common;

use std::process::Command;

use common::cuda as devices;
use dit_engine::backend::{Backend, Precision};
use dit_engine::config::{Config, Overrides};
use dit_engine::cuda::{Cuda, driver};
use dit_engine::diffusion::noising::Levels;
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::train::cost::run_cost;
use dit_engine::train::optimizer::{State, adam_step};
use dit_engine::train::step::{StepInput, forward_backward};

const SKIP: &str = "SOFTCUDA_SKIP_LAUNCHES";
const GIB: u64 = 1 << 30;
/// Kernels a step of the seed preset.
const MOST_LAUNCHES: u64 = 120;

/// Runs a test of this file in a process of its own, without executing launches; false in that process.
fn started_again(test: &str, device: &str) -> bool {
    if std::env::var_os(SKIP).is_some() {
        return false;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs([(SKIP, "1"), ("SOFTCUDA_DEVICE", device)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// Memory that waits in the pool goes back to the device when another size is wanted; what a step has collected, and not run
/// yet, is done with it before.
#[test]
fn idle_memory_makes_room_in_the_middle_of_a_step() {
    if started_again("idle_memory_makes_room_in_the_middle_of_a_step", "t4") {
        return;
    }
    let device = devices::cuda(Precision::F32);
    // Of the T4's 15 GiB.
    let (first, second) = (9 * GIB as usize / 4, 10 * GIB as usize / 4);
    device
        .run_step(&mut || {
            let mut buffer = device.alloc(first)?;
            device.fill(Cuda::view_mut(&mut buffer, 0..16), 0.0);
            drop(buffer);
            let mut other = device.alloc(second)?;
            device.fill(Cuda::view_mut(&mut other, 0..16), 0.0);
            Ok(())
        })
        .unwrap();
    let mut small = device.alloc(1).unwrap();
    device.upload(Cuda::view_mut(&mut small, 0..1), &[1.0]);
    device.download(&mut [0.0], Cuda::view(&small, 0..1)); // Waits, and learns of what went wrong.
    device.check().unwrap();
}

#[test]
fn the_seed_at_batch_16_peaks_below_2_gib() {
    if started_again("the_seed_at_batch_16_peaks_below_2_gib", "a100") {
        return;
    }
    let config = Config::resolve("seed", &Overrides::default()).unwrap();
    assert_eq!((config.train.batch, config.model.tokens()), (16, 6592));
    let device = devices::cuda(Precision::Bf16);
    let predicted = run_cost(&device, &config, 0).unwrap().memory;
    let before = driver::peak_bytes().unwrap_or(0);
    let dit = Dit::new(&config.model, &config.text).unwrap();
    let mut state = State::new(&device, &dit.layout().initial_values(0)).unwrap();
    let schedule = Schedule::new(&config.diffusion);
    let x0 = vec![0.5; config.train.batch * dit.image_len()];
    let mut launches = 0;
    for step in 0..3 {
        let before = device.launch_counts().0;
        let (batch, width) = (config.train.batch, config.model.image[1]);
        let levels = Levels::draw(&schedule, &config.diffusion, 0, step, batch, width);
        let input = StepInput {
            x0: &x0,
            captions: None,
            noise: StepInput::training_noise(0, step),
            levels: &levels,
            objective: config.diffusion.objective,
            recompute: config.train.recompute,
        };
        device.upload_ahead(&x0);
        device
            .run_step(&mut || {
                forward_backward(&device, &dit, &mut state, &input, None)?;
                state.measure_gradients(&device);
                state.update(&device, adam_step(&config.train, dit.layout(), step));
                Ok(())
            })
            .unwrap();
        launches = device.launch_counts().0 - before;
    }
    println!("{launches} launches a step");
    assert!((1..=MOST_LAUNCHES).contains(&launches), "{launches} launches a step");
    device.check().unwrap();
    assert_eq!(predicted.held_bytes, device.memory().held_bytes, "predicted, and held by the pool");
    if let Some(peak) = driver::peak_bytes() {
        println!("peak {peak} bytes, predicted {}, before {before}", predicted.held_bytes);
        // Beside the pool's memory the device holds nothing but the modules' constants.
        assert!(peak >= predicted.held_bytes && peak - predicted.held_bytes < 1 << 20);
        assert!(peak < 2 * GIB, "{peak} bytes");
    }
}
