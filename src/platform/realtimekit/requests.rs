//! The requests, each of them with room in the budget of its token.
//!
//! RealtimeKit: the calls are the same on Cloudflare and on the legacy host, only the base and the credential differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::answer::{self, Names, Page, Problem, Session};
use super::budget::{Kind, Purse};
use super::walk::{PAGES, PER_PAGE, Walk};
use super::{Account, Settings};
use crate::platform::Fault;
use crate::platform::http::{Timeouts, authorization};
use crate::platform::rest::{Ask, Clock, Rest, plain};

/// Pages of a listing that are asked for at the same time: a walk must be young when it ends.
const PAGES_AT_ONCE: usize = 4;
/// Walks of one round, where rows moved.
const WALKS: usize = 3;

/// One app on one account.
pub(super) struct Api {
    pub(super) rest: Rest,
    authorization: HeaderValue,
    /// All that errors must not repeat, the longest form first.
    secrets: Vec<SecretString>,
    purse: Purse,
    credential: &'static str,
    place: &'static str,
    /// Of the last walk.
    pages: AtomicUsize,
}

impl Api {
    pub(super) fn new(
        label: String,
        settings: &Settings,
        timeouts: Timeouts,
        clock: Clock,
        purse: Option<Purse>,
    ) -> Result<Api, Fault> {
        let credential = settings.account.credential();
        let refused = || Fault::Misconfigured(format!("{label}: no header can carry its credential"));
        let authorization = authorization(&credential).ok_or_else(refused)?;
        let purse = purse.unwrap_or_else(|| Purse::of(credential.expose_secret(), Arc::clone(&clock)));
        let secrets = settings.account.secrets(&credential);
        let (credential, place) = match settings.account {
            Account::Cloudflare { .. } => (
                "the token: it needs the permission Realtime or Realtime Admin on the account of account-id",
                "account-id and app-id",
            ),
            Account::Legacy { .. } => ("organization-id and secret (the organization's API key)", "url"),
        };
        let rest = Rest::new(label, settings.base(), &settings.network, timeouts, clock)?;
        Ok(Api { rest, authorization, secrets, purse, credential, place, pages: AtomicUsize::new(1) })
    }

    pub(super) fn purse(&self) -> &Purse {
        &self.purse
    }

