//! What people ask of the journal: is it whole, and what happened to a job? Read-only, also beside a daemon that writes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::checkpoint;
use super::files::{self, Lines, Numbered};
use super::line::{self, Head, Line};
use crate::job::{Entry, Job, JobId, UtcMs};

/// So many findings are told; one fault in the middle may make every line behind it one.
const MAX_FINDINGS: usize = 100;

/// What a verification found.
#[derive(Default, Debug)]
pub struct Audit {
    pub findings: Vec<Finding>,
    /// What is no fault, but should be known.
    pub notes: Vec<String>,
    pub lines: u64,
    pub segments: usize,
    pub checkpoints: usize,
    pub first: Option<u64>,
    pub last: Option<Head>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub path: PathBuf,
    /// Counted from one; 0: the file as a whole.
    pub line: u64,
    pub what: String,
}

/// Is there any file of a journal in this directory?
pub fn is_there(dir: &Path) -> io::Result<bool> {
    Ok(!files::list(dir)?.is_empty())
}

/// Follows the whole chain. `store`: how far the store has come, asked for before this is called; without it a cut tail
/// does not show. `noted`: a head that somebody noted down elsewhere; it must be in the chain, or else the whole directory,
/// store included, may have been rolled back or written anew.
pub fn verify(dir: &Path, store: Option<Head>, noted: Option<Head>) -> io::Result<Audit> {
    let files = files::list(dir)?;
    let mut verifier = Verifier { store, noted, ..Verifier::default() };
    // Told together with the lines that they follow.
    for file in &files.checkpoints {
        verifier.checkpoint(file)?;
    }
    // Where it may stand before the first line that there is.
    verifier.reached = store.is_some_and(|store| verifier.is_followed(store));
    verifier.met = noted.is_some_and(|noted| verifier.is_followed(noted));
    let first = files.segments.first().map_or(1, |segment| segment.number);
    if first > 1 && !verifier.followed.keys().any(|seq| *seq + 1 >= first) {
        let path = files.segments[0].path.clone();
        verifier.find(
            &path,
            0,
            format!("the lines before {first} are missing, and no checkpoint stands for them"),
        );
    }
    for (n, segment) in files.segments.iter().enumerate() {
        verifier.segment(segment, n + 1 == files.segments.len())?;
    }
    verifier.compare(dir);
    Ok(Audit { segments: files.segments.len(), checkpoints: files.checkpoints.len(), ..verifier.audit })
}

#[derive(Default)]
struct Verifier {
    audit: Audit,
    store: Option<Head>,
    /// The line that the store has reached was seen, or a checkpoint stands for it. What is not whole behind it was never
    /// acknowledged.
    reached: bool,
    /// The head that was noted down elsewhere, and whether the chain has it.
    noted: Option<Head>,
    met: bool,
    /// The last line, where it could be read.
    head: Option<Head>,
    /// The lines that checkpoints follow, and the files.
    followed: BTreeMap<u64, (Head, PathBuf)>,
    /// Place in the group, and its size.
    part: (u64, u64),
}

impl Verifier {
    fn is_followed(&self, head: Head) -> bool {
        head == Head::ORIGIN || self.followed.get(&head.seq).is_some_and(|(followed, _)| *followed == head)
    }

    fn checkpoint(&mut self, file: &Numbered) -> io::Result<()> {
        match checkpoint::read(&file.path, &mut |_| Ok(()))? {
            Ok(head) if head.seq == file.number => {
                self.followed.insert(head.seq, (head, file.path.clone()));
            }
            Ok(_) => self.find(&file.path, 1, "it is not the checkpoint that its name says".to_owned()),
            Err((line, why)) => self.find(&file.path, line, why),
        }
        Ok(())
    }

