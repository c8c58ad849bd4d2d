//! Archives (tar and zip) as lists of members: WebDataset's shards, zipped folders. Nothing is unpacked here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::CompressionMethod;
use zip::result::ZipError;

use super::finder::lexically_inside;
use super::member::{Member, Place, guarded};
use super::table::Problem;
use super::text::printable;

/// What an archive holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Members by name, in the order of the archive; names have no `..` and begin at the archive's top.
    pub members: Vec<(PathBuf, Member)>,
    /// Members that cannot be used, named `ARCHIVE#MEMBER`.
    pub problems: Vec<Problem>,
    /// Places among `members`.
    by_name: HashMap<PathBuf, usize>,
}

impl Listing {
    /// The member of this name.
    pub fn find(&self, name: &Path) -> Option<(&PathBuf, &Member)> {
        let (name, member) = &self.members[*self.by_name.get(name)?];
        Some((name, member))
    }
}

/// More members than any data set's shard has: a list that goes on is no list.
const MAX_MEMBERS: usize = 4_000_000;

/// Whether a name is one of an archive that is read.
pub(super) fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("zip") || end.eq_ignore_ascii_case("tar"))
}

/// `ARCHIVE#MEMBER`, as messages and the manifest name a member.
pub(super) fn member_path(archive: &Path, member: &str) -> PathBuf {
    let mut path = archive.as_os_str().to_os_string();
    path.push("#");
    path.push(member);
    PathBuf::from(path)
}

/// Lists the archive at `path`; members for which `is_wanted` says no to the name are passed over.
///
/// # Errors
/// The sentence that says why it cannot be read at all.
pub(super) fn list(path: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Result<Listing, String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut builder = Builder { archive: path, is_wanted, listing: Listing::default() };
    let is_zip = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("zip"));
    guarded(|| if is_zip { builder.zip(file) } else { builder.tar(file) })?;
    Ok(builder.listing)
}

struct Builder<'a> {
    archive: &'a Path,
    is_wanted: &'a dyn Fn(&Path) -> bool,
    listing: Listing,
}

impl Builder<'_> {
    fn zip(&mut self, file: File) -> Result<(), String> {
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| zip_failure(&error))?;
        for index in 0..archive.len().min(MAX_MEMBERS) {
            let failed = |error: ZipError| zip_failure(&error);
            let member = archive.by_index_raw(index).map_err(failed)?;
            let name = String::from_utf8_lossy(member.name_raw()).into_owned();
            if member.is_dir() {
                continue;
            }
            let Some(inside) = self.name(&name) else { continue };
            let refusal = match member.compression() {
                _ if member.encrypted() => {
                    Some("is encrypted; unzip it with its password and give the folder".to_string())
                }
                _ if member.is_symlink() => Some("is a link, no file".to_string()),
                CompressionMethod::Stored if member.compressed_size() != member.size() => {
                    Some("is damaged: its two sizes differ".to_string())
                }
                CompressionMethod::Stored | CompressionMethod::Deflated => None,
                other => {
                    Some(format!("is packed by {other}, which is not read; unzip it and give the folder"))
                }
            };
            let place = member.data_start().map(|start| match member.compression() {
                CompressionMethod::Stored => Place::Stored { start },
                _ => Place::Deflated { start, packed_bytes: member.compressed_size(), crc: member.crc32() },
            });
            match (refusal, place) {
                (Some(reason), _) => self.problem(&name, reason),
                (None, None) => self.problem(&name, "cannot be found in the archive".to_string()),
                (None, Some(place)) => {
                    let bytes = member.size();
                    self.add(inside, bytes, place);
                }
            }
        }
        Ok(())
    }

    fn tar(&mut self, mut file: File) -> Result<(), String> {
        let length_bytes = file.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
        let mut head = [0; 6];
        let has_head = file.read_exact(&mut head).is_ok();
        let packed = [
            (&b"\x1f\x8b"[..], "gunzip"),
            (b"BZh", "bunzip2"),
            (b"\xfd7zXZ", "unxz"),
            (b"\x28\xb5\x2f\xfd", "unzstd"),
        ];
        if let Some((_, program)) = packed.iter().find(|(mark, _)| has_head && head.starts_with(mark)) {
            return Err(format!("is a compressed tar; decompress it first, with {program}"));
        }
        let rewound = std::io::Seek::rewind(&mut file);
        rewound.map_err(|error| format!("cannot be read: {error}"))?;
        let mut archive = tar::Archive::new(file);
        let entries = archive.entries_with_seek().map_err(|error| tar_failure(&error))?;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                // What came before is whole.
                Err(error) if !self.listing.members.is_empty() => {
                    let reason = format!("{}; the members before that are used", tar_failure(&error));
                    self.listing.problems.push(Problem { path: self.archive.to_path_buf(), reason });
                    return Ok(());
                }
                Err(error) => return Err(tar_failure(&error)),
            };
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() {
                continue;
            }
            let Some(inside) = self.name(&name) else { continue };
            let (start, bytes) = (entry.raw_file_position(), entry.size());
            if !kind.is_file() && !kind.is_contiguous() {
                self.problem(&name, "is a link, a device or sparse, no plain file".to_string());
            } else if start.checked_add(bytes).is_none_or(|end| end > length_bytes) {
                let there = length_bytes.saturating_sub(start);
                self.problem(
                    &name,
                    format!("is cut short: {there} of {bytes} bytes are there; get the archive again"),
                );
            } else {
                self.add(inside, bytes, Place::Stored { start });
            }
            if self.listing.members.len() >= MAX_MEMBERS {
                return Err(format!("has more than {MAX_MEMBERS} members"));
            }
        }
        Ok(())
    }

    /// The member's name if it is wanted; one that leads out of the archive is told.
    fn name(&mut self, name: &str) -> Option<PathBuf> {
        let slashed = name.replace('\\', "/");
        let is_hidden =
            |part: &str| (part.starts_with('.') && part != "." && part != "..") || part == "__MACOSX";
        if slashed.split('/').any(is_hidden) || !(self.is_wanted)(Path::new(&slashed)) {
            return None;
        }
        let inside = lexically_inside(&slashed).filter(|inside| !inside.as_os_str().is_empty());
        if inside.is_none() {
            self.problem(name, "leads out of the archive; refused".to_string());
        }
        inside
    }

    fn add(&mut self, name: PathBuf, bytes: u64, place: Place) {
        self.listing.by_name.entry(name.clone()).or_insert(self.listing.members.len());
        self.listing.members.push((name, Member { container: self.archive.to_path_buf(), bytes, place }));
    }

    fn problem(&mut self, member: &str, reason: String) {
        let path = member_path(self.archive, &printable(Path::new(member)));
        self.listing.problems.push(Problem { path, reason });
    }
}

fn zip_failure(error: &ZipError) -> String {
    format!("cannot be read as a zip archive ({error}); get it again if it was cut short")
}

fn tar_failure(error: &std::io::Error) -> String {
    format!("cannot be read as a tar archive ({error}); get it again if it was cut short")
}
