//! iCalendar feeds.

/// Where a feed comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    File(std::path::PathBuf),
    Url(String),
}

/// The last good copy of every feed.
#[derive(Clone, Default, Debug)]
pub struct Feeds;
