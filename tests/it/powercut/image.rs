//! What the shim has kept of a state directory, and the directory that a power cut would leave.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use adjourn::clock;
use fastrand::Rng;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::harness::PATIENCE;

/// What reaches a disk whole or not at all.
const PAGE: usize = 4096;

/// One name in a directory.
#[derive(Clone, Debug)]
struct Entry {
    is_dir: bool,
    mode: u32,
    key: String,
    name: String,
}

/// The image of one life of a daemon.
pub struct Image {
    path: PathBuf,
}

/// How much of what was not synced made it all the same.
pub enum Luck<'a> {
    /// Nothing.
    None,
    /// Any of its pages, any directory's names.
    Some(&'a mut Rng),
}

impl Image {
    /// An image in which everything that is there now is durable.
    pub fn of(state: &Path, path: &Path) -> Image {
        fs::create_dir_all(path.join("inodes")).unwrap();
        fs::create_dir_all(path.join("dirs")).unwrap();
        let image = Image { path: path.to_owned() };
        image.keep(state);
        image
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on the syncs of files with such names are lies.
    pub fn ignore(&self, pattern: &str) {
        fs::write(self.path.join("ignore"), pattern).unwrap();
    }

    fn keep(&self, dir: &Path) {
        let mut table = String::new();
        for Entry { is_dir, mode, key, name } in entries(dir) {
            let there = dir.join(&name);
            if is_dir {
                self.keep(&there);
            } else {
                fs::copy(&there, self.path.join("inodes").join(&key)).unwrap();
            }
            table += &format!("{} {mode:o} {key} {name}\n", if is_dir { 'd' } else { 'f' });
        }
        fs::write(self.path.join("dirs").join(key_of(dir)), table).unwrap();
    }

    /// Puts in the place of `state` what the cut leaves of it; gives how many pages were lost.
    pub fn cut(self, state: &Path, mut luck: Luck<'_>) -> u64 {
        let mut live = HashMap::new();
        index(state, &mut live);
        let next = state.with_extension("next");
        let mut lost = 0;
        self.restore_dir(&key_of(state), 0o700, &next, &live, &mut luck, &mut lost);
        remove(state);
        fs::rename(&next, state).unwrap();
        remove(&self.path);
        lost
    }

    fn restore_dir(
        &self,
        key: &str,
        mode: u32,
        to: &Path,
        live: &HashMap<String, PathBuf>,
        luck: &mut Luck<'_>,
        lost: &mut u64,
    ) {
        DirBuilder::new().mode(mode).create(to).unwrap();
        let names = match (luck.smiles(), live.get(key)) {
            (true, Some(dir)) => entries(dir),
            _ => self.table(key),
        };
        for Entry { is_dir, mode, key, name } in names {
            let to = to.join(name);
            if is_dir {
                self.restore_dir(&key, mode, &to, live, luck, lost);
            } else {
                let content = self.content(&key, live.get(&key), luck, lost);
                fs::write(&to, content).unwrap();
                fs::set_permissions(&to, Permissions::from_mode(mode)).unwrap();
            }
        }
    }

    fn table(&self, key: &str) -> Vec<Entry> {
        // A directory that was never synced has no names.
        let table = fs::read_to_string(self.path.join("dirs").join(key)).unwrap_or_default();
        let entry = |line: &str| {
            let mut fields = line.splitn(4, ' ');
            let mut field = || fields.next().expect("four fields a line").to_owned();
            Entry {
                is_dir: field() == "d",
                mode: u32::from_str_radix(&field(), 8).unwrap(),
                key: field(),
                name: field(),
            }
        };
        table.lines().map(entry).collect()
    }

    fn content(&self, key: &str, live: Option<&PathBuf>, luck: &mut Luck<'_>, lost: &mut u64) -> Vec<u8> {
        let durable = fs::read(self.path.join("inodes").join(key)).unwrap_or_default();
        let Some(live) = live.map(|path| fs::read(path).unwrap()) else { return durable };
        if !luck.smiles() {
            *lost += differing(&durable, &live).count() as u64;
            return durable;
        }
        let Luck::Some(rng) = luck else { return durable };
        let mut content = durable.clone();
        if rng.bool() {
            content.resize(live.len(), 0);
        }
        let chance = rng.f32();
        for page in differing(&durable, &live) {
            let end = live.len().min(page + PAGE).min(content.len());
            if page < end && rng.f32() < chance {
                content[page..end].copy_from_slice(&live[page..end]);
            } else {
                *lost += 1;
            }
        }
        content
    }
}

impl Luck<'_> {
    fn smiles(&mut self) -> bool {
        match self {
            Luck::None => false,
            Luck::Some(rng) => rng.bool(),
        }
    }
}

/// A process that was killed may still be in its last call.
fn remove(dir: &Path) {
    let began = clock::system_now();
    while let Err(error) = fs::remove_dir_all(dir) {
        assert!(clock::system_now().since(began) < PATIENCE, "{} stays: {error}", dir.display());
        std::thread::yield_now();
    }
}

/// Where the pages begin that are not the same in both.
fn differing<'a>(one: &'a [u8], other: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let page = |of: &'a [u8], at: usize| of.get(at..of.len().min(at + PAGE)).unwrap_or_default();
    (0..one.len().max(other.len())).step_by(PAGE).filter(move |&at| page(one, at) != page(other, at))
}

fn entries(dir: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() || meta.is_file() {
            entries.push(Entry {
                is_dir: meta.is_dir(),
                mode: meta.permissions().mode() & 0o7777,
                key: key_of(&entry.path()),
                name: entry.file_name().into_string().unwrap(),
            });
        }
    }
    entries
}

fn index(dir: &Path, live: &mut HashMap<String, PathBuf>) {
    live.insert(key_of(dir), dir.to_owned());
    for Entry { is_dir, key, name, .. } in entries(dir) {
        if is_dir {
            index(&dir.join(name), live);
        } else {
            live.insert(key, dir.join(name));
        }
    }
}

/// Inode numbers are used again; with the birth they name one file. As the shim writes it.
fn key_of(path: &Path) -> String {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags).unwrap();
    format!("{}-{}-{}", stat.stx_ino, stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
}
