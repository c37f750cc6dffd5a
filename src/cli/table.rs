//! Tables: no borders, as wide as the terminal, and never a word broken.
//!
//! A pipe gets whole lines. On a terminal that is too narrow the last column is wrapped at its words; where too little room
//! is left for that, the columns that do not fit go under the row, indented. Ids and names stay whole, so that they can be
//! copied.

use unicode_width::UnicodeWidthStr;

use super::output::{Output, Tone};

/// Between two columns.
const GAP: usize = 2;
/// A wrapped column is at least so wide.
const NARROWEST: usize = 24;
/// What stands under a row is indented by so much at most.
const INDENT: usize = 10;

/// A cleaned text, and how it is to stand out.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    pub fn toned(text: impl Into<String>, tone: Option<Tone>) -> Cell {
        Cell { text: text.into(), tone }
    }

    fn painted(&self, text: &str) -> String {
        match self.tone {
            Some(tone) if !text.is_empty() => tone.paint(text),
            _ => text.to_owned(),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, tone: None }
    }
}

/// A table of cleaned cells; the last column takes the wrapping.
pub fn table<C: Into<Cell>>(output: &Output, header: &[&str], rows: Vec<Vec<C>>) -> String {
    let rows: Vec<Vec<Cell>> =
        rows.into_iter().map(|row| row.into_iter().map(Into::into).collect()).collect();
    render(output.width(), header, &rows)
}

fn render(width: Option<u16>, header: &[&str], rows: &[Vec<Cell>]) -> String {
    let header: Vec<Cell> = header.iter().map(|head| Cell::from((*head).to_owned())).collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|at| rows.iter().chain([&header]).map(|row| row[at].text.width()).max().unwrap_or(0))
        .collect();
    let layout = Layout::new(width.map(usize::from), &widths);
    let mut lines = Vec::new();
    for row in [&header].into_iter().chain(rows) {
        layout.write(row, &widths, &mut lines);
    }
    lines.join("\n")
}

/// How the columns share the width.
struct Layout {
    /// So many of the first columns stand side by side.
    aligned: usize,
    /// What is left for the last of them, where it is wrapped.
    last: Option<usize>,
    /// The rest stands under these, in lines of this width.
    below: Option<usize>,
    indent: usize,
}

impl Layout {
    fn new(width: Option<usize>, widths: &[usize]) -> Layout {
        let all = widths.len();
        let up_to = |n: usize| widths[..n].iter().sum::<usize>() + GAP * n.saturating_sub(1);
        let whole = Layout { aligned: all, last: None, below: None, indent: 0 };
        let Some(width) = width.filter(|width| up_to(all) > *width) else { return whole };
        let rest = width.saturating_sub(up_to(all - 1) + GAP);
        if rest >= NARROWEST {
            return Layout { last: Some(rest), ..whole };
        }
        let aligned = (1..all).rev().find(|n| up_to(*n) <= width).unwrap_or(1);
        let indent = (widths[0] + GAP).min(INDENT);
        Layout { aligned, last: None, below: Some(width.saturating_sub(indent).max(1)), indent }
    }

    fn write(&self, row: &[Cell], widths: &[usize], lines: &mut Vec<String>) {
        let (side, under) = row.split_at(self.aligned);
        let mut line = String::new();
        let mut more = Vec::new();
        for (at, cell) in side.iter().enumerate() {
            let mut text = cell.text.as_str();
            let pieces;
            if let Some(width) = self.last.filter(|_| at + 1 == side.len()) {
                pieces = wrapped(text, width);
                text = pieces.first().map_or("", String::as_str);
                more = pieces[1.min(pieces.len())..].to_vec();
            }
            line.push_str(&cell.painted(text));
            if at + 1 < side.len() {
                line.push_str(&" ".repeat(widths[at] - text.width() + GAP));
            }
        }
        lines.push(line.trim_end().to_owned());
        let indent = match self.last {
            Some(_) => widths[..side.len() - 1].iter().map(|width| width + GAP).sum(),
            None => self.indent,
        };
        lines.extend(more.iter().map(|piece| format!("{}{piece}", " ".repeat(indent))));
        if let Some(width) = self.below {
            below(under, width, indent, lines);
        }
    }
}

/// The cells one after the other, as many on a line as there is room for.
fn below(cells: &[Cell], width: usize, indent: usize, lines: &mut Vec<String>) {
    let (mut line, mut used) = (String::new(), 0);
    let mut end = |line: &mut String, used: &mut usize| {
        if *used > 0 {
            lines.push(format!("{}{line}", " ".repeat(indent)));
        }
        (*line, *used) = (String::new(), 0);
    };
    for cell in cells.iter().filter(|cell| !cell.text.is_empty()) {
        if used > 0 && used + GAP + cell.text.width() > width {
            end(&mut line, &mut used);
        }
        for (n, piece) in wrapped(&cell.text, width).iter().enumerate() {
            if n > 0 {
                end(&mut line, &mut used);
            }
            if used > 0 {
                line.push_str("  ");
                used += GAP;
            }
            line.push_str(&cell.painted(piece));
            used += piece.width();
        }
    }
    end(&mut line, &mut used);
}

