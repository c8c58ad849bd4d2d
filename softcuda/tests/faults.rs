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
            Some("memcheck" | "trap") => &[Check::Memory],
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
