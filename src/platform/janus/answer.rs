//! What an answer of the VideoRoom plugin means. Pure.
//!
//! | answer | means |
//! |---|---|
//! | `{"janus":"success","response":{..}}` | the plugin has spoken: its own error, if it is one, is in `error_code` |
//! | `{"janus":"error","error":{"code":403}}` | wrong admin secret |
//! | `error_code` 426 | no such room |
//! | `error_code` 430 | an id of the wrong type |
//! | `error_code` 433 | wrong secret of the room |
//! | anything else | not an answer of Janus |

use serde_json::Value;

use super::Presence;
use crate::job::{EndAnswer, Sighting};
use crate::platform::Fault;
use crate::platform::rest::{Reply, plain};

/// Janus: wrong or missing secret.
const UNAUTHORIZED: i64 = 403;
/// VideoRoom: JANUS_VIDEOROOM_ERROR_NO_SUCH_ROOM, .._INVALID_ELEMENT and .._UNAUTHORIZED.
const NO_SUCH_ROOM: i64 = 426;
const INVALID_ELEMENT: i64 = 430;
const WRONG_ROOM_SECRET: i64 = 433;

/// A reply, read. The texts name the server.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Answer {
    /// The plugin did as it was asked; its response.
    Done(Value),
    NoSuchRoom(String),
    /// Our secrets are refused.
    Misconfigured(String),
    /// The plugin, or Janus, refuses for another reason.
    Refused(String),
    /// It does not come from Janus, or not in a form that is known.
    Foreign(String),
}

/// A room as the list shows it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Room {
    pub id: String,
    pub description: String,
    pub participants: Option<u32>,
}

pub(super) fn read(label: &str, what: &str, reply: &Reply) -> Answer {
    let foreign = |why: &str| Answer::Foreign(format!("{label}: the answer to {what} {why}"));
    let Ok(json) = &reply.json else { return foreign(&format!("is no JSON (HTTP {})", reply.status)) };
    if let Some(code) = json.pointer("/error/code").and_then(Value::as_i64) {
        let why = format!("{label} refused {what}: {} ({code})", text(json, "/error/reason"));
        return match code {
            UNAUTHORIZED => Answer::Misconfigured(format!("{why}: compare admin-secret with janus.jcfg")),
            _ => Answer::Refused(why),
        };
    }
    let response = json.get("response").filter(|_| json.get("janus").is_some_and(|janus| janus == "success"));
    let Some(response) = response.filter(|_| reply.is_success()) else {
        return foreign(&format!("is not Janus's (HTTP {})", reply.status));
    };
    let Some(code) = response.get("error_code").and_then(Value::as_i64) else {
        return Answer::Done(response.clone());
    };
    let why = format!("{label} refused {what}: {} ({code})", text(response, "/error"));
    match code {
        NO_SUCH_ROOM => Answer::NoSuchRoom(why),
        WRONG_ROOM_SECRET => Answer::Misconfigured(format!(
            "{why}: the room has another secret than room-secret; it may be another room under the same id"
        )),
        INVALID_ELEMENT => {
            Answer::Misconfigured(format!("{why}: does string-ids fit string_ids of the plugin?"))
        }
        _ => Answer::Refused(why),
    }
}

fn text(json: &Value, pointer: &str) -> String {
    plain(json.pointer(pointer).and_then(Value::as_str).unwrap_or("no reason given"))
}

/// `destroy`.
pub(super) fn ended(answer: Answer) -> EndAnswer {
    match answer {
        Answer::Done(response) if says(&response, "destroyed") => EndAnswer::Accepted,
        Answer::NoSuchRoom(why) | Answer::Refused(why) => EndAnswer::MaybeGone { why },
        Answer::Misconfigured(why) => EndAnswer::Misconfigured { why },
        Answer::Foreign(why) => EndAnswer::Unreachable { why, sent: true },
        Answer::Done(_) => EndAnswer::MaybeGone { why: "the room was not said to be destroyed".to_owned() },
    }
}

/// `exists`.
pub(super) fn presence(answer: Answer) -> Presence {
    let unknown = |sighting: fn(String) -> Sighting, why: String| Presence::Unknown(sighting(why));
    match answer {
        Answer::Done(response) => match response.get("exists").and_then(Value::as_bool) {
            Some(true) => Presence::There { participants: None },
            Some(false) => Presence::NotThere,
            None => unknown(Sighting::Doubtful, "Janus did not say whether the room exists".to_owned()),
        },
        Answer::Misconfigured(why) => unknown(Sighting::Misconfigured, why),
        Answer::NoSuchRoom(why) | Answer::Refused(why) => unknown(Sighting::Doubtful, why),
        Answer::Foreign(why) => unknown(Sighting::Unreachable, why),
    }
}

/// `list`.
pub(super) fn rooms(answer: Answer) -> Result<Vec<Room>, Fault> {
    let response = done(answer)?;
    let list = response.get("list").and_then(Value::as_array);
    let list = list.ok_or_else(|| Fault::Unreachable("the list of rooms is none".to_owned()))?;
    Ok(list.iter().filter_map(room).collect())
}

fn room(entry: &Value) -> Option<Room> {
    let id = match entry.get("room")? {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let participants = entry.get("num_participants").and_then(Value::as_u64);
    let description = entry.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Room { id, description, participants: participants.and_then(|n| u32::try_from(n).ok()) })
}

/// `allowed`.
pub(super) fn allowed(answer: Answer) -> Result<(), Fault> {
    done(answer).map(|_response| ())
}

fn done(answer: Answer) -> Result<Value, Fault> {
    match answer {
        Answer::Misconfigured(why) => Err(Fault::Misconfigured(why)),
        Answer::NoSuchRoom(why) | Answer::Refused(why) | Answer::Foreign(why) => Err(Fault::Unreachable(why)),
        Answer::Done(response) => Ok(response),
    }
}

fn says(response: &Value, word: &str) -> bool {
    response.get("videoroom").is_some_and(|videoroom| videoroom == word)
}
