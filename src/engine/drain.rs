//! The end of the loop: what is under way is waited for, but not for ever.

use std::time::Duration;

use tokio::sync::mpsc;

use super::active::Active;
use super::core::{Core, Inner};

/// At shutdown: how long answers to end calls under way, to warnings, and then the last writes, are waited for.
const DRAIN_CALLS: Duration = Duration::from_secs(10);
const DRAIN_WARNINGS: Duration = Duration::from_secs(2);
const DRAIN_WRITES: Duration = Duration::from_secs(5);

/// Does something keep a drain waiting?
type IsBusy = fn(&Core) -> bool;

impl Core {
    /// Waits, bounded, for the answers of end calls under way, and for the last writes.
    pub(super) async fn drain(mut self, mut inner: mpsc::UnboundedReceiver<Inner>) {
        self.stopping = true;
        let busy: [(Duration, IsBusy); 3] = [
            (DRAIN_CALLS, |core| core.active.values().any(|active| active.job.run.calling.is_some())),
            (DRAIN_WARNINGS, |core| core.active.values().any(Active::is_warning)),
            (DRAIN_WRITES, |core| {
                let writes = || core.active.values().any(|active| active.writing.is_some());
                !core.outbox.is_empty() || !core.submitting.is_empty() || writes()
            }),
        ];
        let clock = self.clock.clone();
        for (bound, is_busy) in busy {
            self.write_unwritten();
            let waiting = async {
                while is_busy(&self)
                    && let Some(message) = inner.recv().await
                {
                    self.inner(message);
                }
            };
            tokio::select! {
                biased;
                () = waiting => {}
                () = clock.sleep(bound) => tracing::warn!(
                    bound = %humantime::format_duration(bound),
                    "not waiting any longer: what is under way is looked at first after the next start"
                ),
            }
        }
        if let Some(noted) = self.last_note() {
            self.write_note(noted);
        }
        if self.watches_saved.is_some() {
            let saved = self.save_watches();
            tokio::select! {
                biased;
                _ = saved => {}
                () = clock.sleep(DRAIN_WRITES) => {}
            }
        }
    }
}
