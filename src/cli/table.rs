//! Tables: no borders, as wide as the terminal, wrapped only there.

use comfy_table::{ContentArrangement, Table, presets};

use super::output::Output;

/// A table of cleaned cells; the last column takes the wrapping.
pub fn table(output: &Output, header: &[&str], rows: Vec<Vec<String>>) -> String {
    render(output.width(), header, rows)
}

fn render(width: Option<u16>, header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec()).add_rows(rows);
    match width {
        Some(width) => table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["00000001", "campus/math-101", "waiting for its time, which is 18:00:00 CET today"]),
            row(["00000002", "campus/数学", "ended"]),
        ]
    }

    #[test]
    fn a_pipe_gets_whole_lines() {
        insta::assert_snapshot!(render(None, &["ID", "MEETING", "REASON"], rows()), @r"
        ID        MEETING          REASON
        00000001  campus/math-101  waiting for its time, which is 18:00:00 CET today
        00000002  campus/数学      ended
        ");
    }

    #[test]
    fn a_terminal_gets_lines_that_fit() {
        let text = render(Some(50), &["ID", "MEETING", "REASON"], rows());
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 50), "{text}");
        insta::assert_snapshot!(text, @r"
        ID        MEETING          REASON
        00000001  campus/math-101  waiting for its time,
                                   which is 18:00:00 CET
                                   today
        00000002  campus/数学      ended
        ");
    }
}
