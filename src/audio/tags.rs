//! Title, artist, album, genre and licence, from whatever tags a file carries.

use symphonia::core::formats::FormatReader;
use symphonia::core::meta::{MetadataRevision, StandardTag};

use super::decode::SourceInfo;

/// Tags of every metadata revision. Those at the end of the file (ID3v1, cut to 30 characters) come first,
/// those in front (ID3v2) after them: the last revision that has a tag wins.
pub(crate) fn read_tags(format: &mut dyn FormatReader, info: &mut SourceInfo) {
    let mut metadata = format.metadata();
    loop {
        if let Some(revision) = metadata.current() {
            take_tags(revision, info);
        }
        if metadata.is_latest() || metadata.pop().is_none() {
            return;
        }
    }
}

fn take_tags(revision: &MetadataRevision, info: &mut SourceInfo) {
    let per_track = revision.per_track.iter().flat_map(|track| &track.metadata.tags);
    for tag in revision.media.tags.iter().rev().chain(per_track) {
        let (field, value) = match &tag.std {
            Some(StandardTag::TrackTitle(value)) => (&mut info.title, value),
            Some(StandardTag::Artist(value)) => (&mut info.artist, value),
            Some(StandardTag::Album(value)) => (&mut info.album, value),
            Some(StandardTag::Genre(value)) => (&mut info.genre, value),
            Some(StandardTag::License(value)) => (&mut info.licence, value),
            _ => continue,
        };
        let value = value.trim_matches(|character: char| character.is_whitespace() || character == '\0');
        if !value.is_empty() {
            *field = Some(value.to_owned());
        }
    }
}
