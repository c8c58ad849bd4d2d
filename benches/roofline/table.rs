//! What is printed, and what is committed: `docs/roofline.tsv` has the counts of each kernel, and no time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use softcuda::model::devices::Device;

use crate::project::{Row, Step};

const HEADER: &str =
    "case\tkernel\tlaunches\tasked_over_minimum\tconflicts\ttensor_share\tmma_share\toccupancy";
/// In place of a kernel: all of a training step.
const WHOLE_STEP: &str = "(whole step)";
/// What a count may be worse by: counts are exact, what is written has four digits.
const TOLERANCE: f64 = 2e-3;

/// For people.
pub fn readable(step: &Step, devices: &[&Device]) -> String {
    let mut text = format!(
        "{:<44} {:>8} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>5} {:>6} {:>8}",
        "kernel",
        "launches",
        "asked/min",
        "DRAM/min",
        "conflicts",
        "tensor",
        "mma",
        "pipe",
        "regs",
        "occup",
        "bound"
    );
    for device in devices {
        let _ = write!(text, " {:>8} {:>6}", device.key, "/floor");
    }
    text.push('\n');
    let mut rows: Vec<(&String, &Row)> = step.rows.iter().collect();
    rows.sort_by(|a, b| b.1.in_step.cmp(&a.1.in_step).then(b.1.time_us[0].total_cmp(&a.1.time_us[0])));
    for (kernel, row) in rows {
        let place = if row.in_step { kernel.clone() } else { format!("({kernel})") };
        let note = row.measured_as.as_ref().map_or("", |_| "~");
        let _ = write!(
            text,
            "{:<44} {:>8} {:>9.3} {:>9.3} {:>9.3} {:>6.1}% {:>6.1}% {:>6.1}% {:>5} {:>5.0}% {:>8}",
            place + note,
            row.launches,
            row.asked_bytes / row.minimum_bytes,
            row.dram_bytes / row.minimum_bytes,
            row.conflicts(),
            100.0 * row.tensor_share(),
            100.0 * row.mma_share(),
            100.0 * row.tensor_time(),
            row.registers,
            100.0 * row.occupancy,
            row.bound.map_or("", |(bound, _)| bound.name())
        );
        for (time, floor) in row.time_us.iter().zip(&row.floor_us) {
            let _ = write!(text, " {:>6.0}us {:>5.2}x", time, time / floor);
        }
        text.push('\n');
    }
    text
}

/// The lines of a case for the committed table.
pub fn lines(case: &str, step: &Step) -> String {
    let line = |(kernel, row): (&str, &Row)| {
        format!(
            "{case}\t{kernel}\t{}\t{:.4}\t{:.4}\t{:.4}\t{:.4}\t{:.4}\n",
            row.launches,
            row.asked_bytes / row.minimum_bytes,
            row.conflicts(),
            row.tensor_share(),
            row.mma_share(),
            row.occupancy
        )
    };
    let kernels = step.rows.iter().map(|(kernel, row)| (kernel.as_str(), row));
    let whole = step.whole();
    let whole = (whole.launches > 0).then_some((WHOLE_STEP, &whole));
    kernels.chain(whole).map(line).collect()
}

/// The whole table.
pub fn whole(lines: &str) -> String {
    format!("{HEADER}\n{lines}")
}

/// What is worse in `new` than in the `committed` table, for the cases that `new` has; nothing when nothing is.
pub fn regressions(committed: &str, new: &str) -> Vec<String> {
    let (old, new) = (parse(committed), parse(new));
    let mut problems = Vec::new();
    for (place, now) in &new {
        match old.get(place) {
            None => problems.push(format!("{place}: not in the table")),
            Some(before) => problems.extend(worse(place, before, now)),
        }
    }
    let cases: Vec<&str> = new.keys().filter_map(|place| place.split('\t').next()).collect();
    let missing = old.keys().filter(|place| {
        !new.contains_key(*place) && place.split('\t').next().is_some_and(|case| cases.contains(&case))
    });
    problems.extend(missing.map(|place| format!("{place}: in the table, and did not run")));
    problems
}

fn worse(place: &str, before: &[f64], now: &[f64]) -> Vec<String> {
    // Of the first three less is better, of the others more.
    let names = ["launches", "bytes over the minimum", "conflicts", "tensor share", "mma share", "occupancy"];
    let compared = names.iter().zip(before.iter().zip(now)).enumerate();
    compared
        .filter(|(at, (_, (before, now)))| {
            let loss = if *at < 3 { *now - *before } else { *before - *now };
            loss > TOLERANCE * before.abs().max(0.05)
        })
        .map(|(_, (name, (before, now)))| format!("{}: {name} {before} -> {now}", place.replace('\t', " ")))
        .collect()
}

fn parse(table: &str) -> BTreeMap<String, Vec<f64>> {
    table
        .lines()
        .filter(|line| *line != HEADER)
        .filter_map(|line| {
            let words: Vec<&str> = line.split('\t').collect();
            let numbers = words.get(2..)?.iter().filter_map(|word| word.parse().ok()).collect();
            Some((format!("{}\t{}", words[0], words[1]), numbers))
        })
        .collect()
}
