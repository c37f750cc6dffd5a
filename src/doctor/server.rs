//! One configured server: can it be reached by name, does it answer, does it let us in, and what time is it there?

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use url::Url;

use super::{Finding, burst, round_trip, skew};
use crate::clock::{SystemClock, boot_micros, system_now};
use crate::job::{Aim, Pin, ServerName};
use crate::platform::http::{ANSWER_LIMIT, Client, HttpError, Request, Skew, Timeouts};
use crate::platform::network::Network;
use crate::platform::{self, Fault, PlatformSettings, Probe};

/// Name resolution.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much of `BigBlueButton 3.0.19; asked directly` fits on a line.
const SUMMARY: usize = 200;

/// Everything about one server, the first thing that is wrong last: what depends on it is not tried.
/// `with_secrets`: they could be read here.
/// `jobs` are due at one instant, and share so many `slots`.
pub async fn examine(
    name: &ServerName,
    settings: &PlatformSettings,
    with_secrets: bool,
    jobs: usize,
    slots: usize,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (label, url, network) in settings.addresses(name) {
        let mut reached = reach(&label, &url, &network).await;
        findings.append(&mut reached);
    }
    if findings.iter().all(|finding| finding.grade != super::Grade::Bad || finding.what == "clock") {
        match with_secrets {
            true => findings.append(&mut credentials(name, settings, jobs, slots).await),
            false => findings.push(untried(name)),
        }
    }
    findings
}

async fn reach(label: &str, url: &Url, network: &Network) -> Vec<Finding> {
    // Behind a proxy the server's name is the proxy's to look up.
    let mut findings = vec![resolve(label, network.first_stop(url)).await];
    if findings[0].grade == super::Grade::Bad {
        return findings;
    }
    findings.append(&mut connect(label, url, network).await);
    findings
}

async fn resolve(label: &str, url: &Url) -> Finding {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Finding::bad(label, "name", "its url names no host", "correct url in the schedule file");
    };
    let hint = "is the name right, and does this machine have a name server? (getent hosts NAME)";
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host((bare, port))).await {
        Ok(Ok(found)) => match found.count() {
            0 => Finding::bad(label, "name", format!("{host} has no address"), hint),
            1 => Finding::good(label, "name", format!("{host} has 1 address")),
            n => Finding::good(label, "name", format!("{host} has {n} addresses")),
        },
        Ok(Err(error)) => Finding::bad(label, "name", format!("{host} does not resolve: {error}"), hint),
        Err(_) => Finding::bad(label, "name", format!("{host} does not resolve within 10 s"), hint),
    }
}

/// Two plain questions to the base address: the first opens the connection, the second measures it. Any answer will do.
async fn connect(label: &str, url: &Url, network: &Network) -> Vec<Finding> {
    let client = match Client::new(Timeouts::default(), network) {
        Ok(client) => client,
        Err(why) => {
            return vec![Finding::bad(label, "connection", why, "look into this machine's certificates")];
        }
    };
    let ask = || client.send(Request::new(Method::GET, url.clone()), client.timeouts().total, ANSWER_LIMIT);
    if let Err(error) = ask().await {
        return vec![unreachable(label, &error, network)];
    }
    let secure = if url.scheme() == "https" { "encrypted" } else { "NOT encrypted" };
    let through = if network.proxy.is_some() { ", through the proxy" } else { "" };
    let mut findings = vec![Finding::good(label, "connection", format!("answers; {secure}{through}"))];
    let began = boot_micros();
    if let Ok(answer) = ask().await {
        let took = boot_micros().saturating_sub(began);
        let now = system_now();
        let mut offset = Skew::default();
        offset.note(&answer, now.wall);
        findings.extend(offset.ms().map(|ms| skew(label, ms)));
        findings.push(round_trip(label, Duration::from_micros(u64::try_from(took).unwrap_or(0))));
    }
    findings
}

fn unreachable(label: &str, error: &HttpError, network: &Network) -> Finding {
    let hint = match error {
        HttpError::NotSent(why) if why.contains("certificate") => uncertified(why, network),
        HttpError::NotSent(_) if network.proxy.is_some() => {
            "is the proxy up, does it open tunnels to this server and port, does it want a proxy-secret? (curl -v -x PROXY URL)"
        }
        HttpError::NotSent(_) => "is it up, is the port right, does a firewall stand between? (curl -v URL)",
        _ => "something accepts connections there and does not answer: is it the right address?",
    };
    Finding::bad(label, "connection", error.to_string(), hint)
}

