//! Positive controls: every pair of `tests/cuda/faults.cu`. The bad kernel must be reported where its line is marked, its
//! corrected twin must run without a finding and compute what it should.

mod common;

use std::collections::BTreeMap;

use common::{Arguments, Bench};
use softcuda::checks::{Check, Checks, DeviceError, Finding};
use softcuda::machine::Outcome;

const SOURCE: &str = include_str!("cuda/faults.cu");
const SEEDS: [u64; 4] = [0, 1, 2, 3];
/// Pairs in the file; the one of the driver is not run here.
const PAIRS: usize = 60;
const OF_THE_DRIVER: &str = "launch_bounds";

/// An argument, as the table writes it.
#[derive(Clone, Debug)]
enum Argument {
    /// `name[count]`, and what its cells hold before the launch.
    Buffer { name: String, count: usize, cells: Option<Vec<i32>> },
    /// `name = value`
    Number(i32),
    /// `name = null pointer`
    Null,
}

/// A row of the table.
#[derive(Clone, Debug)]
struct Pair {
    name: String,
    grid: u32,
    block: u32,
    shared: u32,
    arguments: Vec<Argument>,
    what: String,
}

/// What buffers hold whose name begins with `in`.
fn input(cell: usize) -> i32 {
    3 * cell as i32 + 1
}

fn arguments(text: &str) -> Vec<Argument> {
    let text = text.replace(" (64 bytes)", "");
    let mut list: Vec<Argument> = Vec::new();
    for item in text.split(',').map(str::trim) {
        let (target, value) = match item.split_once('=') {
            Some((target, value)) => (target.trim(), Some(value.trim())),
            None => (item, None),
        };
        let number = value.and_then(|value| value.parse::<i32>().ok());
        let Some((name, index)) = target.split_once('[') else {
            list.push(if value == Some("null pointer") {
                Argument::Null
            } else {
                Argument::Number(number.unwrap_or_else(|| panic!("no argument: {item}")))
            });
            continue;
        };
        let index: usize = index.trim_end_matches(']').parse().unwrap();
        let known = list.iter_mut().find_map(|argument| match argument {
            Argument::Buffer { name: other, cells, .. } if other == name => cells.as_mut(),
            _ => None,
        });
        if let Some(cells) = known {
            cells[index] = number.unwrap();
            continue;
        }
        let cells = match number {
            Some(value) => Some(vec![value; index]),
            None if name.starts_with("in") => Some((0..index).map(input).collect()),
            None => None,
        };
        list.push(Argument::Buffer { name: name.to_string(), count: index, cells });
    }
    list
}

/// The table at the top of the file. Its last two columns stand where its heading has them.
fn pairs() -> Vec<Pair> {
    let mut lines = SOURCE.lines().skip_while(|line| !line.starts_with("// check_what"));
    let heading = lines.next().unwrap();
    let (first, second) = (heading.find("arguments").unwrap(), heading.find("what must").unwrap());
    let mut rows: Vec<(Vec<String>, String, String)> = Vec::new();
    for line in lines.take_while(|line| line.starts_with("//")) {
        let part =
            |from: usize, to: usize| line.get(from..to.min(line.len())).unwrap_or("").trim().to_string();
        let (launch, list, what) = (part(2, first), part(first, second), part(second, line.len()));
        if launch.is_empty() {
            let row = rows.last_mut().unwrap();
            row.1 += &list;
            row.2 += &format!(" {what}");
        } else {
            let list = if list == "as above" { rows.last().unwrap().1.clone() } else { list };
            rows.push((launch.split_whitespace().map(String::from).collect(), list, what));
        }
    }
    let pair = |(launch, list, what): (Vec<String>, String, String)| {
        let [name, grid, block, shared] = launch.as_slice() else { panic!("no launch: {launch:?}") };
        let number = |text: &str| text.parse().unwrap();
        Pair {
            name: name.clone(),
            grid: number(grid),
            block: number(block),
            shared: number(shared),
            arguments: arguments(&list),
            what,
        }
    };
    rows.into_iter().map(pair).collect()
}

/// Lines that a comment marks, by kernel.
fn marks(word: &str) -> BTreeMap<String, usize> {
    let begin = format!("// {word} ");
    let marked = SOURCE.lines().zip(1..).filter_map(|(line, number)| {
        let at = line.find(&begin)?;
        Some((line[at + begin.len()..].trim().to_string(), number))
    });
    marked.filter(|(name, _)| name.starts_with("bad_")).collect()
}

