//! Follows the chain from a base to the end, and tells a write that was cut off from damage.
//!
//! A write that was cut off (a crash, a power cut) can only be the last one, in the last segment: nothing is appended
//! before what stands in front of it is synced. It may leave holes, zeros, or remains of what was cut away before. So
//! whatever follows the last whole group there is **torn**, and was never acknowledged, unless a believable line in it
//! belongs to a later group: then the chain is **broken**, as it is everywhere else.

use std::io;

use serde::de::IgnoredAny;

use super::files::{Lines, Numbered};
use super::line::{self, Fault, Head, Line};

/// A line of a whole group.
pub(super) struct Entry<'a> {
    pub(super) head: Head,
    /// The first number that it accounts for: its own, unless it is a void.
    pub(super) begins: u64,
    pub(super) bytes: &'a [u8],
}

/// Where the journal ends.
#[derive(Debug)]
pub(in crate::store) struct Walk {
    /// The last line of the last whole group.
    pub(in crate::store) head: Head,
    /// The bytes of the last segment up to there.
    pub(in crate::store) end: u64,
    /// Bytes from the base on.
    pub(in crate::store) bytes: u64,
    pub(in crate::store) tail: Tail,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::store) enum Tail {
    Clean,
    /// The last write was cut off: so many bytes of it are there.
    Torn(u64),
    Broken(Broken),
    Newer(u32),
}

/// A chain that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::store) struct Broken {
    /// Where, and what.
    pub(in crate::store) why: String,
    /// The highest number of a believable line: the journal had at least those.
    pub(in crate::store) reaches: u64,
}

/// Reads the segments from the one that holds the line after `base`, and shows every line after it that is in a whole
/// group. The caller's errors end it.
pub(super) fn walk(
    segments: &[Numbered],
    base: Head,
    visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
) -> io::Result<Walk> {
    let mut walker = Walker { base, head: None, whole: None, parts: 0, group: Vec::new(), visit };
    let (mut end, mut bytes) = (0, 0);
    for (n, segment) in segments.iter().enumerate() {
        end = 0;
        if let Err(why) = walker.enter(segment.number) {
            return broken(
                &segments[n..],
                walker.head_or_base(),
                &format!("{}: {why}", segment.path.display()),
            );
        }
        let mut lines = Lines::open(&segment.path)?;
        loop {
            let fault = match lines.next()? {
                None if walker.group.is_empty() => break,
                None => Fault::Bad("a group of lines has no end"),
                Some(bytes) => match line::read(bytes).and_then(|line| walker.follow(&line).map(|()| line)) {
                    Err(fault) => fault,
                    Ok(line) => {
                        walker.take(&line, bytes)?;
                        if walker.group.is_empty() {
                            end = lines.end();
                        }
                        continue;
                    }
                },
            };
            let at = format!("{}:{}: {fault}", segment.path.display(), lines.number);
            let tail = fault_tail(&segments[n..], end, &walker, fault, at)?;
            return Ok(Walk { head: walker.head_or_base(), end, bytes: bytes + end, tail });
        }
        bytes += end;
    }
    if !segments.is_empty() && !walker.has_reached_base() {
        return broken(&[], base, "the journal ends before its last checkpoint");
    }
    Ok(Walk { head: walker.head_or_base(), end, bytes, tail: Tail::Clean })
}

fn broken(rest: &[Numbered], head: Head, why: &str) -> io::Result<Walk> {
    let reaches = believable(rest)?.last.max(head.seq);
    let tail = Tail::Broken(Broken { why: why.to_owned(), reaches });
    Ok(Walk { head, end: 0, bytes: 0, tail })
}

/// What a line that is not believed means, in the first of these segments, whose good part ends at `end`.
fn fault_tail(
    rest: &[Numbered],
    end: u64,
    walker: &Walker<'_>,
    fault: Fault,
    at: String,
) -> io::Result<Tail> {
    let head = walker.head_or_base();
    if let Fault::Newer(format) = fault {
        return Ok(Tail::Newer(format));
    }
    let found = believable(rest)?;
    let is_last = rest[1..].iter().all(|segment| segment.bytes == 0) && walker.has_reached_base();
    Ok(if is_last && found.latest_group <= head.seq + 1 {
        Tail::Torn(rest[0].bytes.saturating_sub(end))
    } else {
        Tail::Broken(Broken { why: at, reaches: found.last.max(head.seq) })
    })
}

