//! Which column of a parquet table holds the recordings, and what its numbers mean.

use parquet::basic::{ConvertedType, Type as PhysicalType};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::columns::{listed, named};

/// A column of recordings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sound {
    /// Its bytes, among the schema's leaves.
    pub leaf: usize,
}

/// Names of a column's classes, by number.
pub(super) type ClassNames = Vec<String>;

/// Names of a column of recordings, the likeliest first.
const SOUND_NAMES: [&str; 12] =
    ["audio", "sound", "music", "song", "track", "recording", "clip", "wav", "mp3", "flac", "ogg", "bytes"];

/// The column of recordings: the one that `wanted` names, that Hugging Face's own description calls audio, that is a struct
/// of `bytes` and `path`, or that is binary; by its name where there are several. `None` for a table without recordings that
/// names files instead.
///
/// # Errors
/// A sentence that names the columns that there are.
pub(super) fn sound_column(
    fields: &[TypePtr],
    features: &Value,
    wanted: Option<&str>,
) -> Result<Option<Sound>, String> {
    let names: Vec<String> = fields.iter().map(|field| field.name().to_string()).collect();
    if let Some(wanted) = wanted {
        let at = named(&names, wanted, "--audio-column")?;
        return match (sound_leaf(fields, at), is_text(&fields[at])) {
            (Some(leaf), _) => Ok(Some(Sound { leaf })),
            (None, true) => Ok(None),
            (None, false) => Err(format!(
                "holds neither recordings nor file names in its column {wanted:?} (--audio-column)"
            )),
        };
    }
    let is_audio = |at: &usize| features[names[*at].as_str()]["_type"] == "Audio";
    let described: Vec<usize> = (0..fields.len()).filter(is_audio).collect();
    let all: Vec<usize> = (0..fields.len()).filter(|&at| sound_leaf(fields, at).is_some()).collect();
    let structs: Vec<usize> = all.iter().copied().filter(|&at| fields[at].is_group()).collect();
    for candidates in [described, structs, all.clone()] {
        if let Some(leaf) = likeliest(&names, &candidates).and_then(|at| sound_leaf(fields, at)) {
            return Ok(Some(Sound { leaf }));
        }
    }
    if all.is_empty() {
        return match super::columns::file_column(&names, None) {
            Ok(_) => Ok(None),
            Err(_) => Err(format!("has no column of recordings or file names among {}", listed(&names))),
        };
    }
    Err(format!(
        "has several columns that may be recordings among {}; name one with --audio-column",
        listed(&names)
    ))
}

/// The only one, or the one with the likeliest name.
fn likeliest(names: &[String], candidates: &[usize]) -> Option<usize> {
    if let [one] = candidates {
        return Some(*one);
    }
    let is_named = |at: &usize, name: &str| names[*at].trim().eq_ignore_ascii_case(name);
    SOUND_NAMES.iter().find_map(|name| candidates.iter().copied().find(|at| is_named(at, name)))
}

/// The leaf with the bytes of column `at`, if it can hold recordings.
fn sound_leaf(fields: &[TypePtr], at: usize) -> Option<usize> {
    let before: usize = fields[..at].iter().map(|field| leaves(field)).sum();
    match &*fields[at] {
        field @ Type::PrimitiveType { .. } => is_binary(field).then_some(before),
        Type::GroupType { fields, .. } => {
            let bytes = fields.iter().position(|field| field.name() == "bytes" && is_binary(field))?;
            Some(before + fields[..bytes].iter().map(|field| leaves(field)).sum::<usize>())
        }
    }
}

fn leaves(field: &Type) -> usize {
    match field {
        Type::PrimitiveType { .. } => 1,
        Type::GroupType { fields, .. } => fields.iter().map(|field| leaves(field)).sum(),
    }
}

fn is_binary(field: &Type) -> bool {
    is_bytes(field) && field.get_basic_info().converted_type() == ConvertedType::NONE
}

fn is_text(field: &Type) -> bool {
    is_bytes(field) && !is_binary(field)
}

fn is_bytes(field: &Type) -> bool {
    let is_repeated = field.get_basic_info().has_repetition()
        && field.get_basic_info().repetition() == parquet::basic::Repetition::REPEATED;
    field.is_primitive() && field.get_physical_type() == PhysicalType::BYTE_ARRAY && !is_repeated
}

/// What the numbers of a column stand for, as Hugging Face describes it.
pub(super) fn class_names(features: &Value, column: &str) -> Option<ClassNames> {
    let feature = &features[column];
    // A list of classes wraps them.
    let feature = if feature["names"].is_array() { feature } else { &feature["feature"] };
    let names = feature["names"].as_array()?.iter();
    names.map(|name| name.as_str().map(String::from)).collect()
}
