//! Reading a parsed TOML document key by key.
//!
//! serde stops at the first problem, and a person who edits a file wants to hear of all of them. So a table is read
//! through a [`Section`]: each key that is asked for is type-checked on its own, and what nobody asked for is unknown.

use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostics::{Diagnostics, Located, Place};

/// One table while it is read.
pub(super) struct Section<'a, 'r> {
    pub file: usize,
    /// What people call it: `[daemon]`, `[servers.campus]`.
    pub title: String,
    /// Its header.
    pub place: Place,
    table: &'a DeTable<'a>,
    /// The file has syntax errors: what seems to be missing may only be unreadable.
    pub broken: bool,
    known: Vec<&'static str>,
    pub found: &'r mut Diagnostics,
}

impl<'a, 'r> Section<'a, 'r> {
    pub fn root(
        file: usize,
        table: &'a DeTable<'a>,
        broken: bool,
        found: &'r mut Diagnostics,
    ) -> Section<'a, 'r> {
        let place = Place::new(file, 0..0);
        Section { file, title: "the file".to_owned(), place, table, broken, known: Vec::new(), found }
    }

    /// A table inside this one.
    pub fn inner(&mut self, title: String, place: Place, table: &'a DeTable<'a>) -> Section<'a, '_> {
        let Section { file, broken, .. } = *self;
        Section { file, title, place, table, broken, known: Vec::new(), found: self.found }
    }

    pub fn get<T: Read<'a>>(&mut self, key: &'static str) -> Option<Located<T>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        self.typed(key, value.span(), value.get_ref())
    }

    pub fn required<T: Read<'a>>(&mut self, key: &'static str) -> Option<Located<T>> {
        if self.table.contains_key(key) || self.broken {
            return self.get(key);
        }
        self.known.push(key);
        self.found.error(self.place, format!("{} has no {key}", self.title), format!("add {key} = ..."));
        None
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &'static str) -> Option<Located<Vec<Located<String>>>> {
        let Located { value: Strings(items), place } = self.get::<Strings<'a>>(key)?;
        let all: Vec<Option<Located<String>>> =
            items.iter().map(|item| self.typed(key, item.span(), item.get_ref())).collect();
        // What is wrong with one of them has been reported.
        Some(Located { value: all.into_iter().collect::<Option<_>>()?, place })
    }

    /// Is the key there, whatever its type?
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Every table in here with its name, for tables that people name.
    pub fn named_tables(&mut self) -> Vec<(Located<String>, &'a DeTable<'a>)> {
        let mut tables = Vec::new();
        for (key, value) in self.table {
            let name = Located { value: key.get_ref().to_string(), place: Place::new(self.file, key.span()) };
            let table = self.typed(&format!("{}.{}", self.title, name.value), key.span(), value.get_ref());
            tables.extend(table.map(|table| (name, table.value)));
        }
        tables
    }

    /// A string or a list of them, each with its place.
    pub fn texts(&mut self, key: &'static str) -> Vec<Located<String>> {
        let Some(Located { value: Texts(texts), place }) = self.get::<Texts>(key) else { return Vec::new() };
        let file = self.file;
        let located = |(value, span): (String, Option<Range<usize>>)| {
            let place = span.map_or(place, |span| Place::new(file, span));
            Located { value, place }
        };
        texts.into_iter().map(located).collect()
    }

    /// The tables of `[[key]]`.
    pub fn list(&mut self, key: &'static str) -> Vec<Located<&'a DeTable<'a>>> {
        let Some(array) = self.get::<&DeArray<'a>>(key) else { return Vec::new() };
        let items = array.value.iter();
        items.filter_map(|item| self.typed(key, item.span(), item.get_ref())).collect()
    }

    /// Complains of every key that nobody asked for. In a broken file what looks like a key may be anything, even a
    /// secret, unless it is almost one that is known.
    pub fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            let guess = self.broken && did_you_mean(name, &self.known).is_empty();
            if guess || self.known.contains(&name) {
                continue;
            }
            let place = Place::new(self.file, key.span());
            self.found.error(
                place,
                format!("unknown key {name:?} in {}", self.title),
                suggest(name, &self.known),
            );
        }
    }

    fn typed<T: Read<'a>>(
        &mut self,
        key: &str,
        span: Range<usize>,
        value: &'a DeValue<'a>,
    ) -> Option<Located<T>> {
        let place = Place::new(self.file, span);
        if T::ONE_LINE && value.as_str().is_some_and(|text| text.contains('\n')) {
            // A quote too many swallows what follows, secrets included: not a word of it is repeated.
            self.found.mask(place);
            self.found.error(place, format!("{key} must be on one line"), "look for a quote too many");
            return None;
        }
        match T::read(value) {
            Some(value) => Some(Located { value, place }),
            None => {
                let message = format!("{key} must be {}, not {}", T::WANTED, kind(value));
                self.found.error(place, message, T::HINT);
                None
            }
        }
    }
}

