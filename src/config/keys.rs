//! Dotted keys: parsing `--set`, merging files, and naming the nearest key of a misspelt one.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{Config, Kind, RepresentationConfig};
use crate::error::{Error, Result};

/// `--config FILE` and `--set key=value`, in the order given.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    layers: Vec<Table>,
}

impl Overrides {
    /// Adds a TOML file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] with the line, or [`Error::Config`] for an unknown key or a value of the
    /// wrong kind.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        crate::files::require_regular_file(path)?;
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let table = parse_file(&text, &path.display().to_string())?;
        read(&table).map_err(|error| match error {
            Error::Config { key, problem } => Error::config(format!("{}: {key}", path.display()), problem),
            other => other,
        })?;
        self.layers.push(table);
        Ok(())
    }

    /// Adds one `key=value`. The value is TOML (`6`, `[80, 256]`, `"cosine"`), or a bare word taken as a string.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no `=`, for an unknown key, or for a value of the wrong kind.
    pub fn add_setting(&mut self, setting: &str) -> Result<()> {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| Error::config("--set", format!("`{setting}` is not of the form key=value")))?;
        let (key, value) = (key.trim(), value.trim());
        let value = format!("value = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_string()));
        let (parents, last) =
            key.rsplit_once('.').map_or((None, key), |(parents, last)| (Some(parents), last));
        let innermost = Table::from_iter([(last.to_string(), value)]);
        let table = parents
            .into_iter()
            .flat_map(|parents| parents.rsplit('.'))
            .fold(innermost, |inner, part| Table::from_iter([(part.to_string(), Value::Table(inner))]));
        read(&table)?;
        self.layers.push(table);
        Ok(())
    }

    /// Whether any layer sets `key`.
    pub fn sets(&self, key: &str) -> bool {
        self.layers.iter().any(|layer| leaves(layer).contains(&key.to_string()))
    }

    /// Lays the overrides over `base`.
    pub(super) fn apply(&self, base: &mut Table) -> Result<()> {
        for layer in &self.layers {
            merge(base, layer);
        }
        Ok(())
    }
}

/// Parses a TOML text; `name` is for the error.
pub(super) fn parse_file(text: &str, name: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|error| {
        let at = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        let line = at.map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::format(name, format!("{line}{}", error.message()))
    })
}

/// Lays `over` over `base`, table by table.
pub(super) fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Any serialisable configuration as a table.
pub(super) fn to_table(config: &impl Serialize) -> Table {
    Table::try_from(config).expect("configurations are tables of plain values")
}

/// The `data.*` keys that decide an image of `other`'s kind and in which the two differ, as `(key, own value, other's)`.
/// The image itself is left out: it is the model's.
pub fn data_differences(
    own: &RepresentationConfig,
    other: &RepresentationConfig,
) -> Vec<(String, String, String)> {
    let matters = |key: &str| match key {
        "image" | "griffin_lim_iterations" => false,
        "mel_bands" => other.representation == Kind::Mel,
        "compression" => other.representation == Kind::Complex,
        _ => true,
    };
    let pairs = to_table(own).into_iter().zip(to_table(other));
    let differing = pairs.filter(|((key, own), (_, other))| matters(key) && own != other);
    differing.map(|((key, own), (_, other))| (format!("data.{key}"), plain(&own), plain(&other))).collect()
}

/// A value as one may type it after `--set key=`.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// An f32 as the decimal that people wrote: 0.3, not 0.30000001192092896.
pub(super) fn shortest(value: f32) -> Value {
    Value::Float(value.to_string().parse().unwrap_or(f64::from(value)))
}

/// A configuration from a table, defaults for what it lacks.
///
/// # Errors
/// [`Error::Config`] with the first key that is unknown or whose value is of the wrong kind.
pub(super) fn read(table: &Table) -> Result<Config> {
    check_known(table)?;
    Config::deserialize(table.clone()).map_err(|error| {
        let key = wrong_key(table).unwrap_or_else(|| "configuration".to_string());
        Error::config(key, error.message())
    })
}

/// The first `section.key` that is wrong by itself: a deserialiser says what is wrong, but not where.
fn wrong_key(table: &Table) -> Option<String> {
    let sections = table.iter().filter_map(|(name, section)| Some((name, section.as_table()?)));
    let mut keys = sections.flat_map(|(name, section)| section.iter().map(move |entry| (name, entry)));
    keys.find_map(|(name, (key, value))| {
        let section = Table::from_iter([(key.clone(), value.clone())]);
        let alone = Table::from_iter([(name.clone(), Value::Table(section))]);
        Config::deserialize(alone).is_err().then(|| format!("{name}.{key}"))
    })
}

/// Fails on the first key that a [`Config`] does not have.
fn check_known(table: &Table) -> Result<()> {
    let known = known_keys();
    for key in leaves(table) {
        if known.contains(&key) {
            continue;
        }
        let problem = match nearest(&key, &known) {
            Some(near) => format!("is no key; did you mean {near}?"),
            None => "is no key; `dit-engine preset NAME` prints all of them".to_string(),
        };
        return Err(Error::config(key, problem));
    }
    Ok(())
}

