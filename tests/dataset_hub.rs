//! `hf:OWNER/NAME` against a small server of our own that speaks the hub's protocol: cache, resume, token, damage.

mod dataset_common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use dataset_common::song_bytes;
use dit_engine::dataset::hub::{HubSettings, Snapshot, download};
use sha2::{Digest, Sha256};

static GO: AtomicBool = AtomicBool::new(false);
const COMMIT: &str = "1234567890abcdef1234567890abcdef12345678";
const CARD: &str = "---\nlicense: cc-by-sa-4.0\n---\n# Songs\n";

/// What the server has and how it misbehaves.
#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    commit: String,
    /// Ends the connection after so many bytes of a file's body, so many times.
    cut: Option<(usize, usize)>,
    /// Answers with other bytes than it declares.
    damages: bool,
    token: Option<String>,
    /// Lines `PATH RANGE`.
    log: Vec<String>,
}

struct Hub {
    state: Arc<Mutex<State>>,
    address: String,
    cache: tempfile::TempDir,
}

impl Hub {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let songs = (0..3).map(|n| (format!("audio/song {n}.wav"), song_bytes(3.0, n)));
        let table = "file_name,caption\naudio/song 0.wav,slow piano\naudio/song 1.wav,loud\n";
        let texts =
            [("README.md", CARD), ("metadata.csv", table), (".gitattributes", "x"), ("model.bin", "x")];
        let texts = texts.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
        let state =
            State { files: songs.chain(texts).collect(), commit: COMMIT.to_string(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that the client drops is its business.
                let _ = answer(stream, &served);
            }
        });
        Self { state, address, cache: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: Some(self.address.clone()),
            cache: Some(self.cache.path().join("hub")),
            ..HubSettings::default()
        }
    }

    fn download(&self, source: &str) -> dit_engine::Result<Snapshot> {
        download(source, &self.settings(), &GO, &())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// What was asked for since the last time, except metadata (`bytes=0-0`).
    fn requests(&self) -> Vec<String> {
        let log = std::mem::take(&mut self.state.lock().unwrap().log);
        log.into_iter().filter(|line| !line.ends_with("bytes=0-0")).collect()
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let headers: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
    let header = |name: &str| {
        let find = |line: &String| {
            Some(line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name))?.1.to_string())
        };
        headers.iter().find_map(find)
    };
    let mut state = state.lock().unwrap();
    let range = header("range").unwrap_or_default();
    state.log.push(format!("{path} {range}"));
    let token = state.token.clone();
    if token.is_some_and(|token| header("authorization") != Some(format!("Bearer {token}"))) {
        return write!(stream, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let commit = state.commit.clone();
    if ["main", "v1", &commit]
        .iter()
        .any(|rev| path == format!("/api/datasets/some/songs/revision/{rev}?blobs=true"))
    {
        let siblings: Vec<serde_json::Value> = state.files.iter().map(|(name, bytes)| {
            serde_json::json!({ "rfilename": name, "size": bytes.len(), "blobId": &hash(bytes)[..40], "lfs": { "sha256": hash(bytes) } })
        }).collect();
        let body = serde_json::json!({ "sha": commit, "siblings": siblings }).to_string();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    let name = path
        .strip_prefix(&format!("/datasets/some/songs/resolve/{commit}/"))
        .map(|name| name.replace("%20", " "));
    let Some(bytes) = name.and_then(|name| state.files.get(&name).cloned()) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let (first, last) =
        range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(bytes.len() - 1);
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\nETag: \"{}\"\r\n\
         X-Repo-Commit: {commit}\r\nConnection: close\r\n\r\n",
        last + 1 - first,
        bytes.len(),
        hash(&bytes)
    )?;
    let mut body = bytes[first..=last].to_vec();
    if state.damages {
        body.iter_mut().for_each(|byte| *byte ^= 1);
    }
    if let Some((limit, times)) = state.cut.filter(|&(limit, times)| times > 0 && body.len() > limit) {
        state.cut = Some((limit, times - 1));
        body.truncate(limit);
    }
    stream.write_all(&body)
}

#[test]
fn a_data_set_is_fetched_once_with_its_licence_and_only_what_is_of_use() {
    let hub = Hub::new();
    let snapshot = hub.download("hf:some/songs").unwrap();
    for (name, bytes) in &hub.state.lock().unwrap().files {
        let got = fs::read(snapshot.folder.join(name)).ok();
        let is_wanted = !["model.bin", ".gitattributes"].contains(&name.as_str());
        assert_eq!(got.as_ref(), is_wanted.then_some(bytes), "{name}");
    }
    assert!(snapshot.folder.ends_with(format!("hub/datasets--some--songs/snapshots/{COMMIT}")));
    assert!(snapshot.notices[0].contains("hf:some/songs: licence cc-by-sa-4.0"), "{:?}", snapshot.notices);
    assert_eq!(hub.requests().len(), 1 + 5);
    hub.download("hf:some/songs").unwrap();
    assert_eq!(hub.requests(), ["/api/datasets/some/songs/revision/main?blobs=true "]);
    // Another revision brings what is new.
    hub.change(|state| {
        state.commit = "abcdef".to_string();
        state.files.insert("audio/song 9.wav".to_string(), song_bytes(2.0, 9));
    });
    let newer = hub.download("hf:some/songs@v1").unwrap();
    assert_eq!(fs::read_dir(newer.folder.join("audio")).unwrap().count(), 4);
    let fetched = hub.requests();
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    assert!(fetched[1].contains("song%209.wav"), "{fetched:?}");
}

#[test]
fn an_interrupted_file_goes_on_where_it_stopped() {
    let hub = Hub::new();
    let whole = hub.state.lock().unwrap().files["audio/song 0.wav"].clone();
    // More cuts than one run takes: it fails, the next goes on.
    hub.change(|state| state.cut = Some((1000, 7)));
    let failed = hub.download("hf:some/songs").unwrap_err().to_string();
    assert!(failed.starts_with("hf:some/songs: audio/song 0.wav: ") && !failed.contains('\n'), "{failed}");
    let ranges: Vec<String> =
        hub.requests().iter().skip(2).map(|line| line.rsplit_once(' ').unwrap().1.to_string()).collect();
    assert_eq!(ranges, ["bytes=0-", "bytes=1000-", "bytes=2000-", "bytes=3000-", "bytes=4000-"]);
    let snapshot = hub.download("hf:some/songs").unwrap();
    let requests = hub.requests();
    assert!(requests[1].ends_with("song%200.wav bytes=5000-"), "{requests:?}");
    assert_eq!(fs::read(snapshot.folder.join("audio/song 0.wav")).unwrap(), whole);
}

#[test]
fn what_arrives_damaged_is_not_kept() {
    let hub = Hub::new();
    hub.change(|state| state.damages = true);
    let failed = hub.download("hf:some/songs").unwrap_err().to_string();
    assert!(failed.contains("arrived damaged"), "{failed}");
    hub.change(|state| state.damages = false);
    let snapshot = hub.download("hf:some/songs").unwrap();
    let whole = hub.state.lock().unwrap().files["audio/song 0.wav"].clone();
    assert_eq!(fs::read(snapshot.folder.join("audio/song 0.wav")).unwrap(), whole);
}

#[test]
fn refusals_say_what_to_do() {
    let hub = Hub::new();
    let missing = hub.download("hf:some/other").unwrap_err().to_string();
    assert_eq!(missing, "hf:some/other: the hub has no data set some/other with a revision main");
    hub.change(|state| state.token = Some("secret".to_string()));
    let private = hub.download("hf:some/songs").unwrap_err().to_string();
    assert!(private.contains("set HF_TOKEN") && !private.contains('\n'), "{private}");
    let settings = HubSettings { token: Some("secret".to_string()), ..hub.settings() };
    let snapshot = download("hf:some/songs", &settings, &GO, &()).unwrap();
    // Nobody answers: the copy of the cache is used, and that is said.
    let gone = HubSettings { endpoint: Some("http://127.0.0.1:9".to_string()), ..hub.settings() };
    let copy = download("hf:some/songs", &gone, &GO, &()).unwrap();
    assert_eq!(copy.folder, snapshot.folder);
    assert!(copy.notices[1].contains("the copy in the cache is used"), "{:?}", copy.notices);
    let unknown = download("hf:some/unknown", &gone, &GO, &()).unwrap_err().to_string();
    assert!(unknown.contains("cannot be reached") && !unknown.contains('\n'), "{unknown}");
    let offline = HubSettings { offline: true, ..gone };
    assert_eq!(download("hf:some/songs", &offline, &GO, &()).unwrap().folder, snapshot.folder);
    assert!(
        download("hf:some/unknown", &offline, &GO, &()).unwrap_err().to_string().contains("HF_HUB_OFFLINE")
    );
}

/// The program itself, with the hub's variables.
#[test]
fn prepare_takes_a_name_of_the_hub() {
    let hub = Hub::new();
    hub.change(|state| state.token = Some("secret".to_string()));
    let home = hub.cache.path();
    let prepare = |out: &Path, token: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dit-engine"))
            .args(["prepare", "hf:some/songs", "--sample-rate", "8000", "--seconds", "0.3", "--out"])
            .arg(out)
            .env("HF_ENDPOINT", &hub.address)
            .env("HF_HOME", home)
            .env("HF_TOKEN", token)
            .env_remove("HF_HUB_CACHE")
            .output()
            .unwrap();
        let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), texts)
    };
    let (code, [_, refused]) = prepare(&home.join("out"), "wrong");
    assert_eq!(code, Some(1));
    assert!(refused.contains("HF_TOKEN"), "{refused}");
    let (code, [table, notes]) = prepare(&home.join("out"), "secret");
    assert_eq!(code, Some(0), "{notes}");
    assert!(notes.contains("note: hf:some/songs: licence cc-by-sa-4.0"), "{notes}");
    assert!(table.contains("3 encoded"), "{table}");
    let mut manifest = String::new();
    fs::File::open(home.join("out/manifest.jsonl")).unwrap().read_to_string(&mut manifest).unwrap();
    assert!(manifest.contains("audio/song 0.wav") && manifest.contains("slow piano"), "{manifest}");
}
