//! The calls that we make, as Cloudflare describes them: what may be in a request, and what we read of an answer. Every
//! request of every test is held against this.

use serde_json::Value;
use wiremock::Request;

/// What may stand behind a query parameter, or a key of a body.
pub enum Allowed {
    /// A number that is not negative. The API names no maximum.
    Number,
    OneOf(&'static [&'static str]),
}

/// One call below the base; `{}` stands for an id.
pub struct Call {
    pub name: &'static str,
    pub method: &'static str,
    pub path: &'static [&'static str],
    pub query: &'static [(&'static str, Allowed)],
    /// Keys of the body; `None`: no body, and nothing that announces one.
    pub body: Option<&'static [(&'static str, Allowed)]>,
    /// JSON pointers that we read of a successful answer, and what is there.
    pub reads: &'static [(&'static str, &'static str)],
}

const STATUS: Allowed = Allowed::OneOf(&["LIVE", "ENDED"]);
const ROOM: Allowed = Allowed::OneOf(&["ACTIVE", "INACTIVE"]);
const RECORD: &[(&str, &str)] = &[
    ("/success", "boolean"),
    ("/data/id", "string"),
    ("/data/associated_id", "string"),
    ("/data/status", "string"),
    ("/data/started_at", "string"),
    ("/data/created_at", "string"),
    ("/data/live_participants", "number"),
    ("/data/meeting_display_name", "string"),
];

pub const CALLS: [Call; 7] = [
    Call {
        name: "kick-all",
        method: "POST",
        path: &["meetings", "{}", "active-session", "kick-all"],
        query: &[],
        body: None,
        reads: &[("/success", "boolean")],
    },
    Call {
        name: "active-session",
        method: "GET",
        path: &["meetings", "{}", "active-session"],
        query: &[],
        body: None,
        reads: RECORD,
    },
    Call { name: "session", method: "GET", path: &["sessions", "{}"], query: &[], body: None, reads: RECORD },
    Call {
        name: "sessions",
        method: "GET",
        path: &["sessions"],
        query: &[("status", STATUS), ("page_no", Allowed::Number), ("per_page", Allowed::Number)],
        body: None,
        reads: &[
            ("/success", "boolean"),
            ("/data/sessions", "array"),
            ("/data/sessions/0/id", "string"),
            ("/data/sessions/0/associated_id", "string"),
            ("/data/sessions/0/status", "string"),
            ("/data/sessions/0/started_at", "string"),
            ("/paging/total_count", "number"),
        ],
    },
    Call {
        name: "meetings",
        method: "GET",
        path: &["meetings"],
        query: &[("page_no", Allowed::Number), ("per_page", Allowed::Number)],
        body: None,
        reads: &[("/success", "boolean"), ("/paging/total_count", "number")],
    },
    Call {
        name: "meeting",
        method: "GET",
        path: &["meetings", "{}"],
        query: &[],
        body: None,
        reads: &[("/success", "boolean"), ("/data/status", "string")],
    },
    Call {
        name: "lock",
        method: "PATCH",
        path: &["meetings", "{}"],
        query: &[],
        body: Some(&[("status", ROOM)]),
        reads: &[("/success", "boolean"), ("/data/status", "string")],
    },
];

impl Allowed {
    fn admits(&self, text: &str) -> bool {
        match self {
            Allowed::Number => text.parse::<u32>().is_ok(),
            Allowed::OneOf(all) => all.contains(&text),
        }
    }
}

/// The call that a request is, and the ids in its path; `Err`: why it is none.
pub fn recognise(base: &str, request: &Request) -> Result<(&'static Call, Vec<String>), String> {
    let shown = format!("{} {}", request.method, request.url);
    let path = request.url.path().strip_prefix(base).ok_or_else(|| format!("{shown} is not below {base}"))?;
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |call: &&Call| {
        call.method == request.method.as_str()
            && call.path.len() == segments.len()
            && call.path.iter().zip(&segments).all(|(want, is)| *want == "{}" || want == is)
    };
    let call = CALLS.iter().find(fits).ok_or_else(|| format!("there is no call {shown}"))?;
    for (key, value) in request.url.query_pairs() {
        let (_, allowed) = call
            .query
            .iter()
            .find(|(name, _)| *name == key)
            .ok_or_else(|| format!("{shown}: unknown {key}"))?;
        if !allowed.admits(&value) {
            return Err(format!("{shown}: {key} cannot be {value}"));
        }
    }
    check_body(call, request).map_err(|why| format!("{shown}: {why}"))?;
    let ids = call.path.iter().zip(&segments).filter(|(want, _)| **want == "{}");
    let decode = |id: &str| percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
    Ok((call, ids.map(|(_, id)| decode(id)).collect()))
}

fn check_body(call: &Call, request: &Request) -> Result<(), String> {
    let Some(keys) = call.body else {
        let announced = request.headers.contains_key("content-type");
        return if request.body.is_empty() && !announced { Ok(()) } else { Err("it has a body".to_owned()) };
    };
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    for (key, value) in body.as_object().ok_or("its body is no object")? {
        let (_, allowed) = keys.iter().find(|(name, _)| name == key).ok_or(format!("unknown key {key}"))?;
        if !allowed.admits(value.as_str().unwrap_or_default()) {
            return Err(format!("{key} cannot be {value}"));
        }
    }
    Ok(())
}

/// Does an answer of the simulated app have what we read?
pub fn check_answer(call: &Call, answer: &Value) -> Result<(), String> {
    for (pointer, kind) in call.reads {
        let Some(value) = answer.pointer(pointer) else {
            // An empty listing has no first row.
            if pointer.contains("/0/") && answer.pointer("/data/sessions/0").is_none() {
                continue;
            }
            return Err(format!("{}: nothing at {pointer}", call.name));
        };
        let is = match value {
            Value::Bool(_) => "boolean",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Array(_) => "array",
            _ => "something else",
        };
        if is != *kind {
            return Err(format!("{}: {pointer} is {is}, not {kind}", call.name));
        }
    }
    Ok(())
}
