//! What may be a secret is never shown, least of all when somebody wrote it in the wrong place.
//!
//! The rule is an allow-list: only the values of keys that are known to hold none are shown. So `secret = "abc"`,
//! `secert = "abc"` and `secret = { value = "abc" }` are all hidden, whatever the problem is.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostics, Place};
use super::limits;
use super::platforms::SECRET_KEYS;

/// Keys whose values are no secrets, besides the limits. `credential`, `env` and `file` say where a secret is.
pub(super) const SHOWN: [&str; 54] = [
    "account-id",
    "ahead",
    "alone-for",
    "app-id",
    "at",
    "believe",
    "ca",
    "checksum",
    "close-at",
    "closed",
    "credential",
    "cron",
    "dates",
    "days",
    "dry-run",
    "dst",
    "empty-for",
    "env",
    "every",
    "except",
    "except-match",
    "expect",
    "file",
    "first-hit-delay",
    "from",
    "front",
    "group",
    "instance",
    "instance-ids",
    "lock",
    "match",
    "match-name",
    "max-concurrent",
    "max-duration",
    "max-open",
    "max-participant-minutes",
    "meeting",
    "mode",
    "name",
    "only",
    "organization-id",
    "pattern",
    "platform",
    "proxy",
    "refresh",
    "retention",
    "rules",
    "server",
    "socket",
    "state-dir",
    "string-ids",
    "timezone",
    "url",
    "weekly",
];

/// Keys that hold tables; whatever lies below another one is hidden.
const TABLES: [&str; 10] = [
    "calendar-end",
    "calendars",
    "control",
    "daemon",
    "defaults",
    "end",
    "exempt",
    "nodes",
    "rule",
    "servers",
];

/// What says where a secret is.
const WHEREABOUTS: [&str; 3] = ["credential", "env", "file"];

fn is_table(key: &str) -> bool {
    TABLES.contains(&key) || holds_secret(key)
}

fn holds_secret(key: &str) -> bool {
    key == "ics" || SECRET_KEYS.contains(&key)
}

pub(super) fn is_shown(key: &str) -> bool {
    SHOWN.contains(&key) || limits::ALL.iter().any(|bound| bound.key == key)
}

/// Masks every value in the document whose key is not known to be harmless, and every comment: it may hold last year's
/// secret.
pub(super) fn mask_document(file: usize, table: &DeTable<'_>, found: &mut Diagnostics) {
    let mut walk = Walk::default();
    walk.table(table, "", true);
    for comment in comments(found.text(file), walk.literals) {
        found.mask(Place::new(file, comment));
    }
    for value in walk.hidden {
        found.mask(Place::new(file, value));
    }
}

#[derive(Default)]
struct Walk {
    /// Keys and simple values: within them `#` begins no comment.
    literals: Vec<Range<usize>>,
    hidden: Vec<Range<usize>>,
}

impl Walk {
    /// The table behind a key; `known` if the keys down to it are.
    fn table(&mut self, table: &DeTable<'_>, key: &str, known: bool) {
        for (inner, value) in table {
            self.literals.push(inner.span());
            // What is below `servers` and `calendars` are names.
            let name = if matches!(key, "servers" | "calendars") { "" } else { inner.get_ref() };
            let shown = match key {
                // Nothing but where it is: what else somebody writes there may be the secret.
                key if holds_secret(key) => WHEREABOUTS.contains(&name),
                _ => name.is_empty() || is_shown(name) || is_table(name),
            };
            let known = known && shown;
            self.value(value.span(), value.get_ref(), name, known);
        }
    }

    fn value(&mut self, span: Range<usize>, value: &DeValue<'_>, key: &str, known: bool) {
        match value {
            DeValue::Table(table) => self.table(table, key, known),
            DeValue::Array(array) => {
                for value in array {
                    self.value(value.span(), value.get_ref(), key, known);
                }
            }
            _ => {
                self.literals.push(span.clone());
                if !known || !is_shown(key) {
                    self.hidden.push(span);
                }
            }
        }
    }
}

/// From each `#` outside the literals to the end of its line.
fn comments(text: &str, mut literals: Vec<Range<usize>>) -> Vec<Range<usize>> {
    literals.sort_by_key(|literal| literal.start);
    let mut comments: Vec<Range<usize>> = Vec::new();
    for (hash, _) in text.match_indices('#') {
        let before = literals.partition_point(|literal| literal.start <= hash);
        let inside_literal = before > 0 && literals[before - 1].end > hash;
        let inside_comment = comments.last().is_some_and(|comment| comment.end > hash);
        if !inside_literal && !inside_comment {
            let end = text[hash..].find('\n').map_or(text.len(), |newline| hash + newline);
            comments.push(hash + 1..end);
        }
    }
    comments
}

/// Where the syntax is broken, what was parsed cannot be relied on: of each line only comments, headers, keys, and plain
/// values of harmless keys are shown.
pub(super) fn mask_lines(file: usize, found: &mut Diagnostics) {
    let mut start = 0;
    let mut masks = Vec::new();
    for line in found.text(file).split_inclusive('\n') {
        let content = line.trim_end().len();
        masks.extend(hidden_part(&line[..content]).map(|part| start + part.start..start + part.end));
        start += line.len();
    }
    for mask in masks {
        found.mask(Place::new(file, mask));
    }
}

fn hidden_part(line: &str) -> Option<Range<usize>> {
    let indent = line.len() - line.trim_start().len();
    let text = &line[indent..];
    if text.is_empty() || text.starts_with('[') && !text.contains(['=', '"', '\'']) {
        return None;
    }
    let Some(equals) = text.find('=') else {
        // The inside of something that spans lines, or not TOML at all; a bare word may be a key in the making.
        let bare_word = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        return (!bare_word || !is_shown(text)).then_some(indent..line.len());
    };
    let key = text[..equals].trim();
    let value = &text[equals + 1..];
    // A closing brace: the rest of a table that began on another line, perhaps with another key.
    if is_shown(key) && !value.contains(['{', '}', '=', '#']) {
        return None;
    }
    Some(indent + equals + 1..line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let shown = match hidden_part(line) {
            Some(part) => format!("{}***{}", &line[..part.start], &line[part.end..]),
            None => line.to_owned(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn lines_of_a_broken_file() {
        check("[servers.campus", "[servers.campus");
        check("retention = \"90d", "retention = \"90d");
        check("  at = 2026-13-01", "  at = 2026-13-01");
        check("[\"hunter2\"", "***");
        check("secret = \"abc", "secret =***");
        check("secert = abc", "secert =***");
        check("\"secret\"='abc", "\"secret\"=***");
        check("servers.campus.secret = abc", "servers.campus.secret =***");
        check("campus = { url = \"x\", secret = \"abc\" ", "campus =***");
        check("url = \"x\" secret = \"abc\"", "url =***");
        check("url = \"x\" # secret: abc", "url =***");
        check("at = \"abc\" }", "at =***");
        check("nodes = [{ secret = \"abc\"", "nodes =***");
        check("hunter2", "***");
        check("hunter", "***");
        check("retention", "retention");
        check("", "");
    }
}
