//! The events in a feed, as text. Works on lines, folded ones included, and keeps only what is of use: descriptions may be
//! long, but pictures, alarms and guests are left out before anything is parsed.

use super::MAX_EVENTS;

/// Components within components.
const MAX_DEPTH: usize = 16;
/// Bytes of the lines of one event that are of use.
const MAX_EVENT: usize = 1 << 20;
/// Time zones of one feed.
const MAX_ZONES: usize = 1_000;

/// Why a text as a whole is no feed. Repeats nothing of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FeedError {
    #[error("it is larger than {} MiB", limit >> 20)]
    TooLarge { limit: usize },
    #[error("it is not iCalendar: it does not begin with BEGIN:VCALENDAR")]
    NotCalendar,
    #[error("line {line}: it ends in the middle of a calendar (a download cut off?)")]
    Truncated { line: usize },
    #[error("line {line}: END of something that did not begin")]
    Unbalanced { line: usize },
    #[error("line {line}: components are nested more than {MAX_DEPTH} deep")]
    TooDeep { line: usize },
    #[error("line {line}: more than {MAX_EVENTS} events")]
    TooManyEvents { line: usize },
    #[error("line {line}: more than {MAX_ZONES} time zones")]
    TooManyZones { line: usize },
    #[error("reading it took too long, took too much memory, or crashed (in a process of its own)")]
    Harmful,
}

/// One component.
#[derive(Debug, Default)]
pub struct Block {
    /// Counted from 1.
    pub line: usize,
    /// Only the lines that are of use; BEGIN and END included.
    pub text: String,
    /// It stands in a calendar that cancels what it lists (METHOD:CANCEL).
    pub cancels: bool,
    /// It was too long, and is not whole.
    pub cut: bool,
}

#[derive(Debug, Default)]
pub struct Found {
    pub events: Vec<Block>,
    pub zones: Vec<Block>,
}

/// Where we are in the file.
#[derive(Default)]
struct Walk<'a> {
    found: Found,
    /// Names of the open components.
    open: Vec<&'a str>,
    calendars: usize,
    /// Events before this one belong to earlier calendars.
    own_events: usize,
    cancels: bool,
    block: Option<Block>,
    /// Does the line that is continued here count?
    keep: bool,
}

pub fn split(text: &str) -> Result<Found, FeedError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut walk = Walk::default();
    let mut number = 0;
    for line in text.split('\n') {
        number += 1;
        walk.line(number, line.strip_suffix('\r').unwrap_or(line))?;
    }
    if walk.calendars == 0 {
        return Err(FeedError::NotCalendar);
    }
    if !walk.open.is_empty() {
        return Err(FeedError::Truncated { line: number });
    }
    Ok(walk.found)
}