/// Checks that may report the bad kernel.
fn wanted(name: &str) -> &'static [Check] {
    match name {
        "synccheck_barrier_count" | "deadlock_barriers" => &[Check::Sync, Check::Deadlock],
        "async_no_barrier" | "async_barrier_first" => &[Check::Async, Check::Race],
        _ => match name.split('_').next() {
            Some("memcheck") => &[Check::Memory],
            Some("trap") => &[Check::Trap],
            Some("initcheck") => &[Check::Init],
            Some("racecheck") => &[Check::Race],
            Some("synccheck") => &[Check::Sync],
            Some("async") => &[Check::Async],
            Some("readonly") => &[Check::ReadOnly],
            Some("deadlock") => &[Check::Deadlock],
            _ => panic!("what should find {name}?"),
        },
    }
}

/// The error that a device would give, where it would give one.
fn device_error(name: &str) -> DeviceError {
    match name {
        "memcheck_misaligned" | "memcheck_shared_misaligned" | "memcheck_cp_async" => {
            DeviceError::MisalignedAddress
        }
        _ if name.starts_with("memcheck") => DeviceError::IllegalAddress,
        _ if name.starts_with("deadlock") || name == "synccheck_barrier_count" => DeviceError::LaunchTimeout,
        _ => DeviceError::LaunchFailed,
    }
}

/// A kernel that has run.
struct Ran {
    bench: Bench,
    outcome: Outcome,
    /// Addresses of the buffers, by name.
    buffers: BTreeMap<String, u64>,
}

fn launch(pair: &Pair, kernel: &str, seed: u64, checks: Checks) -> Ran {
    let mut bench = Bench::new("faults");
    (bench.seed, bench.checks) = (seed, checks);
    let mut buffers = BTreeMap::new();
    let mut list = Arguments::default();
    for argument in &pair.arguments {
        list = match argument {
            Argument::Number(number) => list.i32(*number),
            Argument::Null => list.u64(0),
            Argument::Buffer { name, count, cells } => {
                let address =
                    cells.as_ref().map_or_else(|| bench.room::<i32>(*count), |cells| bench.put(cells));
                buffers.insert(name.clone(), address);
                list.u64(address)
            }
        };
    }
    if kernel == "bad_memcheck_use_after_free" {
        assert!(bench.memory.release(buffers["in"]));
    }
    let outcome = bench.launch(kernel, [pair.grid, 1, 1], [pair.block, 1, 1], pair.shared, &list);
    Ran { bench, outcome, buffers }
}

fn run_pairs(each: impl Fn(&Pair)) {
    pairs().iter().filter(|pair| pair.name != OF_THE_DRIVER).for_each(each);
}

