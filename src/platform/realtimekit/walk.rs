//! A walk: all pages of the listing of live sessions, and whether they show everything. Pure.
//!
//! The listing is paged by offset while it changes: when a session ends, the rows behind it move up and one slips between
//! two pages. So a walk is complete only if every page names the same total and so many different sessions were seen.
//! A row that is shown is believed in any case. One that cannot be read, or does not say in which meeting it is, might be
//! about any meeting.

use std::collections::HashMap;

use super::answer::{Page, Problem, Session};
use crate::job::{InstanceId, Now};

/// Rows that are asked for in one page. The API names no maximum; whatever a server makes of it, its pages are walked at
/// the size that the first one has.
pub(super) const PER_PAGE: usize = 100;
/// Pages of one walk, at most.
pub(super) const PAGES: usize = 100;

/// Everything that was live, as far as it was shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Walk {
    sessions: HashMap<InstanceId, Session>,
    of_meeting: HashMap<String, Vec<InstanceId>>,
    /// Why it may not show everything; `None`: it does.
    pub(super) gap: Option<Problem>,
    /// Total of the first page, and how many pages that makes.
    total: Option<usize>,
    pub(super) pages: usize,
    /// The rows of the first page.
    first: Vec<InstanceId>,
    moved: bool,
    /// Rows that nothing can be concluded from.
    unread: usize,
    /// Live, but in which meeting they do not say.
    homeless: Vec<InstanceId>,
    /// When its last answer came.
    pub(super) shown_at: Option<Now>,
}

impl Walk {
    /// From the first page on; the others are [`Walk::add`]ed in any order.
    pub(super) fn begin(first: Page) -> Walk {
        let size = (first.rows.len() + first.unread).max(1);
        let total = first.total;
        let pages = total.map_or(1, |total| total.div_ceil(size).max(1));
        let mut walk = Walk { total, pages, first: ids(&first), ..Walk::default() };
        walk.add(Ok(first));
        walk
    }

    pub(super) fn add(&mut self, page: Result<Page, Problem>) {
        match page {
            Ok(page) => {
                self.moved |= page.total != self.total;
                self.unread += page.unread;
                page.rows.into_iter().for_each(|row| self.row(row));
            }
            Err(problem) => self.gap = Some(problem),
        }
    }

    /// After the last page.
    pub(super) fn finish(mut self, server: &str, now: Now) -> Walk {
        self.shown_at = Some(now);
        let seen = self.sessions.len();
        let gap = match self.total {
            _ if self.gap.is_some() => return self,
            _ if self.unread > 0 => {
                Some(format!("{server}: {} rows of the listing of live sessions cannot be read", self.unread))
            }
            None => Some(format!("{server}: the listing of live sessions does not say how many there are")),
            Some(total) if self.moved || total != seen => Some(format!(
                "{server}: the listing of live sessions changed while it was read ({seen} of {total} seen)"
            )),
            Some(_) => None,
        };
        self.gap = gap.map(Problem::Refused);
        self
    }

    pub(super) fn is_complete(&self) -> bool {
        self.gap.is_none()
    }

    /// The rows moved between two pages: another walk may be complete.
    pub(super) fn is_worth_repeating(&self) -> bool {
        self.total.is_some() && self.unread == 0 && matches!(self.gap, Some(Problem::Refused(_)))
    }

    /// Another walk would show the same rows, of which some cannot be read.
    pub(super) fn is_partly_unread(&self) -> bool {
        self.unread > 0 && matches!(self.gap, Some(Problem::Refused(_)))
    }

    /// Complete, and every session says in which meeting it is.
    pub(super) fn shows_every_meeting(&self, besides: Option<&InstanceId>) -> bool {
        self.is_complete() && !self.hides_a_meeting(besides)
    }

    /// The first page was read again after the last one: a listing that has moved proves nothing.
    pub(super) fn reread(&mut self, first: Result<Page, Problem>, server: &str) {
        let same = first.is_ok_and(|page| page.total == self.total && ids(&page) == self.first);
        if !same {
            let why = format!("{server}: the listing of live sessions changed while it was read");
            self.gap.get_or_insert(Problem::Refused(why));
        }
    }

    /// Does a live session not say in which meeting it is?
    pub(super) fn hides_a_meeting(&self, besides: Option<&InstanceId>) -> bool {
        self.homeless.iter().any(|id| besides != Some(id))
    }

    pub(super) fn get(&self, id: &InstanceId) -> Option<&Session> {
        self.sessions.get(id)
    }

    /// The live sessions of a meeting, the earliest start first; one that does not say when comes before all others.
    pub(super) fn live_in(&self, meeting: &str) -> Vec<&Session> {
        let ids = self.of_meeting.get(meeting).into_iter().flatten();
        let mut live: Vec<&Session> =
            ids.filter_map(|id| self.sessions.get(id)).filter(|row| row.live).collect();
        live.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        live
    }

