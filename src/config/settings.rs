//! Stage three: domain types only. Past this point no `String` means a time, a URL or a platform.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::job::{InstanceId, Limits, MeetingId, ServerName, UtcMs};
pub use crate::platform::PlatformSettings;

/// Everything that the daemon runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub state_dir: PathBuf,
    /// Done jobs, idempotency keys and lines of the journal are kept so long.
    pub retention: Duration,
    pub socket: PathBuf,
    /// File mode of the socket, e.g. `0o660`.
    pub socket_mode: u32,
    /// Group of the socket, if not the daemon's own.
    pub socket_group: Option<String>,
    pub servers: BTreeMap<ServerName, ServerSettings>,
    pub entries: Vec<EntrySettings>,
}

#[derive(Clone, Debug)]
pub struct ServerSettings {
    pub platform: PlatformSettings,
    /// `[defaults]`, then the server's own.
    pub limits: Limits,
    /// End calls in flight at once.
    pub max_concurrent: usize,
}

/// One `[[end]]` with `at`.
#[derive(Clone, PartialEq, Debug)]
pub struct EntrySettings {
    /// Its `name`, or server, meeting and time: what identifies it across restarts and edits.
    pub identity: String,
    pub server: ServerName,
    pub meeting: MeetingId,
    pub instance: Option<InstanceId>,
    pub at: UtcMs,
    pub limits: Limits,
}
