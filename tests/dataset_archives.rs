//! Tars (WebDataset) and zips as sources: read where they lie, however hostile.

mod dataset_common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use dataset_common::{options, song_bytes};
use dit_engine::dataset::manifest::read_manifest;
use dit_engine::dataset::sources::{Collection, collect};
use dit_engine::dataset::table::TableOptions;
use dit_engine::dataset::{PrepareOptions, Summary, prepare};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

static GO: AtomicBool = AtomicBool::new(false);

fn run(options: &PrepareOptions) -> Summary {
    prepare(options, &GO, &()).unwrap()
}

fn of(source: &Path) -> Collection {
    collect(&[source.to_path_buf()], &TableOptions::default()).unwrap()
}

fn names(collection: &Collection) -> Vec<&str> {
    collection.tracks.iter().map(|track| track.name.as_str()).collect()
}

fn reasons(collection: &Collection) -> String {
    let all = collection.problems.iter().map(ToString::to_string);
    all.chain(collection.warnings.iter().cloned()).collect::<Vec<_>>().join("\n")
}

fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written past the library's own guard against names that lead out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

fn write_zip(path: &Path, method: CompressionMethod, members: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn a_web_dataset_gives_its_keys_captions_and_its_sound() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("shard-000.tar");
    let songs: Vec<Vec<u8>> = (0..3).map(|n| song_bytes(2.0 + f64::from(n), n)).collect();
    write_tar(
        &tar,
        &[
            ("a/one.v2.wav", &songs[0]),
            ("a/one.txt", b"slow piano\n"),
            ("a/two.wav", &songs[1]),
            ("a/two.json", br#"{"caption": "fast drums", "artist": "Ann", "license": "CC0"}"#),
            ("three.wav", &songs[2]),
            ("three.json", br#"{"genre": "techno", "tempo": 128.2}"#),
        ],
    );
    let options = options(folder.path(), &folder.path().join("out"));
    assert_eq!(run(&options).encoded, 3);
    let tracks = read_manifest(&options.out).unwrap().0;
    let find = |name: &str| tracks.iter().find(|track| track.file == name).unwrap();
    assert_eq!(find("shard-000.tar#a/one.v2.wav").captions, ["slow piano"]);
    let two = find("shard-000.tar#a/two.wav");
    assert_eq!(
        (two.captions.as_slice(), two.artist.as_deref()),
        (&["fast drums".to_string()][..], Some("Ann"))
    );
    assert_eq!(find("shard-000.tar#three.wav").captions, ["techno, 128 bpm"]);
    assert_eq!(two.sources[0].path, format!("{}#a/two.wav", tar.display()));
    assert_eq!(two.segments, 3);
    // Nothing is unpacked beside it.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn the_same_songs_give_the_same_shards_from_wherever() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let songs: Vec<Vec<u8>> = (0..3).map(|n| song_bytes(3.0, n)).collect();
    let members = [("0.wav", &songs[0][..]), ("1.wav", &songs[1]), ("2.wav", &songs[2])];
    fs::create_dir(at("plain")).unwrap();
    members.iter().for_each(|(name, bytes)| fs::write(at("plain").join(name), bytes).unwrap());
    write_tar(&at("x.tar"), &members);
    write_zip(&at("stored.zip"), CompressionMethod::Stored, &members);
    write_zip(&at("packed.zip"), CompressionMethod::Deflated, &members);
    let shards = |source: &str| {
        let options = options(&at(source), &at(&format!("out-{source}")));
        run(&options);
        let read = |track: &dit_engine::dataset::manifest::TrackRecord| {
            fs::read(options.out.join(&track.shard)).unwrap()
        };
        read_manifest(&options.out).unwrap().0.iter().map(read).collect::<Vec<_>>()
    };
    let plain = shards("plain");
    assert_eq!(plain.len(), 3);
    for source in ["x.tar", "stored.zip", "packed.zip"] {
        assert_eq!(shards(source), plain, "{source}");
    }
}

#[test]
fn a_second_run_reads_only_what_is_new_and_a_changed_archive_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (tar, out) = (folder.path().join("x.tar"), folder.path().join("out"));
    let songs: Vec<Vec<u8>> = (0..3).map(|n| song_bytes(3.0, n)).collect();
    write_tar(&tar, &[("0.wav", &songs[0]), ("1.wav", &songs[1])]);
    let options = options(&tar, &out);
    let counts = |summary: Summary| (summary.encoded, summary.reused);
    assert_eq!(counts(run(&options)), (2, 0));
    let manifest = fs::read(out.join("manifest.jsonl")).unwrap();
    assert_eq!(counts(run(&options)), (0, 2));
    assert_eq!(fs::read(out.join("manifest.jsonl")).unwrap(), manifest);
    // The same names and sizes, other content.
    write_tar(&tar, &[("0.wav", &songs[0]), ("1.wav", &songs[2])]);
    assert_eq!(counts(run(&options)), (1, 1));
}

#[test]
fn tables_inside_an_archive_and_beside_it_name_its_members() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let inner = b"file_name,caption\nclips/a.wav,inside\n../../b.wav,out\nmissing.wav,gone\n";
    let members =
        [("train/metadata.csv", &inner[..]), ("train/clips/a.wav", b"sound"), ("train/b.wav", b"sound")];
    write_zip(&at("songs.zip"), CompressionMethod::Deflated, &members);
    fs::write(
        at("metadata.csv"),
        "file_name,caption\ntrain/b.wav,beside\nsongs/train/b.wav,again\nno.wav,none\n",
    )
    .unwrap();
    let found = of(folder.path());
    assert_eq!(names(&found), ["songs.zip#train/b.wav", "songs.zip#train/clips/a.wav"]);
    assert_eq!(found.tracks[0].facts.captions, ["beside", "again"]);
    assert_eq!(found.tracks[1].facts.captions, ["inside"]);
    let reasons = reasons(&found);
    for reason in [
        "../../b.wav: line 3 of",
        "leads out",
        "missing.wav: line 4 of",
        "no such member",
        "no.wav: line 4 of metadata.csv: no such file",
    ] {
        assert!(reasons.contains(reason), "{reason} in {reasons}");
    }
    assert_eq!(found.problems.len(), 3, "{reasons}");
    // The table alone gives what it lists.
    let listed = of(&at("metadata.csv"));
    assert_eq!(names(&listed), ["songs.zip#train/b.wav"]);
}