    fn segment(&mut self, segment: &Numbered, is_last: bool) -> io::Result<()> {
        match self.audit.last {
            Some(last) if segment.number > last.seq + 1 => self.find(
                &segment.path,
                0,
                format!("the lines {} to {} before it are missing", last.seq + 1, segment.number - 1),
            ),
            Some(last) if segment.number <= last.seq => {
                self.find(&segment.path, 0, "it is not the segment that its name says".to_owned());
            }
            Some(_) => {}
            None if segment.number == 1 => self.head = Some(Head::ORIGIN),
            None => self.head = self.followed.get(&(segment.number - 1)).map(|(head, _)| *head),
        }
        let mut lines = Lines::open(&segment.path)?;
        let (mut number, mut bad) = (0, Vec::new());
        while let Some(bytes) = lines.next()? {
            number += 1;
            match line::read(bytes) {
                Err(fault) => {
                    bad.push((number, fault.to_string()));
                    self.head = None;
                }
                Ok(line) => {
                    self.tell_bad(&segment.path, std::mem::take(&mut bad));
                    self.line(&segment.path, number, &line);
                }
            }
        }
        if is_last && !bad.is_empty() && self.reached {
            let note = "the last write is not whole: it is under way, or was cut off and will be removed at the next start";
            self.audit.notes.push(format!("{}:{}: {note}", segment.path.display(), bad[0].0));
        } else {
            self.tell_bad(&segment.path, bad);
        }
        Ok(())
    }

    fn tell_bad(&mut self, path: &Path, bad: Vec<(u64, String)>) {
        for (number, why) in bad {
            self.find(path, number, why);
        }
    }

    fn line(&mut self, path: &Path, number: u64, line: &Line<'_>) {
        self.audit.lines += 1;
        self.audit.first.get_or_insert(line.begins());
        let last = self.audit.last.map(|last| last.seq);
        if let Some(what) = self.fault(line) {
            self.find(path, number, what);
        } else if let Some(what) = self.fault_of_group(line) {
            self.find(path, number, what);
        }
        self.part = (line.part, line.parts);
        self.head = Some(line.head());
        if last.is_none_or(|last| last < line.seq) {
            self.audit.last = self.head;
        }
        self.reached |= self.store == self.head;
        self.met |= self.noted == self.head;
        if let Some((head, file)) = self.followed.get(&line.seq).filter(|(head, _)| *head != line.head()) {
            let what =
                format!("it is not the line that {} follows, whose hash is {}", file.display(), head.hash);
            self.find(path, number, what);
        }
    }

    fn fault(&self, line: &Line<'_>) -> Option<String> {
        let expected = match (self.head, self.audit.last) {
            (Some(head), _) => head.seq + 1,
            // The line before it has been told of already.
            (None, Some(last)) if line.begins() > last.seq + 1 => return None,
            (None, Some(last)) => last.seq + 1,
            (None, None) => return None,
        };
        let begins = line.begins();
        if begins > expected {
            return Some(format!("the lines {expected} to {} are missing", begins - 1));
        }
        if begins < expected {
            return Some(format!("it is repeated or out of order: {expected} was to follow"));
        }
        let follows = self.head.is_none_or(|head| head.hash == line.prev);
        (!follows).then(|| "it does not follow the line before it: one of them was replaced".to_owned())
    }

    fn fault_of_group(&self, line: &Line<'_>) -> Option<String> {
        let (part, parts) = self.part;
        let begins = line.part == 1 && part == parts;
        let goes_on = line.part == part + 1 && line.parts == parts;
        let fits = begins || goes_on || self.head.is_none();
        (!fits).then(|| "it is out of place in its group: one of them was replaced".to_owned())
    }

    fn compare(&mut self, dir: &Path) {
        if let Some((path, head)) = self.gap_at_the_end() {
            let what = format!("the journal ends before line {}, which this checkpoint follows", head.seq);
            self.find(&path, 1, what);
        }
        self.compare_noted(dir);
        let Some(store) = self.store else {
            self.audit.notes.push("not compared with the store: a cut tail would not show".to_owned());
            return;
        };
        if self.reached {
            return;
        }
        let what = match self.audit.last {
            Some(last) if last.seq >= store.seq => {
                format!(
                    "the store has line {} with the hash {}, and the journal has another",
                    store.seq, store.hash
                )
            }
            last => {
                let last = last.map_or(0, |last| last.seq);
                format!(
                    "the tail was cut: the store has come to line {}, the journal ends at {last}",
                    store.seq
                )
            }
        };
        self.find(dir, 0, what);
    }

