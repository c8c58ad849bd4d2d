//! Labels without prose: columns such as genre, mood and tempo made into a caption by a template.

use super::text::clean;

/// `{genre}, {mood}, {tempo} bpm`: parts between commas, each dropped where a column of it is empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// In lower case.
    Column(String),
}

/// Columns that make a caption where no template was given, in the order of the caption: each with its other names.
const USUAL_LABELS: [&[&str]; 5] = [
    &["genre", "genres", "style", "styles"],
    &["mood", "moods", "emotion"],
    &["instrument", "instruments", "instrumentation"],
    &["tempo", "bpm"],
    &["key", "musical_key"],
];
const TEMPO_NAMES: [&str; 2] = ["tempo", "bpm"];
/// What programs write where there is nothing.
const NOTHING: [&str; 8] = ["nan", "none", "null", "n/a", "na", "unknown", "[]", "-"];

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence, for braces that do not match and for a template without a column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = vec![Vec::new()];
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', ',']) {
            let (before, mark) = (&rest[..at], rest.as_bytes()[at]);
            push_text(&mut parts, before);
            rest = &rest[at + 1..];
            match mark {
                b',' => parts.push(Vec::new()),
                b'{' => {
                    let end = rest.find('}').ok_or("a brace is not closed; write {column}")?;
                    let name = rest[..end].trim().to_lowercase();
                    if name.is_empty() || name.contains('{') {
                        return Err("a column's name is missing; write {column}".to_string());
                    }
                    parts.last_mut().into_iter().for_each(|part| part.push(Piece::Column(name.clone())));
                    rest = &rest[end + 1..];
                }
                _ => return Err("a brace is closed that was not opened; write {column}".to_string()),
            }
        }
        push_text(&mut parts, rest);
        let template = Self { parts };
        if template.columns().next().is_none() {
            return Err("names no column; write a column's name in braces, such as {genre}".to_string());
        }
        Ok(template)
    }

    /// The columns that it names, in lower case.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flatten().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The caption; `None` where every part with a column is empty.
    pub fn render(&self, value: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let mut has_value = false;
        let rendered = self.parts.iter().filter_map(|part| {
            let mut text = String::new();
            for piece in part {
                match piece {
                    Piece::Text(piece) => text.push_str(piece),
                    Piece::Column(name) => {
                        text.push_str(&meant(name, &value(name)?)?);
                        has_value = true;
                    }
                }
            }
            Some(clean(&text)).filter(|text| !text.is_empty())
        });
        let rendered = rendered.collect::<Vec<_>>().join(", ");
        has_value.then_some(rendered)
    }
}

fn push_text(parts: &mut [Vec<Piece>], text: &str) {
    if let (Some(part), false) = (parts.last_mut(), text.is_empty()) {
        part.push(Piece::Text(text.to_string()));
    }
}

/// The columns that a caption of labels is made of, in lower case.
pub(super) fn label_names(template: Option<&Template>) -> Box<dyn Iterator<Item = &str> + '_> {
    match template {
        Some(template) => Box::new(template.columns()),
        None => Box::new(USUAL_LABELS.iter().flat_map(|names| names.iter().copied())),
    }
}

/// The caption of the usual columns (genre, mood, instruments, tempo, key); `None` where there are none.
pub(super) fn usual_caption(value: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let of_label = |names: &[&str]| {
        let (name, text) = names.iter().find_map(|name| Some((*name, meant(name, &value(name)?)?)))?;
        let says_what = |word: &str| text.to_lowercase().contains(word);
        Some(match name {
            "tempo" | "bpm" if text.parse::<f64>().is_ok() => format!("{text} bpm"),
            "tempo" if !says_what("tempo") && !says_what("bpm") => format!("{text} tempo"),
            "key" | "musical_key" => format!("in {text}"),
            _ => text,
        })
    };
    let parts: Vec<String> = USUAL_LABELS.iter().filter_map(|names| of_label(names)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A cell's text as a caption has it: no "nan", a list without brackets and quotes, a tempo without decimals.
fn meant(column: &str, text: &str) -> Option<String> {
    let text = clean(text);
    if text.is_empty() || NOTHING.contains(&text.to_lowercase().as_str()) {
        return None;
    }
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let items = list.split(',').map(|item| item.trim().trim_matches(['\'', '"']).trim());
        let items: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
        return (!items.is_empty()).then(|| items.join(", "));
    }
    match text.parse::<f64>() {
        Ok(tempo) if TEMPO_NAMES.contains(&column) => (tempo > 0.0).then(|| format!("{tempo:.0}")),
        _ => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(template: &str, cells: &[(&str, &str)]) -> Option<String> {
        let find = |name: &str| cells.iter().find(|(n, _)| *n == name).map(|(_, text)| text.to_string());
        if template.is_empty() {
            usual_caption(&find)
        } else {
            Template::parse(template).unwrap().render(&find)
        }
    }

    #[test]
    fn a_part_without_its_column_is_dropped() {
        let template = "{genre} music, {Mood}, at {tempo} bpm, instrumental";
        let full = [("genre", "rock"), ("mood", "calm"), ("tempo", "119.8")];
        assert_eq!(caption(template, &full).unwrap(), "rock music, calm, at 120 bpm, instrumental");
        let some = [("genre", "rock"), ("mood", "nan"), ("tempo", "")];
        assert_eq!(caption(template, &some).unwrap(), "rock music, instrumental");
        assert_eq!(caption(template, &[("mood", " ")]), None);
    }

    #[test]
    fn the_usual_labels_make_a_caption() {
        let cells = [("genres", "['acid jazz', 'funk']"), ("tempo", "fast"), ("key", "C minor")];
        assert_eq!(caption("", &cells).unwrap(), "acid jazz, funk, fast tempo, in C minor");
        assert_eq!(caption("", &[("bpm", "92.0"), ("genre", "N/A")]).unwrap(), "92 bpm");
        assert_eq!(caption("", &[("title", "x")]), None);
    }

    #[test]
    fn a_template_that_cannot_work_says_why() {
        for (template, why) in
            [("plain", "names no column"), ("{genre", "not closed"), ("}", "not opened"), ("{}", "missing")]
        {
            assert!(Template::parse(template).unwrap_err().contains(why), "{template}");
        }
    }
}
