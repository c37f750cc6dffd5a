//! What the store does with what it finds when it opens. Nothing acknowledged may be lost, and nothing refused may come
//! back; where that cannot be known, it does not open.
//!
//! The journal is written before sled, so sled is at the journal's end or behind it. Everything else is damage, and the
//! side that can prove itself wins: the journal by its chain, sled by the checksum of its records.
//!
//! | sled | journal | what is done |
//! |---|---|---|
//! | nothing | nothing | begin |
//! | of the version without a journal | nothing | checkpoint, then go on |
//! | sound, at a line of the journal | sound | take in the lines behind it |
//! | sound, at a line that the journal says was refused, or before its checkpoint | sound | rebuild |
//! | sound, and further than the journal | cut, damaged, missing | set the journal aside, begin it with a checkpoint |
//! | damaged, nothing | sound, and as far as sled is known to have come | set the queue aside, rebuild |
//! | damaged, and nobody knows how far it had come | sound, but for its last write | refuse, and tell how to cut it |
//! | anything else | | refuse |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::aside::set_aside;
use super::check::{Checker, damaged, damaged_both};
use super::disk::{Disk, RealDisk, give_back_room, plain};
use super::generation::{Generation, Mask};
use super::journal::{self, Broken, Found, Head, Journal, Limits, Sound, Survey};
use super::lock::{create_dir, failed};
use super::record::{STORE_FORMAT, Totals, WITHOUT_JOURNAL, decode_format};
use super::stage::{Group, Writes};
use super::sum::{Mark, Sum};
use super::writer::{ROOM_BASE, ROOM_PER_BYTE};
use super::{Change, Counts, OpenError, current, keys};

pub(super) const FIRST_GENERATION: u64 = 1;
const NO_CURRENT: &str = "CURRENT, which names the directory in use, is not there";
/// Of lines that are taken in at once.
const LOAD_BYTES: usize = 4 << 20;
/// A queue that was found wrong while it was in use says so in this file, until it is rebuilt.
const DISTRUSTED: &str = "DISTRUSTED";
/// Where a queue is rebuilt, beside the one that it replaces: until it is whole, that one stays in its place.
const REBUILT: &str = "queue-rebuilt";

/// A store that is in order.
pub(super) struct Opened {
    pub(super) generation: Generation,
    pub(super) number: u64,
    pub(super) totals: Totals,
    pub(super) mark: Mark,
    pub(super) journal: Journal,
    /// Of the latest checkpoint.
    pub(super) checkpoint_bytes: u64,
    /// All records have been added up.
    pub(super) verified: bool,
    /// What was repaired, in a sentence.
    pub(super) repaired: Option<String>,
}

/// What there is of sled.
#[derive(Clone, PartialEq, Debug)]
enum Sled {
    New,
    WithoutJournal(u64),
    At {
        number: u64,
        head: Head,
        whole: bool,
    },
    /// Its head, if that could still be read.
    Broken {
        why: String,
        head: Option<Head>,
    },
}

