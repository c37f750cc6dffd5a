//! Server-sent events: the little of the format that the daemon uses, read as it arrives.

/// Bytes that an unfinished event may have; more, and the stream is no event stream.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Event {
    pub name: String,
    pub data: String,
}

#[derive(Debug, Default)]
pub struct Parser {
    rest: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
pub struct TooLong;

impl Parser {
    /// The events that these bytes complete. Comments (keep-alives) are none.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            events.extend(parse(&String::from_utf8_lossy(&block)));
        }
        if self.rest.len() > MAX_EVENT_BYTES {
            return Err(TooLong);
        }
        Ok(events)
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.to_owned(),
            "data" if event.data.is_empty() => event.data = value.to_owned(),
            "data" => {
                event.data.push('\n');
                event.data.push_str(value);
            }
            _ => {}
        }
    }
    (event != Event::default()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.into(), data: data.into() }
    }

    #[test]
    fn events_come_out_whole_however_they_arrive() {
        let text = "event: hello\ndata: {\"at\": \"ü\"}\n\n: keep-alive\n\nevent:moved\ndata:1\ndata: 2\n\n";
        let expected = [event("hello", "{\"at\": \"ü\"}"), event("moved", "1\n2")];
        for step in 1..text.len() {
            let mut parser = Parser::default();
            let events = text.as_bytes().chunks(step).map(|part| parser.push(part).unwrap());
            assert_eq!(events.flatten().collect::<Vec<Event>>(), expected, "{step}");
        }
    }

    #[test]
    fn a_stream_without_events_is_not_collected_for_ever() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT_BYTES]), Ok(Vec::new()));
        assert_eq!(parser.push(b"x"), Err(TooLong));
    }
}
