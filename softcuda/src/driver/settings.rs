//! What the environment asks for, read once at `cuInit`.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File, OpenOptions};

use crate::checks::{Check, Checks};
use crate::model::devices::Device;

/// The settings of the process.
#[derive(Debug)]
pub struct Settings {
    /// `SOFTCUDA_DEVICE`: the device to be.
    pub device: &'static Device,
    /// `SOFTCUDA_CHECKS`.
    pub checks: Checks,
    /// `SOFTCUDA_SEED`: varies every order that CUDA leaves open.
    pub seed: u64,
    /// `SOFTCUDA_PROFILE`: gets a line of JSON a launch.
    pub profile: Option<File>,
    /// `SOFTCUDA_REGISTERS`: what ptxas allotted, by kernel.
    pub registers: HashMap<String, u32>,
    /// `SOFTCUDA_SKIP_LAUNCHES`: launches are checked and counted, not executed.
    pub skip_launches: bool,
}

impl Settings {
    /// From the environment.
    ///
    /// # Errors
    /// One line that names the variable and what is wrong with it.
    pub fn from_environment() -> Result<Settings, String> {
        Settings::from_variables(|name| {
            env::var_os(name).map(|value| {
                value.into_string().map_err(|value| format!("{name}: {} is not UTF-8", value.display()))
            })
        })
    }

    fn from_variables(variable: impl Fn(&str) -> Option<Result<String, String>>) -> Result<Settings, String> {
        let get = |name: &str| variable(name).transpose();
        let checks = match get("SOFTCUDA_CHECKS")? {
            Some(list) => Checks::parse(&list).map_err(|error| format!("SOFTCUDA_CHECKS: {error}"))?,
            None => Checks::all(),
        };
        let device = get("SOFTCUDA_DEVICE")?.unwrap_or_else(|| "a100".to_string());
        let device = Device::by_name(&device).map_err(|error| format!("SOFTCUDA_DEVICE: {error}"))?;
        let seed = match get("SOFTCUDA_SEED")? {
            Some(text) => text.trim().parse().map_err(|_| format!("SOFTCUDA_SEED: `{text}` is no number"))?,
            None => 0,
        };
        let profile = match get("SOFTCUDA_PROFILE")?.filter(|path| !path.is_empty()) {
            Some(path) => Some(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&path)
                    .map_err(|error| format!("SOFTCUDA_PROFILE: cannot write {path}: {error}"))?,
            ),
            None => None,
        };
        let registers = match get("SOFTCUDA_REGISTERS")?.filter(|path| !path.is_empty()) {
            Some(path) => fs::read_to_string(&path)
                .map_err(|error| error.to_string())
                .and_then(|table| registers(&table, device))
                .map_err(|error| format!("SOFTCUDA_REGISTERS: {path}: {error}"))?,
            None => HashMap::new(),
        };
        let skip_launches = match get("SOFTCUDA_SKIP_LAUNCHES")?.as_deref() {
            None | Some("" | "0") => false,
            Some("1") => true,
            Some(other) => return Err(format!("SOFTCUDA_SKIP_LAUNCHES: `{other}` is neither 0 nor 1")),
        };
        // What launches would have written is missing.
        let checks = if skip_launches { checks.without(Check::Init) } else { checks };
        Ok(Settings { device, checks, seed, profile, registers, skip_launches })
    }
}

/// From a table of words between tabs, with columns called `kernel`, `arch` (`sm_80`) and `registers`: the row of the
/// newest architecture that the device runs decides.
fn registers(table: &str, device: &Device) -> Result<HashMap<String, u32>, String> {
    let mut rows = table.lines().map(|line| line.split('\t').collect::<Vec<&str>>());
    let header = rows.next().unwrap_or_default();
    let column = |name: &str| {
        header.iter().position(|word| *word == name).ok_or_else(|| format!("no column is called `{name}`"))
    };
    let (kernel, arch, count) = (column("kernel")?, column("arch")?, column("registers")?);
    let capability = (device.major * 10 + device.minor) as u32;
    let mut found: HashMap<String, (u32, u32)> = HashMap::new();
    for (at, row) in rows.enumerate() {
        let number = |column: usize| row.get(column)?.trim_start_matches("sm_").parse::<u32>().ok();
        let Some(((name, arch), count)) = row.get(kernel).zip(number(arch)).zip(number(count)) else {
            return Err(format!("line {} lacks a number", at + 2));
        };
        if arch <= capability && found.get(*name).is_none_or(|(best, _)| *best < arch) {
            found.insert((*name).to_string(), (arch, count));
        }
    }
    Ok(found.into_iter().map(|(name, (_, count))| (name, count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::from_variables(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| Ok((*value).to_string()))
        })
    }

    #[test]
    fn nothing_set_means_an_a100_with_every_check() {
        let settings = with(&[]).unwrap();
        assert_eq!((settings.device.key, settings.checks, settings.seed), ("a100", Checks::all(), 0));
        assert!(settings.profile.is_none() && !settings.skip_launches);
    }

    #[test]
    fn each_variable_is_read() {
        let settings = with(&[
            ("SOFTCUDA_DEVICE", "H100"),
            ("SOFTCUDA_CHECKS", "memory,init"),
            ("SOFTCUDA_SEED", "18446744073709551615"),
            ("SOFTCUDA_SKIP_LAUNCHES", "1"),
        ])
        .unwrap();
        assert_eq!((settings.device.key, settings.seed), ("h100", u64::MAX));
        assert_eq!(settings.checks, Checks::none().with(Check::Memory));
        assert!(settings.skip_launches);
    }

    #[test]
    fn registers_are_those_of_the_newest_architecture_that_the_device_runs() {
        let table = "kernel\tfile\tarch\tregisters\na\tf\tsm_80\t40\na\tf\tsm_90\t32\na\tf\tsm_75\t48\nb\tf\tsm_90\t9\n";
        let on = |device| registers(table, Device::by_name(device).unwrap()).unwrap();
        assert_eq!(on("h100"), HashMap::from([("a".to_string(), 32), ("b".to_string(), 9)]));
        assert_eq!(on("rtx4090"), HashMap::from([("a".to_string(), 40)]));
        assert_eq!(on("t4"), HashMap::from([("a".to_string(), 48)]));
        let wrong = |table| registers(table, Device::by_name("t4").unwrap()).unwrap_err();
        assert_eq!(wrong("kernel\tarch\n"), "no column is called `registers`");
        assert_eq!(wrong("kernel\tarch\tregisters\na\tsm_80\n"), "line 2 lacks a number");
    }

    #[test]
    fn a_wrong_value_is_one_line_that_names_its_variable() {
        for (name, value) in [
            ("SOFTCUDA_DEVICE", "b200"),
            ("SOFTCUDA_CHECKS", "rcae"),
            ("SOFTCUDA_SEED", "-1"),
            ("SOFTCUDA_PROFILE", "/no/such/folder/file"),
            ("SOFTCUDA_REGISTERS", "/no/such/table"),
            ("SOFTCUDA_SKIP_LAUNCHES", "yes"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(name) && error.contains(value) && !error.contains('\n'), "{error}");
        }
    }
}
