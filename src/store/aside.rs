//! What cannot be trusted is set aside, not deleted: `set-aside/<time>-<reason>/` in the state directory.

use std::io;
use std::path::{Path, PathBuf};

use super::lock::{create_dir, sync_dir};
use crate::clock;

const DIR: &str = "set-aside";
/// So many are kept; the oldest go.
const KEPT: usize = 5;

/// What was set aside and is still there, oldest first.
pub fn aside(state_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match state_dir.join(DIR).read_dir() {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut places = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    places.sort();
    Ok(places)
}

/// Moves `name` out of the state directory, durably. Says where it is now.
pub(super) fn set_aside(state_dir: &Path, name: &str, reason: &str) -> io::Result<PathBuf> {
    let aside = state_dir.join(DIR);
    create_dir(&aside)?;
    let at = clock::system_now().wall.timestamp().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let place = (0..)
        .map(|n| aside.join(if n == 0 { format!("{at}-{reason}") } else { format!("{at}-{reason}-{n}") }))
        .find(|place| !place.exists())
        .expect("there are names enough");
    create_dir(&place)?;
    std::fs::rename(state_dir.join(name), place.join(name))?;
    sync_dir(&place)?;
    sync_dir(state_dir)?;
    if let Err(error) = forget_oldest(&aside, &place) {
        tracing::warn!(path = %aside.display(), %error, "what was set aside long ago cannot be removed");
    }
    Ok(place)
}

/// Names begin with the time, so their order is the order in which they came, unless the clock was set back: `latest` is not
/// removed, whatever its name.
fn forget_oldest(aside: &Path, latest: &Path) -> io::Result<()> {
    let entries = aside.read_dir()?.map(|entry| entry.map(|entry| entry.path()));
    let mut places = entries.collect::<io::Result<Vec<_>>>()?;
    let too_many = places.len().saturating_sub(KEPT);
    places.retain(|place| place != latest);
    places.sort();
    for place in places.iter().take(too_many) {
        std::fs::remove_dir_all(place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_does_not_cost_what_was_just_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..KEPT {
            std::fs::create_dir_all(dir.path().join(DIR).join(format!("9999010{n}T000000.000Z-damaged")))
                .unwrap();
        }
        std::fs::write(dir.path().join("queue"), "the only copy").unwrap();
        let place = set_aside(dir.path(), "queue", "damaged").unwrap();
        assert_eq!(std::fs::read_to_string(place.join("queue")).unwrap(), "the only copy");
        assert_eq!(dir.path().join(DIR).read_dir().unwrap().count(), KEPT);
    }

    #[test]
    fn the_latest_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        for n in 0..KEPT + 3 {
            std::fs::create_dir(dir.path().join("queue")).unwrap();
            std::fs::write(dir.path().join("queue/n"), n.to_string()).unwrap();
            places.push(set_aside(dir.path(), "queue", "damaged").unwrap());
            assert!(!dir.path().join("queue").exists());
        }
        let left = dir.path().join(DIR).read_dir().unwrap().count();
        assert_eq!(left, KEPT);
        let latest = places.last().unwrap().join("queue/n");
        assert_eq!(std::fs::read_to_string(latest).unwrap(), (KEPT + 2).to_string());
    }
}
