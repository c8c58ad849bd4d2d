//! softcuda-prof from outside: what a program under it finds, and what is shown of what it did.

use std::path::PathBuf;
use std::process::{Command, Output};

use softcuda::model::cost::LaunchShape;
use softcuda::model::counters::{Class, Counters};
use softcuda::model::devices::Device;
use softcuda::model::profile::LaunchProfile;

fn launch(kernel: &str, warps: u64) -> String {
    let mut counters = Counters::default();
    counters.warp_instructions[Class::Fma.index()] = warps;
    counters.lane_instructions[Class::Fma.index()] = 32 * warps;
    let shape = LaunchShape { grid: [108, 1, 1], block: [512, 1, 1], registers: Some(32), shared_bytes: 0 };
    let device = Device::by_name("h100").unwrap();
    LaunchProfile::new(device, kernel, shape, counters, Vec::new()).to_json_line() + "\n"
}

/// A file of this test's own in cargo's folder for them.
fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn prof(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softcuda-prof")).args(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_program_finds_the_driver_its_settings_and_its_own_arguments() {
    let script = "echo $SOFTCUDA $SOFTCUDA_DEVICE $SOFTCUDA_CHECKS $1; \
                  d=${LD_LIBRARY_PATH%%:*}; readlink $d/libcuda.so $d/libcuda.so.1; stat -c %a $d; echo $d";
    let output = prof(&["--device", "T4", "--checks", "none", "sh", "-c", script, "x", "--json"]);
    let text = out(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "1 t4 none --json", "{}", err(&output));
    assert!(lines[1].ends_with("libsoftcuda.so") && lines[1] == lines[2], "{text}");
    assert!(std::path::Path::new(lines[1]).exists(), "{text}");
    assert_eq!(lines[3], "700");
    assert!(!std::path::Path::new(lines[4]).exists(), "the folder is left behind");
    assert_eq!(err(&output), "no kernel was launched on softcuda\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn older_library_paths_stay_behind_ours() {
    let output = Command::new(env!("CARGO_BIN_EXE_softcuda-prof"))
        .args(["sh", "-c", "echo ${LD_LIBRARY_PATH#*:}"])
        .env("LD_LIBRARY_PATH", "/opt/one:/opt/two")
        .output()
        .unwrap();
    assert_eq!(out(&output), "/opt/one:/opt/two\n");
}

#[test]
fn what_the_program_launched_is_shown_even_when_it_fails() {
    let launches = file("failing.jsonl", &(launch("norm", 5000) + &launch("norm", 5000)));
    let script = format!("cat {} >> $SOFTCUDA_PROFILE; exit 3", launches.display());
    let output = prof(&["sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(3));
    let text = out(&output);
    assert!(text.contains("softcuda profile, h100: 2 launches of 1 kernels"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("norm") && line.contains("10k")), "{text}");
}

#[test]
fn a_program_ended_by_a_signal_gives_its_number() {
    assert_eq!(prof(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
}

#[test]
fn kept_launches_can_be_shown_again_as_a_table_and_as_json() {
    let launches = file("kept_source.jsonl", &launch("matmul", 77));
    let kept = file("kept.jsonl", "what was here before");
    let script = format!("cat {} >> $SOFTCUDA_PROFILE", launches.display());
    let first = prof(&["--output", kept.to_str().unwrap(), "sh", "-c", &script]);
    let again = prof(&[kept.to_str().unwrap()]);
    assert_eq!(out(&first), out(&again));
    let json = prof(&["--json", kept.to_str().unwrap()]);
    let value: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!(value[0]["kernel"], "matmul");
    assert_eq!(value[0]["counters"]["warp_instructions"][Class::Fma.index()], 77);
}

#[test]
fn two_files_are_compared() {
    let old = file("old.jsonl", &launch("norm", 4000));
    let new = file("new.jsonl", &launch("norm", 1000));
    let output = prof(&["--compare", old.to_str().unwrap(), new.to_str().unwrap()]);
    assert!(out(&output).contains("0.250x"), "{}{}", out(&output), err(&output));
}

#[test]
fn every_error_is_one_clear_line() {
    let broken = file("broken.jsonl", "{}\n");
    let broken = broken.to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--device", "b200", "true"], "error: --device: no device is called `b200`; there are t4, a100"),
        (&["/no/such/program"], "error: cannot run /no/such/program: No such file"),
        (&["/no/such.jsonl"], "error: cannot read /no/such.jsonl: No such file"),
        (&[broken], "broken.jsonl: line 1 is no launch profile: missing field `kernel`"),
        (&["--output", "/no/such/folder/x.jsonl", "true"], "error: cannot write /no/such/folder/x.jsonl"),
    ];
    for (args, expected) in cases {
        let output = prof(args);
        let text = err(&output);
        assert!(text.contains(expected) && text.lines().count() == 1, "{args:?}: {text}");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
    assert_eq!(prof(&[]).status.code(), Some(2));
}

/// What `cargo test` has built of `examples/`.
fn example(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples").join(name)
}

#[test]
fn an_ordinary_program_runs_and_its_counts_are_shown() {
    let program = example("three_transposes");
    let json = file("three_transposes.jsonl", "");
    let arguments = ["--device", "t4", "--output", json.to_str().unwrap(), program.to_str().unwrap()];
    // The module is for sm_80: a T4 has to refuse it.
    let refused = prof(&arguments);
    assert_ne!(refused.status.code(), Some(0));
    assert!(
        err(&refused).contains("the module is for sm_80, and Tesla T4 has compute capability 7.5"),
        "{}",
        err(&refused)
    );

    let output = prof(&["--device", "h100", "--output", json.to_str().unwrap(), program.to_str().unwrap()]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(text.lines().next(), Some("NVIDIA H100 80GB HBM3"));
    assert_eq!(text.matches(": right, ").count(), 3, "{text}");
    assert!(text.contains("6 launches of 3 kernels"), "{text}");
    let launches =
        softcuda::model::profile::read_json_lines(&std::fs::read_to_string(json).unwrap()).unwrap();
    // 512 x 384 singles: 24,576 sectors each way. A column of the unpadded tile lies in one bank: each warp's load from it has
    // 31 conflicts. Written in columns, each single is in a sector of its own.
    let of = |kernel: &str| {
        let mut found =
            launches.iter().filter(|launch| launch.kernel == kernel).map(|launch| &launch.counters);
        let first = found.next().unwrap();
        assert!(found.all(|other| other == first), "{kernel}: the graph's launch differs");
        first
    };
    assert_eq!(of("transpose_padded").shared_conflicts, 0);
    assert_eq!(of("transpose_conflicts").shared_conflicts, 512 * 384 / 32 * 31);
    assert_eq!(of("transpose_padded").global_store_sectors, 24_576);
    assert_eq!(of("transpose_naive").global_store_sectors, 512 * 384);
    assert_eq!(of("transpose_naive").unique_sectors_written, 24_576);
}
