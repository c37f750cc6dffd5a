//! Days of the week as people write them: in rules, in calendars, on the command line.

use jiff::civil::Weekday;

const NAMES: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// Two letters are a day in too many languages.
const SHORTEST: usize = 3;

/// `Mon`, `Tues`, `wednesday`: an English name, or its beginning.
pub fn weekday(text: &str) -> Option<Weekday> {
    let text = text.trim().to_ascii_lowercase();
    let at = NAMES.iter().position(|name| text.len() >= SHORTEST && name.starts_with(&text))?;
    Weekday::from_monday_zero_offset(i8::try_from(at).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_beginnings() {
        for (text, day) in [
            ("Mon", Weekday::Monday),
            ("tues", Weekday::Tuesday),
            (" THURSDAY ", Weekday::Thursday),
            ("sunday", Weekday::Sunday),
        ] {
            assert_eq!(weekday(text), Some(day));
        }
        for text in ["", "Mo", "Montag", "mondays", "Mit", "ond"] {
            assert_eq!(weekday(text), None, "{text}");
        }
    }
}
