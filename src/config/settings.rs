//! Stage three: domain types only. Past this point no `String` means a time, a URL or a platform.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::job::{Limits, ServerName};
pub use crate::platform::PlatformSettings;
use crate::schedule::Schedule;

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
    pub schedule: Arc<Schedule>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ServerSettings {
    pub platform: PlatformSettings,
    /// `[defaults]`, then the server's own.
    pub limits: Limits,
    /// End calls in flight at once.
    pub max_concurrent: usize,
}
