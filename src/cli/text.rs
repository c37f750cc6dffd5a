//! Text from platforms and users, made safe for a terminal.
//!
//! Meeting names come from strangers. Printed raw they could move the cursor, recolour the screen, reverse the line or
//! pass for another name. [`clean`] makes everything visible that a terminal would act on or swallow.

use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text with every control, bidirectional and invisible character written out: `␛`, `\u{202e}`.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{0}'..='\u{1f}' => clean.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('?')),
            '\u{7f}' => clean.push('\u{2421}'),
            c if invisible(c) => {
                let _ = write!(clean, "\\u{{{:x}}}", u32::from(c));
            }
            c => clean.push(c),
        }
    }
    clean
}

/// C1 controls, bidi controls, and whatever takes no room or looks like a space without being one.
fn invisible(c: char) -> bool {
    matches!(u32::from(c),
        0x80..=0x9f                     // C1
        | 0xad                          // soft hyphen
        | 0x34f                         // combining grapheme joiner
        | 0x61c                         // Arabic letter mark
        | 0x115f | 0x1160 | 0x3164 | 0xffa0 // Hangul fillers
        | 0x17b4 | 0x17b5               // Khmer inherent vowels
        | 0x180b..=0x180f               // Mongolian selectors
        | 0x200b..=0x200f               // zero width, LRM, RLM
        | 0x2028..=0x202e               // line and paragraph separators, bidi embeddings
        | 0x2060..=0x206f               // word joiner, invisible operators, bidi isolates
        | 0x2800                        // blank Braille pattern
        | 0xfe00..=0xfe0f               // variation selectors
        | 0xfeff                        // byte order mark
        | 0xfff0..=0xfffb               // interlinear annotation
        | 0x1d173..=0x1d17a             // musical formatting
        | 0xe0000..=0xe0fff             // tags, variation selectors
    )
}

/// Cleaned, and cut to so many columns with an ellipsis.
pub fn cut(text: &str, columns: usize) -> String {
    let text = clean(text);
    if text.width() <= columns {
        return text;
    }
    let mut room = columns.saturating_sub(1);
    let mut short = String::new();
    for c in text.chars() {
        let Some(left) = room.checked_sub(c.width().unwrap_or(0)) else { break };
        room = left;
        short.push(c);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, shown: &str) {
        assert_eq!(clean(raw), shown);
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in
            ["math-101", "Übung für Ängstliche", "数学", "Ünïcode — “quoted”", "e\u{301}te\u{301}", "👩🏽"]
        {
            check(text, text);
        }
    }

    #[test]
    fn terminal_controls_become_visible() {
        check("\u{1b}[2J\u{7}", "␛[2J␇");
        check("a\nb\r\tc\0", "a␊b␍␉c␀");
        check("\u{7f}\u{9b}31m", "␡\\u{9b}31m");
    }

    #[test]
    fn what_reverses_or_hides_becomes_visible() {
        check("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe");
        check("\u{2066}\u{2069}\u{200e}\u{61c}", "\\u{2066}\\u{2069}\\u{200e}\\u{61c}");
        check("a\u{200b}b\u{200d}c\u{feff}", "a\\u{200b}b\\u{200d}c\\u{feff}");
        check("a\u{2028}b\u{ad}\u{e0041}", "a\\u{2028}b\\u{ad}\\u{e0041}");
        check("\u{3164}\u{fe0f}\u{180e}", "\\u{3164}\\u{fe0f}\\u{180e}");
    }

    #[test]
    fn nothing_that_is_left_is_a_control_or_has_a_hidden_direction() {
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        assert!(!clean(&all).chars().any(|c| c.is_control() || invisible(c)));
    }

    #[test]
    fn cuts_by_columns_not_by_characters() {
        assert_eq!(cut("mathematics", 20), "mathematics");
        assert_eq!(cut("mathematics", 5), "math…");
        assert_eq!(cut("数学数学", 8), "数学数学");
        assert_eq!(cut("数学数学", 6), "数学…");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        assert_eq!(cut("\n\n\n", 2), "␊…");
        assert_eq!(cut("abc", 0), "…");
    }
}