/// A text behind its head. What has no room on the line goes on under its text or, where that leaves too little, under the
/// head with a small indent.
pub fn hanging(output: &Output, head: &str, text: &str) -> String {
    const LEAST: usize = 40;
    const UNDER: usize = 6;
    let (beside, columns) = (columns_of(head), output.width().map_or(usize::MAX, usize::from));
    if columns.saturating_sub(beside) >= LEAST {
        return format!("{head}{}", wrapped(text, columns - beside).join(&format!("\n{:beside$}", "")));
    }
    if beside + columns_of(text) <= columns {
        return format!("{head}{text}");
    }
    let indent = format!("\n{:UNDER$}", "");
    let lines = wrapped(text, columns.saturating_sub(UNDER).max(1));
    format!("{}{indent}{}", head.trim_end(), lines.join(&indent))
}

/// How wide a text is on the screen, without what colours it.
fn columns_of(text: &str) -> usize {
    match text.contains('\u{1b}') {
        true => anstream::adapter::strip_str(text).to_string().width(),
        false => text.width(),
    }
}

/// The text in lines of so many columns, broken at spaces only: a word that is longer has a line of its own.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if used + 1 + columns_of(word) <= width => {
                line.push(' ');
                line.push_str(word);
                used += 1 + columns_of(word);
            }
            _ => {
                used = columns_of(word);
                lines.push(word.to_owned());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Output;

    #[test]
    fn what_has_no_room_goes_on_under_its_text() {
        let at = |width: Option<u16>, head: &str| {
            hanging(&Output::captured(width).0, head, "one two three four five six seven eight nine ten")
        };
        assert_eq!(at(None, "jobs  "), "jobs  one two three four five six seven eight nine ten");
        assert_eq!(at(Some(46), "jobs  "), "jobs  one two three four five six seven eight\n      nine ten");
        let narrow =
            "2026-12-01 17:15:00 CET  looked\n      one two three four five six\n      seven eight nine ten";
        assert_eq!(at(Some(34), "2026-12-01 17:15:00 CET  looked    "), narrow);
        let red = "\u{1b}[31mone\u{1b}[0m";
        assert_eq!(wrapped(&format!("{red} two"), 7), [format!("{red} two")], "colour takes no room");
    }

    fn rows() -> Vec<Vec<Cell>> {
        let row = |cells: [&str; 3]| cells.map(|text| Cell::from(text.to_owned())).to_vec();
        vec![
            row(["00000001", "campus/math-101", "waiting for its time, which is 18:00:00 CET today"]),
            row(["00000002", "campus/数学", "ended"]),
        ]
    }

    #[track_caller]
    fn fits(text: &str, width: usize) {
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
    }

    #[test]
    fn a_pipe_gets_whole_lines() {
        insta::assert_snapshot!(render(None, &["ID", "MEETING", "REASON"], &rows()), @r"
        ID        MEETING          REASON
        00000001  campus/math-101  waiting for its time, which is 18:00:00 CET today
        00000002  campus/数学      ended
        ");
    }

    #[test]
    fn a_terminal_gets_lines_that_fit() {
        let text = render(Some(52), &["ID", "MEETING", "REASON"], &rows());
        fits(&text, 52);
        insta::assert_snapshot!(text, @r"
        ID        MEETING          REASON
        00000001  campus/math-101  waiting for its time,
                                   which is 18:00:00 CET
                                   today
        00000002  campus/数学      ended
        ");
    }

    #[test]
    fn what_finds_no_room_beside_goes_below() {
        let text = render(Some(40), &["ID", "MEETING", "REASON"], &rows());
        fits(&text, 40);
        insta::assert_snapshot!(text, @r"
        ID        MEETING
                  REASON
        00000001  campus/math-101
                  waiting for its time, which is
                  18:00:00 CET today
        00000002  campus/数学
                  ended
        ");
    }

    #[test]
    fn no_word_is_ever_broken() {
        let long = "a".repeat(50);
        let rows = vec![vec![Cell::from("x".to_owned()), Cell::from(format!("see {long} there"))]];
        for width in 1..60 {
            let text = render(Some(width), &["A", "B"], &rows);
            assert!(text.contains(&long), "{width}: {text}");
        }
        assert_eq!(wrapped("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn colours_take_no_room() {
        let painted = vec![vec![Cell::toned("ended", Some(Tone::Good)), Cell::from("x".to_owned())]];
        let text = render(None, &["STATE", "B"], &painted);
        assert_eq!(text, "STATE  B\n\u{1b}[32mended\u{1b}[0m  x");
    }
}
