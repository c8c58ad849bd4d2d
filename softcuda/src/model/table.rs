//! Tables of profiles for people: counts are exact, times are modelled and the tables say so.

use std::collections::BTreeSet;

use super::cost::{ASSUMED_REGISTERS, LAUNCH_OVERHEAD_US};
use super::profile::{KernelSummary, LineCount, ratio};

/// A number in three digits: `0`, `999`, `1.23k`, `45.6M`, `789G`.
pub fn human(value: f64) -> String {
    scaled(value, &["", "k", "M", "G", "T", "P"])
}

/// Bytes in three digits and powers of 1000, as bandwidths are: `1.23 MB`.
pub fn human_bytes(bytes: f64) -> String {
    scaled(bytes, &[" B", " kB", " MB", " GB", " TB", " PB"])
}

/// µs in three digits: `1.23 µs`, `45.6 ms`, `7.89 s`.
pub fn human_time(time_us: f64) -> String {
    scaled(time_us, &[" µs", " ms", " s"])
}

/// Steps of 1000, three digits; a value that rounds up to 1000 takes the next unit.
fn scaled(value: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", three_digits(value), units[unit])
}

fn three_digits(value: f64) -> String {
    if value >= 99.95 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_string(), |share| format!("{:.0}%", 100.0 * share))
}

/// A factor, or a dash where there is nothing to compare.
fn factor(value: Option<f64>) -> String {
    value.map_or("-".to_string(), |value| format!("{}x", three_digits(value)))
}

/// The table of kernels, then up to `lines` source lines of each. `device` is the name in the heading.
pub fn table(device: &str, summaries: &[KernelSummary], lines: usize) -> String {
    let total_us: f64 = summaries.iter().map(|summary| summary.total_us).sum();
    let launches: u64 = summaries.iter().map(|summary| summary.launches).sum();
    let mut text = format!(
        "softcuda profile, {device}: {launches} launches of {} kernels, {} modelled\n\
         Counts are exact. Times, DRAM bytes and what binds are a model, for ratios and regressions.\n\n",
        summaries.len(),
        human_time(total_us),
    );
    text += &kernels(summaries, total_us);
    text += &notes(summaries);
    for summary in summaries.iter().filter(|summary| lines > 0 && !summary.lines.is_empty()) {
        text += &format!("\n{}: hottest lines\n{}", summary.kernel, hottest(summary, lines));
    }
    text
}

fn kernels(summaries: &[KernelSummary], total_us: f64) -> String {
    let header = [
        "kernel",
        "launches",
        "warp inst",
        "lanes",
        "sectors",
        "of min",
        "DRAM",
        "conflicts",
        "tensor",
        "occup",
        "model time",
        "share",
        "bound",
    ];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for summary in summaries {
        let counters = &summary.counters;
        let assumed = if summary.registers_assumed { "*" } else { "" };
        rows.push(vec![
            summary.kernel.clone(),
            summary.launches.to_string(),
            human(counters.all_warp_instructions() as f64),
            percent(Some(summary.lane_efficiency())),
            human(counters.global_sectors() as f64),
            factor(summary.sectors_over_minimum()),
            human_bytes(summary.dram_bytes),
            human(counters.shared_conflicts as f64),
            percent(summary.tensor_share()),
            percent(Some(summary.occupancy)) + assumed,
            human_time(summary.total_us),
            percent((total_us > 0.0).then(|| summary.total_us / total_us)),
            summary.bound.name().to_string(),
        ]);
    }
    aligned(&rows)
}

fn notes(summaries: &[KernelSummary]) -> String {
    let mut text = format!("\nmodel time includes {LAUNCH_OVERHEAD_US} µs a launch\n");
    if summaries.iter().any(|summary| summary.registers_assumed) {
        text += &format!("* no ptxas, {ASSUMED_REGISTERS} registers a thread assumed: an upper bound\n");
    }
    text
}

fn hottest(summary: &KernelSummary, lines: usize) -> String {
    let header = ["line", "warp inst", "share", "lanes", "sectors", "of min", "passes", "conflicts"];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    let all: u64 = summary.lines.iter().map(|line| line.warp_instructions).sum();
    for line in summary.lines.iter().take(lines) {
        rows.push(vec![
            place(line),
            human(line.warp_instructions as f64),
            percent(ratio(line.warp_instructions, all)),
            percent(ratio(line.lane_instructions, 32 * line.warp_instructions)),
            human(line.global_sectors as f64),
            factor(ratio(line.global_sectors, line.minimum_sectors)),
            human(line.shared_passes as f64),
            human(line.shared_conflicts as f64),
        ]);
    }
    aligned(&rows)
}

/// `norm.cu:31`: the folder says nothing that a reader of the table does not know.
fn place(line: &LineCount) -> String {
    match line.file.rsplit('/').next() {
        None | Some("") => "(no -lineinfo)".to_string(),
        Some(file) => format!("{file}:{}", line.line),
    }
}