/// A type of value that can stand behind a key.
pub(super) trait Read<'a>: Sized {
    const WANTED: &'static str;
    const HINT: &'static str = "";
    /// Text of which a line break can be no part.
    const ONE_LINE: bool = false;
    fn read(value: &'a DeValue<'a>) -> Option<Self>;
}

impl<'a> Read<'a> for String {
    const WANTED: &'static str = "a string";
    const HINT: &'static str = "put it in double quotes";
    const ONE_LINE: bool = true;
    fn read(value: &'a DeValue<'a>) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

impl<'a> Read<'a> for bool {
    const WANTED: &'static str = "true or false";
    fn read(value: &'a DeValue<'a>) -> Option<bool> {
        value.as_bool()
    }
}

impl<'a> Read<'a> for i64 {
    const WANTED: &'static str = "an integer";
    fn read(value: &'a DeValue<'a>) -> Option<i64> {
        let integer = value.as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }
}

impl<'a> Read<'a> for &'a DeTable<'a> {
    const WANTED: &'static str = "a table";
    fn read(value: &'a DeValue<'a>) -> Option<&'a DeTable<'a>> {
        value.as_table()
    }
}

impl<'a> Read<'a> for &'a DeArray<'a> {
    const WANTED: &'static str = "a list of tables";
    const HINT: &'static str = "write the header in double brackets: [[...]]";
    fn read(value: &'a DeValue<'a>) -> Option<&'a DeArray<'a>> {
        value.as_array()
    }
}

/// One text, or a list of them with the place of each.
struct Texts(Vec<(String, Option<Range<usize>>)>);

impl<'a> Read<'a> for Texts {
    const WANTED: &'static str = "a string or a list of strings";
    const HINT: &'static str = "put each in double quotes";
    const ONE_LINE: bool = true;
    fn read(value: &'a DeValue<'a>) -> Option<Texts> {
        // Dates are TOML's own as well.
        let text = |value: &DeValue<'_>| match value {
            DeValue::Datetime(at) => Some(at.to_string()),
            other => other.as_str().map(str::to_owned),
        };
        let Some(items) = value.as_array() else { return Some(Texts(vec![(text(value)?, None)])) };
        let texts = items.iter().map(|item| Some((text(item.get_ref())?, Some(item.span()))));
        texts.collect::<Option<Vec<_>>>().map(Texts)
    }
}

/// An array whose items are read as strings.
struct Strings<'a>(&'a DeArray<'a>);

impl<'a> Read<'a> for Strings<'a> {
    const WANTED: &'static str = "a list of strings";
    const HINT: &'static str = "put them in brackets: [\"...\"]";
    fn read(value: &'a DeValue<'a>) -> Option<Strings<'a>> {
        value.as_array().map(Strings)
    }
}

/// A time, in quotes or as TOML's own; either way the text says what was written.
pub(super) struct TimeText(pub String);

impl<'a> Read<'a> for TimeText {
    const WANTED: &'static str = "a time";
    const HINT: &'static str = "write it like \"2026-12-01T18:00:00+01:00\"";
    const ONE_LINE: bool = true;
    fn read(value: &'a DeValue<'a>) -> Option<TimeText> {
        match value {
            DeValue::String(text) => Some(TimeText(text.to_string())),
            DeValue::Datetime(at) => Some(TimeText(at.to_string())),
            _ => None,
        }
    }
}

pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The hint for a word that is not among those known: the nearest one, or all of them.
pub(super) fn suggest<S: AsRef<str>>(word: &str, known: &[S]) -> String {
    let all: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    match did_you_mean(word, known) {
        near if near.is_empty() && !all.is_empty() => format!("known here: {}", all.join(", ")),
        near => near,
    }
}

/// Empty if nothing is near.
pub(super) fn did_you_mean<S: AsRef<str>>(word: &str, known: &[S]) -> String {
    let nearest = known.iter().map(|k| (distance(word, k.as_ref()), k.as_ref())).min();
    match nearest {
        // A third of the letters may be wrong.
        Some((wrong, name)) if wrong * 3 <= name.len().max(3) => format!("did you mean {name:?}?"),
        _ => String::new(),
    }
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("retention", "retention"), 0);
    }

    #[test]
    fn suggestions() {
        assert_eq!(suggest("retension", &["state-dir", "retention"]), "did you mean \"retention\"?");
        assert_eq!(suggest("warn", &["server", "meeting"]), "known here: server, meeting");
        assert_eq!(suggest::<&str>("warn", &[]), "");
    }
}