#[derive(Default)]
struct Believable {
    last: u64,
    latest_group: u64,
}

/// Over all lines that fit their own hash, whatever they follow.
fn believable(segments: &[Numbered]) -> io::Result<Believable> {
    let mut found = Believable::default();
    for segment in segments {
        let mut lines = Lines::open(&segment.path)?;
        while let Some(bytes) = lines.next()? {
            if let Ok(line) = line::read::<IgnoredAny, IgnoredAny>(bytes) {
                found.last = found.last.max(line.seq);
                found.latest_group = found.latest_group.max(line.group());
            }
        }
    }
    Ok(found)
}

struct Walker<'a> {
    base: Head,
    /// The last line; none before the first one of a segment that begins before the base.
    head: Option<Head>,
    /// The last line of the last whole group.
    whole: Option<Head>,
    parts: u64,
    /// The lines of a group that is not whole yet.
    group: Vec<(Head, u64, Vec<u8>)>,
    visit: &'a mut dyn FnMut(Entry<'_>) -> io::Result<()>,
}

impl Walker<'_> {
    fn head_or_base(&self) -> Head {
        self.whole.unwrap_or(self.base)
    }

    fn has_reached_base(&self) -> bool {
        match self.whole {
            Some(head) => head.seq >= self.base.seq,
            None => self.head.is_some(),
        }
    }

    /// Begins a segment of this name.
    fn enter(&mut self, first: u64) -> Result<(), String> {
        let Some(head) = self.whole else {
            if first > self.base.seq + 1 {
                return Err(format!("the lines {} to {} are missing", self.base.seq + 1, first - 1));
            }
            // A segment that begins earlier shows the base itself.
            self.head = (first == self.base.seq + 1).then_some(self.base);
            return Ok(());
        };
        if first == head.seq + 1 {
            return Ok(());
        }
        Err(format!("it begins at {first}, and the segment before it ends at {}", head.seq))
    }

    fn follow(&self, line: &Line<'_>) -> Result<(), Fault> {
        if let Some(head) = self.head {
            if line.begins() != head.seq + 1 {
                return Err(Fault::Bad("lines before it are missing, repeated or out of order"));
            }
            if line.prev != head.hash {
                return Err(Fault::Bad("it does not follow the line before it"));
            }
        }
        let parts = self.group.len() as u64;
        if line.part != parts + 1 || (parts > 0 && line.parts != self.parts) || line.part > line.parts {
            return Err(Fault::Bad("it is out of place in its group"));
        }
        let passes_base = line.begins() <= self.base.seq && line.seq >= self.base.seq;
        if passes_base && line.head() != self.base {
            return Err(Fault::Bad("it is not the line that the checkpoint follows"));
        }
        Ok(())
    }

    fn take(&mut self, line: &Line<'_>, bytes: &[u8]) -> io::Result<()> {
        self.head = Some(line.head());
        self.parts = line.parts;
        if line.parts > 1 {
            self.group.push((line.head(), line.begins(), bytes.to_vec()));
            if line.part < line.parts {
                return Ok(());
            }
        }
        for (head, begins, bytes) in self.group.drain(..) {
            if head.seq > self.base.seq {
                (self.visit)(Entry { head, begins, bytes: &bytes })?;
            }
        }
        if line.parts == 1 && line.seq > self.base.seq {
            (self.visit)(Entry { head: line.head(), begins: line.begins(), bytes })?;
        }
        self.whole = self.head;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::files;
    use super::super::line::Bodies;
    use super::*;
    use crate::job::UtcMs;
    use crate::store::tests::id;

    /// Groups of these sizes, one file for each list. The file's bytes, and where each group ends.
    fn written(dir: &std::path::Path, segments: &[&[u64]]) -> (PathBuf, Vec<usize>, Head) {
        let (mut head, mut last) = (Head::ORIGIN, (PathBuf::new(), Vec::new()));
        for groups in segments {
            let (path, mut bytes, mut ends) = (files::segment(dir, head.seq + 1), Vec::new(), Vec::new());
            for lines in *groups {
                let mut bodies = Bodies::default();
                (0..*lines).for_each(|n| bodies.remove(id(n)));
                head = bodies.write(&mut bytes, head, 0, UtcMs(1));
                ends.push(bytes.len());
            }
            std::fs::write(&path, bytes).unwrap();
            last = (path, ends);
        }
        (last.0, last.1, head)
    }

    fn walked(dir: &std::path::Path, base: Head) -> (Walk, Vec<u64>) {
        let (files, mut seen) = (files::list(dir).unwrap(), Vec::new());
        let walk = walk(files.after(base.seq), base, &mut |entry| {
            seen.push(entry.head.seq);
            Ok(())
        });
        (walk.unwrap(), seen)
    }

    #[test]
    fn a_whole_journal_is_shown_from_the_base_on() {
        let dir = tempfile::tempdir().unwrap();
        let (_, ends, head) = written(dir.path(), &[&[1, 3], &[2], &[1, 1]]);
        let (walk, seen) = walked(dir.path(), Head::ORIGIN);
        assert_eq!((walk.head, walk.tail, seen.len()), (head, Tail::Clean, 8));
        assert_eq!(walk.end, ends[1] as u64);
        let (walk, seen) = walked(dir.path(), head);
        assert_eq!((walk.head, walk.tail, seen), (head, Tail::Clean, vec![]));
        let wrong = Head { seq: 7, ..head };
        assert!(matches!(walked(dir.path(), wrong).0.tail, Tail::Broken(_)));
        let beyond = Head { seq: 9, ..head };
        assert!(matches!(walked(dir.path(), beyond).0.tail, Tail::Broken(_)));
    }

    #[test]
    fn wherever_the_last_write_is_cut_the_groups_before_it_count() {
        let dir = tempfile::tempdir().unwrap();
        let (path, ends, _) = written(dir.path(), &[&[1], &[1, 3]]);
        let whole = std::fs::read(&path).unwrap();
        for keep in ends[0]..whole.len() {
            std::fs::write(&path, &whole[..keep]).unwrap();
            let (walk, seen) = walked(dir.path(), Head::ORIGIN);
            assert_eq!(seen, [1, 2], "{keep}");
            let torn = (keep - ends[0]) as u64;
            let expected = if torn == 0 { Tail::Clean } else { Tail::Torn(torn) };
            assert_eq!((walk.tail, walk.end), (expected, ends[0] as u64), "{keep}");
        }
    }

    #[test]
    fn holes_in_the_last_write_are_torn_and_in_an_earlier_one_broken() {
        let dir = tempfile::tempdir().unwrap();
        let (path, ends, _) = written(dir.path(), &[&[1, 3, 1]]);
        let whole = std::fs::read(&path).unwrap();
        let check = |keep: usize, hole: usize, torn: bool| {
            let mut bytes = whole[..keep].to_vec();
            bytes[hole..hole + 9].fill(0);
            std::fs::write(&path, bytes).unwrap();
            let (walk, _) = walked(dir.path(), Head::ORIGIN);
            match walk.tail {
                Tail::Torn(_) => assert!(torn, "{keep} {hole}"),
                Tail::Broken(broken) => assert!(!torn && broken.reaches == 5, "{keep} {hole} {broken:?}"),
                other => panic!("{other:?}"),
            }
        };
        // The group of three is the last: its first line is lost, the others are there.
        check(ends[1], ends[0] + 20, true);
        check(whole.len(), ends[0] + 20, false);
        check(whole.len(), 20, false);
        check(whole.len(), ends[1] + 20, true);
    }

    #[test]
    fn removed_moved_and_repeated_lines_and_segments_are_broken() {
        let dir = tempfile::tempdir().unwrap();
        let (path, ends, _) = written(dir.path(), &[&[1], &[1, 1, 1]]);
        let whole = std::fs::read(&path).unwrap();
        let (one, two, three) = (&whole[..ends[0]], &whole[ends[0]..ends[1]], &whole[ends[1]..]);
        for lines in
            [vec![two, three], vec![one, three], vec![two, one, three], vec![one, two, two, three, three]]
        {
            let expect_torn = lines.len() == 5;
            std::fs::write(&path, lines.concat()).unwrap();
            match walked(dir.path(), Head::ORIGIN).0.tail {
                Tail::Broken(broken) => assert_eq!(broken.reaches, 4),
                // The sequence number that the store holds tells this one.
                Tail::Torn(_) => assert!(expect_torn),
                other => panic!("{other:?}"),
            }
        }
        std::fs::write(&path, &whole).unwrap();
        std::fs::remove_file(files::segment(dir.path(), 1)).unwrap();
        assert!(matches!(walked(dir.path(), Head::ORIGIN).0.tail, Tail::Broken(b) if b.reaches == 4));
    }
}