    /// Requests that a walk will take, as far as the last one tells.
    pub(super) fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }

    /// Ends the active session of the meeting, whichever that is.
    pub(super) async fn kick_all(&self, meeting: &str) -> Result<Value, Problem> {
        let path = ["meetings", meeting, "active-session", "kick-all"];
        self.send(Kind::End, Ask::post("the end call", &path, None)).await
    }

    /// `INACTIVE`: nobody can join.
    pub(super) async fn set_status(&self, meeting: &str, status: &str) -> Result<Value, Problem> {
        let path = ["meetings", meeting];
        let json = Some(json!({ "status": status }));
        self.send(Kind::End, Ask { method: Method::PATCH, json, ..Ask::get("the lock", &path, None) }).await
    }

    /// [`Problem::Missing`]: none is active, or the meeting or the app is a wrong one.
    pub(super) async fn active(&self, kind: Kind, meeting: &str) -> Result<Session, Problem> {
        let path = ["meetings", meeting, "active-session"];
        let ask = Ask::get("the active session", &path, None);
        self.record(&self.send(kind, ask).await?, "the active session")
    }

    pub(super) async fn session(&self, kind: Kind, id: &str) -> Result<Session, Problem> {
        let path = ["sessions", id];
        let ask = Ask::get("the session's record", &path, None);
        self.record(&self.send(kind, ask).await?, "the session's record")
    }

    pub(super) async fn meeting(&self, kind: Kind, meeting: &str) -> Result<(), Problem> {
        self.send(kind, Ask::get("the meeting", &["meetings", meeting], None)).await.map(|_| ())
    }

    /// A harmless read that needs our credential and our app.
    pub(super) async fn one_meeting(&self) -> Result<Value, Problem> {
        let query = [("page_no", "1"), ("per_page", "1")];
        self.send(Kind::Other, Ask { query: &query, ..Ask::get("a probe", &["meetings"], None) }).await
    }

    /// Everything live. Walks again where rows moved and `wanted` is not satisfied, as long as the budget is not low. `Err`: not
    /// even a first page.
    pub(super) async fn walk(&self, kind: Kind, wanted: impl Fn(&Walk) -> bool) -> Result<Walk, Problem> {
        self.room(kind, self.pages())?;
        let mut walk = self.walk_once(kind).await?;
        for _ in 1..WALKS {
            let again = walk.is_worth_repeating() && !wanted(&walk);
            if !again || !self.purse.affords(kind, walk.pages) {
                break;
            }
            match self.walk_once(kind).await {
                Ok(other) => walk = other,
                Err(_) => break,
            }
        }
        Ok(walk)
    }

    /// Reads the first page again, after the last one.
    pub(super) async fn reread(&self, kind: Kind, walk: &mut Walk) {
        let first = self.page(kind, 1).await;
        walk.reread(first, &self.rest.label);
    }

    async fn walk_once(&self, kind: Kind) -> Result<Walk, Problem> {
        let mut walk = Walk::begin(self.page(kind, 1).await?);
        let pages = walk.pages.min(PAGES);
        self.pages.store(pages, Ordering::Relaxed);
        if pages < walk.pages {
            let why = format!("{}: more live sessions than fit into {PAGES} pages", self.rest.label);
            walk.add(Err(Problem::Lost(why)));
        } else if let Err(problem) = self.room(kind, pages - 1) {
            // Part of a walk would be spent for nothing.
            walk.add(Err(problem));
        } else {
            let others = stream::iter(2..=pages).map(|number| self.page(kind, number));
            let others: Vec<_> = others.buffered(PAGES_AT_ONCE).collect().await;
            others.into_iter().for_each(|page| walk.add(page));
        }
        Ok(walk.finish(&self.rest.label, self.rest.now()))
    }

    async fn page(&self, kind: Kind, number: usize) -> Result<Page, Problem> {
        let (number, per_page) = (number.to_string(), PER_PAGE.to_string());
        let query = [("status", "LIVE"), ("page_no", number.as_str()), ("per_page", per_page.as_str())];
        let what = "the listing of live sessions";
        let body = self.send(kind, Ask { query: &query, ..Ask::get(what, &["sessions"], None) }).await?;
        answer::page(&body)
            .ok_or_else(|| Problem::Lost(format!("{}: {what} cannot be read", self.rest.label)))
    }

    fn record(&self, body: &Value, what: &str) -> Result<Session, Problem> {
        answer::record(body)
            .ok_or_else(|| Problem::Refused(format!("{}: {what} cannot be read", self.rest.label)))
    }

    async fn send(&self, kind: Kind, ask: Ask<'_>) -> Result<Value, Problem> {
        let permit = self.purse.take(kind).map_err(|at| self.not_now(at.since(self.rest.now().boot)))?;
        let what = ask.what;
        let ask = Ask { authorization: Some(self.authorization.clone()), ..ask };
        let reply = self.rest.send(ask).await;
        drop(permit);
        let names = Names {
            server: &self.rest.label,
            credential: self.credential,
            place: self.place,
            secrets: &self.secrets,
        };
        let answer = answer::open(&names, what, reply);
        if let Err(Problem::Throttled { retry_after, .. }) = &answer {
            self.purse.pause(*retry_after);
        }
        answer
    }

    /// A stranger's text for an error.
    pub(super) fn plain(&self, text: &str) -> String {
        answer::struck(&self.secrets, &plain(text))
    }

    fn room(&self, kind: Kind, requests: usize) -> Result<(), Problem> {
        match self.purse.room_at(kind, requests) {
            None => Ok(()),
            Some(at) => Err(self.not_now(at.since(self.rest.now().boot))),
        }
    }

    fn not_now(&self, pause: Duration) -> Problem {
        let after = humantime::format_duration(Duration::from_secs(pause.as_secs() + 1));
        let why = format!(
            "{}: not asked, because the token's requests of these 5 minutes are used up; again in {after}",
            self.rest.label
        );
        Problem::NotNow { why, pause }
    }
}

impl Settings {
    /// What the paths of the calls are joined to.
    pub(super) fn base(&self) -> Url {
        let mut url = self.url.clone();
        if let Account::Cloudflare { account_id, app_id, .. } = &self.account
            && let Ok(mut path) = url.path_segments_mut()
        {
            path.pop_if_empty().extend(["accounts", account_id, "realtime", "kit", app_id, ""]);
        }
        url
    }
}

impl Account {
    /// The header's value, what follows its scheme, and what that is made from.
    fn secrets(&self, header: &SecretString) -> Vec<SecretString> {
        let header = header.expose_secret();
        let bare = header.split_once(' ').map_or(header, |(_, bare)| bare);
        let own = match self {
            Account::Cloudflare { token, .. } => token,
            Account::Legacy { secret, .. } => secret,
        };
        vec![header.into(), bare.into(), own.clone()]
    }

    /// The value of the `Authorization` header.
    fn credential(&self) -> SecretString {
        match self {
            Account::Cloudflare { token, .. } => format!("Bearer {}", token.expose_secret()).into(),
            Account::Legacy { organization_id, secret } => {
                let pair = format!("{organization_id}:{}", secret.expose_secret());
                format!("Basic {}", STANDARD.encode(pair)).into()
            }
        }
    }
}
