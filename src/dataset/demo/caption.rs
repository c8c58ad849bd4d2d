//! Captions, from a song's attributes and nothing else: what they say is what was synthesised.

use super::plan::Song;

/// Three true descriptions: a sentence with everything, a list of tags, and a short phrase.
pub(super) fn captions(song: &Song) -> [String; 3] {
    let genre = song.genre.name;
    let (tempo, bpm, mood) = (song.tempo_word(), song.tempo_bpm, song.mood());
    let tempo = if tempo == "medium" { "medium tempo" } else { tempo };
    let tone = brightness(song);
    let drums = if song.drums { "with drums" } else { "no drums" };
    let mode = if song.key.mode.is_minor() { "minor key" } else { "major key" };
    let lead = song.lead.name();
    let band = song.instruments();
    [
        format!(
            "A {tempo} {genre} track at {bpm} bpm in {}, played on {}, {drums}, {tone} and {mood}.",
            song.key.name(),
            listed(&band)
        ),
        format!("{genre}, {tempo}, {tone}, {drums}, {mode}, {}", band.join(", ")),
        format!("{} {mood} {tone} {genre} with a {lead} melody, {tempo}, {drums}", article(mood)),
    ]
}

/// `bright` or `dark`.
pub(super) fn brightness(song: &Song) -> &'static str {
    if song.bright { "bright" } else { "dark" }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "An" } else { "A" }
}

/// `flute, piano and upright bass`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
