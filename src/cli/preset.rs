//! `dit-engine preset`: the presets, with every key.

use anyhow::Result;
use clap::Args;
use dit_engine::config::{Config, Overrides, presets};
use dit_engine::dit::Dit;

use super::print;

/// Print a preset: every key, as TOML that --config accepts
#[derive(Args, Debug)]
pub struct PresetArgs {
    /// demo, small, base, large or seed; without a name: one line for each
    name: Option<String>,
}

/// Prints one preset, or a line for each.
///
/// # Errors
/// For a name that no preset has, and for a stdout that cannot be written to.
pub fn run(args: &PresetArgs) -> Result<()> {
    if let Some(name) = &args.name {
        return print(Config::resolve(name, &Overrides::default())?.to_toml());
    }
    for name in presets::NAMES {
        let config = Config::resolve(name, &Overrides::default())?;
        let about = presets::text(name)?.lines().next().unwrap_or_default().trim_start_matches("# ");
        let parameters = Dit::new(&config.model, &config.text)?.layout().count();
        print(format!("{name:6} {:>11} parameters  {about}\n", group_digits(parameters)))?;
    }
    Ok(())
}

/// `5388802` as `5,388,802`.
pub fn group_digits(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