impl<'a> Walk<'a> {
    fn line(&mut self, number: usize, line: &'a str) -> Result<(), FeedError> {
        if line.starts_with([' ', '\t']) {
            if self.keep {
                self.push(line);
            }
            return Ok(());
        }
        self.keep = false;
        let end = line.find([':', ';']).unwrap_or(line.len());
        let name = line[..end].trim();
        let value = line.get(end + 1..).unwrap_or_default().trim();
        if name.eq_ignore_ascii_case("BEGIN") {
            return self.begin(number, value);
        }
        if name.eq_ignore_ascii_case("END") {
            return self.end(number, value);
        }
        match self.open.len() {
            // What stands after a calendar is nobody's.
            0 if self.calendars == 0 && !line.trim().is_empty() => return Err(FeedError::NotCalendar),
            1 if name.eq_ignore_ascii_case("METHOD") => self.cancels = value.eq_ignore_ascii_case("CANCEL"),
            2 if self.block.is_some() && is_of_use(name) => {
                self.keep = true;
                self.push(line);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, number: usize, name: &'a str) -> Result<(), FeedError> {
        match self.open.len() {
            0 if name.eq_ignore_ascii_case("VCALENDAR") => {
                self.calendars += 1;
                self.cancels = false;
                self.own_events = self.found.events.len();
            }
            0 if self.calendars == 0 => return Err(FeedError::NotCalendar),
            1 if name.eq_ignore_ascii_case("VEVENT") || name.eq_ignore_ascii_case("VTIMEZONE") => {
                let mut block = Block { line: number, ..Block::default() };
                block.text.push_str("BEGIN:");
                block.text.push_str(name);
                block.text.push_str("\r\n");
                self.block = Some(block);
            }
            MAX_DEPTH => return Err(FeedError::TooDeep { line: number }),
            _ => {}
        }
        self.open.push(name);
        Ok(())
    }

    fn end(&mut self, number: usize, name: &str) -> Result<(), FeedError> {
        let Some(open) = self.open.pop() else {
            let junk = if self.calendars == 0 {
                FeedError::NotCalendar
            } else {
                FeedError::Unbalanced { line: number }
            };
            return Err(junk);
        };
        if !open.eq_ignore_ascii_case(name) {
            return Err(FeedError::Unbalanced { line: number });
        }
        match self.open.len() {
            0 => {
                let cancels = self.cancels;
                let own = self.found.events.iter_mut().skip(self.own_events);
                own.for_each(|block| block.cancels = cancels);
                Ok(())
            }
            1 => self.close(number, name),
            _ => Ok(()),
        }
    }

    fn close(&mut self, number: usize, name: &str) -> Result<(), FeedError> {
        let Some(mut block) = self.block.take() else { return Ok(()) };
        block.text.push_str("END:");
        block.text.push_str(name);
        block.text.push_str("\r\n");
        if name.eq_ignore_ascii_case("VEVENT") {
            if self.found.events.len() == MAX_EVENTS {
                return Err(FeedError::TooManyEvents { line: number });
            }
            self.found.events.push(block);
        } else {
            if self.found.zones.len() == MAX_ZONES {
                return Err(FeedError::TooManyZones { line: number });
            }
            self.found.zones.push(block);
        }
        Ok(())
    }

    fn push(&mut self, line: &str) {
        let Some(block) = &mut self.block else { return };
        if block.text.len() + line.len() > MAX_EVENT {
            block.cut = true;
            return;
        }
        block.text.push_str(line);
        block.text.push_str("\r\n");
    }
}

/// Properties that are read, in events and in time zones.
const OF_USE: [&str; 16] = [
    "CONFERENCE",
    "DESCRIPTION",
    "DTEND",
    "DTSTART",
    "DURATION",
    "EXDATE",
    "LOCATION",
    "RDATE",
    "RECURRENCE-ID",
    "RRULE",
    "SEQUENCE",
    "STATUS",
    "SUMMARY",
    "TZID",
    "UID",
    "URL",
];

fn is_of_use(name: &str) -> bool {
    OF_USE.iter().any(|known| known.eq_ignore_ascii_case(name))
        || name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("X-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], &str>) {
        let found = split(text);
        let told = found.map(|found| {
            let tell = |block: &Block| {
                let body = block.text.replace("BEGIN:VEVENT\r\n", "").replace("END:VEVENT\r\n", "");
                let cancels = if block.cancels { " cancels" } else { "" };
                format!("{}{cancels}: {}", block.line, body.replace("\r\n", "|"))
            };
            found.events.iter().map(tell).collect::<Vec<_>>()
        });
        let expected = expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        assert_eq!(told.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn events_with_their_lines_in_both_line_ends() {
        let text = "BEGIN:VCALENDAR\nVERSION:2.0\nBEGIN:VEVENT\nUID:1\nEND:VEVENT\nBEGIN:VEVENT\nUID:2\nEND:VEVENT\n\
                    END:VCALENDAR\n";
        check(text, Ok(&["3: UID:1|", "6: UID:2|"]));
        check(&text.replace('\n', "\r\n"), Ok(&["3: UID:1|", "6: UID:2|"]));
        check(
            &format!("\u{feff}\n{text}\n{text}"),
            Ok(&["4: UID:1|", "7: UID:2|", "14: UID:1|", "17: UID:2|"]),
        );
    }

    #[test]
    fn only_what_is_of_use_is_kept() {
        check(
            "BEGIN:VCALENDAR\nbegin:vevent\nUID:1\nATTACH;VALUE=BINARY:AAAA\n AAAA\nDESCRIPTION:a\n b\n\tc\n\
             BEGIN:VALARM\nDESCRIPTION:no\nEND:VALARM\nx-room;A=b:7\nend:vevent\nBEGIN:VTODO\nUID:2\nEND:VTODO\n\
             END:VCALENDAR",
            Ok(&["2: BEGIN:vevent|UID:1|DESCRIPTION:a| b|\tc|x-room;A=b:7|END:vevent|"]),
        );
    }

    #[test]
    fn a_method_counts_for_its_calendar_alone_wherever_it_stands() {
        check(
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nEND:VEVENT\nMETHOD:CANCEL\nEND:VCALENDAR\n\
             BEGIN:VCALENDAR\nMETHOD:PUBLISH\nBEGIN:VEVENT\nUID:2\nEND:VEVENT\nEND:VCALENDAR",
            Ok(&["2 cancels: UID:1|", "9: UID:2|"]),
        );
    }

    #[test]
    fn what_is_no_feed() {
        let not = "it is not iCalendar: it does not begin with BEGIN:VCALENDAR";
        for text in
            ["", "\n\n", "<html>\nBEGIN:VCALENDAR\nEND:VCALENDAR", "BEGIN:VCARD\nEND:VCARD", "END:VCALENDAR"]
        {
            check(text, Err(not));
        }
        check("BEGIN:VCALENDAR\nEND:VCALENDAR", Ok(&[]));
        let cut = "it ends in the middle of a calendar (a download cut off?)";
        check("BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1", Err(&format!("line 3: {cut}")));
        check("BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nEND:VEVENT\n", Err(&format!("line 5: {cut}")));
        check("BEGIN:VCALENDAR\nEND:VEVENT\n", Err("line 2: END of something that did not begin"));
        check("BEGIN:VCALENDAR\nEND:VCALENDAR\nEND:X", Err("line 3: END of something that did not begin"));
        let deep = "BEGIN:VCALENDAR\n".to_owned() + &"BEGIN:X\n".repeat(20);
        check(&deep, Err("line 17: components are nested more than 16 deep"));
    }

    #[test]
    fn bounds() {
        let many = "BEGIN:VEVENT\nEND:VEVENT\n".repeat(MAX_EVENTS + 1);
        let refused = split(&format!("BEGIN:VCALENDAR\n{many}END:VCALENDAR"));
        assert_eq!(refused.unwrap_err(), FeedError::TooManyEvents { line: 2 * MAX_EVENTS + 3 });
        let long = format!("UID:1\nDESCRIPTION:{}\nURL:x\n", "a".repeat(MAX_EVENT));
        let found =
            split(&format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\n{long}END:VEVENT\nEND:VCALENDAR")).unwrap();
        assert!(found.events[0].cut && found.events[0].text.len() < 100);
    }
}
