//! Globs over what strangers chose: `*` is any text, `?` any one character, everything else itself.
//!
//! Texts between stars are looked for from left to right and never again, so that no name can make it slow.

/// A glob, taken apart once for many texts.
#[derive(Clone, Debug)]
pub(super) enum Glob<'a> {
    Any,
    Exact(&'a str),
    /// Without a star, with question marks.
    Shape(&'a str),
    Stars {
        first: &'a str,
        middle: Vec<&'a str>,
        last: &'a str,
    },
}

impl<'a> Glob<'a> {
    pub fn new(pattern: &'a str) -> Glob<'a> {
        let Some((first, rest)) = pattern.split_once('*') else {
            return if pattern.contains('?') { Glob::Shape(pattern) } else { Glob::Exact(pattern) };
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle: Vec<&str> = middle.split('*').filter(|part| !part.is_empty()).collect();
        if first.is_empty() && middle.is_empty() && last.is_empty() {
            return Glob::Any;
        }
        Glob::Stars { first, middle, last }
    }

    /// The only text that it matches, if it is one.
    pub fn exact(&self) -> Option<&'a str> {
        match self {
            Glob::Exact(text) => Some(text),
            _ => None,
        }
    }

    pub fn matches(&self, text: &str) -> bool {
        match self {
            Glob::Any => true,
            Glob::Exact(exactly) => *exactly == text,
            Glob::Shape(shape) => prefix(shape, text) == Some(text.len()),
            Glob::Stars { first, middle, last } => {
                let Some(begin) = prefix(first, text) else { return false };
                let rest = &text[begin..];
                let Some(end) = suffix(last, rest) else { return false };
                let mut rest = &rest[..rest.len() - end];
                for part in middle {
                    let Some(end) = find(part, rest) else { return false };
                    rest = &rest[end..];
                }
                true
            }
        }
    }
}

/// How many bytes of the text the part takes up at its beginning.
fn prefix(part: &str, text: &str) -> Option<usize> {
    taken(part.chars(), text.chars())
}

/// How many bytes of the text the part takes up at its end.
fn suffix(part: &str, text: &str) -> Option<usize> {
    taken(part.chars().rev(), text.chars().rev())
}

fn taken(part: impl Iterator<Item = char>, mut text: impl Iterator<Item = char>) -> Option<usize> {
    let mut bytes = 0;
    for wanted in part {
        let found = text.next().filter(|found| wanted == '?' || wanted == *found)?;
        bytes += found.len_utf8();
    }
    Some(bytes)
}

/// Where the part ends that is found first.
fn find(part: &str, text: &str) -> Option<usize> {
    if !part.contains('?') {
        return text.find(part).map(|at| at + part.len());
    }
    let mut starts = text.char_indices().map(|(at, _)| at);
    starts.find_map(|at| prefix(part, &text[at..]).map(|length| at + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern);
        for text in yes {
            assert!(glob.matches(text), "{pattern} does not match {text:?}");
        }
        for text in no {
            assert!(!glob.matches(text), "{pattern} matches {text:?}");
        }
    }

    #[test]
    fn globs() {
        check("*", &["", "math", "a/b"], &[]);
        check("math", &["math"], &["Math", "math-101", ""]);
        check("math-*", &["math-", "math-101"], &["math", "xmath-1"]);
        check("*-exam", &["math-exam", "-exam"], &["exam", "math-exam-2"]);
        check("a*b*c", &["abc", "aXbYc", "abcbc"], &["acb", "ab", "ac"]);
        check("ab*ba", &["abba", "ab--ba"], &["aba"]);
        check("**a**", &["a", "bab"], &["b"]);
        check("room-?", &["room-1", "room-ä"], &["room-", "room-12"]);
        check("*?", &["a", "ab"], &[""]);
        check("?*?b?*", &["xyb1", "abb2c"], &["xb1", "xyb"]);
        check("[a-z].{x}", &["[a-z].{x}"], &["b.x"]);
        check("für*ü", &["für ü", "fürü"], &["fur ü", "für u"]);
    }

    #[test]
    fn a_hostile_name_takes_no_time() {
        let pattern = "*a".repeat(60) + "*b";
        let glob = Glob::new(&pattern);
        assert!(!glob.matches(&"a".repeat(1_000_000)));
    }

    /// What a glob means, at exponential cost.
    fn by_the_book(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some(('*', rest)), _) => (0..=text.len()).any(|at| by_the_book(rest, &text[at..])),
            (Some(('?', rest)), Some((_, text))) => by_the_book(rest, text),
            (Some((wanted, rest)), Some((found, text))) => wanted == found && by_the_book(rest, text),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[abä*?]{0,8}", text in "[abä]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(Glob::new(&pattern).matches(&text), by_the_book(&chars(&pattern), &chars(&text)));
        }
    }
}
