//! The keys of a BigBlueButton server.

use std::collections::BTreeMap;

use url::Url;

use crate::config::diagnostics::{Located, Place};
use crate::config::document::Section;
use crate::config::file::{Secret, required_secret};
use crate::config::network::{self, NetworkKeys};
use crate::config::servers::Builder;
use crate::config::url::{api_base, authority};
use crate::platform::bigbluebutton::{Algorithm, Believe, Front, NodeSettings, Settings};

const EXAMPLE: &str = "https://bbb.example.org/bigbluebutton/api, as `bbb-conf --secret` shows it";
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("sha1", Algorithm::Sha1),
    ("sha256", Algorithm::Sha256),
    ("sha384", Algorithm::Sha384),
    ("sha512", Algorithm::Sha512),
];
const FRONTS: [(&str, Front); 5] = [
    ("auto", Front::Auto),
    ("direct", Front::Direct),
    ("scalelite", Front::Scalelite),
    ("balancer", Front::Balancer),
    ("plugnmeet", Front::PlugNmeet),
];
const BELIEFS: [(&str, Believe); 2] = [("proof", Believe::Proof), ("front", Believe::Front)];

pub(in crate::config) struct File {
    url: Option<Located<String>>,
    secret: Option<Located<Secret>>,
    checksum: Option<Located<String>>,
    front: Option<Located<String>>,
    believe: Option<Located<String>>,
    instance_ids: Option<Located<bool>>,
    nodes: Vec<Node>,
}

/// `[[servers.NAME.nodes]]`
struct Node {
    url: Option<Located<String>>,
    secret: Option<Located<Secret>>,
    checksum: Option<Located<String>>,
    network: NetworkKeys,
}

pub(super) fn read(section: &mut Section<'_, '_>) -> File {
    File {
        url: section.required("url"),
        secret: required_secret(section, "secret"),
        checksum: section.get("checksum"),
        front: section.get("front"),
        believe: section.get("believe"),
        instance_ids: section.get("instance-ids"),
        nodes: read_nodes(section),
    }
}

fn read_nodes(section: &mut Section<'_, '_>) -> Vec<Node> {
    let title = format!("[{}]", section.title.replace(']', ".nodes]"));
    let tables = section.list("nodes");
    let mut nodes = Vec::new();
    for table in tables {
        let mut node = section.inner(title.clone(), table.place, table.value);
        nodes.push(Node {
            url: node.required("url"),
            secret: required_secret(&mut node, "secret"),
            checksum: node.get("checksum"),
            network: network::read(&mut node),
        });
        node.finish();
    }
    nodes
}

impl File {
    pub(super) fn settings(&self, builder: &mut Builder<'_>) -> Option<Settings> {
        let url = builder.url(self.url.as_ref(), api_base, EXAMPLE);
        let secret = builder.secret(self.secret.as_ref());
        let checksum = builder.choice("checksum", self.checksum.as_ref(), &ALGORITHMS).unwrap_or_default();
        let front = builder.choice("front", self.front.as_ref(), &FRONTS).unwrap_or_default();
        let believe = builder.choice("believe", self.believe.as_ref(), &BELIEFS).unwrap_or_default();
        let nodes = node_settings(&self.nodes, checksum, builder);
        if let (Front::Direct, Some(node)) = (front, self.nodes.first().and_then(|node| node.url.as_ref())) {
            let message = "front = \"direct\" says that nothing stands in front of nodes";
            let hint = "nodes are the servers behind a balancer: set front to scalelite, balancer or auto";
            builder.found.note(node.place, message, hint);
        }
        if let Some(given) = &self.front
            && matches!(front, Front::Scalelite | Front::Balancer)
            && self.nodes.is_empty()
        {
            let message = "a load balancer's word cannot tell whether a meeting is over or was forgotten: what ends by itself \
                           is reported as vanished";
            let hint = "name the servers behind it as [[servers.NAME.nodes]]; front = \"direct\" if nothing stands before it";
            builder.found.note(given.place, message, hint);
        }
        if let Some(given) =
            self.believe.as_ref().filter(|_| believe == Believe::Front && front == Front::Direct)
        {
            let message = "believe = \"front\" changes nothing where front = \"direct\": a direct server's word is proof";
            builder.found.note(given.place, message, "leave it out");
        }
        Some(Settings {
            url: url?,
            network: builder.network.clone(),
            secret: secret?,
            checksum,
            front,
            believe,
            instance_ids: self.instance_ids.as_ref().map(|given| given.value),
            nodes,
        })
    }
}

fn node_settings(given: &[Node], default: Algorithm, builder: &mut Builder<'_>) -> Vec<NodeSettings> {
    let mut seen: BTreeMap<Url, Place> = BTreeMap::new();
    let mut nodes: Vec<NodeSettings> = Vec::new();
    for node in given {
        let url = builder.url(node.url.as_ref(), api_base, EXAMPLE);
        let secret = builder.secret(node.secret.as_ref());
        let checksum = builder.choice("checksum", node.checksum.as_ref(), &ALGORITHMS).unwrap_or(default);
        let of_server = builder.network.clone();
        let network = builder.network(&node.network, &of_server);
        let (Some(url), Some(given)) = (url, &node.url) else { continue };
        if let Some(first) = seen.insert(url.clone(), given.place) {
            let message = format!("this node is listed twice; first at {}", builder.found.at(first));
            builder.found.error(given.place, message, "keep one of the two");
        }
        let mut name = authority(&url);
        if nodes.iter().any(|known| known.name == name) {
            // Two nodes behind one host name differ in their paths.
            name.push_str(url.path());
        }
        nodes.extend(secret.map(|secret| NodeSettings { name, url, network, secret, checksum }));
    }
    nodes
}