/// The way out where a certificate is not accepted.
fn uncertified(why: &str, network: &Network) -> &'static str {
    if network.trust.is_some() {
        return "its certificate is neither in the file of ca nor issued by one in there for this name: has the server a new \
                one? Look at it with openssl s_client -connect HOST:443 -showcerts, and put it, or its issuer, into the file";
    }
    if why.contains("not valid for name") {
        return "its certificate is for another name: correct url; or, if it is the server's own all the same, name its file \
                as ca = \"/path\" in the server's block";
    }
    if why.contains("expired") {
        return "its certificate is over its date: it must be renewed on the server";
    }
    "who issued its certificate is not known here: name the private authority, or the server's own certificate if it is \
     self-signed, as ca = \"/path\" in the server's block (openssl s_client -connect HOST:443 -showcerts shows them; \
     compare the fingerprint with whoever runs the server)"
}

fn untried(name: &ServerName) -> Finding {
    let hint = "run doctor as the daemon's user; credentials of a unit: systemd-run --pipe -p User=adjourn \
                -p LoadCredential=NAME:/path adjourn doctor";
    Finding::note(name.as_str(), "credentials", "not tried: its secret is not readable here", hint)
}

/// A signed read that changes nothing.
async fn credentials(
    name: &ServerName,
    settings: &PlatformSettings,
    jobs: usize,
    slots: usize,
) -> Vec<Finding> {
    let label = name.as_str();
    let began = boot_micros();
    let (probe, aims_at_runs) = match platform::build(name, settings, Arc::new(SystemClock)) {
        Ok(platform) => (platform.probe().await, platform.aim(&nobody()) == Aim::Instance),
        Err(error) => (Err(Fault::Misconfigured(format!("{error:#}"))), false),
    };
    let took = Duration::from_micros(u64::try_from(boot_micros().saturating_sub(began)).unwrap_or(0));
    let asked = probe.is_ok() && !aims_at_runs;
    let burst = asked.then(|| burst(label, took, jobs, slots)).flatten();
    std::iter::once(accepted(label, probe)).chain(burst).collect()
}

/// A pin that stands for any.
fn nobody() -> Pin {
    Pin {
        instance: "adjourn-doctor".into(),
        started_at: None,
        listed: false,
        node: None,
        site: None,
        last_live: system_now(),
    }
}

fn accepted(label: &str, probe: Result<Probe, Fault>) -> Finding {
    match probe {
        Ok(probe) => {
            let summary: String = probe.summary.chars().take(SUMMARY).collect();
            let balanced = ["a Scalelite in front", "believed as a load balancer"];
            let without_nodes =
                !summary.contains("; node ") && balanced.iter().any(|front| summary.contains(front));
            if without_nodes {
                let hint = "a load balancer's word proves no end: name the servers behind it as nodes, or set front = \
                            \"direct\" if nothing stands before it";
                return Finding::note(label, "credentials", format!("accepted; {summary}"), hint);
            }
            Finding::good(label, "credentials", format!("accepted; {summary}"))
        }
        Err(Fault::Misconfigured(why)) => {
            let hint = "correct the server's block in the schedule file, then: adjourn reload";
            Finding::bad(label, "credentials", why, hint)
        }
        Err(Fault::Unreachable(why)) => {
            Finding::bad(label, "credentials", why, "it answers, but not as this platform: is url right?")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::network::Trust;

    #[track_caller]
    fn check(why: &str, network: &Network, hint: &str) {
        let error = HttpError::NotSent(format!("invalid peer certificate: {why}"));
        let finding = unreachable("campus", &error, network);
        assert!(finding.hint.contains(hint), "{}", finding.hint);
    }

    #[test]
    fn a_certificate_that_is_not_accepted_is_told_with_the_way_out() {
        let usual = Network::default();
        check("UnknownIssuer", &usual, "as ca = \"/path\"");
        check("Other(OtherError(CaUsedAsEndEntity))", &usual, "self-signed, as ca = \"/path\"");
        check("certificate not valid for name \"h\"; certificate is not valid", &usual, "another name");
        check("certificate expired: verification time 1 (UNIX)", &usual, "renewed on the server");
        let made = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
        let pinned =
            Network { trust: Some(Trust::from_pem(made.cert.pem().as_bytes()).unwrap()), proxy: None };
        check("UnknownIssuer", &pinned, "neither in the file of ca");
    }
}
