//! What a caption says that can be measured: a tempo in bpm, a key, and whether certain words are in it.

use super::attributes::Key;

/// Pitch classes of the letters A to G.
const LETTERS: [usize; 7] = [9, 11, 0, 2, 4, 5, 7];
/// Modes by whether their third is minor.
const MODES: [(&str, bool); 7] = [
    ("major", false),
    ("lydian", false),
    ("mixolydian", false),
    ("ionian", false),
    ("minor", true),
    ("dorian", true),
    ("aeolian", true),
];

/// The words of a text in lower case, with the signs that stand in a word (`lo-fi`, `F#`).
pub fn words(text: &str) -> Vec<String> {
    split(text).iter().map(|word| word.to_lowercase()).collect()
}

fn split(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || "#-'\u{266d}\u{266f}".contains(c);
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_string).collect()
}

/// Whether the words of `phrase` stand in `text`, one after the other.
pub fn says(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (words(text), words(phrase));
    !phrase.is_empty() && text.windows(phrase.len()).any(|part| part == phrase)
}

/// The number in `120 bpm`.
pub fn bpm(text: &str) -> Option<f64> {
    let words = words(text);
    let at = |i: usize| match words[i].strip_suffix("bpm") {
        Some("") => i.checked_sub(1).and_then(|before| words[before].parse().ok()),
        Some(number) => number.parse::<f64>().ok(),
        None => None,
    };
    (0..words.len()).find_map(at).filter(|bpm: &f64| (20.0..=400.0).contains(bpm))
}

/// The key in `D minor`, `F# mixolydian`, `B flat major`.
pub fn key(text: &str) -> Option<Key> {
    // "a major hit" is in no key: an article is not a tonic, and a tonic is written large.
    let mut words = split(text);
    words.iter_mut().filter(|word| *word == "a").for_each(String::clear);
    words.iter_mut().for_each(|word| *word = word.to_lowercase());
    let mode = |word: &str| MODES.iter().find(|(name, _)| *name == word).map(|&(_, minor)| minor);
    let places = words.iter().enumerate().filter_map(|(i, word)| Some((i, mode(word)?)));
    places.filter_map(|(i, minor)| Some(Key { tonic: tonic(&words[..i])?, minor })).next()
}

/// The tonic that stands at the end of some words.
fn tonic(before: &[String]) -> Option<usize> {
    match before {
        [.., name, sign] if sign == "sharp" || sign == "flat" => {
            Some((letter(name)? + if sign == "sharp" { 1 } else { 11 }) % 12)
        }
        [.., name] => {
            let mut signs = name.chars();
            let first = letter(&signs.next()?.to_string())?;
            match signs.as_str() {
                "" => Some(first),
                "#" | "\u{266f}" => Some((first + 1) % 12),
                "b" | "\u{266d}" => Some((first + 11) % 12),
                _ => None,
            }
        }
        [] => None,
    }
}

fn letter(name: &str) -> Option<usize> {
    let [byte @ b'a'..=b'g'] = name.as_bytes() else { return None };
    Some(LETTERS[usize::from(byte - b'a')])
}

/// Part of the words of two texts that both have (Jaccard).
pub fn likeness(a: &str, b: &str) -> f64 {
    let set = |text: &str| words(text).into_iter().collect::<std::collections::BTreeSet<_>>();
    let (a, b) = (set(a), set(b));
    a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tempi_and_keys_are_read_from_captions() {
        let caption = "A fast lo-fi hip hop track at 141 bpm in F# mixolydian, played on bell, no drums.";
        assert_eq!(bpm(caption), Some(141.0));
        assert_eq!(key(caption), Some(Key { tonic: 6, minor: false }));
        assert_eq!(
            (bpm("96BPM beat"), bpm("at 9999 bpm"), bpm("bpm"), bpm("techno")),
            (Some(96.0), None, None, None)
        );
        assert_eq!(key("in B flat major"), Some(Key { tonic: 10, minor: false }));
        assert_eq!(key("Eb minor"), Some(Key { tonic: 3, minor: true }));
        assert_eq!(key("techno, slow, minor key"), None);
        assert_eq!(key("a major hit, then in D dorian"), Some(Key { tonic: 2, minor: true }));
    }

    #[test]
    fn phrases_are_found_word_by_word() {
        assert!(says("ambient, slow, dark, No Drums", "no drums"));
        assert!(!says("slowly, with a drum", "slow") && !says("no loud drums", "no drums") && !says("x", ""));
        assert_eq!(likeness("slow dark piano", "fast dark piano"), 0.5);
    }
}
