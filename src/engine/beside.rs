//! Work that would hold up the loop, done beside it.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does it on a thread that may block. Where there is only one thread (a simulation, whose time another would upset) it is
/// done at once. `None`: it was interrupted.
pub(super) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Some(work()),
        _ => tokio::task::spawn_blocking(work).await.ok(),
    }
}
