//! Which column of a strange table is the file, which the caption, which the artist.

/// Positions of the columns that are used, besides the one of the sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// All names, in lower case.
    names: Vec<String>,
    /// The caption.
    pub caption: Option<usize>,
    /// The track's title.
    pub title: Option<usize>,
    /// The artist: a name or an identifier.
    pub artist: Option<usize>,
    /// The genre.
    pub genre: Option<usize>,
    /// The licence.
    pub licence: Option<usize>,
    /// The suggested split.
    pub split: Option<usize>,
    /// Whether the row is valid, in the table's own opinion (Song Describer's).
    pub valid: Option<usize>,
}

const FILE_NAMES: [&str; 13] = [
    "file_name",
    "filename",
    "file",
    "path",
    "filepath",
    "file_path",
    "audio",
    "audio_path",
    "audio_file",
    "audio_filepath",
    "wav",
    "mp3",
    "location",
];
const CAPTION_NAMES: [&str; 9] = [
    "caption",
    "captions",
    "text",
    "description",
    "descriptions",
    "prompt",
    "main_caption",
    "caption_text",
    "text_description",
];

impl Columns {
    /// Chooses by name, without regard to case; for captions `caption_column` if given, else the usual names.
    ///
    /// # Errors
    /// A sentence that names the columns that exist, when `caption_column` is not among them.
    pub fn choose(names: &[String], caption_column: Option<&str>) -> Result<Columns, String> {
        let caption = match caption_column {
            Some(wanted) => Some(named(names, wanted, "--caption-column")?),
            None => find(names, &CAPTION_NAMES),
        };
        Ok(Columns {
            names: names.iter().map(|name| name.trim().to_lowercase()).collect(),
            caption,
            title: find(names, &["title", "track_title", "track_name", "song"]),
            artist: find(names, &["artist", "artist_name", "artist_id", "performer"]),
            genre: find(names, &["genre", "genres", "style"]),
            licence: find(names, &["licence", "license"]),
            split: find(names, &["split"]),
            valid: find(names, &["is_valid_subset"]),
        })
    }

    /// The column of this name, in lower case.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|own| own == name)
    }
}

/// The column of file names: `audio_column` if given, else `file_name` or `*_file_name` (Hugging Face AudioFolder), else
/// another usual name.
///
/// # Errors
/// A sentence that names the columns that exist, when none can be it.
pub fn file_column(names: &[String], audio_column: Option<&str>) -> Result<usize, String> {
    if let Some(wanted) = audio_column {
        return named(names, wanted, "--audio-column");
    }
    find(names, &FILE_NAMES[..1])
        .or_else(|| names.iter().position(|name| name.trim().to_lowercase().ends_with("_file_name")))
        .or_else(|| find(names, &FILE_NAMES))
        .ok_or_else(|| no_file_column(names))
}

/// The column that a flag names.
///
/// # Errors
/// A sentence that names the columns that exist, when it is not among them.
pub fn named(names: &[String], wanted: &str, flag: &str) -> Result<usize, String> {
    let wanted_name = wanted.trim().to_lowercase();
    let at = names.iter().position(|name| name.trim().to_lowercase() == wanted_name);
    at.ok_or_else(|| format!("has no column {wanted:?} ({flag}); its columns are {}", listed(names)))
}

/// The columns of a table as a message shows them: the first dozen, each cut to 40 characters.
pub fn listed(names: &[String]) -> String {
    let short = |name: &String| super::text::clean(name).chars().take(40).collect::<String>();
    let mut shown: Vec<String> = names.iter().take(12).map(short).collect();
    if names.len() > shown.len() {
        shown.push(format!("and {} more", names.len() - shown.len()));
    }
    shown.join(", ")
}

/// The first of `wanted` (in that order of preference) that is a column.
fn find(names: &[String], wanted: &[&str]) -> Option<usize> {
    wanted.iter().find_map(|wanted| names.iter().position(|name| name.trim().to_lowercase() == *wanted))
}

fn no_file_column(names: &[String]) -> String {
    if names.iter().any(|name| super::sources::is_audio_name(name.as_ref())) {
        return "has no header: its first line must name the columns, such as file_name,caption".to_string();
    }
    format!(
        "has no column of file names; its columns are {}; name the one that is with --audio-column",
        listed(names)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(header: &str) -> Vec<String> {
        header.split(',').map(String::from).collect()
    }

    #[test]
    fn the_usual_names_are_found_and_a_missing_one_is_explained() {
        let file = |header: &str, wanted| file_column(&split(header), wanted);
        let choose = |header: &str, caption| Columns::choose(&split(header), caption);
        let columns = choose("Caption,File_Name,artist_id,license", None).unwrap();
        assert_eq!(file("Caption,File_Name,artist_id,license", None), Ok(1));
        assert_eq!((columns.caption, columns.artist, columns.licence), (Some(0), Some(2), Some(3)));
        assert_eq!(file("path,audio_file_name,text", None), Ok(1));
        assert_eq!(file("path,Clip", Some("clip")), Ok(1));
        assert_eq!(choose("path,Mood", Some("mood")).unwrap().caption, Some(1));
        assert!(choose("path,mood", Some("tone")).unwrap_err().contains("path, mood"));
        assert!(file("a,b", None).unwrap_err().contains("its columns are a, b"));
        assert!(file("a,b", Some("c")).unwrap_err().contains("no column \"c\" (--audio-column)"));
        assert!(file("ok1.ogg,one", None).unwrap_err().contains("no header"));
    }
}