    pub(super) fn into_live(self) -> impl Iterator<Item = Session> {
        self.sessions.into_values().filter(|row| row.live)
    }

    fn row(&mut self, row: Session) {
        let (id, meeting, live) = (row.id.clone(), row.meeting.clone(), row.live);
        if self.sessions.insert(id.clone(), row).is_some() {
            return;
        }
        match meeting {
            Some(meeting) => self.of_meeting.entry(meeting).or_default().push(id),
            None if live => self.homeless.push(id),
            None => {}
        }
    }
}

fn ids(page: &Page) -> Vec<InstanceId> {
    page.rows.iter().map(|row| row.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[&str], total: Option<usize>) -> Page {
        let session = |id: &&str| Session {
            id: (*id).into(),
            meeting: Some(format!("m-{id}")),
            live: true,
            title: String::new(),
            started_at: None,
            participants: None,
        };
        Page { rows: rows.iter().map(session).collect(), unread: 0, total }
    }

    #[track_caller]
    fn check(pages: &[(&[&str], Option<usize>)], complete: bool, repeat: bool) {
        let mut all = pages.iter().map(|(rows, total)| page(rows, *total));
        let mut walk = Walk::begin(all.next().unwrap());
        all.for_each(|page| walk.add(Ok(page)));
        let walk = walk.finish("events", Now::default());
        assert_eq!((walk.is_complete(), walk.is_worth_repeating()), (complete, repeat), "{:?}", walk.gap);
    }

    #[test]
    fn only_one_total_and_every_session_seen_make_a_walk_complete() {
        check(&[(&[], Some(0))], true, false);
        check(&[(&["a", "b"], Some(3)), (&["c"], Some(3))], true, false);
        // Something ended between the pages and `c` slipped through.
        check(&[(&["a", "b"], Some(4)), (&["d"], Some(3))], false, true);
        check(&[(&["a", "b"], Some(4)), (&["d"], Some(4))], false, true);
        // One ended and one began: the total is the same, and a row was shown twice.
        check(&[(&["a", "b"], Some(4)), (&["b", "c"], Some(4))], false, true);
        check(&[(&["a", "b"], None)], false, false);
    }

    #[test]
    fn a_row_that_cannot_be_read_hides_no_other_and_allows_no_absence() {
        let walk = Walk::begin(Page { unread: 1, ..page(&["a"], Some(2)) }).finish("events", Now::default());
        assert!(!walk.is_complete() && !walk.is_worth_repeating() && walk.is_partly_unread());
        assert!(walk.get(&"a".into()).is_some());
    }

    #[test]
    fn a_row_without_a_meeting_may_be_about_any() {
        let mut rows = page(&["a"], Some(1));
        rows.rows[0].meeting = None;
        let walk = Walk::begin(rows).finish("events", Now::default());
        assert!(walk.is_complete() && walk.hides_a_meeting(None) && walk.hides_a_meeting(Some(&"b".into())));
        assert!(!walk.hides_a_meeting(Some(&"a".into())));
    }

    #[test]
    fn a_first_page_that_changed_meanwhile_makes_a_walk_incomplete() {
        let reread = |first: Result<Page, Problem>| {
            let mut walk = Walk::begin(page(&["a", "b"], Some(3)));
            walk.add(Ok(page(&["c"], Some(3))));
            let mut walk = walk.finish("events", Now::default());
            walk.reread(first, "events");
            walk.is_complete()
        };
        assert!(reread(Ok(page(&["a", "b"], Some(3)))));
        assert!(!reread(Ok(page(&["b", "d"], Some(3)))));
        assert!(!reread(Ok(page(&["a", "b"], Some(4)))));
        assert!(!reread(Err(Problem::Lost("w".to_owned()))));
    }

    #[test]
    fn pages_are_counted_at_the_size_that_the_server_gives() {
        assert_eq!(Walk::begin(page(&["a", "b"], Some(5))).pages, 3);
        assert_eq!(Walk::begin(page(&[], Some(0))).pages, 1);
        assert_eq!(Walk::begin(page(&["a"], None)).pages, 1);
    }

    #[test]
    fn a_page_that_did_not_come_leaves_a_gap_that_another_walk_does_not_close() {
        let mut walk = Walk::begin(page(&["a"], Some(2)));
        walk.add(Err(Problem::Lost("HTTP 502".to_owned())));
        let walk = walk.finish("events", Now::default());
        assert_eq!(walk.gap, Some(Problem::Lost("HTTP 502".to_owned())));
        assert!(!walk.is_worth_repeating() && walk.get(&"a".into()).is_some());
    }
}
