//! Content lines (RFC 5545, 3.1), from bytes.
//!
//! Long lines are folded by bytes and not by characters: a fold may stand inside a character. So lines are put together
//! first and decoded afterwards, each for itself: a line that is not UTF-8 spoils no other.

use std::borrow::Cow;

/// One line with all its continuations.
pub struct Line<'a> {
    /// Where it begins, counted from 1.
    pub number: usize,
    pub bytes: Cow<'a, [u8]>,
}

/// Lines, put together again where they were folded. Both line ends are known.
pub fn unfold(bytes: &[u8]) -> Unfold<'_> {
    Unfold { rest: Some(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)), number: 0 }
}

pub struct Unfold<'a> {
    rest: Option<&'a [u8]>,
    /// Of the line that was given last.
    number: usize,
}

impl<'a> Unfold<'a> {
    fn physical(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        self.number += 1;
        let end = rest.iter().position(|byte| *byte == b'\n');
        self.rest = end.and_then(|end| rest.get(end + 1..));
        let line = end.map_or(rest, |end| &rest[..end]);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Lines so far, the empty one behind the last line end included.
    pub fn lines_read(&self) -> usize {
        self.number
    }
}

impl<'a> Iterator for Unfold<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let mut bytes = Cow::Borrowed(self.physical()?);
        let number = self.number;
        while self.rest.is_some_and(|rest| rest.starts_with(b" ") || rest.starts_with(b"\t")) {
            let more = self.physical().unwrap_or_default();
            bytes.to_mut().extend_from_slice(more.get(1..).unwrap_or_default());
        }
        Some(Line { number, bytes })
    }
}

impl Line<'_> {
    /// The name of its property.
    pub fn name(&self) -> Cow<'_, str> {
        let end = self.bytes.iter().position(|byte| matches!(byte, b':' | b';'));
        String::from_utf8_lossy(
            self.bytes.get(..end.unwrap_or(self.bytes.len())).unwrap_or_default().trim_ascii(),
        )
    }

    /// What stands behind the name, without parameters: for lines that have none.
    pub fn plain_value(&self) -> Cow<'_, str> {
        let end = self.bytes.iter().position(|byte| matches!(byte, b':' | b';'));
        let value = end.and_then(|end| self.bytes.get(end + 1..)).unwrap_or_default();
        String::from_utf8_lossy(value.trim_ascii())
    }

    /// The line as text, and whether that is certain: what is not UTF-8 is read as Latin-1, which is certain only where the
    /// line says so (`CHARSET=ISO-8859-1`, as vCalendar had it).
    pub fn text(&self) -> (String, bool) {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => (text.to_owned(), true),
            Err(_) => {
                let text: String = self.bytes.iter().map(|byte| char::from(*byte)).collect();
                let head = text.split(':').next().unwrap_or_default().to_ascii_uppercase();
                let said = head.contains(";CHARSET=ISO-8859-1") || head.contains(";CHARSET=\"ISO-8859-1\"");
                (text, said)
            }
        }
    }
}

/// Name and value of a line: parameters between them may be quoted.
pub struct Parts<'a> {
    /// In capitals.
    pub name: String,
    pub value: &'a str,
}

/// The parts of a line. `None`: it has no value.
pub fn parts(line: &str) -> Option<Parts<'_>> {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        c == ':' && !quoted
    })?;
    let name = line.split([':', ';']).next()?.trim().to_ascii_uppercase();
    Some(Parts { name, value: line.get(end + 1..)?.trim() })
}

/// A line of times whose time zone is not quoted though it contains a colon, as Outlook's display names do
/// (`DTSTART;TZID=(UTC+01:00) Berlin:20261201T170000`), with the quotes that belong there.
pub fn with_quoted_zone(line: &str) -> Cow<'_, str> {
    let Some((head, value)) = line.rsplit_once(':') else { return Cow::Borrowed(line) };
    let is_times =
        |value: &str| value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'T' | b'Z' | b',' | b' '));
    let Some(start) = head.to_ascii_uppercase().find(";TZID=").map(|at| at + ";TZID=".len()) else {
        return Cow::Borrowed(line);
    };
    let rest = head.get(start..).unwrap_or_default();
    if rest.starts_with('"') || !rest.contains([':', ',']) || !is_times(value) {
        return Cow::Borrowed(line);
    }
    let end = rest.to_ascii_uppercase().find(";VALUE=").unwrap_or(rest.len());
    let (zone, more) = rest.split_at(end);
    Cow::Owned(format!("{}\"{}\"{more}:{value}", &head[..start], zone.replace('"', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &[(usize, &str)]) {
        let lines: Vec<(usize, String)> = unfold(bytes).map(|line| (line.number, line.text().0)).collect();
        let lines: Vec<(usize, &str)> = lines.iter().map(|(number, text)| (*number, text.as_str())).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn lines_are_put_together_before_they_are_decoded() {
        check(b"A:1\r\n 2\r\n\t3\nB:4", &[(1, "A:123"), (4, "B:4")]);
        check(b"\xef\xbb\xbfA:H\xc3\n \xb6r\n", &[(1, "A:H\u{f6}r"), (3, "")]);
        check(b"", &[(1, "")]);
    }

    #[test]
    fn what_is_not_utf_8_is_latin_1_for_certain_only_where_it_says_so() {
        let text = |bytes: &[u8]| unfold(bytes).next().unwrap().text();
        assert_eq!(text(b"A:H\xf6r"), ("A:H\u{f6}r".to_owned(), false));
        assert_eq!(text(b"A;CHARSET=iso-8859-1:H\xf6r"), ("A;CHARSET=iso-8859-1:H\u{f6}r".to_owned(), true));
        assert_eq!(text("A:Hör".as_bytes()), ("A:Hör".to_owned(), true));
    }

    #[test]
    fn parts_of_a_line() {
        let parts = parts("dtstart;TZID=\"(UTC+01:00) A; B\";VALUE=DATE-TIME:2026:1").unwrap();
        assert_eq!((parts.name.as_str(), parts.value), ("DTSTART", "2026:1"));
        assert!(super::parts("DTSTART").is_none());
    }

    #[test]
    fn a_display_name_without_quotes_gets_them() {
        let odd = "DTSTART;TZID=(UTC+01:00) Amsterdam, Berlin;VALUE=DATE-TIME:20261201T170000";
        let good = "DTSTART;TZID=\"(UTC+01:00) Amsterdam, Berlin\";VALUE=DATE-TIME:20261201T170000";
        assert_eq!(with_quoted_zone(odd), good);
        for same in [good, "DTSTART;TZID=Europe/Berlin:20261201T170000", "SUMMARY:a:b", "DTSTART:20261201"] {
            assert_eq!(with_quoted_zone(same), same);
        }
    }
}