#[test]
fn hostile_members_are_refused_by_name_and_cost_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("x.tar");
    write_tar(
        &tar,
        &[
            ("../../etc/evil.wav", b"sound"),
            ("/etc/absolute.wav", b"sound"),
            ("ok.wav", b"sound"),
            ("._ok.wav", b"fork"),
        ],
    );
    let found = of(&tar);
    assert_eq!(names(&found), ["x.tar#ok.wav"]);
    assert_eq!(found.problems.len(), 2, "{}", reasons(&found));
    assert!(reasons(&found).contains("x.tar#../../etc/evil.wav: leads out of the archive; refused"));
}

#[test]
fn archives_cut_short_packed_or_no_archives_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let song = song_bytes(4.0, 1);
    write_tar(&path("whole.tar"), &[("0.wav", &song), ("1.wav", &song)]);
    let whole = fs::read(path("whole.tar")).unwrap();
    write_zip(&path("whole.zip"), CompressionMethod::Deflated, &[("0.wav", &song)]);
    let zipped = fs::read(path("whole.zip")).unwrap();
    let cases: [(&str, &[u8], &str); 7] = [
        ("cut.tar", &whole[..whole.len() * 3 / 5], "cut.tar#1.wav: is cut short"),
        ("header.tar", &whole[..300], "cannot be read as a tar archive"),
        ("noise.tar", &[7; 4096], "cannot be read as a tar archive"),
        ("gz.tar", b"\x1f\x8b\x08rest", "decompress it first, with gunzip"),
        ("cut.zip", &zipped[..zipped.len() - 30], "cannot be read as a zip archive"),
        ("noise.zip", &[7; 4096], "cannot be read as a zip archive"),
        ("empty.zip", b"", "cannot be read as a zip archive"),
    ];
    for (name, bytes, why) in cases {
        fs::write(path(name), bytes).unwrap();
        let found = of(&path(name));
        assert!(reasons(&found).contains(why), "{name}: {}", reasons(&found));
        assert_eq!(found.problems.len(), 1, "{name}: {}", reasons(&found));
        assert!(!reasons(&found).contains('\n'), "{name}: {}", reasons(&found));
    }
}

#[test]
fn zips_that_are_encrypted_lie_or_explode_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.zip");
    let message = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let options = options(&path, &folder.path().join("out"));
        prepare(&options, &GO, &()).unwrap_err().to_string()
    };
    write_zip(&path, CompressionMethod::Deflated, &[("0.wav", &song_bytes(2.0, 1))]);
    let good = fs::read(&path).unwrap();
    let directory = good.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let changed = |changes: &[(usize, &[u8])]| {
        let mut bytes = good.clone();
        changes.iter().for_each(|(at, new)| bytes[*at..*at + new.len()].copy_from_slice(new));
        bytes
    };
    let encrypted = message(&changed(&[(6, &[1]), (directory + 8, &[1])]));
    assert!(encrypted.contains("x.zip#0.wav: is encrypted; unzip it with its password"), "{encrypted}");
    let bzip2 = message(&changed(&[(8, &[12]), (directory + 10, &[12])]));
    assert!(bzip2.contains("which is not read; unzip it"), "{bzip2}");
    let giant = message(&changed(&[(directory + 24, &[0xff, 0xff, 0xff, 0x7f])]));
    assert!(giant.contains("declares 2.0 GiB, 512 MiB at most are unpacked"), "{giant}");
    let short = message(&changed(&[(directory + 24, &[10, 0, 0, 0])]));
    assert!(short.contains("it declares 10 bytes and holds more than"), "{short}");
    let checksum = message(&changed(&[(directory + 16, &[1, 2, 3, 4])]));
    assert!(checksum.contains("is damaged (checksum)"), "{checksum}");
    let mut flipped = good.clone();
    flipped[200..220].fill(0xff);
    assert!(message(&flipped).contains("x.zip#0.wav: "), "{}", message(&flipped));
}

#[test]
fn sides_by_name_count_only_where_there_are_two() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: u32| {
        write_zip(&folder.path().join(name), CompressionMethod::Stored, &[("a.wav", &[seed as u8; 9])]);
    };
    let splits = || -> Vec<Option<String>> {
        of(folder.path()).tracks.into_iter().map(|track| track.facts.split).collect()
    };
    write("train-0.zip", 1);
    write("train-1.zip", 2);
    assert_eq!(splits(), [None, None]);
    write("test.zip", 3);
    let sides = ["test", "train", "train"].map(|side| Some(side.to_string()));
    assert_eq!(splits(), sides);
}

#[test]
fn an_archive_in_a_folder_that_links_lead_to_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    write_tar(&folder.path().join("x.tar"), &[("0.wav", b"sound")]);
    let twice: Vec<PathBuf> = vec![folder.path().to_path_buf(), folder.path().join("x.tar")];
    assert_eq!(collect(&twice, &TableOptions::default()).unwrap().tracks.len(), 1);
}
