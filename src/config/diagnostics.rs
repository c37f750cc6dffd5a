//! What `adjourn check` reports: every problem of every file at once, each with its place, the offending line, and
//! what to do.
//!
//! A line that is shown passes through two filters. Control and bidirectional characters are replaced, since a file may
//! come from a stranger. And whatever may be a secret is shown as `***`; [`super::mask`] decides what that is.

use std::collections::BTreeSet;
use std::fmt;
use std::iter;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// Where something stands: a file and a range of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub(super) file: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Place {
    pub(super) fn new(file: usize, span: Range<usize>) -> Place {
        Place { file, start: span.start, end: span.end }
    }
}

/// A value and where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The daemon does not start with it, and a reload is refused.
    Error,
    /// Worth knowing; nothing is refused.
    Note,
}

/// One problem, for programs: `check --json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Item {
    /// Absent where the problem is not in a file.
    pub file: Option<String>,
    /// Counted from 1; absent where the whole file is the problem.
    pub line: Option<usize>,
    /// In characters, counted from 1.
    pub column: Option<usize>,
    pub severity: Severity,
    pub message: String,
    pub hint: Option<String>,
}

/// All problems found in one run.
#[derive(Debug, Default)]
pub struct Diagnostics {
    sources: Vec<Source>,
    found: Vec<Found>,
}

#[derive(Debug)]
struct Found {
    spot: Spot,
    severity: Severity,
    message: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Spot {
    Nowhere,
    File(usize),
    At(Place),
}

impl Diagnostics {
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    pub fn notes(&self) -> usize {
        self.count(Severity::Note)
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `2 errors and 1 note`, or `no errors`.
    pub fn summary(&self) -> String {
        let counted = |n: usize, what: &str| match n {
            0 => format!("no {what}s"),
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        match (self.errors(), self.notes()) {
            (errors, 0) => counted(errors, "error"),
            (errors, notes) => format!("{} and {}", counted(errors, "error"), counted(notes, "note")),
        }
    }

    /// The problems in the order of the files and of the lines.
    pub fn items(&self) -> Vec<Item> {
        self.in_order().into_iter().map(|found| self.item(found)).collect()
    }

    /// For people. Whether `color` is wanted (a terminal, no `NO_COLOR`) and how wide it is, is the caller's to know.
    pub fn render(&self, color: bool, width: usize) -> String {
        let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
        let renderer = renderer.term_width(width);
        let mut text = String::new();
        for found in self.in_order() {
            text.push_str(&self.rendered(found, &renderer));
            text.push_str("\n\n");
        }
        text
    }

    fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|found| found.severity == severity).count()
    }

    fn in_order(&self) -> Vec<&Found> {
        let mut found: Vec<&Found> = self.found.iter().collect();
        found.sort_by_key(|found| found.spot);
        found
    }

    fn item(&self, found: &Found) -> Item {
        let (file, at) = match found.spot {
            Spot::Nowhere => (None, None),
            Spot::File(file) => (Some(file), None),
            Spot::At(place) => (Some(place.file), Some(self.sources[place.file].position(place.start))),
        };
        Item {
            file: file.map(|file| self.sources[file].name()),
            line: at.map(|(line, _)| line),
            column: at.map(|(_, column)| column),
            severity: found.severity,
            message: found.message.clone(),
            hint: found.hint.clone(),
        }
    }

    fn rendered(&self, found: &Found, renderer: &Renderer) -> String {
        let level = match found.severity {
            Severity::Error => Level::ERROR,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(found.message.as_str());
        let hint = found.hint.as_ref().map(|hint| Level::HELP.message(hint.as_str()));
        match found.spot {
            Spot::Nowhere => renderer.render(&[Group::with_title(title).elements(hint)]),
            Spot::File(file) => {
                let origin = Origin::path(self.sources[file].name());
                renderer.render(&[title.element(origin).elements(hint)])
            }
            Spot::At(place) => {
                let source = &self.sources[place.file];
                let (line, column) = source.position(place.start);
                let (shown, span) = source.shown(place);
                let shown_column = shown[..span.start].chars().count() + 1;
                let snippet = Snippet::source(shown)
                    .path(source.name())
                    .line_start(line)
                    .annotation(AnnotationKind::Primary.span(span));
                let text = renderer.render(&[title.element(snippet).elements(hint)]);
                // After a masked value the column of what is shown is not that of the file.
                let place = |column| format!("{}:{line}:{column}", source.name());
                text.replacen(&place(shown_column), &place(column), 1)
            }
        }
    }
}

/// For the stages of the configuration, which fill it.
impl Diagnostics {
    /// Registers a file; its index goes into every [`Place`].
    pub(super) fn add_source(&mut self, path: &Path, text: String) -> usize {
        self.sources.push(Source::new(path, text));
        self.sources.len() - 1
    }

