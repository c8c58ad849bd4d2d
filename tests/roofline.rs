//! What kernels move, and how they use tensor cores and shared memory, has not become worse: the quick cases of
//! `cargo bench --bench roofline -- --check`.

#[path = "../benches/roofline/cases.rs"]
mod cases;
#[path = "../benches/roofline/measure.rs"]
mod measure;
#[path = "../benches/roofline/project.rs"]
#[allow(dead_code)] // the bench prints more
mod project;
#[path = "../benches/roofline/rare.rs"]
mod rare;
#[path = "../benches/roofline/table.rs"]
#[allow(dead_code)]
mod table;
#[path = "../benches/roofline/watched.rs"]
mod watched;

use std::process::Command;

const TABLE: &str = include_str!("../docs/roofline.tsv");
const QUICK: [&str; 4] = ["small", "demo", "rare", "rare.f32"];

#[test]
fn kernels_are_no_worse_than_the_table() {
    let child = || {
        let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
        command.args(["--exact", "the_process_that_softcuda_runs_in"]);
        command
    };
    let mut lines = String::new();
    for (number, case) in cases::CASES.iter().enumerate().filter(|(_, case)| QUICK.contains(&&*case.name())) {
        lines += &table::lines(&case.name(), &cases::step(number, &child));
    }
    let problems = table::regressions(TABLE, &table::whole(&lines));
    assert!(problems.is_empty(), "{problems:#?}; on purpose? `cargo bench --bench roofline -- --write`");
}

#[test]
fn the_process_that_softcuda_runs_in() {
    if let Some(outcome) = cases::run_as_child() {
        outcome.unwrap();
    }
}
