//! Which files are read, and their bytes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostics::Diagnostics;

/// The main file, and the directory of further ones beside it.
const MAIN: &str = "schedule.toml";
const MORE: &str = "schedule.d";
/// Bytes of one file.
const MAX_FILE: u64 = 16 << 20;

/// Reads every file that the paths name, in order, and returns the indexes of those that could be read.
///
/// A directory stands for `schedule.toml` and `schedule.d/*.toml` in it. A file that is itself named `schedule.toml`
/// brings the `schedule.d` beside it; any other file stands for itself. No file is read twice.
pub(super) fn read_all(paths: &[PathBuf], found: &mut Diagnostics) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut read = Vec::new();
    let files: Vec<PathBuf> = paths.iter().flat_map(|path| expand(path, found)).collect();
    for path in files {
        let first_time = seen.insert(fs::canonicalize(&path).unwrap_or_else(|_| path.clone()));
        if first_time {
            read.extend(read_one(&path, found));
        }
    }
    read
}

fn expand(path: &Path, found: &mut Diagnostics) -> Vec<PathBuf> {
    if path.is_dir() {
        let main = path.join(MAIN);
        let mut files = further(&path.join(MORE), found);
        if main.exists() || files.is_empty() {
            files.insert(0, main);
        }
        return files;
    }
    let mut files = vec![path.to_owned()];
    if path.file_name() == Some(OsStr::new(MAIN)) {
        files.extend(further(&path.with_file_name(MORE), found));
    }
    files
}

/// `*.toml` in name order. Hidden files are what editors leave behind.
fn further(directory: &Path, found: &mut Diagnostics) -> Vec<PathBuf> {
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            let file = found.add_source(directory, String::new());
            found.file_error(file, format!("cannot list {}: {error}", directory.display()), "");
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| is_toml(path)).collect();
    files.sort();
    files
}

fn is_toml(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension() == Some(OsStr::new("toml"))
}

fn read_one(path: &Path, found: &mut Diagnostics) -> Option<usize> {
    match read_text(path) {
        Ok(text) => Some(found.add_source(path, text)),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "name an existing file, or a directory that holds schedule.toml",
                io::ErrorKind::PermissionDenied => "the user that runs adjourn must be able to read it",
                _ => "",
            };
            let file = found.add_source(path, String::new());
            found.file_error(file, format!("cannot read {}: {error}", path.display()), hint);
            None
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("more than {} MiB", MAX_FILE >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::other(format!("it is not UTF-8 text (line {line})"))
    })
}
