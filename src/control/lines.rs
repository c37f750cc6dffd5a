//! Lines out of chunks of bytes that break anywhere. Pure.

use axum::body::Bytes;

/// Bytes of one line of an import, its end not counted.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// One line, numbered from 1. Blank lines have a number too, but are passed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub number: u64,
    /// `None`: longer than [`MAX_LINE_BYTES`].
    pub text: Option<Bytes>,
}

/// Never keeps more than one chunk and one line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    number: u64,
    chunk: Bytes,
    /// The beginning of a line whose end is in a later chunk.
    begun: Vec<u8>,
    /// That line is too long already.
    too_long: bool,
}

impl Lines {
    /// The next chunk; the one before it must have been used up.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "take all lines first");
        self.chunk = chunk;
    }

    /// The next whole line; `None`: feed me.
    pub(super) fn take(&mut self) -> Option<Line> {
        while let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') {
            let piece = self.chunk.split_to(end);
            // The line break itself.
            drop(self.chunk.split_to(1));
            if let Some(line) = self.complete(piece) {
                return Some(line);
            }
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.too_long = self.too_long || self.begun.len() + chunk.len() > MAX_LINE_BYTES;
        if self.too_long {
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(&chunk);
        }
        None
    }

    /// After the last chunk: its last line needs no line break.
    pub(super) fn finish(&mut self) -> Option<Line> {
        if self.begun.is_empty() && !self.too_long {
            return None;
        }
        self.complete(Bytes::new())
    }

    fn complete(&mut self, piece: Bytes) -> Option<Line> {
        self.number += 1;
        let number = self.number;
        let mut begun = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.too_long) || begun.len() + piece.len() > MAX_LINE_BYTES {
            return Some(Line { number, text: None });
        }
        let text = if begun.is_empty() {
            piece
        } else {
            begun.extend_from_slice(&piece);
            Bytes::from(begun)
        };
        (!text.trim_ascii().is_empty()).then_some(Line { number, text: Some(text) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            lines.feed(Bytes::copy_from_slice(chunk));
            while let Some(line) = lines.take() {
                found.push(line);
            }
        }
        found.extend(lines.finish());
        let text =
            |line: Line| (line.number, line.text.map(|text| String::from_utf8(text.to_vec()).unwrap()));
        found.into_iter().map(text).collect()
    }

    #[track_caller]
    fn check(chunks: &[&str], expected: &[(u64, &str)]) {
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        let expected: Vec<_> = expected.iter().map(|(n, text)| (*n, Some((*text).to_owned()))).collect();
        assert_eq!(lines(&chunks), expected);
    }

    #[test]
    fn chunks_may_break_anywhere_and_the_last_line_break_may_be_missing() {
        check(&["a\nb\n"], &[(1, "a"), (2, "b")]);
        check(&["a\nb"], &[(1, "a"), (2, "b")]);
        check(&["a", "", "b\nc", "\n", "d"], &[(1, "ab"), (2, "c"), (3, "d")]);
        check(&[], &[]);
        check(&["\n"], &[]);
    }

    #[test]
    fn blank_lines_are_counted_but_not_given() {
        check(&["\n\r\n  \na\r\n\nb\n\n"], &[(4, "a\r"), (6, "b")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_and_the_next_one_is_not() {
        let (most, more) = ("x".repeat(MAX_LINE_BYTES), "x".repeat(MAX_LINE_BYTES + 1));
        for chunks in [
            vec![format!("{most}\n{more}\nb")],
            vec![most.clone(), format!("\n{most}"), "x".to_owned(), most.clone(), "\nb\n".to_owned()],
        ] {
            let chunks: Vec<&[u8]> = chunks.iter().map(String::as_bytes).collect();
            assert_eq!(lines(&chunks), [(1, Some(most.clone())), (2, None), (3, Some("b".to_owned()))]);
        }
        assert_eq!(lines(&[more.as_bytes()]), [(1, None)]);
        let mut kept = Lines::default();
        for _ in 0..100 {
            kept.feed(Bytes::from(most.clone()));
            assert_eq!(kept.take(), None);
            assert!(kept.begun.capacity() <= 2 * MAX_LINE_BYTES, "bounded");
        }
    }

    proptest! {
        #[test]
        fn where_the_chunks_break_does_not_matter(text in "[ab\n]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(lines(&chunks), lines(&[text.as_bytes()]));
        }
    }
}
