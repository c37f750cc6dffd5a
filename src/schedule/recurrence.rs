//! Recurrences.

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Recurrence;
