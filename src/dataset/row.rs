//! A row of a strange table, of whatever format, as facts about a track.

use super::columns::Columns;
use super::labels::{Template, usual_caption};
use super::table::Facts;
use super::text::{clean, clean_caption};

/// One cell, as far as its type matters.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// Empty.
    Nothing,
    /// Text, or a list of texts.
    Texts(Vec<String>),
    /// Not text (a number, an object): usable as an identifier if the string is there, never as a caption.
    Other(Option<String>),
}

/// What a row says.
#[derive(Default)]
pub(super) struct RowFacts {
    pub facts: Facts,
    /// A caption was longer than can be kept.
    pub is_cut: bool,
    /// The cell of the caption holds something else.
    pub is_no_text: bool,
    /// The table itself marks the row as not valid.
    pub is_invalid: bool,
}

/// Reads a row whose cells `cell` gives.
pub(super) fn row_facts(
    columns: &Columns,
    template: Option<&Template>,
    cell: &dyn Fn(usize) -> Cell,
) -> RowFacts {
    let one = |column: Option<usize>| match column.map(cell) {
        Some(Cell::Texts(texts)) => texts.iter().map(|text| clean(text)).find(|text| !text.is_empty()),
        Some(Cell::Other(text)) => text,
        _ => None,
    };
    let mut row = RowFacts {
        facts: Facts {
            captions: Vec::new(),
            label_caption: label_caption(columns, template, cell),
            title: one(columns.title),
            artist: one(columns.artist),
            genre: one(columns.genre),
            licence: one(columns.licence),
            split: one(columns.split),
        },
        is_invalid: one(columns.valid).is_some_and(|text| is_no(&text)),
        ..RowFacts::default()
    };
    match columns.caption.map(cell) {
        Some(Cell::Texts(texts)) => {
            for text in texts {
                let (caption, cut) = clean_caption(&text);
                row.is_cut |= cut;
                row.facts.merge(Facts { captions: vec![caption], ..Facts::default() });
            }
        }
        Some(Cell::Other(_)) => row.is_no_text = true,
        Some(Cell::Nothing) | None => {}
    }
    row
}

fn label_caption(
    columns: &Columns,
    template: Option<&Template>,
    cell: &dyn Fn(usize) -> Cell,
) -> Option<String> {
    let value = |name: &str| match cell(columns.find(name)?) {
        Cell::Texts(texts) => Some(texts.join(", ")),
        Cell::Other(text) => text,
        Cell::Nothing => None,
    };
    let caption = match template {
        Some(template) => template.render(&value),
        None => usual_caption(&value),
    };
    caption.map(|caption| clean_caption(&caption).0)
}

fn is_no(text: &str) -> bool {
    matches!(text.trim().to_lowercase().as_str(), "false" | "0" | "no" | "f")
}
