//! What is found in folders and tables, however hostile. Nothing is decoded, so the "audio" is any bytes.

use std::fs;
use std::path::{Path, PathBuf};

use dit_engine::dataset::labels::Template;
use dit_engine::dataset::sources::{Collection, SourceTrack, collect};
use dit_engine::dataset::table::TableOptions;

fn folder_with(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        put(folder.path(), file, b"sound");
    }
    folder
}

fn put(folder: &Path, file: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn of(source: &Path) -> Collection {
    collect(&[source.to_path_buf()], &TableOptions::default()).unwrap()
}

fn by_caption(column: &str) -> TableOptions {
    TableOptions { caption_column: Some(column.to_string()), ..TableOptions::default() }
}

fn names(collection: &Collection) -> Vec<&str> {
    collection.tracks.iter().map(|track| track.name.as_str()).collect()
}

fn captions<'a>(collection: &'a Collection, name: &str) -> &'a [String] {
    let track = collection.tracks.iter().find(|track| track.name == name);
    &track.unwrap_or_else(|| panic!("{name} among {:?}", names(collection))).facts.captions
}

fn reasons(collection: &Collection) -> String {
    let all = collection.problems.iter().map(ToString::to_string);
    all.chain(collection.warnings.iter().cloned()).collect::<Vec<_>>().join("\n")
}

/// A table beside ok1.ogg, ok2.ogg and ok3.ogg, given as the source.
fn table(name: &str, content: &[u8]) -> Collection {
    let folder = folder_with(&["ok1.ogg", "ok2.ogg", "ok3.ogg"]);
    of(&put(folder.path(), name, content))
}

#[test]
fn a_folder_gives_its_audio_once_without_hidden_files() {
    let folder =
        folder_with(&["b.wav", "a/UPPER.MP3", "a/deep/c.flac", "._b.wav", ".hidden/d.wav", "notes.md"]);
    assert_eq!(names(&of(folder.path())), ["a/UPPER.MP3", "a/deep/c.flac", "b.wav"]);
    let twice = [folder.path().to_path_buf(), folder.path().join("b.wav"), folder.path().join("a/..")];
    assert_eq!(collect(&twice, &TableOptions::default()).unwrap().tracks.len(), 3);
}

#[cfg(unix)]
#[test]
fn link_loops_end_and_what_is_no_file_is_named() {
    use std::os::unix::fs::symlink;
    let folder = folder_with(&["a/song.ogg", "dir.ogg/inner.ogg"]);
    let at = |name: &str| folder.path().join(name);
    symlink("..", at("a/up")).unwrap();
    symlink(".", at("self")).unwrap();
    symlink("a/song.ogg", at("link.ogg")).unwrap();
    symlink("missing.ogg", at("dangling.ogg")).unwrap();
    symlink("/dev/zero", at("endless.wav")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("pipe.wav")).unwrap();
    let found = of(folder.path());
    assert_eq!(names(&found), ["a/song.ogg", "dir.ogg/inner.ogg"]);
    let reasons = reasons(&found);
    assert_eq!(found.problems.len(), 3, "{reasons}");
    assert!(reasons.contains("dangling.ogg: cannot be read"), "{reasons}");
    assert!(reasons.contains("endless.wav: is not a regular file"), "{reasons}");
    assert!(reasons.contains("pipe.wav: is not a regular file"), "{reasons}");
}

#[cfg(unix)]
#[test]
fn names_that_are_not_text_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder_with(&["new\nline.ogg"]);
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"bad_\xff.ogg")), b"sound").unwrap();
    assert_eq!(names(&of(folder.path())), ["bad_\u{fffd}.ogg", "new\\nline.ogg"]);
}

#[test]
fn a_sidecar_gives_a_caption_a_line() {
    let folder = folder_with(&["clip.wav"]);
    put(folder.path(), "clip.txt", b"\xef\xbb\xbfslow  piano\r\n\r\nslow piano\nrain\n");
    assert_eq!(captions(&of(&folder.path().join("clip.wav")), "clip.wav"), ["slow piano", "rain"]);
}

#[test]
fn csv_with_mark_crlf_quotes_and_line_breaks() {
    let found = table(
        "t.csv",
        "\u{feff}file_name,caption\r\nok1.ogg,\"A \"\"quoted\"\", comma\"\r\nok1.ogg,second\r\nok2.ogg,\"multi\r\nline\"\r\n"
            .as_bytes(),
    );
    assert_eq!(captions(&found, "ok1.ogg"), ["A \"quoted\", comma", "second"]);
    assert_eq!(captions(&found, "ok2.ogg"), ["multi line"]);
    assert_eq!(reasons(&found), "");
}

