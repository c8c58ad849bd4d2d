//! The presets: TOML files embedded in the binary.

use toml::Table;

use super::keys;
use crate::error::{Error, Result};

/// Every preset, smallest first.
pub const NAMES: [&str; 5] = ["demo", "small", "base", "large", "seed"];

/// A preset's text, with its comments.
///
/// # Errors
/// [`Error::Config`] that lists the presets.
pub fn text(name: &str) -> Result<&'static str> {
    match name {
        "demo" => Ok(include_str!("../../presets/demo.toml")),
        "small" => Ok(include_str!("../../presets/small.toml")),
        "base" => Ok(include_str!("../../presets/base.toml")),
        "large" => Ok(include_str!("../../presets/large.toml")),
        "seed" => Ok(include_str!("../../presets/seed.toml")),
        _ => Err(Error::config("--preset", format!("there is no `{name}`; there are {}", NAMES.join(", ")))),
    }
}

/// A preset as a table.
pub(super) fn table(name: &str) -> Result<Table> {
    keys::parse_file(text(name)?, &format!("presets/{name}.toml"))
}
