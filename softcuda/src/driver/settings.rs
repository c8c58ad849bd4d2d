//! What the environment asks for, read once at `cuInit`.

use std::env;
use std::fs::{File, OpenOptions};

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
        let skip_launches = match get("SOFTCUDA_SKIP_LAUNCHES")?.as_deref() {
            None | Some("" | "0") => false,
            Some("1") => true,
            Some(other) => return Err(format!("SOFTCUDA_SKIP_LAUNCHES: `{other}` is neither 0 nor 1")),
        };
        // What launches would have written is missing.
        let checks = if skip_launches { checks.without(Check::Init) } else { checks };
        Ok(Settings { device, checks, seed, profile, skip_launches })
    }
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
    fn a_wrong_value_is_one_line_that_names_its_variable() {
        for (name, value) in [
            ("SOFTCUDA_DEVICE", "b200"),
            ("SOFTCUDA_CHECKS", "rcae"),
            ("SOFTCUDA_SEED", "-1"),
            ("SOFTCUDA_PROFILE", "/no/such/folder/file"),
            ("SOFTCUDA_SKIP_LAUNCHES", "yes"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(name) && error.contains(value) && !error.contains('\n'), "{error}");
        }
    }
}