    fn compare_noted(&mut self, dir: &Path) {
        let Some(noted) = self.noted.filter(|_| !self.met) else { return };
        let (first, last) = (self.audit.first.unwrap_or(1), self.audit.last.map_or(0, |last| last.seq));
        let what = if noted.seq > last {
            format!(
                "the journal ends at line {last}, and line {} was noted before: the state directory was rolled back to an \
                 older copy, or the end was cut off",
                noted.seq
            )
        } else if noted.seq < first {
            format!(
                "line {} cannot be compared with what was noted: the journal begins with line {first}",
                noted.seq
            )
        } else {
            format!(
                "line {} is not the one that was noted, with the hash {}: the journal was rolled back and went on, or was \
                 written anew",
                noted.seq, noted.hash
            )
        };
        self.find(dir, 0, what);
    }

    fn gap_at_the_end(&self) -> Option<(PathBuf, Head)> {
        let (seq, (head, path)) = self.followed.last_key_value()?;
        let last = self.audit.last?;
        (last.seq < *seq).then(|| (path.clone(), *head))
    }

    fn find(&mut self, path: &Path, line: u64, what: String) {
        if self.audit.findings.len() < MAX_FINDINGS {
            self.audit.findings.push(Finding { path: path.to_owned(), line, what });
        } else if self.audit.findings.len() == MAX_FINDINGS {
            self.audit.findings.push(Finding { path: path.to_owned(), line, what: "and more".to_owned() });
        }
    }
}

/// What the journal knows of a job.
#[derive(Debug)]
pub struct Told {
    /// Its last record.
    pub job: Job,
    /// Every fact that some record of it still had, in order.
    pub entries: Vec<Entry>,
    /// When it was forgotten.
    pub forgotten: Option<UtcMs>,
}

/// Looks for the job whose id ends with these digits, in everything that is kept. Several: whose ids do.
pub fn tell(dir: &Path, digits: &str) -> io::Result<Result<Option<Told>, Vec<JobId>>> {
    let digits: String = digits.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    // The last group of an id has twelve digits in one piece.
    let needle = &digits[digits.len().saturating_sub(12)..];
    let files = files::list(dir)?;
    let mut teller = Teller { digits: &digits, ids: BTreeSet::new(), facts: BTreeMap::new(), told: None };
    for file in files.checkpoints.iter().chain(&files.segments) {
        let mut lines = Lines::open(&file.path)?;
        while let Some(bytes) = lines.next()? {
            if std::str::from_utf8(bytes).is_ok_and(|text| text.contains(needle))
                && let Ok(line) = line::read::<Job, IgnoredAny>(bytes)
            {
                teller.hear(line);
            }
        }
    }
    if teller.ids.len() > 1 {
        return Ok(Err(teller.ids.into_iter().collect()));
    }
    let entries = teller.facts.into_values().collect();
    Ok(Ok(teller.told.map(|(job, forgotten)| Told { job, entries, forgotten })))
}

struct Teller<'a> {
    digits: &'a str,
    ids: BTreeSet<JobId>,
    /// By their place in the story.
    facts: BTreeMap<usize, Entry>,
    told: Option<(Job, Option<UtcMs>)>,
}