#[test]
fn paths_out_of_the_folder_are_refused_and_dots_inside_are_not() {
    let found = table(
        "t.csv",
        b"file_name,caption\n../../../../etc/passwd,evil\n/etc/hostname,absolute\nC:\\x.wav,drive\n..\\x.wav,back\nok1.ogg,good\n./ok2.ogg,dot\nsub/../ok3.ogg,dots\n",
    );
    assert_eq!(names(&found), ["ok1.ogg", "ok2.ogg", "ok3.ogg"]);
    assert_eq!(found.problems.len(), 4);
    let reasons = reasons(&found);
    assert!(reasons.contains("etc/passwd: line 2 of t.csv: leads out of the table's folder"), "{reasons}");
    assert!(reasons.contains("/etc/hostname: line 3 of t.csv: is an absolute path"), "{reasons}");
}

#[test]
fn missing_files_empty_names_and_empty_captions() {
    let found = table(
        "t.csv",
        b"file_name,caption\nok1.ogg,one\nnope.ogg,gone\nnope.ogg,gone again\nok1.ogg,one\nok2.ogg,\n,nameless\nok3.ogg,\"   \"\n",
    );
    assert_eq!(captions(&found, "ok1.ogg"), ["one"]);
    assert!(captions(&found, "ok2.ogg").is_empty() && captions(&found, "ok3.ogg").is_empty());
    assert_eq!(found.problems.len(), 2, "{}", reasons(&found));
    assert!(reasons(&found).contains("nope.ogg: line 3 of t.csv: no such file"));
    assert!(reasons(&found).contains("t.csv: line 7 has no file name"));
}

#[test]
fn ragged_rows_bad_text_and_giant_captions_are_used_and_told() {
    let ragged =
        table("t.csv", b"file_name,caption,genre\nok1.ogg,two\nok2.ogg,four,rock,extra\nok3.ogg,\"open\n");
    assert_eq!(captions(&ragged, "ok2.ogg"), ["four"]);
    assert_eq!(ragged.tracks[1].facts.genre.as_deref(), Some("rock"));
    assert!(reasons(&ragged).contains("line 3 has 4 fields, the header 3"), "{}", reasons(&ragged));
    assert!(reasons(&ragged).contains("odd number of quotes"));

    let latin = table("t.csv", b"file_name,caption\nok1.ogg,caf\xe9\n");
    assert_eq!(captions(&latin, "ok1.ogg"), ["caf\u{fffd}"]);
    assert!(reasons(&latin).contains("line 2 is not UTF-8"));

    let giant =
        format!("file_name,caption\nok1.ogg,{}long\nok2.ogg,a\u{202e}b\u{0}c\n", "very ".repeat(200_000));
    let giant = table("t.csv", giant.as_bytes());
    assert_eq!(captions(&giant, "ok1.ogg")[0].len(), 999);
    assert_eq!(captions(&giant, "ok2.ogg"), ["ab c"]);
    assert!(reasons(&giant).contains("more than 1000 characters"));
}

#[test]
fn tables_that_cannot_be_used_say_why() {
    for (content, why) in [
        (&b""[..], "is empty"),
        (b"file_name,caption\n", "a header and no rows"),
        (b"ok1.ogg,one\nok2.ogg,two\n", "has no header"),
        (b"a,b\n1,2\n", "its columns are a, b"),
        (b"\xff\xfef\0", "UTF-16"),
    ] {
        let found = table("t.csv", content);
        assert!(found.tracks.is_empty() && reasons(&found).contains(why), "{why}: {}", reasons(&found));
    }
}

#[test]
fn other_delimiters_and_column_names_are_understood() {
    assert_eq!(captions(&table("t.csv", b"file_name;caption\nok1.ogg;one\n"), "ok1.ogg"), ["one"]);
    assert_eq!(captions(&table("t.tsv", b"path\ttext\nok1.ogg\tone\n"), "ok1.ogg"), ["one"]);
    let folder = folder_with(&["ok1.ogg"]);
    let path = put(folder.path(), "t.csv", b"path,mood,license,artist_id,split\nok1.ogg,calm,CC0,17,test\n");
    let silent = of(&path);
    assert!(reasons(&silent).contains("--caption-column"), "{}", reasons(&silent));
    let named = collect(std::slice::from_ref(&path), &by_caption("mood")).unwrap();
    assert_eq!(captions(&named, "ok1.ogg"), ["calm"]);
    let facts = &named.tracks[0].facts;
    assert_eq!((facts.licence.as_deref(), facts.artist.as_deref()), (Some("CC0"), Some("17")));
    assert_eq!(facts.split.as_deref(), Some("test"));
    let wrong = collect(&[path], &by_caption("tone")).unwrap();
    assert!(reasons(&wrong).contains("has no column \"tone\""), "{}", reasons(&wrong));
}