/// The ratios new over old, kernel by kernel: 1 is no change, below 1 is less work or time.
pub fn comparison(old: &[KernelSummary], new: &[KernelSummary]) -> String {
    let names: BTreeSet<&str> = old.iter().chain(new).map(|summary| summary.kernel.as_str()).collect();
    let find = |list: &'_ [KernelSummary], name: &str| list.iter().find(|s| s.kernel == name).cloned();
    let header =
        ["kernel", "launches", "warp inst", "sectors", "DRAM", "conflicts", "old time", "new time", "time"];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for name in names {
        rows.push(match (find(old, name), find(new, name)) {
            (Some(old), Some(new)) => compared(&old, &new),
            (Some(old), None) => only(&old, "gone"),
            (None, Some(new)) => only(&new, "new"),
            (None, None) => continue,
        });
    }
    let (old_us, new_us) = (total_us(old), total_us(new));
    let mut sum = vec![String::new(); header.len()];
    sum[0] = "all".to_string();
    (sum[6], sum[7], sum[8]) = (human_time(old_us), human_time(new_us), factor_of(new_us, old_us));
    rows.push(sum);
    format!("new over old; counts are exact, times are a model\n\n{}", aligned(&rows))
}

fn total_us(summaries: &[KernelSummary]) -> f64 {
    summaries.iter().map(|summary| summary.total_us).sum()
}

fn compared(old: &KernelSummary, new: &KernelSummary) -> Vec<String> {
    let (before, after) = (&old.counters, &new.counters);
    let counts = |after: u64, before: u64| factor_of(after as f64, before as f64);
    vec![
        new.kernel.clone(),
        counts(new.launches, old.launches),
        counts(after.all_warp_instructions(), before.all_warp_instructions()),
        counts(after.global_sectors(), before.global_sectors()),
        factor_of(new.dram_bytes, old.dram_bytes),
        counts(after.shared_conflicts, before.shared_conflicts),
        human_time(old.total_us),
        human_time(new.total_us),
        factor_of(new.total_us, old.total_us),
    ]
}

fn only(summary: &KernelSummary, which: &str) -> Vec<String> {
    let mut row = vec!["-".to_string(); 9];
    row[0] = summary.kernel.clone();
    row[if which == "gone" { 6 } else { 7 }] = human_time(summary.total_us);
    row[8] = which.to_string();
    row
}

/// `=` for no change at all, so that a difference in the last count is not rounded away.
fn factor_of(after: f64, before: f64) -> String {
    if after == before {
        "=".to_string()
    } else if before == 0.0 {
        "from 0".to_string()
    } else {
        format!("{:.3}x", after / before)
    }
}

/// Columns two spaces apart, the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::profile::by_kernel;
    use crate::model::profile::tests::launch;

    #[test]
    fn numbers_have_three_digits_and_their_unit() {
        let cases = [
            (0.0, "0"),
            (7.0, "7"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (45_678.0, "45.7k"),
        ];
        for (value, text) in cases {
            assert_eq!(human(value), text);
        }
        assert_eq!(human(789_400_000_000.0), "789G");
        assert_eq!(human(99_960.0), "100k");
        assert_eq!(human_bytes(1_555_000_000.0), "1.55 GB");
        assert_eq!(human_bytes(12.0), "12 B");
        assert_eq!(human_time(2.5), "2.50 µs");
        assert_eq!(human_time(1_500.0), "1.50 ms");
        assert_eq!(human_time(4e9), "4000 s");
    }

    #[test]
    fn the_table_shows_each_kernel_and_its_hottest_lines() {
        let text = table("a100", &by_kernel(&[launch("norm", 1), launch("matmul", 500)]), 1);
        let row = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().map(str::to_string).collect()
        };
        assert_eq!(row("matmul")[1..6], ["1", "500k", "75%", "4M", "2x"]);
        assert_eq!(row("norm")[6..11], ["128", "kB", "5k", "75%", "100%*"]);
        assert!(text.contains("a model, for ratios"), "{text}");
        assert!(text.contains("32 registers a thread assumed"), "{text}");
        assert_eq!(row("norm.cu:31")[1..5], ["500k", "100%", "50%", "500k"]);
        assert!(!text.contains("norm.cu:7"), "one line was asked for:\n{text}");
    }

    #[test]
    fn columns_line_up_whatever_their_letters() {
        let text = table("a100", &by_kernel(&[launch("ÄÖÜ", 2), launch("a_much_longer_name", 20)]), 0);
        let mut ends = text.lines().skip(3).take(3).map(|line| line.chars().count());
        let first = ends.next().unwrap();
        assert!(first > 100 && ends.all(|end| end == first), "{text}");
        assert!(!text.contains("hottest"), "no lines were asked for:\n{text}");
    }

    #[test]
    fn a_comparison_shows_ratios_and_what_came_and_went() {
        let old = by_kernel(&[launch("norm", 2160), launch("old_one", 2), launch("same", 3)]);
        let new = by_kernel(&[launch("norm", 1080), launch("new_one", 2), launch("same", 3)]);
        let text = comparison(&old, &new);
        let row = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().map(str::to_string).collect()
        };
        assert_eq!(row("norm")[1..6], ["=", "0.500x", "0.500x", "0.459x", "0.500x"]);
        assert_eq!(row("same").last().unwrap(), "=", "{text}");
        assert!(row("norm").last().unwrap().starts_with("0.46"), "{text}");
        assert_eq!(row("old_one").last().unwrap(), "gone");
        assert_eq!(row("new_one").last().unwrap(), "new");
        assert!(row("all").last().unwrap().ends_with('x'), "{text}");
    }

    #[test]
    fn a_change_from_nothing_is_no_ratio() {
        assert_eq!(factor_of(0.0, 0.0), "=");
        assert_eq!(factor_of(3.0, 0.0), "from 0");
        assert_eq!(factor_of(1_000_001.0, 1_000_000.0), "1.000x");
    }
}
