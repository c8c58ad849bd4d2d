//! Reading a prepared folder for training: normalised segments, shuffled batches addressed by seed and step.

mod dataset_common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dataset_common::{options, write_song};
use dit_engine::dataset::loader::Plan;
use dit_engine::dataset::{Batch, Batches, Dataset, Split, prepare};

static GO: AtomicBool = AtomicBool::new(false);

fn prepared() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..6 {
        write_song(&folder.path().join(format!("song{n}.wav")), 3.0 + f64::from(n), 0.8, n);
        fs::write(folder.path().join(format!("song{n}.txt")), format!("first of {n}\nsecond of {n}\n"))
            .unwrap();
    }
    let out = folder.path().join("out");
    prepare(&options(folder.path(), &out), &GO, &()).unwrap();
    (folder, out)
}

fn plan(batch: usize, seed: u64) -> Plan {
    Plan { split: Split::Train, batch, seed }
}

#[test]
fn training_segments_have_mean_0_and_deviation_1_a_row() {
    let (_folder, out) = prepared();
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(dataset.shape(), [1, 16, 16]);
    assert_eq!(dataset.len(Split::Train) + dataset.len(Split::Validation), (3..9).sum::<usize>());
    let mut rows = vec![Vec::new(); 16];
    let mut image = vec![f32::NAN; 256];
    for index in 0..dataset.len(Split::Train) {
        dataset.read_segment(Split::Train, index, &mut image).unwrap();
        image.iter().enumerate().for_each(|(n, &x)| rows[n / 16].push(f64::from(x)));
    }
    for row in rows {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let square = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-4, "{mean} {square}");
    }
    assert!(dataset.read_segment(Split::Train, dataset.len(Split::Train), &mut image).is_err());
    assert!(dataset.read_segment(Split::Train, 0, &mut image[..7]).is_err());
}

#[test]
fn memory_and_disk_give_the_same_bits() {
    let (_folder, out) = prepared();
    let (memory, disk) = (Dataset::open(&out).unwrap(), Dataset::open_within(&out, 0).unwrap());
    assert!(memory.is_in_memory() && !disk.is_in_memory());
    assert!(memory.memory_bytes() > 0 && disk.memory_bytes() == 0);
    for step in 0..5 {
        assert_eq!(plan(3, 1).build(&memory, step).unwrap(), plan(3, 1).build(&disk, step).unwrap());
    }
}

#[test]
fn a_batch_depends_on_seed_and_step_alone() {
    let (_folder, out) = prepared();
    let dataset = Arc::new(Dataset::open(&out).unwrap());
    let batches = |seed, first, count| -> Vec<Batch> {
        let mut batches = Batches::new(dataset.clone(), plan(4, seed), first).unwrap();
        let made = (0..count).map(|_| batches.next_batch().unwrap()).collect();
        assert!(batches.wait_ms() >= 0.0);
        made
    };
    let all = batches(7, 0, 12);
    assert_eq!(all, batches(7, 0, 12));
    assert_eq!(all[5..], batches(7, 5, 7));
    assert_ne!(all, batches(8, 0, 12));
    assert!(all.iter().zip(0..).all(|(batch, step)| batch.step == step && batch.x0.len() == 4 * 256));
    for batch in &all {
        for (track, caption) in batch.tracks.iter().zip(&batch.captions) {
            assert!(dataset.tracks()[*track].captions.contains(caption));
        }
    }
    let captions: Vec<&String> = all.iter().flat_map(|batch| &batch.captions).collect();
    assert!(captions.iter().any(|caption| caption.starts_with("first")));
    assert!(captions.iter().any(|caption| caption.starts_with("second")));
}

#[test]
fn an_epoch_sees_every_segment_once_in_its_own_order() {
    let (_folder, out) = prepared();
    let dataset = Dataset::open(&out).unwrap();
    let len = dataset.len(Split::Train);
    let epoch = |number: usize| -> Vec<usize> {
        // One sample a step, so that an epoch is `len` steps whatever `len` is.
        (0..len).map(|n| plan(1, 3).segment(len, (number * len + n) as u64, 0)).collect()
    };
    for number in 0..3 {
        let mut seen = epoch(number);
        seen.sort_unstable();
        assert_eq!(seen, (0..len).collect::<Vec<_>>());
    }
    assert_ne!(epoch(0), epoch(1));
    // Batches only group the samples.
    let grouped: Vec<usize> = (0..len).map(|n| plan(5, 3).segment(len, (n / 5) as u64, n % 5)).collect();
    assert_eq!(grouped, epoch(0));
}

