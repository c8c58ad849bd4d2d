//! Text from strangers (captions, titles, file names), made fit for one line of a terminal or a manifest.

use std::path::Path;

/// A caption longer than this many characters is cut: song captions in the known data sets stay below 700,
/// and one runaway cell must not fill the manifest.
pub const MAX_CAPTION_CHARS: usize = 1000;

/// One clean line: control characters and runs of white space become single spaces, invisible
/// direction overrides (which could make a terminal show another text) are dropped, ends are trimmed.
pub fn clean(text: &str) -> String {
    let visible = text.chars().filter(|&c| !is_invisible(c)).map(|c| if c.is_control() { ' ' } else { c });
    let visible: String = visible.collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// [`clean`], cut to [`MAX_CAPTION_CHARS`]; the flag says whether something was cut off.
pub fn clean_caption(text: &str) -> (String, bool) {
    let mut text = clean(text);
    let cut = text.char_indices().nth(MAX_CAPTION_CHARS).map(|(at, _)| at);
    if let Some(at) = cut {
        text.truncate(at);
        text.truncate(text.trim_end().len());
    }
    (text, cut.is_some())
}

/// A path on one line: line breaks and other control characters are shown escaped, bytes that are not
/// UTF-8 as the replacement character.
pub fn printable(path: &Path) -> String {
    let mut line = String::new();
    for c in path.to_string_lossy().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Byte-order mark and the bidirectional embeddings, overrides and isolates of Unicode.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_becomes_one_line() {
        assert_eq!(clean("  multi\r\nline \u{202e}rtl\u{0} nul\t"), "multi line rtl nul");
        assert_eq!(clean_caption("♫ ".repeat(2).as_str()), ("♫ ♫".to_string(), false));
        let (text, cut) = clean_caption(&"é".repeat(5000));
        assert_eq!((text.chars().count(), cut), (MAX_CAPTION_CHARS, true));
        assert_eq!(printable(Path::new("a\nb")), "a\\nb");
    }
}