fn known_keys() -> Vec<String> {
    leaves(&to_table(&Config::default())).into_iter().filter(|key| key != "data.image").collect()
}

fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_string();
    let score = |candidate: &String| {
        let whole = strsim::jaro_winkler(key, candidate);
        let tail = strsim::jaro_winkler(&last(key), &last(candidate));
        whole.max(0.95 * tail)
    };
    // Of equals the first: `depth` is the model's.
    let best = known.iter().rev().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.7).then_some(best)
}

fn leaves(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => keys.extend(leaves(inner).into_iter().map(|leaf| format!("{key}.{leaf}"))),
            _ => keys.push(key.clone()),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(setting: &str) -> String {
        let mut overrides = Overrides::default();
        match overrides.add_setting(setting) {
            Err(error) => error.to_string(),
            Ok(()) => Config::resolve("small", &overrides).unwrap_err().to_string(),
        }
    }

    #[test]
    fn samplers_are_called_what_configurations_call_them() {
        for kind in crate::config::SamplerKind::ALL {
            let mut overrides = Overrides::default();
            overrides.add_setting(&format!("sample.sampler={kind}")).unwrap();
            assert_eq!(Config::resolve("small", &overrides).unwrap().sample.sampler, kind);
        }
    }

    #[test]
    fn settings_of_every_kind_arrive() {
        let mut overrides = Overrides::default();
        for setting in ["model.depth=3", "model.image=[80,128]", "train.lr=1e-3", "diffusion.objective=v"] {
            overrides.add_setting(setting).unwrap();
        }
        let config = Config::resolve("small", &overrides).unwrap();
        assert_eq!(config.model.depth, 3);
        assert_eq!(config.model.image, [80, 128]);
        assert_eq!(config.data.image, [80, 128]);
        assert_eq!(config.train.lr, 1e-3);
        assert_eq!(config.diffusion.objective, super::super::Objective::V);
    }

    #[test]
    fn a_misspelt_key_names_the_nearest() {
        assert_eq!(error_of("model.deph=3"), "model.deph: is no key; did you mean model.depth?");
        assert_eq!(error_of("depth=3"), "depth: is no key; did you mean model.depth?");
        assert!(error_of("zzz=1").contains("`dit-engine preset NAME`"));
    }

    #[test]
    fn bad_values_name_the_key_and_the_mend() {
        assert!(error_of("model.depth").contains("key=value"));
        assert!(error_of("model.heads=7").contains("do not divide model.dim"));
        assert!(error_of("model.patch=[7,8]").contains("model.image must be a multiple"));
        assert!(error_of("model.depth=0").contains("at least 1"));
        assert!(error_of("train.lr=-1").contains("between 0 and 1"));
        assert!(error_of("model.block=transformer").contains("adaln_zero"));
    }

    #[test]
    fn a_value_of_the_wrong_kind_names_its_key() {
        for (setting, needle) in [
            ("model.depth=abc", "model.depth: "),
            ("model.depth=-1", "model.depth: "),
            ("model.depth={}", "model.depth: "),
            ("model.image=5", "model.image: "),
            ("model.image=[64]", "model.image: "),
            ("model.block=foo", "model.block: "),
            ("diffusion.schedule=sqrt", "diffusion.schedule: "),
            ("sample.count=9e18", "sample.count: "),
        ] {
            let error = error_of(setting);
            assert!(error.starts_with(needle) && error.len() > needle.len(), "{setting}: {error}");
        }
    }

    #[test]
    fn a_wrong_value_in_a_file_names_file_and_key() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), "[train]\nbatch = 3\n[model]\ndepth = \"deep\"\n").unwrap();
        let error = Overrides::default().add_file(file.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: model.depth: ", file.path().display())), "{error}");
    }

    #[test]
    fn absurd_counts_are_refused() {
        for (key, values) in [
            ("diffusion.steps", ["1", "9000000000", "9000000000000000000"]),
            ("train.steps", ["0", "1000000000001", "9000000000000000000"]),
            ("train.validation_samples", ["0", "1000001", "9000000000000000000"]),
            ("train.sample_every", ["0", "1000000000001", "9000000000000000000"]),
            ("train.batch", ["0", "9000000000", "9000000000000000000"]),
            ("sample.count", ["0", "1000001", "9000000000000000000"]),
            ("sample.steps", ["0", "1000001", "9000000000000000000"]),
            ("model.patch", ["[0,8]", "[8,0]", "[9000000000000000000,8]"]),
        ] {
            for value in values {
                let error = error_of(&format!("{key}={value}"));
                assert!(error.starts_with(&format!("{key}: ")), "{value}: {error}");
            }
        }
    }

    #[test]
    fn numbers_print_as_they_were_written() {
        let config = Config::resolve("base", &Overrides::default()).unwrap();
        assert!(config.to_toml().contains("compression = 0.3\n"), "{}", config.to_toml());
    }

    #[test]
    fn a_stored_configuration_reads_back_equal() {
        for name in super::super::presets::NAMES {
            let config = Config::resolve(name, &Overrides::default()).unwrap();
            assert_eq!(Config::from_toml(&config.to_toml()).unwrap(), config);
        }
    }
}