#[test]
fn a_folder_that_does_not_fit_together_is_refused_with_advice() {
    let (_folder, out) = prepared();
    let message = || Dataset::open(&out).err().map(|error| error.to_string()).unwrap_or_default();
    let shard = fs::read_dir(out.join("shards")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&shard).unwrap();
    let header_bytes = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let sums_bytes = 2 * 16 * size_of::<f64>();
    let statistics_bytes = sums_bytes + 2 * 16 * size_of::<f32>();
    for (at, what) in [
        (header_bytes, "its statistics are damaged"),
        (header_bytes + sums_bytes, "its statistics are damaged"),
        (header_bytes + statistics_bytes, "its segment 0 is damaged"),
        (header_bytes + statistics_bytes + 2 * 256, "its segment 1 is damaged"),
        (bytes.len() - 1, "its statistics are damaged"),
    ] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        fs::write(&shard, &flipped).unwrap();
        assert!(message().contains(what), "{}", message());
        assert!(message().contains("run the same prepare command again"), "{}", message());
    }
    fs::write(&shard, &bytes[..bytes.len() - 2]).unwrap();
    assert!(message().contains("run the same prepare command again"), "{}", message());
    fs::write(&shard, &bytes).unwrap();
    assert_eq!(message(), "");
    let manifest = fs::read_to_string(out.join("manifest.jsonl")).unwrap();
    fs::write(out.join("manifest.jsonl"), manifest.replace("first of", "other of")).unwrap();
    assert!(message().contains("not the manifest"), "{}", message());
    fs::remove_file(out.join("dataset.json")).unwrap();
    assert!(message().contains("no dataset.json"), "{}", message());
    let dataset = tempfile::tempdir().unwrap();
    assert!(Dataset::open(dataset.path()).is_err());
}

/// A data set too large for memory is read, and verified, a segment at a time.
#[test]
fn a_segment_that_is_damaged_on_disk_is_named_when_it_is_read() {
    let (_folder, out) = prepared();
    let dataset = Dataset::open_within(&out, 0).unwrap();
    let shard = out.join(&dataset.tracks()[dataset.locate(Split::Train, 0).unwrap().0].shard);
    let mut bytes = fs::read(&shard).unwrap();
    let checksums_bytes =
        4 * dataset.tracks().iter().find(|track| out.join(&track.shard) == shard).unwrap().segments;
    let last_of_segments = bytes.len() - checksums_bytes - 1;
    bytes[last_of_segments] ^= 0x80;
    fs::write(&shard, bytes).unwrap();
    let mut image = vec![0.0; 256];
    let damaged: Vec<String> = (0..dataset.len(Split::Train))
        .filter_map(|index| dataset.read_segment(Split::Train, index, &mut image).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert!(
        damaged[0].contains(&shard.display().to_string()) && damaged[0].contains("checksum"),
        "{damaged:?}"
    );
    let mut batches = Batches::new(Arc::new(dataset), plan(4, 1), 0).unwrap();
    let error = (0..100).find_map(|_| batches.next_batch().err()).expect("an epoch holds every segment");
    assert!(error.to_string().contains("is damaged (checksum)"), "{error}");
}

#[test]
fn a_loader_of_nothing_is_an_error() {
    let (_folder, out) = prepared();
    let dataset = Arc::new(Dataset::open(&out).unwrap());
    assert!(Batches::new(dataset.clone(), plan(0, 1), 0).is_err());
    let folder = tempfile::tempdir().unwrap();
    write_song(&folder.path().join("one.wav"), 2.0, 0.8, 1);
    let out = folder.path().join("out");
    let only_train = dit_engine::dataset::PrepareOptions { validation: 0.0, ..options(folder.path(), &out) };
    prepare(&only_train, &GO, &()).unwrap();
    let dataset = Arc::new(Dataset::open(&out).unwrap());
    let plan = Plan { split: Split::Validation, batch: 1, seed: 1 };
    assert!(Batches::new(dataset, plan, 0).err().unwrap().to_string().contains("validation"));
}