    pub(super) fn text(&self, file: usize) -> &str {
        &self.sources[file].text
    }

    /// Was some file not read at all?
    pub(super) fn unreadable(&self) -> bool {
        self.found.iter().any(|found| matches!(found.spot, Spot::File(_)))
    }

    pub(super) fn mask(&mut self, place: Place) {
        self.sources[place.file].masks.push(place.start..place.end);
    }

    /// `file:line:column`, for a message that names a second place.
    pub(super) fn at(&self, place: Place) -> String {
        let source = &self.sources[place.file];
        let (line, column) = source.position(place.start);
        format!("{}:{line}:{column}", source.name())
    }

    pub(super) fn error(&mut self, place: Place, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Spot::At(place), Severity::Error, message.as_ref(), hint.as_ref());
    }

    pub(super) fn note(&mut self, place: Place, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Spot::At(place), Severity::Note, message.as_ref(), hint.as_ref());
    }

    /// The file as a whole is the problem.
    pub(super) fn file_error(&mut self, file: usize, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Spot::File(file), Severity::Error, message.as_ref(), hint.as_ref());
    }

    /// A note on the configuration as a whole.
    pub(super) fn general_note(&mut self, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Spot::Nowhere, Severity::Note, message.as_ref(), hint.as_ref());
    }

    /// The syntax is broken there. Whatever else is found on the same line would be a guess, and is not reported.
    pub(super) fn syntax_error(&mut self, place: Place, message: impl AsRef<str>) {
        if self.sources[place.file].broken.len() < MAX_BROKEN_LINES {
            self.error(place, message, "");
        }
        let source = &mut self.sources[place.file];
        source.broken.insert(source.position(place.start).0);
    }

    fn push(&mut self, spot: Spot, severity: Severity, message: &str, hint: &str) {
        if let Spot::At(place) = spot
            && self.sources[place.file].is_guess(place)
        {
            return;
        }
        let hint = (!hint.is_empty()).then(|| clean(hint));
        self.found.push(Found { spot, severity, message: clean(message), hint });
    }
}

/// One file as it was read.
struct Source {
    path: PathBuf,
    text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
    /// Bytes that are never shown.
    masks: Vec<Range<usize>>,
    /// Lines with broken syntax.
    broken: BTreeSet<usize>,
}

/// Without the text: it may hold a secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Lines of one file whose syntax is complained of: what follows is mostly the echo of a bracket left open.
const MAX_BROKEN_LINES: usize = 8;
/// Characters of a message; values from a file are repeated in it.
const MAX_MESSAGE: usize = 500;
/// Stands for a secret of any length.
const MASK: &str = "***";

impl Source {
    fn new(path: &Path, text: String) -> Source {
        let lines = iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Source { path: path.to_owned(), text, lines, masks: Vec::new(), broken: BTreeSet::new() }
    }

    /// The parser makes up values, at the very beginning, where it found none.
    fn is_guess(&self, place: Place) -> bool {
        !self.broken.is_empty() && (place.end == 0 || self.broken.contains(&self.position(place.start).0))
    }

    fn name(&self) -> String {
        clean(&self.path.display().to_string())
    }

    /// Line and column of a byte, both counted from 1, the column in characters.
    fn position(&self, byte: usize) -> (usize, usize) {
        let byte = self.floor(byte);
        let line = self.lines.partition_point(|start| *start <= byte);
        (line, self.text[self.lines[line - 1]..byte].chars().count() + 1)
    }

