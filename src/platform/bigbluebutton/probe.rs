//! What stands there: version, load balancer, and whether our secret is the right one.
//!
//! The API base answers unsigned with its version; a signed question about a meeting that cannot exist proves the secret.
//! Until a probe has succeeded, `front = "auto"` is unknown: judged as a balancer, except that nothing is given up for lost.

use std::time::Duration;

use futures_util::future::join_all;

use super::answer::{Answer, plain};
use super::requests::{Endpoint, Problem};
use super::{BigBlueButton, Front};
use crate::platform::{Fault, Probe};

/// A look that finds no successful probe makes one beside its own requests, this often and this long at most.
const LAZY_EVERY: Duration = Duration::from_secs(30);
const LAZY_TIMEOUT: Duration = Duration::from_secs(3);

/// What a probe saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) front: Front,
    /// 3.0 or newer, which surely takes internal ids; the answer of 2.5 (HTTP 500) and of 2.6 (takes them) is the same.
    pub(super) takes_instances: bool,
    text: String,
}

impl Seen {
    fn of(answer: &Answer) -> Seen {
        let version = &answer.version;
        let bbb = version.bbb.as_deref().map(plain).filter(|text| !text.is_empty());
        let api = version.api.as_deref().map(plain).filter(|text| !text.is_empty());
        let front = match (&version.build, version.own_of_3) {
            (Some(_), _) => Front::Scalelite,
            (None, true) => Front::Direct,
            (None, false) => Front::Balancer,
        };
        let takes_instances = answer.success && version.own_of_3;
        let text = match (&version.build, bbb, api) {
            (Some(build), _, _) => format!("Scalelite (build {})", plain(build)),
            (None, Some(bbb), _) => format!("BigBlueButton {bbb}"),
            (None, None, _) if takes_instances => "BigBlueButton 3.0 or newer".to_owned(),
            (None, None, Some(api)) => format!("API {api}, version not told"),
            (None, None, None) => "version not told".to_owned(),
        };
        Seen { front, takes_instances, text }
    }

    /// Something answers signed calls but does not say what it is.
    fn silent() -> Seen {
        Seen { front: Front::Balancer, takes_instances: false, text: "version not told".to_owned() }
    }
}

pub(super) async fn probe(bbb: &BigBlueButton) -> Result<Probe, Fault> {
    let nodes = join_all(bbb.nodes.iter().map(|(name, node)| async move { (name, ask(node).await) }));
    let (front, nodes) = tokio::join!(ask(&bbb.front), nodes);
    let seen = front.map_err(|problem| problem.fault())?;
    let mut summary = seen.text;
    summary.push_str(match bbb.front() {
        Front::Direct => "; asked directly",
        Front::Scalelite => "; a Scalelite in front",
        Front::PlugNmeet => "; plugNmeet's BigBlueButton face",
        Front::Balancer | Front::Auto => "; believed as a load balancer",
    });
    if let Some(ms) = bbb.front.clock_is_off() {
        summary.push_str(&format!("; its clock is {} s off, so its starts are not believed", ms / 1000));
    }
    if bbb.names_instances(None) {
        summary.push_str("; end calls name the instance");
    }
    for (name, node) in nodes {
        let text = node.map_or_else(|problem| problem.why().to_owned(), |seen| seen.text);
        summary.push_str(&format!("; node {name}: {text}"));
    }
    Ok(Probe { summary })
}

async fn ask(endpoint: &Endpoint) -> Result<Seen, Problem> {
    endpoint.known().tried = Some(endpoint.now());
    let nobody = format!("adjourn-probe-{:016x}", fastrand::u64(..));
    let (version, signed) =
        tokio::join!(endpoint.version(endpoint.total_timeout()), endpoint.running(&nobody));
    // Any answer but a refused checksum will do: the signature was accepted.
    signed?;
    let mut known = endpoint.known();
    match version {
        Ok(answer) => known.seen = Some(Seen::of(&answer)),
        // No answer at all says nothing about what stands there: another probe may learn it.
        Err(problem @ (Problem::NotSent(_) | Problem::Lost { status: None, .. })) => return Err(problem),
        Err(_) => {
            known.seen.get_or_insert_with(Seen::silent);
        }
    }
    Ok(known.seen.clone().unwrap_or_else(Seen::silent))
}

/// A probe by the way, for an endpoint of which nothing is known: unsigned and short, its failure means nothing.
pub(super) async fn lazily(endpoint: &Endpoint) {
    let now = endpoint.now();
    {
        let mut known = endpoint.known();
        let recent = known.tried.is_some_and(|tried| now.since(tried) < LAZY_EVERY);
        if known.seen.is_some() || recent {
            return;
        }
        known.tried = Some(now);
    }
    if let Ok(answer) = endpoint.version(LAZY_TIMEOUT).await
        && answer.success
    {
        endpoint.known().seen = Some(Seen::of(&answer));
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::parse;
    use super::*;

    #[track_caller]
    fn check(inner: &str, front: Front, takes_instances: bool, text: &str) {
        let body = format!("<response><returncode>SUCCESS</returncode>{inner}</response>");
        let seen = Seen::of(&parse(body.as_bytes()).unwrap_or_else(|why| panic!("{why}")));
        assert_eq!(seen, Seen { front, takes_instances, text: text.to_owned() });
    }

    #[test]
    fn the_front_is_told_from_the_probe() {
        let v3 = "<version>2.0</version><bbbVersion>3.0.19</bbbVersion><graphqlWebsocketUrl>w</graphqlWebsocketUrl>";
        check(v3, Front::Direct, true, "BigBlueButton 3.0.19");
        let hidden = "<version>2.0</version><bbbVersion/><graphqlWebsocketUrl>w</graphqlWebsocketUrl>";
        check(hidden, Front::Direct, true, "BigBlueButton 3.0 or newer");
        let v2 = "<version>2.0</version><apiVersion>2.0</apiVersion><bbbVersion>2.4-rc-7</bbbVersion>";
        check(v2, Front::Balancer, false, "BigBlueButton 2.4-rc-7");
        check("<version>2.0</version><build>1.6</build>", Front::Scalelite, false, "Scalelite (build 1.6)");
        check("<version>2.0</version><bbbVersion/>", Front::Balancer, false, "API 2.0, version not told");
        check("", Front::Balancer, false, "version not told");
    }
}
