//! The events in a feed, as text. Works on lines and keeps only what is of use: descriptions may be long, but pictures,
//! alarms and guests are left out before anything is parsed.

use super::MAX_EVENTS;
use super::lines::{Line, unfold};

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
    /// Only the lines that are of use; of a time zone also where its parts begin and end.
    pub lines: Vec<BlockLine>,
    /// It stands in a calendar that cancels what it lists (METHOD:CANCEL).
    pub cancels: bool,
    /// It was too long, and is not whole.
    pub cut: bool,
    /// Bytes of its lines.
    pub size: usize,
}

/// One line of a component, unfolded.
#[derive(Debug)]
pub struct BlockLine {
    pub text: String,
    /// False: it is not UTF-8, and a guess.
    pub certain: bool,
}

#[derive(Debug, Default)]
pub struct Found {
    pub events: Vec<Block>,
    pub zones: Vec<Block>,
}

/// Where we are in the file.
#[derive(Default)]
struct Walk {
    found: Found,
    /// Names of the open components, in capitals.
    open: Vec<String>,
    calendars: usize,
    /// Events before this one belong to earlier calendars.
    own_events: usize,
    cancels: bool,
    block: Option<Block>,
}

pub fn split(bytes: &[u8]) -> Result<Found, FeedError> {
    let mut walk = Walk::default();
    let mut lines = unfold(bytes);
    for line in lines.by_ref() {
        walk.line(&line)?;
    }
    if walk.calendars == 0 {
        return Err(FeedError::NotCalendar);
    }
    if !walk.open.is_empty() {
        return Err(FeedError::Truncated { line: lines.lines_read() });
    }
    Ok(walk.found)
}

impl Walk {
    fn line(&mut self, line: &Line<'_>) -> Result<(), FeedError> {
        let name = line.name();
        if name.eq_ignore_ascii_case("BEGIN") {
            return self.begin(line);
        }
        if name.eq_ignore_ascii_case("END") {
            return self.end(line);
        }
        match self.open.len() {
            // What stands after a calendar is nobody's.
            0 if self.calendars == 0 && !line.bytes.trim_ascii().is_empty() => {
                return Err(FeedError::NotCalendar);
            }
            1 if name.eq_ignore_ascii_case("METHOD") => {
                self.cancels = line.plain_value().eq_ignore_ascii_case("CANCEL");
            }
            2 if self.block.is_some() && is_of_use(&name) => self.push(line),
            3 if self.is_in_zone() => self.push(line),
            _ => {}
        }
        Ok(())
    }

    /// In a STANDARD or DAYLIGHT of a time zone.
    fn is_in_zone(&self) -> bool {
        self.block.is_some()
            && self.open.get(1).is_some_and(|name| name == "VTIMEZONE")
            && self.open.get(2).is_some_and(|name| name == "STANDARD" || name == "DAYLIGHT")
    }

    fn begin(&mut self, line: &Line<'_>) -> Result<(), FeedError> {
        let name = line.plain_value().to_ascii_uppercase();
        match self.open.len() {
            0 if name == "VCALENDAR" => {
                self.calendars += 1;
                self.cancels = false;
                self.own_events = self.found.events.len();
            }
            0 if self.calendars == 0 => return Err(FeedError::NotCalendar),
            1 if name == "VEVENT" || name == "VTIMEZONE" => {
                self.block = Some(Block { line: line.number, ..Block::default() });
            }
            MAX_DEPTH => return Err(FeedError::TooDeep { line: line.number }),
            _ => {}
        }
        self.open.push(name);
        if self.open.len() == 3 && self.is_in_zone() {
            self.push(line);
        }
        Ok(())
    }

    fn end(&mut self, line: &Line<'_>) -> Result<(), FeedError> {
        let (number, name) = (line.number, line.plain_value());
        if self.open.len() == 3 && self.is_in_zone() {
            self.push(line);
        }
        let Some(open) = self.open.pop() else {
            let junk = if self.calendars == 0 {
                FeedError::NotCalendar
            } else {
                FeedError::Unbalanced { line: number }
            };
            return Err(junk);
        };
        if !open.eq_ignore_ascii_case(&name) {
            return Err(FeedError::Unbalanced { line: number });
        }
        match self.open.len() {
            0 => {
                let cancels = self.cancels;
                let own = self.found.events.iter_mut().skip(self.own_events);
                own.for_each(|block| block.cancels = cancels);
                Ok(())
            }
            1 => self.close(number, &open),
            _ => Ok(()),
        }
    }

    fn close(&mut self, number: usize, name: &str) -> Result<(), FeedError> {
        let Some(block) = self.block.take() else { return Ok(()) };
        if name == "VEVENT" {
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

    fn push(&mut self, line: &Line<'_>) {
        let Some(block) = &mut self.block else { return };
        if block.size + line.bytes.len() > MAX_EVENT {
            block.cut = true;
            return;
        }
        block.size += line.bytes.len();
        let (text, certain) = line.text();
        block.lines.push(BlockLine { text, certain });
    }
}

/// Properties that are read, in events and in time zones.
const OF_USE: [&str; 17] = [
    "CONFERENCE",
    "DESCRIPTION",
    "DTEND",
    "DTSTART",
    "DURATION",
    "EXDATE",
    "EXRULE",
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
        let found = split(text.as_bytes());
        let told = found.map(|found| {
            let tell = |block: &Block| {
                let body: String = block.lines.iter().map(|line| format!("{}|", line.text)).collect();
                let cancels = if block.cancels { " cancels" } else { "" };
                format!("{}{cancels}: {body}", block.line)
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
            Ok(&["2: UID:1|DESCRIPTION:abc|x-room;A=b:7|"]),
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
        let refused = split(format!("BEGIN:VCALENDAR\n{many}END:VCALENDAR").as_bytes());
        assert_eq!(refused.unwrap_err(), FeedError::TooManyEvents { line: 2 * MAX_EVENTS + 3 });
        let long = format!("UID:1\nDESCRIPTION:{}\nURL:x\n", "a".repeat(MAX_EVENT));
        let text = format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\n{long}END:VEVENT\nEND:VCALENDAR");
        let found = split(text.as_bytes()).unwrap();
        assert!(found.events[0].cut && found.events[0].lines.len() == 2);
    }
}