    /// The line on which the place begins, as it may be shown, and the part of it that the place covers.
    fn shown(&self, place: Place) -> (String, Range<usize>) {
        let start = self.floor(place.start);
        let line_start = self.lines[self.position(start).0 - 1];
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        let masks: Vec<&Range<usize>> =
            self.masks.iter().filter(|mask| mask.start < line_end && mask.end > line_start).collect();
        let mut shown = String::new();
        let mut span = None;
        let mut was_masked = false;
        let mut end = None;
        for (offset, c) in line.char_indices() {
            let byte = line_start + offset;
            let masked = masks.iter().any(|mask| mask.contains(&byte));
            if byte >= start {
                // What begins inside a masked part begins where that is shown.
                let inside = if masked && was_masked { MASK.len() } else { 0 };
                span.get_or_insert(shown.len() - inside);
            }
            if byte >= place.end {
                end.get_or_insert(shown.len());
            }
            match (masked, was_masked) {
                (false, _) => shown.push(clean_char(c)),
                (true, false) => shown.push_str(MASK),
                (true, true) => {}
            }
            was_masked = masked;
        }
        let from = span.unwrap_or(shown.len());
        let to = end.unwrap_or(shown.len()).max(from);
        (shown, from..to)
    }

    /// The nearest character boundary at or before.
    fn floor(&self, byte: usize) -> usize {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }
}

/// Text with parts of a file in it, fit for a terminal.
fn clean(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_MESSAGE).map(clean_char).collect();
    if text.chars().nth(MAX_MESSAGE).is_some() {
        shown.push_str("...");
    }
    shown
}

fn clean_char(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // Marks that reorder or break the line, or cannot be seen.
        '\u{feff}'
        | '\u{200b}'..='\u{200f}'
        | '\u{061c}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Diagnostics {
        let mut found = Diagnostics::default();
        found.add_source(Path::new("s.toml"), text.to_owned());
        found
    }

    #[test]
    fn shows_place_line_and_hint() {
        let mut found = with("a = 1\nb = \"x\"\n");
        found.error(Place::new(0, 10..13), "b is odd", "make it even");
        insta::assert_snapshot!(found.render(false, 80), @r#"
        error: b is odd
         --> s.toml:2:5
          |
        2 | b = "x"
          |     ^^^
          |
          = help: make it even
        "#);
    }

    #[test]
    fn a_masked_value_and_what_follows_it() {
        let text = "x = { s = \"hunter2\", t = 5 }";
        let mut found = with(text);
        found.mask(Place::new(0, 10..19));
        found.error(Place::new(0, 21..22), "unknown key t", "");
        let shown = found.render(false, 80);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(found.render(true, 80).contains("s.toml:1:22"));
        insta::assert_snapshot!(shown, @r"
        error: unknown key t
         --> s.toml:1:22
          |
        1 | x = { s = ***, t = 5 }
          |                ^
        ");
    }

    #[test]
    fn a_whole_file_and_nothing_at_all() {
        let mut found = with("");
        found.file_error(0, "cannot read it", "");
        found.general_note("no servers", "");
        insta::assert_snapshot!(found.render(false, 80), @r"
        note: no servers

        error: cannot read it
        --> s.toml
        ");
        assert_eq!(found.summary(), "1 error and 1 note");
        assert_eq!(found.items()[0].file, None);
        assert_eq!(found.items()[1].line, None);
    }

    #[test]
    fn hostile_characters_do_not_get_through() {
        let text = "name = \"\u{1b}[31m\u{202e}äé\"";
        let mut found = with(text);
        found.note(Place::new(0, 7..text.len()), text, text);
        let shown = found.render(false, 80);
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
        assert_eq!(found.items()[0].column, Some(8));
    }

    #[test]
    fn long_messages_are_cut() {
        assert_eq!(clean(&"ä".repeat(500)), "ä".repeat(500));
        assert_eq!(clean(&"ä".repeat(501)), format!("{}...", "ä".repeat(500)));
    }

    #[test]
    fn any_span_is_safe() {
        let text = "ä\r\nö";
        for start in 0..=text.len() + 2 {
            for end in start..=text.len() + 2 {
                let mut found = with(text);
                found.error(Place::new(0, start..end), "m", "");
                assert!(found.render(true, 20).contains('m'));
            }
        }
    }
}
