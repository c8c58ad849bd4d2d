//! Where the file that a table's row names lies.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

/// Finds the files of one table's rows. A row may only name what is inside the table's folder: a table comes
/// from strangers, and must not make the program read elsewhere.
pub(super) struct Finder {
    folder: PathBuf,
    /// Of folders that were searched: every file name by its composed form.
    by_composed: HashMap<PathBuf, HashMap<String, OsString>>,
}

impl Finder {
    /// For the table in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, by_composed: HashMap::new() }
    }

    /// The existing path that `file` means, or the reason why there is none.
    pub fn find(&mut self, file: &str) -> Result<PathBuf, String> {
        let inside = insides(file)?;
        let places: Vec<PathBuf> =
            inside.iter().flat_map(|inside| candidates(&self.folder, inside)).collect();
        let found = places.iter().find(|path| path.exists()).cloned();
        let found = found.or_else(|| places.iter().find_map(|path| self.find_composed(path)));
        found.ok_or_else(|| NO_SUCH_FILE.to_string())
    }

    /// macOS decomposes accents in file names (NFD) where a table has them composed (NFC): the same name to
    /// every reader, other bytes to the file system.
    fn find_composed(&mut self, path: &Path) -> Option<PathBuf> {
        let name = path.file_name()?.to_str().filter(|name| !name.is_ascii())?;
        let folder = path.parent()?;
        if !self.by_composed.contains_key(folder) {
            self.by_composed.insert(folder.to_path_buf(), composed_names(folder));
        }
        let found = self.by_composed.get(folder)?.get(&name.nfc().collect::<String>())?;
        Some(folder.join(found))
    }
}

/// What a row names and is not there.
pub(super) const NO_SUCH_FILE: &str = "no such file";

/// What `file` may mean inside a table's folder, as it is spelled and as Windows would spell it; or why it is refused.
pub(super) fn insides(file: &str) -> Result<Vec<PathBuf>, String> {
    let has_drive = file.as_bytes().get(1) == Some(&b':') && file.as_bytes()[0].is_ascii_alphabetic();
    if file.contains('\0') {
        return Err("its name holds a NUL; refused".to_string());
    }
    if Path::new(file).is_absolute() || file.starts_with('\\') || has_drive {
        return Err("is an absolute path; a table may only name files in its own folder; refused".to_string());
    }
    let spellings = [file.to_string(), file.replace('\\', "/")];
    let inside = |spelling: &String| lexically_inside(spelling);
    let insides: Option<Vec<PathBuf>> = spellings.iter().map(inside).collect();
    Ok(insides.ok_or("leads out of the table's folder; refused")?)
}

fn composed_names(folder: &Path) -> HashMap<String, OsString> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Some((name.to_str()?.nfc().collect::<String>(), name))).collect()
}

/// `a/./b/../c` as `a/c`; `None` when it climbs out of where it starts.
pub(super) fn lexically_inside(file: &str) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in Path::new(file).components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !inside.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

/// The places to look: as written, then as Song Describer has it, whose table says `34/1004034.mp3` of a file
/// that lies at `audio/34/1004034.2min.mp3` (in a re-upload under `music/`).
pub(super) fn candidates(folder: &Path, relative: &Path) -> Vec<PathBuf> {
    let mut names = vec![relative.to_path_buf()];
    if let (Some(stem), Some(end)) = (relative.file_stem(), relative.extension()) {
        let mut name = stem.to_os_string();
        name.push(".2min.");
        name.push(end);
        names.push(relative.with_file_name(name));
    }
    let roots = [folder.to_path_buf(), folder.join("audio"), folder.join("music")];
    roots.iter().flat_map(|root| names.iter().map(|name| root.join(name))).collect()
}
