//! Named calendars.

use std::collections::BTreeMap;

/// `[calendars.*]`
pub type Calendars = BTreeMap<String, Calendar>;

#[derive(Clone, Debug)]
pub struct Calendar;

/// `only` and `except`: names of calendars.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Days {
    pub only: Vec<String>,
    pub except: Vec<String>,
}
