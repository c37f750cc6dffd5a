//! The files of the journal, their names, and the lines in them.
//!
//! ```text
//! journal/
//!   00000000000000000001.ndjson              a segment, named by its first number
//!   00000000000000070005.ndjson              the next one
//!   checkpoint-00000000000000069000.ndjson   everything that was known at that number, or later
//! ```

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

const DIGITS: usize = 20;
const EXTENSION: &str = ".ndjson";
const CHECKPOINT: &str = "checkpoint-";
/// A job's record is far below; what is longer is damage.
const MAX_LINE_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// A segment, or a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Numbered {
    /// Of a segment the first number in it, of a checkpoint the one that it follows.
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// What is there, in order.
#[derive(Default, Debug)]
pub(super) struct Files {
    pub(super) segments: Vec<Numbered>,
    pub(super) checkpoints: Vec<Numbered>,
}

impl Files {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().chain(&self.checkpoints).map(|file| file.bytes).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.checkpoints.is_empty()
    }

    /// The segments in which the lines after this number are.
    pub(super) fn after(&self, number: u64) -> &[Numbered] {
        let beyond = self.segments.partition_point(|segment| segment.number <= number + 1);
        &self.segments[beyond.saturating_sub(1)..]
    }
}

pub(super) fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:0DIGITS$}{EXTENSION}"))
}

pub(super) fn checkpoint(dir: &Path, after: u64) -> PathBuf {
    dir.join(format!("{CHECKPOINT}{after:0DIGITS$}{EXTENSION}"))
}

/// No directory is an empty one. A file that goes meanwhile is left out.
pub(super) fn list(dir: &Path) -> io::Result<Files> {
    let mut files = Files::default();
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)) else { continue };
        let (digits, list) = match name.strip_prefix(CHECKPOINT) {
            Some(digits) => (digits, &mut files.checkpoints),
            None => (name, &mut files.segments),
        };
        let number = (digits.len() == DIGITS).then(|| digits.parse().ok()).flatten();
        if let (Some(number), Some(bytes)) = (number, size(&entry)?) {
            list.push(Numbered { number, path: entry.path(), bytes });
        }
    }
    files.segments.sort_by_key(|file| file.number);
    files.checkpoints.sort_by_key(|file| file.number);
    Ok(files)
}

fn size(entry: &fs::DirEntry) -> io::Result<Option<u64>> {
    match entry.metadata() {
        Ok(meta) => Ok(Some(meta.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads a file line by line, whatever is in it.
pub(super) struct Lines {
    file: BufReader<File>,
    bytes: Vec<u8>,
    /// Of the line that was read last, counted from one.
    pub(super) number: u64,
    /// Where it begins, and where the next one does.
    pub(super) offset: u64,
    next: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Lines> {
        let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
        Ok(Lines { file, bytes: Vec::new(), number: 0, offset: 0, next: 0 })
    }

    /// The next line without its newline; one that has none (the last one, or one that never ends) is cut by a byte, so
    /// that nobody takes it for whole.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.bytes.clear();
        let read = self.file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.bytes)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.offset = self.next;
        self.next += read as u64;
        self.bytes.pop();
        Ok(Some(&self.bytes))
    }

    /// Where the line after the one just read begins.
    pub(super) fn end(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(&dir.path().join("nothing")).unwrap().is_empty());
        for path in [segment(dir.path(), 10), segment(dir.path(), 9), checkpoint(dir.path(), 7)] {
            fs::write(path, "12").unwrap();
        }
        for other in ["1.ndjson", "notes", "checkpoint-x.ndjson", "00000000000000000001.ndjson.new"] {
            fs::write(dir.path().join(other), "x").unwrap();
        }
        let files = list(dir.path()).unwrap();
        let numbers = |files: &[Numbered]| files.iter().map(|file| file.number).collect::<Vec<_>>();
        assert_eq!((numbers(&files.segments), numbers(&files.checkpoints)), (vec![9, 10], vec![7]));
        assert_eq!(files.bytes(), 6);
        assert_eq!(numbers(files.after(8)), [9, 10]);
        assert_eq!(numbers(files.after(9)), [10]);
        assert_eq!(numbers(files.after(3)), [9, 10]);
    }

    #[test]
    fn a_last_line_without_its_end_is_never_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "one\n\ntwo").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            let line = String::from_utf8(line.to_vec()).unwrap();
            read.push((line, lines.number, lines.offset, lines.end()));
        }
        let expected = [("one", 1, 0, 4), ("", 2, 4, 5), ("tw", 3, 5, 8)];
        assert_eq!(read, expected.map(|(line, n, at, end)| (line.to_owned(), n, at, end)));
    }
}