impl Sled {
    fn head(&self) -> Option<Head> {
        match self {
            Sled::At { head, .. } => Some(*head),
            Sled::Broken { head, .. } => *head,
            Sled::New | Sled::WithoutJournal(_) => None,
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Plan {
    Begin,
    Adopt,
    TakeIn,
    /// The queue from the journal.
    Rebuild(String),
    /// The journal from the queue.
    Renew(String),
    Refuse(String),
}

pub(super) fn open(state_dir: &Path, checker: Checker, limits: Limits) -> Result<Opened, OpenError> {
    let place = Place::new(state_dir, checker, limits)?;
    let sled = place.look()?;
    let survey = journal::survey(&place.journal, sled.head())
        .map_err(failed("cannot read the journal in", &place.journal))?;
    if let Survey::Newer(found) = survey {
        let path = place.journal.display().to_string();
        return Err(OpenError::Newer { path, found, known: journal::FORMAT });
    }
    let opened = match (decide(&sled, &survey), sled, survey) {
        (Plan::Begin, _, survey) => place.begin(survey),
        (Plan::Adopt, Sled::WithoutJournal(number), _) => place.adopt(number),
        (Plan::TakeIn, Sled::At { number, head, whole }, Survey::Sound(sound)) => {
            place.take_in(number, head, whole, &sound)
        }
        (Plan::Rebuild(why), sled, _) => place.rebuild(&sled, &why),
        (Plan::Renew(why), Sled::At { number, whole, .. }, _) => place.renew(number, whole, &why),
        (Plan::Refuse(why), ..) => Err(damaged_both(state_dir, &why)),
        (plan, ..) => Err(damaged_both(state_dir, &format!("no way to carry out {plan:?}"))),
    }?;
    // Before the first change of this daemon: what it writes is not for the versions that wrote the older format.
    place.raise_format(opened)
}

/// How far the store in a state directory has come, for whoever compares it with the journal. Takes the state directory
/// meanwhile. Nothing: there is no store, or one without a journal.
pub fn head_at_rest(state_dir: &Path, checker: Checker) -> Result<Option<Head>, OpenError> {
    if !state_dir.join("queue").is_dir() {
        return Ok(None);
    }
    let _lock = super::lock::take(state_dir)?;
    match Place::new(state_dir, checker, Limits::default())?.look()? {
        Sled::Broken { why, head: None } => Err(damaged(&state_dir.join("queue"), &why)),
        sled => Ok(sled.head()),
    }
}

/// Leaves a note for the next start, which then rebuilds the queue.
pub(super) fn distrust(queue: &Path, why: &str) -> io::Result<()> {
    std::fs::write(queue.join(DISTRUSTED), why)?;
    super::lock::sync_dir(queue)
}

fn decide(sled: &Sled, survey: &Survey) -> Plan {
    match (sled, survey) {
        (Sled::New, Survey::Absent) => Plan::Begin,
        (Sled::New, Survey::Sound(log)) if log.is_new() => Plan::Begin,
        (Sled::New, Survey::Sound(log)) => rebuild_if_whole("there is a journal, and no queue", log),
        (Sled::WithoutJournal(_), Survey::Absent) => Plan::Adopt,
        (Sled::WithoutJournal(_), Survey::Sound(log)) if log.is_new() => Plan::Adopt,
        (Sled::WithoutJournal(_), Survey::Sound(log)) => {
            rebuild_if_whole("it is older than its journal", log)
        }
        (Sled::At { .. }, Survey::Absent) => Plan::Renew("it is not there".to_owned()),
        (Sled::At { head, .. }, Survey::Sound(log)) => decide_by_head(*head, log),
        (Sled::At { head, .. }, Survey::Damaged(Broken { why, reaches })) if *reaches <= head.seq => {
            Plan::Renew(why.clone())
        }
        (Sled::Broken { why, head }, Survey::Sound(log)) => match head {
            Some(head) if head.seq > log.walk.head.seq => Plan::Refuse(format!(
                "{why}; and its journal ends at line {}, where the queue had come to {}",
                log.walk.head.seq, head.seq
            )),
            Some(_) => Plan::Rebuild(why.clone()),
            None => rebuild_if_whole(why, log),
        },
        (Sled::Broken { why, .. }, Survey::Absent) => Plan::Refuse(format!("{why}; and there is no journal")),
        (Sled::Broken { why, .. }, Survey::Damaged(broken)) => {
            Plan::Refuse(format!("{why}; and so is its journal: {}", broken.why))
        }
        (_, Survey::Damaged(broken)) => {
            let why = &broken.why;
            Plan::Refuse(format!("its journal is damaged ({why}), and the queue is behind it"))
        }
        (_, Survey::Newer(format)) => Plan::Refuse(format!("its journal has format {format}")),
    }
}

/// Nobody can say how far sled had come. Then nothing tells a write that a crash cut off from an acknowledged one that was
/// damaged.
fn rebuild_if_whole(why: &str, log: &Sound) -> Plan {
    match log.how_to_cut() {
        None => Plan::Rebuild(why.to_owned()),
        Some(cut) => Plan::Refuse(format!(
            "{why}; and the last line of its journal is not whole: if the machine stopped while it was being written, remove \
             it with \"{cut}\", and start again"
        )),
    }
}

/// Sled is sound, and so is the journal.
fn decide_by_head(sled: Head, log: &Sound) -> Plan {
    let end = log.walk.head.seq;
    match log.sled {
        Found::Held => Plan::TakeIn,
        Found::Refused => Plan::Rebuild("it holds changes that were refused when they were made".to_owned()),
        Found::Older => Plan::Rebuild("it is older than the last checkpoint of its journal".to_owned()),
        Found::No if end <= sled.seq => {
            Plan::Renew(format!("it ends at line {end}, and the queue has come to {}", sled.seq))
        }
        Found::No => Plan::Refuse(format!("its journal has another line {} than it was made from", sled.seq)),
    }
}

/// Where everything is, and how it is opened.
struct Place {
    state_dir: PathBuf,
    queue: PathBuf,
    journal: PathBuf,
    checker: Checker,
    limits: Limits,
}

impl Place {
    fn new(state_dir: &Path, checker: Checker, limits: Limits) -> Result<Place, OpenError> {
        let (queue, journal) = (state_dir.join("queue"), state_dir.join(journal::DIR));
        end_rebuild(state_dir, &queue).map_err(failed("cannot end the rebuild of", &queue))?;
        create_dir(&queue).map_err(failed("cannot create", &queue))?;
        Ok(Place { state_dir: state_dir.to_owned(), queue, journal, checker, limits })
    }

    fn look(&self) -> Result<Sled, OpenError> {
        let failed = failed("cannot read", &self.queue);
        let broken = |why: &str| Ok(Sled::Broken { why: why.to_owned(), head: None });
        let there = current::list(&self.queue).map_err(&failed)?;
        let number = match current::read(&self.queue) {
            Ok(Some(number)) if there.contains(&number) => number,
            Ok(Some(number)) => return broken(&format!("CURRENT names {number:06}, which is not there")),
            Ok(None) if there.iter().all(|number| *number == FIRST_GENERATION) => return Ok(Sled::New),
            Ok(None) => return broken(NO_CURRENT),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return broken("CURRENT names no directory"),
            Err(e) => return Err(failed(e)),
        };
        self.give_back_room(number)?;
        let (found, fault) = self.checker.look(&self.queue, number, false)?;
        let fault = fault.or_else(|| std::fs::read_to_string(self.queue.join(DISTRUSTED)).ok());
        Ok(match (fault, found.format, found.head) {
            (Some(why), _, head) => Sled::Broken { why, head },
            (None, Some(format), _) if format > STORE_FORMAT => {
                let path = self.queue.display().to_string();
                return Err(OpenError::Newer { path, found: format, known: STORE_FORMAT });
            }
            (None, Some(WITHOUT_JOURNAL), None) => Sled::WithoutJournal(number),
            (None, Some(format), Some(head)) if format > WITHOUT_JOURNAL => {
                Sled::At { number, head, whole: found.whole }
            }
            (None, ..) => return broken("its files hold nothing, not even their format"),
        })
    }

    /// Writes our format into the first generation, and only then its name into CURRENT: what CURRENT names has a format.
    fn begin(&self, survey: Survey) -> Result<Opened, OpenError> {
        let journal = self.begin_journal(survey)?;
        let dir = current::dir_of(&self.queue, FIRST_GENERATION);
        let failed = failed("cannot write the queue in", &dir);
        create_dir(&dir).map_err(&failed)?;
        if dir.read_dir().map_err(&failed)?.next().is_some() {
            self.give_back_room(FIRST_GENERATION)?;
            self.checker.check(&self.queue, FIRST_GENERATION)?;
        }
        let generation = self.open_generation(FIRST_GENERATION)?;
        let is_ours = |key: &[u8]| key == keys::FORMAT || key == keys::MARK;
        if generation.db.iter().keys().any(|key| key.is_ok_and(|key| !is_ours(&key))) {
            return Err(damaged(&self.queue, NO_CURRENT));
        }
        let mark = write_format(&generation, Sum::default(), Head::ORIGIN).map_err(&failed)?;
        current::write(&self.queue, FIRST_GENERATION)
            .map_err(super::lock::failed("cannot write to", &self.queue))?;
        Ok(Opened {
            generation,
            number: FIRST_GENERATION,
            totals: Totals::default(),
            mark,
            journal,
            checkpoint_bytes: 0,
            verified: true,
            repaired: None,
        })
    }

    fn begin_journal(&self, survey: Survey) -> Result<Journal, OpenError> {
        let failed = failed("cannot write the journal in", &self.journal);
        create_dir(&self.journal).map_err(&failed)?;
        match survey {
            Survey::Sound(sound) => Journal::open(&self.journal, &sound, self.limits),
            _ => Journal::begin(&self.journal, Head::ORIGIN, self.limits),
        }
        .map_err(failed)
    }

    /// A store of the version that had no journal.
    fn adopt(&self, number: u64) -> Result<Opened, OpenError> {
        let generation = self.open_generation(number)?;
        let (journal, checkpoint_bytes) = self.journal_from(&generation, Head::ORIGIN)?;
        let failed = failed("cannot write the queue in", &generation.dir);
        let sum = Sum::of(&generation).map_err(|e| failed(plain(e)))?;
        write_format(&generation, sum, Head::ORIGIN).map_err(&failed)?;
        tracing::info!(journal = %self.journal.display(), "the store has a journal from now on");
        let (totals, mark) = self.read_state(&generation)?;
        self.sweep(number)?;
        let repaired = None;
        Ok(Opened { generation, number, totals, mark, journal, checkpoint_bytes, verified: true, repaired })
    }

    /// Takes over a store of an older format: its records are read as they are, so that only the number changes.
    fn raise_format(&self, opened: Opened) -> Result<Opened, OpenError> {
        let dir = &opened.generation.dir;
        let stored = opened.generation.get(keys::FORMAT);
        let stored = stored.map_err(|e| failed("cannot read the queue in", dir)(plain(e)))?;
        let Some(from) = stored.and_then(|record| decode_format(&record)).filter(|from| *from < STORE_FORMAT)
        else {
            return Ok(opened);
        };
        let Mark { head, sum } = opened.mark;
        let mark =
            write_format(&opened.generation, sum, head).map_err(failed("cannot write the queue in", dir))?;
        tracing::info!(
            queue = %self.queue.display(), from, to = STORE_FORMAT,
            "the store is of an earlier version: taken over; that version does not open it any more"
        );
        Ok(Opened { mark, ..opened })
    }

    /// Sled is where it should be: at the journal's end, or a little behind.
    fn take_in(&self, number: u64, head: Head, whole: bool, sound: &Sound) -> Result<Opened, OpenError> {
        let generation = self.open_generation(number)?;
        let (totals, mark) = self.read_state(&generation)?;
        let mut load = Load::new(&generation, &self.queue, totals, mark);
        let failed = failed("cannot write the queue in", &generation.dir);
        if sound.walk.head != head {
            match journal::replay(&self.journal, Some(head), &mut |head, change| load.take(head, change)) {
                Ok(Ok(end)) => load.finish(end).map_err(&failed)?,
                Ok(Err(why)) => return Err(damaged_both(&self.state_dir, &why)),
                Err(e) => return Err(failed(e)),
            }
            tracing::warn!(
                queue = %self.queue.display(), from = head.seq, to = sound.walk.head.seq,
                "the queue was behind its journal: the changes in between were taken in"
            );
        }
        if let Some(bytes) = sound.torn() {
            tracing::warn!(
                journal = %self.journal.display(), bytes,
                "the last write was cut off, and never acknowledged: it is removed"
            );
        }
        let Load { totals, mark, .. } = load;
        let journal = Journal::open(&self.journal, sound, self.limits)
            .map_err(super::lock::failed("cannot write the journal in", &self.journal))?;
        self.sweep(number)?;
        let (checkpoint_bytes, repaired) = (sound.checkpoint_bytes, None);
        Ok(Opened { generation, number, totals, mark, journal, checkpoint_bytes, verified: whole, repaired })
    }

    /// The queue anew, from the journal.
    fn rebuild(&self, sled: &Sled, why: &str) -> Result<Opened, OpenError> {
        let (queue, failed) = (self.queue.display(), failed("cannot rebuild the queue in", &self.queue));
        if let Err(fault) = journal::can_replay(&self.journal).map_err(&failed)? {
            return Err(damaged_both(&self.state_dir, &format!("{why}; and so is its journal: {fault}")));
        }
        tracing::error!(%queue, why, "the queue cannot be trusted: rebuilding it from the journal");
        let beside = self.state_dir.join(REBUILT);
        let (totals, mark, lines) = match self.replay_into(&beside).map_err(&failed)? {
            Ok(rebuilt) => rebuilt,
            Err(why) => return Err(damaged_both(&self.state_dir, &why)),
        };
        let old = match sled {
            Sled::New if current::list(&self.queue).map_err(&failed)?.is_empty() => {
                std::fs::remove_dir_all(&self.queue).map(|()| None)
            }
            _ => set_aside(&self.state_dir, "queue", "queue-damaged").map(Some),
        };
        let old = old.map_err(&failed)?;
        end_rebuild(&self.state_dir, &self.queue).map_err(&failed)?;
        let generation = self.open_generation(FIRST_GENERATION)?;
        let Survey::Sound(sound) = journal::survey(&self.journal, None).map_err(&failed)? else {
            return Err(damaged_both(&self.state_dir, "its journal has changed meanwhile"));
        };
        let journal = Journal::open(&self.journal, &sound, self.limits).map_err(&failed)?;
        let aside = old.map_or_else(String::new, |old| format!("; the old one is in {}", old.display()));
        let repaired = format!("the queue was rebuilt from its journal: {why}{aside}");
        tracing::warn!(%queue, lines, "{repaired}");
        Ok(Opened {
            generation,
            number: FIRST_GENERATION,
            totals,
            mark,
            journal,
            checkpoint_bytes: sound.checkpoint_bytes,
            verified: true,
            repaired: Some(repaired),
        })
    }

    /// A whole queue directory out of the journal, durable when it has its CURRENT. Fails with what is wrong with the journal.
    fn replay_into(&self, beside: &Path) -> io::Result<Result<(Totals, Mark, u64), String>> {
        let dir = current::dir_of(beside, FIRST_GENERATION);
        create_dir(beside)?;
        create_dir(&dir)?;
        let generation = Generation::open(&dir).map_err(plain)?;
        let origin = write_format(&generation, Sum::default(), Head::ORIGIN)?;
        let mut load = Load::new(&generation, &self.queue, Totals::default(), origin);
        let end = match journal::replay(&self.journal, None, &mut |head, change| load.take(head, change))? {
            Ok(end) => end,
            Err(why) => return Ok(Err(why)),
        };
        load.finish(end)?;
        let Load { totals, mark, lines, .. } = load;
        drop(generation);
        current::write(beside, FIRST_GENERATION)?;
        Ok(Ok((totals, mark, lines)))
    }

    /// The journal anew, beginning with what sled holds, once that is proven sound.
    fn renew(&self, number: u64, whole: bool, why: &str) -> Result<Opened, OpenError> {
        if !whole && let (_, Some(fault)) = self.checker.look(&self.queue, number, true)? {
            return Err(damaged_both(&self.state_dir, &format!("{fault}; and its journal: {why}")));
        }
        let generation = self.open_generation(number)?;
        let (totals, mark) = self.read_state(&generation)?;
        let (dir, failed) = (self.journal.display(), failed("cannot renew the journal in", &self.journal));
        let old = if self.journal.exists() {
            Some(set_aside(&self.state_dir, journal::DIR, "journal-damaged").map_err(&failed)?)
        } else {
            None
        };
        tracing::error!(journal = %dir, why, set_aside = ?old, "the journal cannot be trusted: beginning a new one");
        let (journal, checkpoint_bytes) = self.journal_from(&generation, mark.head)?;
        let aside = old.map_or_else(String::new, |old| format!("; the old one is in {}", old.display()));
        let repaired = format!("the journal was begun anew from the queue: {why}{aside}");
        tracing::warn!(journal = %dir, "{repaired}");
        self.sweep(number)?;
        let repaired = Some(repaired);
        Ok(Opened { generation, number, totals, mark, journal, checkpoint_bytes, verified: true, repaired })
    }

    fn journal_from(&self, generation: &Generation, head: Head) -> Result<(Journal, u64), OpenError> {
        let failed = failed("cannot write the journal in", &self.journal);
        create_dir(&self.journal).map_err(&failed)?;
        let bytes = journal::write_checkpoint(&self.journal, generation, &AtomicBool::new(false));
        let bytes = bytes.map_err(&failed)?;
        Ok((Journal::begin(&self.journal, head, self.limits).map_err(failed)?, bytes))
    }

    fn open_generation(&self, number: u64) -> Result<Generation, OpenError> {
        let dir = current::dir_of(&self.queue, number);
        let failed = failed("cannot open the queue in", &dir);
        create_dir(&dir).map_err(&failed)?;
        Generation::open(&dir).map_err(|e| failed(plain(e)))
    }

    fn give_back_room(&self, number: u64) -> Result<(), OpenError> {
        let dir = current::dir_of(&self.queue, number);
        let given = match std::fs::File::options().write(true).open(dir.join("db")) {
            Ok(file) => Generation::lock_out(&file).and_then(|_lock| give_back_room(&file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        };
        given.map_err(failed("cannot open the queue in", &dir))
    }

    /// What the writer goes on from.
    fn read_state(&self, generation: &Generation) -> Result<(Totals, Mark), OpenError> {
        let failed = failed("cannot read", &self.queue);
        let mark = self.read_mark(generation)?;
        let Some(record) = generation.get(keys::COUNTS).map_err(|e| failed(plain(e)))? else {
            return Ok((Totals::default(), mark));
        };
        let totals =
            Totals::decode(&record).map_err(|_| damaged(&self.queue, "its count of jobs is no number"))?;
        if Totals::knows_bytes(&record) {
            return Ok((totals, mark));
        }
        let failed = super::lock::failed("cannot write the queue in", &generation.dir);
        write_bytes(generation, totals.counts, mark).map_err(failed)
    }

    fn read_mark(&self, generation: &Generation) -> Result<Mark, OpenError> {
        let record = generation.get(keys::MARK).map_err(|e| failed("cannot read", &self.queue)(plain(e)))?;
        let mark = record.map(|record| Mark::decode(&record)).transpose().ok().flatten();
        mark.ok_or_else(|| damaged(&self.queue, "it does not say how far it has come"))
    }

    fn sweep(&self, number: u64) -> Result<(), OpenError> {
        current::sweep(&self.queue, number).map_err(failed("cannot remove old generations in", &self.queue))
    }
}

/// Puts a queue that was rebuilt in its place, once the old one is gone from there; one that did not come to its end is
/// removed, and rebuilt again.
fn end_rebuild(state_dir: &Path, queue: &Path) -> io::Result<()> {
    let beside = state_dir.join(REBUILT);
    if !beside.exists() {
        return Ok(());
    }
    if !queue.exists() && current::read(&beside)?.is_some() {
        std::fs::rename(&beside, queue)?;
        return super::lock::sync_dir(state_dir);
    }
    std::fs::remove_dir_all(&beside)
}

/// Writes the format and the mark, durably. `sum`: of what there is.
fn write_format(generation: &Generation, sum: Sum, head: Head) -> io::Result<Mark> {
    let writes = Writes::from([(keys::FORMAT.to_vec(), Some(STORE_FORMAT.to_be_bytes().to_vec()))]);
    let old = generation.get(keys::FORMAT).map_err(plain)?;
    let known = old.filter(|_| sum != Sum::default());
    let mark = Mark { head, sum: sum.after(&Mask::from([(keys::FORMAT.to_vec(), known)]), &writes) };
    let mut batch = sled::Batch::default();
    batch.insert(keys::FORMAT, STORE_FORMAT.to_be_bytes().to_vec());
    batch.insert(keys::MARK, mark.encode());
    generation.db.apply_batch(batch).map_err(plain)?;
    RealDisk.flush(generation)?;
    RealDisk.sync(generation)?;
    Ok(mark)
}

/// Adds the bytes that are live to the count of jobs of a version that did not keep them, durably.
fn write_bytes(generation: &Generation, counts: Counts, mark: Mark) -> io::Result<(Totals, Mark)> {
    let mut group = Group::new(Totals { counts, live_bytes: 0 });
    for entry in generation.scan(Vec::new(), vec![u8::MAX]) {
        let (key, value) = entry.map_err(plain)?;
        if !key.starts_with(keys::META) {
            group.totals.live_bytes += (key.len() + value.len()) as u64;
        }
    }
    let mark = apply(generation, &mut group, mark, mark.head)?;
    RealDisk.sync(generation)?;
    Ok((group.totals, mark))
}

/// Puts the group into sled's file, as what the journal says up to `head`.
fn apply(generation: &Generation, group: &mut Group, mark: Mark, head: Head) -> io::Result<Mark> {
    let needed = ROOM_BASE + ROOM_PER_BYTE * group.bytes as u64;
    if RealDisk.room(generation, needed)? < needed {
        return Err(io::ErrorKind::StorageFull.into());
    }
    group.writes.insert(keys::COUNTS.to_vec(), Some(group.totals.encode()));
    let old = group.old_values(generation)?;
    group.weigh(&old);
    let mark = Mark { head, sum: mark.sum.after(&old, &group.writes) };
    group.writes.insert(keys::MARK.to_vec(), Some(mark.encode()));
    generation.db.apply_batch(group.batch()).map_err(plain)?;
    RealDisk.flush(generation)?;
    generation.collect(group.writes.len());
    Ok(mark)
}

/// Takes in lines of the journal. Nothing waits for them, so that one sync at the end is enough.
struct Load<'a> {
    generation: &'a Generation,
    path: String,
    totals: Totals,
    mark: Mark,
    group: Group,
    lines: u64,
}

impl<'a> Load<'a> {
    fn new(generation: &'a Generation, queue: &Path, totals: Totals, mark: Mark) -> Load<'a> {
        let (path, group) = (queue.display().to_string(), Group::new(totals.clone()));
        Load { generation, path, totals, mark, group, lines: 0 }
    }

    fn take(&mut self, head: Head, change: Option<Change>) -> io::Result<()> {
        if let Some(change) = change {
            self.group.replay(self.generation, &self.path, &change).map_err(io::Error::other)?;
        }
        self.lines += 1;
        if self.group.bytes >= LOAD_BYTES { self.write(head) } else { Ok(()) }
    }

    fn finish(&mut self, head: Head) -> io::Result<()> {
        self.write(head)?;
        RealDisk.sync(self.generation)
    }

    fn write(&mut self, head: Head) -> io::Result<()> {
        let mut group = std::mem::replace(&mut self.group, Group::new(Totals::default()));
        self.mark = apply(self.generation, &mut group, self.mark, head)?;
        self.group = Group::new(group.totals.clone());
        self.totals = group.totals;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