/// Whether a place names a line of the file.
fn names(place: &str, line: usize) -> bool {
    let text = format!("faults.cu:{line}");
    place
        .match_indices(&text)
        .any(|(at, _)| !place[at + text.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// What is wrong with a finding about the bad kernel of a pair.
fn complaint(pair: &Pair, finding: &Finding) -> Option<String> {
    let bad = format!("bad_{}", pair.name);
    let fault = marks("FAULT")[&bad];
    let other = marks("OTHER").get(&bad).copied();
    let named = |line: usize| names(&finding.place, line) || names(&finding.other_place, line);
    let about_memory = pair.name.starts_with("memcheck")
        || matches!(finding.check, Check::Init | Check::Race | Check::Async | Check::ReadOnly);
    let wrong_thread = |text: &str| {
        let thread = text.strip_prefix("thread ")?.split(' ').next()?.parse::<u32>().ok()?;
        (finding.thread != Some([thread, 0, 0])).then(|| format!("it is thread {thread} that does it"))
    };
    match () {
        () if !wanted(&pair.name).contains(&finding.check) => Some("the wrong check found it".to_string()),
        () if finding.error != device_error(&pair.name) => Some(format!("the error is {:?}", finding.error)),
        () if !named(fault) => Some(format!("line {fault} is not named")),
        () if other.is_some_and(|line| !named(line)) => Some(format!("line {} is not named", other?)),
        () if finding.kernel != bad => Some("the kernel's name is missing".to_string()),
        () if finding.block.is_none_or(|[x, y, z]| x >= pair.grid || y + z > 0) => Some("block".to_string()),
        () if finding.thread.is_none_or(|[x, y, z]| x >= pair.block || y + z > 0) => {
            Some("thread".to_string())
        }
        () if about_memory && finding.address.is_none() => Some("no address".to_string()),
        () if about_memory && finding.allocation.is_empty() => Some("no allocation".to_string()),
        () => wrong_thread(&pair.what),
    }
}

#[test]
fn the_table_and_the_marks_are_complete() {
    let pairs = pairs();
    assert_eq!(pairs.len(), PAIRS);
    let bench = Bench::new("faults");
    assert_eq!(bench.module.kernels().count(), 2 * PAIRS);
    let faults = marks("FAULT");
    for pair in &pairs {
        for kind in ["bad", "good"] {
            assert!(bench.module.kernel(&format!("{kind}_{}", pair.name)).is_some(), "{}", pair.name);
        }
        assert_eq!(faults.contains_key(&format!("bad_{}", pair.name)), pair.name != OF_THE_DRIVER);
    }
    for name in faults.keys().chain(marks("OTHER").keys()) {
        assert!(pairs.iter().any(|pair| *name == format!("bad_{}", pair.name)), "{name} is in no row");
    }
}

#[test]
fn every_bad_kernel_is_reported() {
    let mut wrong = Vec::new();
    for pair in pairs().iter().filter(|pair| pair.name != OF_THE_DRIVER) {
        for seed in SEEDS {
            let bad = format!("bad_{}", pair.name);
            let findings = launch(pair, &bad, seed, Checks::all()).outcome.findings;
            match findings.first() {
                None => wrong.push(format!("{bad}, seed {seed}: nothing was found")),
                Some(finding) => wrong.extend(
                    complaint(pair, finding).map(|why| format!("{bad}, seed {seed}: {why}: {finding}")),
                ),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
/// What buffers hold after the good kernel: name, first cell, cells.
fn results(name: &str) -> Vec<(&'static str, usize, Vec<i32>)> {
    let cells = |count: usize, f: &dyn Fn(usize) -> i32| (0..count).map(f).collect::<Vec<i32>>();
    let number = |i: usize| i as i32;
    let out = |count: usize, f: &dyn Fn(usize) -> i32| vec![("out", 0, cells(count, f))];
    match name {
        "memcheck_after_end" | "memcheck_before_start" => out(64, &number),
        "memcheck_wild" => vec![("out", 63, vec![1])],
        "memcheck_misaligned" | "memcheck_cp_async" | "async_wait_one" => out(128, &input),
        "memcheck_straddle" => out(128, &|i| if i < 127 { input(i) } else { 0 }),
        "memcheck_null" => out(32, &|_| 0),
        "memcheck_shared_static" | "memcheck_shared_dynamic" => out(32, &|i| (62 - number(i)) % 32),
        "memcheck_shared_misaligned" => out(16, &|i| number(i) + 1),
        "memcheck_local" => out(32, &|i| number(i) + 7),
        "memcheck_red_zone" => vec![("a", 0, vec![2]), ("a", 4, vec![2]), ("b", 0, vec![1])],
        "memcheck_use_after_free"
        | "initcheck_shared"
        | "initcheck_shared_dynamic"
        | "synccheck_ldmatrix" => out(32, &input),
        "memcheck_atomic" => out(32, &|_| 1),
        "initcheck_global" => out(32, &|i| number(i ^ 1) + 1),
        "initcheck_global_bytes" => out(32, &|_| 0x0707_0707),
        "initcheck_local" => out(32, &|_| input(1)),
        "racecheck_missing_sync" | "async_no_barrier" | "async_barrier_first" => out(64, &|i| input(63 - i)),
        "racecheck_write_after_read" => out(64, &|i| 2 * input(63 - (i ^ 1))),
        "racecheck_two_writers" => out(2, &|i| 32 * number(i)),
        "racecheck_warp" => out(32, &|i| input(i ^ 1)),
        "racecheck_warp_tree" => vec![("out", 0, vec![(0..32).map(input).sum()])],
        "racecheck_counter" => vec![("out", 0, vec![63 * 32])],
        "racecheck_atomic_and_plain" => out(64, &|_| 63 * 32),
        "racecheck_wrong_barrier" => out(128, &|i| input(i ^ 63)),
        "racecheck_shared_bytes" | "racecheck_shared_halves" | "racecheck_global_block" | "readonly_own" => {
            out(64, &|i| 63 - number(i))
        }
        "racecheck_global_two_writers" => out(2, &number),
        "racecheck_global_read_write" | "racecheck_global_no_fence" => out(32, &number),
        "racecheck_global_counter" => vec![("out", 0, vec![4])],
        "racecheck_global_bytes" => out(16, &|_| 0x0100_0100),
        "synccheck_divergent_barrier" => out(64, &|i| i32::from(i < 48)),
        "synccheck_shfl_divergent" => out(32, &|i| input(if i < 16 { 3 } else { i })),
        "synccheck_shfl_not_in_mask" => out(32, &|_| input(3)),
        "synccheck_shfl_absent_source" => out(32, &|i| input(if i < 16 { 12 } else { i })),
        "synccheck_ballot" => out(32, &|i| if i == 5 { input(5) } else { !(1 << 5) }),
        "synccheck_match" => out(32, &|i| if i == 5 { input(5) } else { 1 << i }),
        "synccheck_redux" => {
            let sum: i32 = (0..32).map(input).sum();
            out(32, &|i| if i == 5 { input(5) } else { sum - input(5) })
        }
        // Halves so small that their products vanish beside the sum.
        "synccheck_mma" => out(64, &|i| input(i / 2)),
        "synccheck_syncwarp" => out(32, &|i| input(i) + i32::from(i < 16)),
        "synccheck_barrier_count" | "deadlock_barriers" => out(64, &|_| 1),
        "async_before_wait" | "async_no_commit" => out(64, &input),
        "async_overwrite" => out(64, &|i| input(i) + 7),
        "readonly_other_block" => out(128, &|i| if i < 64 { 0 } else { number(i) - 64 }),
        "deadlock_missing_block" => out(4, &|_| 1),
        "deadlock_flag" => vec![("out", 0, vec![1]), ("flag", 0, vec![1, 0])],
        "deadlock_lanes" => vec![("out", 0, vec![1; 32]), ("flag", 0, vec![1; 32])],
        "trap_negative" => out(32, &|i| if i == 7 { 0 } else { input(i) }),
        _ => panic!("what does good_{name} compute?"),
    }
}

#[test]
fn no_corrected_twin_is_reported() {
    run_pairs(|pair| {
        for seed in SEEDS {
            let good = format!("good_{}", pair.name);
            let ran = launch(pair, &good, seed, Checks::all());
            assert!(ran.outcome.findings.is_empty(), "{good}, seed {seed}: {}", ran.outcome.findings[0]);
            for (buffer, first, cells) in results(&pair.name) {
                let address = ran.buffers[buffer] + 4 * first as u64;
                assert_eq!(
                    ran.bench.get::<i32>(address, cells.len()),
                    cells,
                    "{good}, seed {seed}: {buffer}"
                );
            }
        }
    });
}

#[test]
fn twins_compute_the_same_without_checks() {
    run_pairs(|pair| {
        let good = format!("good_{}", pair.name);
        let ran = launch(pair, &good, 1, Checks::none());
        assert!(ran.outcome.findings.is_empty(), "{good}: {}", ran.outcome.findings[0]);
        for (buffer, first, cells) in results(&pair.name) {
            let address = ran.buffers[buffer] + 4 * first as u64;
            assert_eq!(ran.bench.get::<i32>(address, cells.len()), cells, "{good}: {buffer}");
        }
    });
}

/// Whether a device could not run the bad kernel to its end.
fn is_fatal(name: &str) -> bool {
    ["memcheck", "deadlock", "trap"].contains(&name.split('_').next().unwrap())
        || name == "synccheck_barrier_count"
}

#[test]
fn each_check_can_be_switched_off() {
    run_pairs(|pair| {
        let bad = format!("bad_{}", pair.name);
        let others = wanted(&pair.name).iter().fold(Checks::all(), |checks, &check| checks.without(check));
        for seed in SEEDS {
            let findings = launch(pair, &bad, seed, others).outcome.findings;
            if is_fatal(&pair.name) {
                // A machine cannot read memory that is not there, nor wait for ever.
                assert_eq!(findings.len(), 1, "{bad}, seed {seed}");
                assert_eq!(complaint(pair, &findings[0]), None, "{bad}, seed {seed}: {}", findings[0]);
            } else {
                // Who reads too early may read what nothing has written.
                let early = pair.name.starts_with("racecheck") || pair.name.starts_with("async");
                for finding in findings {
                    assert!(early && finding.check == Check::Init, "{bad}, seed {seed}: {finding}");
                }
                let findings = launch(pair, &bad, seed, others.without(Check::Init)).outcome.findings;
                assert!(findings.is_empty(), "{bad}, seed {seed}: {}", findings[0]);
            }
        }
    });
}

#[test]
fn without_checks_only_what_a_device_cannot_do_is_reported() {
    run_pairs(|pair| {
        let bad = format!("bad_{}", pair.name);
        let findings = launch(pair, &bad, 0, Checks::none()).outcome.findings;
        assert_eq!(findings.len(), usize::from(is_fatal(&pair.name)), "{bad}: {findings:?}");
        for finding in findings {
            assert_eq!(complaint(pair, &finding), None, "{bad}: {finding}");
        }
    });
}