impl Teller<'_> {
    fn is_meant(&self, id: JobId) -> bool {
        id.0.simple().to_string().ends_with(self.digits)
    }

    fn hear(&mut self, line: Line<'_, Job>) {
        let at = line.at();
        if let Some(id) = line.remove.filter(|id| self.is_meant(*id))
            && let Some((job, forgotten)) = &mut self.told
            && job.id == id
        {
            *forgotten = at;
        }
        let Some(job) = line.put.filter(|job| self.is_meant(job.id)) else { return };
        self.ids.insert(job.id);
        for (place, entry) in job.history.placed() {
            self.facts.entry(place).or_insert_with(|| entry.clone());
        }
        let is_later = self.told.as_ref().is_none_or(|(told, _)| told.history.total() <= job.history.total());
        if is_later {
            self.told = Some((job, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Bodies;
    use super::*;
    use crate::job::{By, Fact};
    use crate::store::tests::{id, job, now};

    /// Two segments of single lines, 1 to 3 and 4 to 6; their lines, and the last head.
    fn journal(dir: &Path) -> (Vec<Vec<u8>>, Head) {
        let (mut head, mut lines) = (Head::ORIGIN, Vec::new());
        for n in 1..=6_u64 {
            let (mut body, mut line) = (Bodies::default(), Vec::new());
            body.put(&serde_json::to_vec(&job(n, 5)).unwrap());
            head = body.write(&mut line, head, 0, UtcMs(7));
            lines.push(line);
        }
        write(dir, &lines);
        (lines, head)
    }

    fn write(dir: &Path, lines: &[Vec<u8>]) {
        std::fs::write(files::segment(dir, 1), lines[..3].concat()).unwrap();
        std::fs::write(files::segment(dir, 4), lines[3..].concat()).unwrap();
    }

    #[track_caller]
    fn check(dir: &Path, store: Option<Head>, place: &str, what: &str) {
        let audit = verify(dir, store, None).unwrap();
        let found = audit.findings.iter().any(|finding| {
            let name = finding.path.file_name().unwrap().to_string_lossy().into_owned();
            format!("{name}:{}", finding.line).contains(place) && finding.what.contains(what)
        });
        assert!(found, "{audit:#?}");
    }

    const FIRST: &str = "00000000000000000001.ndjson";
    const SECOND: &str = "00000000000000000004.ndjson";

    #[test]
    fn a_whole_journal_has_no_findings() {
        let dir = tempfile::tempdir().unwrap();
        let (_, head) = journal(dir.path());
        let audit = verify(dir.path(), Some(head), None).unwrap();
        assert_eq!((audit.findings, audit.notes), (vec![], vec![]));
        assert_eq!((audit.lines, audit.first, audit.last), (6, Some(1), Some(head)));
        assert_eq!(verify(dir.path(), None, None).unwrap().notes.len(), 1);
    }

    #[test]
    fn edited_removed_reordered_and_repeated_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, head) = journal(dir.path());
        let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            write(dir.path(), &lines);
        };
        changed(&|lines| lines[1][200] ^= 1);
        check(dir.path(), Some(head), &format!("{FIRST}:2"), "edited or damaged");
        changed(&|lines| lines[1].clear());
        check(dir.path(), Some(head), &format!("{FIRST}:2"), "the lines 2 to 2 are missing");
        changed(&|lines| lines.swap(3, 4));
        check(dir.path(), Some(head), &format!("{SECOND}:1"), "the lines 4 to 4 are missing");
        check(dir.path(), Some(head), &format!("{SECOND}:2"), "out of order");
        changed(&|lines| lines[5] = lines[4].clone());
        check(dir.path(), Some(head), &format!("{SECOND}:3"), "repeated");
    }

    /// Somebody edits a line and writes its hash anew: the next line, or the store, tells.
    #[test]
    fn a_line_with_a_hash_of_its_own_does_not_pass() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, head) = journal(dir.path());
        let forged = |n: usize| {
            let before: Line<'_> = line::read(lines[n - 1].strip_suffix(b"\n").unwrap()).ok().unwrap();
            let (mut body, mut line) = (Bodies::default(), Vec::new());
            body.remove(id(3));
            body.write(&mut line, before.head(), 0, UtcMs(7));
            let mut lines = lines.clone();
            lines[n] = line;
            write(dir.path(), &lines);
        };
        forged(2);
        check(dir.path(), Some(head), &format!("{SECOND}:1"), "does not follow");
        forged(5);
        check(dir.path(), Some(head), ":0", "the journal has another");
    }

    #[test]
    fn missing_segments_and_a_cut_tail_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, head) = journal(dir.path());
        std::fs::write(files::segment(dir.path(), 4), lines[3..5].concat()).unwrap();
        check(dir.path(), Some(head), ":0", "the store has come to line 6, the journal ends at 5");
        std::fs::remove_file(files::segment(dir.path(), 4)).unwrap();
        check(dir.path(), Some(head), ":0", "the journal ends at 3");
        write(dir.path(), &lines);
        std::fs::remove_file(files::segment(dir.path(), 1)).unwrap();
        check(dir.path(), Some(head), &format!("{SECOND}:0"), "the lines before 4 are missing");
        std::fs::write(files::segment(dir.path(), 7), "").unwrap();
        write(dir.path(), &lines);
        std::fs::remove_file(files::segment(dir.path(), 4)).unwrap();
        check(dir.path(), Some(head), "00000000000000000007.ndjson:0", "the lines 4 to 6");
    }

    /// Whoever puts back an older copy of everything is found out by what was noted elsewhere, and by nothing else.
    #[test]
    fn a_head_that_was_noted_down_must_be_in_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, head) = journal(dir.path());
        let at = |n: usize| {
            line::read::<IgnoredAny, IgnoredAny>(lines[n].strip_suffix(b"\n").unwrap()).ok().unwrap().head()
        };
        let findings =
            |store: Head, noted: Head| verify(dir.path(), Some(store), Some(noted)).unwrap().findings;
        for noted in [head, at(2), Head::ORIGIN] {
            assert_eq!(findings(head, noted), [], "{noted}");
            assert_eq!(noted.to_string().parse(), Ok(noted));
        }
        let found = findings(head, Head { seq: 4, ..head });
        assert!(found[0].what.contains("line 4 is not the one that was noted"), "{found:?}");
        write(dir.path(), &lines[..4]);
        let found = findings(at(3), head);
        assert!(found.len() == 1 && found[0].what.contains("rolled back to an older copy"), "{found:?}");
        assert!("4".parse::<Head>().is_err() && "4:abc".parse::<Head>().is_err());
    }

    #[test]
    fn a_write_under_way_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        let (mut lines, _) = journal(dir.path());
        let reached: Line<'_> = line::read(lines[4].strip_suffix(b"\n").unwrap()).ok().unwrap();
        let store = reached.head();
        let half = lines[5].len() / 2;
        lines[5].truncate(half);
        write(dir.path(), &lines);
        let audit = verify(dir.path(), Some(store), None).unwrap();
        assert_eq!(audit.findings, []);
        assert!(audit.notes[0].contains(&format!("{SECOND}:3: the last write is not whole")));
    }

    #[test]
    fn the_whole_story_comes_back_though_the_record_has_dropped_its_middle() {
        const FACTS: i64 = 200;
        let dir = tempfile::tempdir().unwrap();
        let (mut told, mut head, mut bytes) = (job(1, 5), Head::ORIGIN, Vec::new());
        let other = JobId(uuid::Uuid::from_u64_pair(9, id(1).0.as_u64_pair().1));
        for n in 0..FACTS {
            told.record(now(n), Fact::Moved { to: UtcMs(n), extension: false, by: By::Schedule });
            let mut body = Bodies::default();
            body.put(&serde_json::to_vec(&told).unwrap());
            body.put(&serde_json::to_vec(&job(2, 5)).unwrap());
            head = body.write(&mut bytes, head, 0, UtcMs(n));
        }
        let mut body = Bodies::default();
        body.remove(id(1));
        head = body.write(&mut bytes, head, 0, UtcMs(5_000));
        std::fs::write(files::segment(dir.path(), 1), &bytes).unwrap();
        let heard = tell(dir.path(), &id(1).short()).unwrap().unwrap().unwrap();
        assert_eq!(heard.job, told);
        assert_eq!((heard.entries.len(), heard.forgotten), (201, Some(UtcMs(5_000))));
        let times: Vec<i64> = heard.entries[1..].iter().map(|entry| entry.at.wall.0).collect();
        assert_eq!(times, (0..FACTS).collect::<Vec<_>>());
        assert!(tell(dir.path(), &id(1).to_string()).unwrap().unwrap().is_some());
        assert!(tell(dir.path(), "ffffffff").unwrap().unwrap().is_none());

        let mut body = Bodies::default();
        body.put(&serde_json::to_vec(&Job { id: other, ..job(7, 5) }).unwrap());
        body.write(&mut bytes, head, 0, UtcMs(5_000));
        std::fs::write(files::segment(dir.path(), 1), &bytes).unwrap();
        assert_eq!(tell(dir.path(), &id(1).short()).unwrap().unwrap_err(), [other, id(1)]);
    }
}