#[test]
fn json_lines_with_lists_and_rubbish() {
    let found = table(
        "metadata.jsonl",
        b"{\"file_name\": \"ok1.ogg\", \"caption\": \"one\", \"artist_id\": 7}\r\n{\"file_name\": \"ok2.ogg\", \"caption\": [\"list\", \"of two\"]}\nnot json\n[1]\n{\"file_name\": \"ok3.ogg\"}\n{\"file_name\": \"ok3.ogg\", \"caption\": 5}\n{\"caption\": \"no file\"}\n",
    );
    assert_eq!(captions(&found, "ok1.ogg"), ["one"]);
    assert_eq!(found.tracks[0].facts.artist.as_deref(), Some("7"));
    assert_eq!(captions(&found, "ok2.ogg"), ["list", "of two"]);
    assert!(captions(&found, "ok3.ogg").is_empty());
    let reasons = reasons(&found);
    assert_eq!(found.problems.len(), 3, "{reasons}");
    assert!(reasons.contains("line 3 is not JSON"), "{reasons}");
    assert!(reasons.contains("line 4 is not a JSON object"), "{reasons}");
    assert!(reasons.contains("line 6 has a caption that is not text"), "{reasons}");
}

#[test]
fn a_folder_reads_its_tables_and_names_the_others() {
    let folder = folder_with(&["train/a.wav", "train/unlisted.wav", "audio/34/1004034.2min.mp3"]);
    put(folder.path(), "train/metadata.csv", b"file_name,caption\na.wav,calm\n");
    put(folder.path(), "song_describer.csv", b"caption_id,caption,path\n1,loud,34/1004034.mp3\n");
    put(folder.path(), "prices.csv", b"a,b\n");
    put(folder.path(), "out/manifest.jsonl", b"{}\n");
    put(folder.path(), "out/dataset.json", b"{}\n");
    let found = of(folder.path());
    assert_eq!(names(&found), ["audio/34/1004034.2min.mp3", "train/a.wav", "train/unlisted.wav"]);
    assert_eq!(captions(&found, "train/a.wav"), ["calm"]);
    assert_eq!(captions(&found, "audio/34/1004034.2min.mp3"), ["loud"]);
    assert!(reasons(&found).contains("not read: prices.csv (in"), "{}", reasons(&found));
}

#[test]
fn a_composed_name_finds_a_decomposed_file() {
    let folder = folder_with(&["cafe\u{301}.ogg"]);
    let found = of(&put(folder.path(), "t.csv", "file_name,caption\ncaf\u{e9}.ogg,one\n".as_bytes()));
    assert_eq!((found.tracks.len(), reasons(&found).as_str()), (1, ""));
}

#[test]
fn a_source_that_does_not_exist_is_an_error() {
    let error =
        collect(&[PathBuf::from("no/such/folder")], &TableOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no/such/folder"), "{error}");
    assert!(collect(&[], &TableOptions::default()).is_err());
}

#[test]
fn labels_make_a_caption_where_there_is_none() {
    let rows = b"file_name,caption,genre,mood,tempo\nok1.ogg,prose,rock,calm,120.4\nok2.ogg,,rock,,98\nok3.ogg,,nan,,\n";
    let folder = folder_with(&["ok1.ogg", "ok2.ogg", "ok3.ogg"]);
    let path = put(folder.path(), "t.csv", rows);
    let made = |template: Option<&str>| -> Vec<Vec<String>> {
        let caption_template = template.map(|text| Template::parse(text).unwrap());
        let found = collect(
            std::slice::from_ref(&path),
            &TableOptions { caption_template, ..TableOptions::default() },
        );
        let caption = |track: SourceTrack| {
            let mut facts = track.facts;
            facts.use_labels();
            facts.captions
        };
        found.unwrap().tracks.into_iter().map(caption).collect()
    };
    assert_eq!(made(None), [vec!["prose"], vec!["rock, 98 bpm"], vec![]]);
    assert_eq!(made(Some("{mood} {genre}, at {tempo} bpm")), [vec!["prose"], vec!["at 98 bpm"], vec![]]);
    let unknown = TableOptions {
        caption_template: Some(Template::parse("{colour}").unwrap()),
        ..TableOptions::default()
    };
    let reasons = reasons(&collect(std::slice::from_ref(&path), &unknown).unwrap());
    assert!(reasons.contains("no column colour (--caption-template) among file_name, caption"), "{reasons}");
}
