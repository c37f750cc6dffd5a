//! Servers that come, change and go with the settings.

use std::sync::Arc;

use super::api::{ServerAction, ServerChange};
use super::core::Core;
use super::plan::Platforms;
use super::server::Server;
use crate::config::settings::Settings;
use crate::job::{Event, Job, JobId, ServerName};

impl Core {
    /// What these settings would change.
    pub(super) fn server_changes(&self, settings: &Settings, platforms: &Platforms) -> Vec<ServerChange> {
        let change = |server: &ServerName, action, platform: &str| ServerChange {
            server: server.clone(),
            action,
            platform: platform.to_owned(),
        };
        let gone = self.servers.iter().filter(|(name, _)| !settings.servers.contains_key(*name));
        let gone = gone.map(|(name, server)| change(name, ServerAction::Removed, server.platform.kind()));
        let known = self.settings.as_ref().map(|settings| &settings.servers);
        let come = settings.servers.iter().filter_map(|(name, server)| {
            let action = match known.and_then(|known| known.get(name)) {
                Some(old) if old == server => return None,
                Some(_) => ServerAction::Changed,
                None => ServerAction::Added,
            };
            Some(change(name, action, platforms.get(name)?.kind()))
        });
        gone.chain(come).collect()
    }

    /// The new servers and limits are true from here on.
    pub(super) fn configure(&mut self, settings: &Arc<Settings>, platforms: Platforms) {
        let now = self.now();
        self.servers.retain(|name, _| settings.servers.contains_key(name));
        let gone = |job: &Job| job.is_done() && !settings.servers.contains_key(&job.server);
        let forgotten: Vec<JobId> =
            self.active.values().filter(|active| gone(&active.job)).map(|active| active.job.id).collect();
        forgotten.into_iter().for_each(|job| self.forget(job));
        for (name, platform) in platforms {
            let server = &settings.servers[&name];
            if let Some(known) = self.servers.get_mut(&name) {
                known.replace(platform, server, now);
                continue;
            }
            let memory = self.store.memory(&name).ok().flatten().unwrap_or_default();
            self.servers.insert(name, Server::new(platform, server, memory, now));
        }
        self.plan_sweeps(settings);
        self.settings = Some(settings.clone());
        let mut in_memory: Vec<JobId> = self.active.keys().copied().collect();
        in_memory.sort_unstable();
        for job in in_memory {
            self.step(job, Event::Reconfigured);
        }
    }
}
