//! The demo's simulated servers, of whatever platform: what a scene needs of them, and how they are configured.

use std::sync::Arc;

use crate::clock;
use crate::config::settings::PlatformSettings;
use crate::job::UtcMs;
use crate::platform::network::Network;
use crate::platform::{bigbluebutton as bbb, realtimekit as rtk, videosdk as sdk};
use crate::sandbox::{self, Front, NewMeeting, Sandbox, realtimekit, sessions, videosdk};

/// People in every meeting.
const PARTICIPANTS: u32 = 3;

pub(super) enum Server {
    BigBlueButton(Sandbox),
    VideoSdk(videosdk::Sandbox),
    RealtimeKit(realtimekit::Sandbox),
}

/// What goes wrong in a scene, by the kind of its server.
#[derive(Clone)]
pub(super) enum Trouble {
    Meeting(sandbox::FaultOrder),
    Session(sessions::FaultOrder),
}

/// One run of a meeting, as it really was.
pub(super) struct Run {
    pub alive: bool,
    pub hits: Vec<UtcMs>,
}

impl Server {
    pub async fn bigbluebutton(front: Front) -> anyhow::Result<Server> {
        let mut options = sandbox::Options::new(Arc::new(clock::wall_micros));
        options.settings.front = front;
        Ok(Server::BigBlueButton(Sandbox::start(options).await?))
    }

    pub async fn videosdk() -> anyhow::Result<Server> {
        let options = videosdk::Options::new(Arc::new(clock::wall_micros));
        Ok(Server::VideoSdk(videosdk::Sandbox::start(options).await?))
    }

    pub async fn realtimekit() -> anyhow::Result<Server> {
        let options = realtimekit::Options::new(Arc::new(clock::wall_micros));
        Ok(Server::RealtimeKit(realtimekit::Sandbox::start(options).await?))
    }

    /// What the schedule file would say.
    pub fn settings(&self) -> anyhow::Result<PlatformSettings> {
        Ok(match self {
            Server::BigBlueButton(server) => PlatformSettings::BigBlueButton(bbb::Settings {
                url: server.url().parse()?,
                network: Network::default(),
                secret: server.secret().to_owned().into(),
                checksum: bbb::Algorithm::Sha256,
                front: bbb::Front::Auto,
                believe: bbb::Believe::Proof,
                instance_ids: None,
                nodes: Vec::new(),
            }),
            Server::VideoSdk(server) => PlatformSettings::VideoSdk(sdk::Settings {
                version: sdk::Version::V2,
                url: format!("{}/", server.url()).parse()?,
                network: Network::default(),
                credentials: sdk::Credentials::Key {
                    api_key: server.settings().api_key.clone().into(),
                    secret: server.settings().secret.clone().into(),
                },
            }),
            Server::RealtimeKit(server) => PlatformSettings::RealtimeKit(rtk::Settings {
                url: format!("{}/", server.url()).parse()?,
                network: Network::default(),
                account: rtk::Account::Cloudflare {
                    account_id: server.settings().account_id.clone(),
                    app_id: server.settings().app_id.clone(),
                    token: server.settings().token.clone().into(),
                },
            }),
        })
    }

    pub fn create(&self, meeting: &str) -> anyhow::Result<()> {
        match self {
            Server::BigBlueButton(server) => {
                let new = NewMeeting { participants: PARTICIPANTS, ..NewMeeting::new(meeting) };
                server.create_meeting(&new)?;
            }
            Server::VideoSdk(server) => join(server.control(), meeting)?,
            Server::RealtimeKit(server) => join(server.control(), meeting)?,
        }
        Ok(())
    }

    pub fn trouble(&self, trouble: Trouble) -> anyhow::Result<()> {
        match (self, trouble) {
            (Server::BigBlueButton(server), Trouble::Meeting(order)) => drop(server.set_fault(order)?),
            (Server::VideoSdk(server), Trouble::Session(order)) => drop(server.set_fault(order)?),
            (Server::RealtimeKit(server), Trouble::Session(order)) => drop(server.set_fault(order)?),
            (_, Trouble::Meeting(_) | Trouble::Session(_)) => {
                anyhow::bail!("the fault of a scene is of another platform")
            }
        }
        Ok(())
    }

    /// Every run of a meeting, in the order of their start.
    pub fn runs(&self, meeting: &str) -> Vec<Run> {
        let control = match self {
            Server::BigBlueButton(server) => {
                let truth = server.truth(&sandbox::Asked::default());
                let run = |instance: &sandbox::InstanceTruth| Run {
                    alive: instance.alive(),
                    hits: instance.hits.iter().map(|hit| hit.at).collect(),
                };
                return truth.instances(meeting).into_iter().map(run).collect();
            }
            Server::VideoSdk(server) => server.control(),
            Server::RealtimeKit(server) => server.control(),
        };
        let truth = control.truth(&sessions::Asked::default());
        let run = |session: &sessions::SessionTruth| Run {
            alive: session.alive(),
            hits: session.hits.iter().map(|hit| hit.at).collect(),
        };
        truth.sessions(meeting).iter().map(run).collect()
    }

    pub async fn stop(self) {
        match self {
            Server::BigBlueButton(server) => server.stop().await,
            Server::VideoSdk(server) => server.stop().await,
            Server::RealtimeKit(server) => server.stop().await,
        }
    }
}

fn join(control: &sessions::Control, meeting: &str) -> Result<(), sessions::Refusal> {
    let new = sessions::NewMeeting { participants: PARTICIPANTS, ..sessions::NewMeeting::new(meeting) };
    control.create_meeting(&new).map(drop)
}
