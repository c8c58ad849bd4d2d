//! The split: by hash, by artist, stable under growth, never one-sided.

use dit_engine::dataset::Split;
use dit_engine::dataset::split::{Candidate, decide};

fn content(n: usize) -> String {
    format!("{n:064x}")
}

fn candidates<'a>(contents: &'a [String], artists: &'a [Option<String>]) -> Vec<Candidate<'a>> {
    let pairs = contents.iter().zip(artists);
    pairs.map(|(content, artist)| Candidate { content, artist: artist.as_deref(), suggested: None }).collect()
}

#[test]
fn a_fraction_is_held_out_and_nothing_moves_when_tracks_are_added() {
    let contents: Vec<String> = (0..2000).map(content).collect();
    let artists = vec![None; contents.len()];
    let all = decide(&candidates(&contents, &artists), 0.1).unwrap().splits;
    let held_out = all.iter().filter(|&&split| split == Split::Validation).count();
    // Binomial, n 2000, p 0.1: deviation 13.4; four of them.
    assert!((146..=254).contains(&held_out), "{held_out}");
    let some = decide(&candidates(&contents[..700], &artists[..700]), 0.1).unwrap();
    assert_eq!(some.splits, all[..700]);
    assert_eq!(some.forced, None);
}

#[test]
fn an_artist_is_on_one_side_however_spelled() {
    let contents: Vec<String> = (0..400).map(content).collect();
    let artists: Vec<Option<String>> = (0..400)
        .map(|n| Some(if n % 2 == 0 { format!(" Artist {} ", n / 20) } else { format!("artist {}", n / 20) }))
        .collect();
    let splits = decide(&candidates(&contents, &artists), 0.3).unwrap().splits;
    assert!(splits.chunks(20).all(|artist| artist.iter().all(|split| *split == artist[0])));
    assert!(splits.contains(&Split::Validation) && splits.contains(&Split::Train));
}

#[test]
fn a_table_decides_and_test_means_held_out() {
    let contents: Vec<String> = (0..6).map(content).collect();
    let words = ["train", "Validation", "test", "dev", "TRAIN", "val"];
    let tracks: Vec<Candidate<'_>> = contents
        .iter()
        .zip(words)
        .map(|(content, word)| Candidate { content, artist: Some("one"), suggested: Some(word) })
        .collect();
    let decision = decide(&tracks, 0.1).unwrap();
    use Split::{Train as T, Validation as V};
    assert_eq!(decision.splits, [T, V, V, V, T, V]);
    assert_eq!(decision.by_table, 6);
    let unknown = [Candidate { content: &contents[0], artist: None, suggested: Some("fold 3") }];
    assert_eq!(decide(&unknown, 0.1).unwrap().by_table, 0);
}

#[test]
fn no_side_stays_empty_with_two_tracks_or_more() {
    for first in 0..200 {
        let contents: Vec<String> = (first..first + 2).map(content).collect();
        for artists in [vec![None; 2], vec![Some("same".to_string()); 2]] {
            for fraction in [0.01, 0.5, 0.99] {
                let decision = decide(&candidates(&contents, &artists), fraction).unwrap();
                assert_ne!(decision.splits[0], decision.splits[1], "{decision:?}");
            }
        }
    }
    let contents = [content(1), content(2)];
    let none = decide(&candidates(&contents, &[None, None]), 0.0).unwrap();
    assert_eq!(none.splits, [Split::Train; 2]);
    let one = decide(&candidates(&contents[..1], &[None]), 0.1).unwrap();
    assert_eq!((one.splits.len(), one.forced), (1, None));
    for bad in [1.0, -0.1, f64::NAN] {
        assert!(decide(&candidates(&contents, &[None, None]), bad).is_err());
    }
}
