//! What there is of the journal when the store opens, and where sled stands in it.

use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint;
use super::files::{self, Files, Numbered};
use super::line::{self, Head};
use super::walk::{Broken, Tail, Walk, walk};
use crate::job::Job;
use crate::platform::Memory;
use crate::store::Change;

pub(in crate::store) enum Survey {
    Absent,
    Sound(Sound),
    Damaged(Broken),
    Newer(u32),
}

/// From the latest checkpoint on, everything holds.
pub(in crate::store) struct Sound {
    pub(in crate::store) walk: Walk,
    pub(in crate::store) last_segment: Option<PathBuf>,
    /// Where the head that sled names is.
    pub(in crate::store) sled: Found,
    /// Bytes of the latest checkpoint.
    pub(in crate::store) checkpoint_bytes: u64,
}

/// Where the head that sled names is in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Found {
    /// It is one of its lines, or the base.
    Held,
    /// Its number was refused.
    Refused,
    /// It lies before the latest checkpoint.
    Older,
    No,
}

impl Sound {
    /// Nothing has ever been written to it.
    pub(in crate::store) fn is_new(&self) -> bool {
        self.walk.head == Head::ORIGIN && self.checkpoint_bytes == 0 && self.torn().is_none()
    }

    /// How to go on without a last write that is not whole, where nobody can say whether it was acknowledged.
    pub(in crate::store) fn how_to_cut(&self) -> Option<String> {
        let (segment, end) = (self.last_segment.as_ref()?, self.walk.end);
        self.torn().map(|_bytes| format!("truncate --size={end} '{}'", segment.display()))
    }

    /// Bytes of a last write that was cut off.
    pub(in crate::store) fn torn(&self) -> Option<u64> {
        match self.walk.tail {
            Tail::Torn(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// `sled`: the head that sled has reached.
pub(in crate::store) fn survey(dir: &Path, sled: Option<Head>) -> io::Result<Survey> {
    let files = files::list(dir)?;
    if files.is_empty() {
        return Ok(Survey::Absent);
    }
    let Some((base, checkpoint)) = bases(&files)?.into_iter().next() else {
        let why = "no checkpoint can be read, and the first lines are gone".to_owned();
        let reaches = files.segments.last().map_or(0, |segment| segment.number);
        return Ok(Survey::Damaged(Broken { why, reaches }));
    };
    let mut found = match sled {
        Some(sled) if sled == base => Found::Held,
        Some(sled) if sled.seq < base.seq => Found::Older,
        _ => Found::No,
    };
    let walk = walk(files.after(base.seq), base, &mut |entry| {
        if let Some(sled) = sled.filter(|_| found == Found::No) {
            if entry.head == sled {
                found = Found::Held;
            } else if (entry.begins..entry.head.seq).contains(&sled.seq) {
                found = Found::Refused;
            }
        }
        Ok(())
    })?;
    Ok(match walk.tail {
        Tail::Newer(format) => Survey::Newer(format),
        Tail::Broken(broken) => Survey::Damaged(broken),
        Tail::Clean | Tail::Torn(_) => Survey::Sound(Sound {
            walk,
            last_segment: files.segments.last().map(|segment| segment.path.clone()),
            sled: found,
            checkpoint_bytes: checkpoint.map_or(0, |file| file.bytes),
        }),
    })
}

/// Where reading may begin, the latest first: the checkpoints, and the very first line.
fn bases(files: &Files) -> io::Result<Vec<(Head, Option<&Numbered>)>> {
    let mut bases = Vec::new();
    for file in files.checkpoints.iter().rev() {
        match checkpoint::head(&file.path)? {
            Some(head) if head.seq == file.number => bases.push((head, Some(file))),
            _ => tracing::error!(path = %file.path.display(), "a checkpoint cannot be read"),
        }
    }
    if files.segments.first().is_some_and(|segment| segment.number == 1) {
        bases.push((Head::ORIGIN, None));
    }
    Ok(bases)
}

/// Shows every change after `sled` up to the end; with `None` everything from a checkpoint that can be read on. Says why
/// there is no way.
pub(in crate::store) fn replay(
    dir: &Path,
    sled: Option<Head>,
    change: &mut dyn FnMut(Head, Option<Change>) -> io::Result<()>,
) -> io::Result<Result<Head, String>> {
    let files = files::list(dir)?;
    let (base, checkpoint) = match sled {
        Some(sled) => (sled, None),
        None => match readable_base(&files)? {
            Ok(base) => base,
            Err(why) => return Ok(Err(why)),
        },
    };
    if let Some(file) = checkpoint {
        let read = checkpoint::read(&file.path, &mut |bytes| change(base, parse(bytes)?))?;
        if let Err((line, why)) = read {
            return Ok(Err(format!("{}:{line}: {why}", file.path.display())));
        }
    }
    let walk = walk(files.after(base.seq), base, &mut |entry| change(entry.head, parse(entry.bytes)?))?;
    Ok(match walk.tail {
        Tail::Broken(broken) => Err(broken.why),
        Tail::Newer(format) => Err(format!("a newer adjourn wrote it (format {format})")),
        Tail::Clean | Tail::Torn(_) => Ok(walk.head),
    })
}

/// Is there a way to [`replay`] all of it? If not, why.
pub(in crate::store) fn can_replay(dir: &Path) -> io::Result<Result<(), String>> {
    Ok(readable_base(&files::list(dir)?)?.map(|_base| ()))
}

type Base<'a> = (Head, Option<&'a Numbered>);

/// The latest base that is whole, with everything behind it.
fn readable_base(files: &Files) -> io::Result<Result<Base<'_>, String>> {
    let mut first_fault = None;
    for (head, file) in bases(files)? {
        let fault = match file {
            Some(file) => checkpoint::read(&file.path, &mut |_| Ok(()))?
                .err()
                .map(|(line, why)| format!("{}:{line}: {why}", file.path.display())),
            None => None,
        };
        let fault = match fault {
            None => match walk(files.after(head.seq), head, &mut |_| Ok(()))?.tail {
                Tail::Broken(broken) => Some(broken.why),
                _ => return Ok(Ok((head, file))),
            },
            fault => fault,
        };
        first_fault = first_fault.or(fault);
    }
    Ok(Err(first_fault.unwrap_or_else(|| "it has no checkpoint that can be read".to_owned())))
}

/// The change that a line stands for; nothing for a void.
fn parse(bytes: &[u8]) -> io::Result<Option<Change>> {
    let unknown = || io::Error::other("a line of the journal is sound, but not of this adjourn");
    let line = line::read::<Job, Memory>(bytes).map_err(|_| unknown())?;
    if let Some(job) = line.put {
        return Ok(Some(Change::Put { job: Box::new(job), expected: None }));
    }
    if let Some(id) = line.remove {
        return Ok(Some(Change::Remove(id)));
    }
    if let Some(remembered) = line.remember {
        return Ok(Some(Change::Remember { server: remembered.server, memory: remembered.memory }));
    }
    if line.void.is_some() { Ok(None) } else { Err(unknown()) }
}
