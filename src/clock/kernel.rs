//! What the kernel knows about its own wall clock: whether some time service keeps it.

use rtime_clock::adjtime::{Timex, adjtimex};

/// The error of a clock that nobody keeps, in microseconds: the kernel begins with it after a boot and lets the error grow
/// up to it once the time service falls silent. systemd draws the same line; `STA_UNSYNC` says less, because chrony may
/// set that flag only to keep the kernel away from the hardware clock.
const NOBODY_KEEPS_IT: i64 = 16_000_000;

/// `None`: the kernel does not tell, which some sandboxes make it do.
pub(super) fn is_synchronised() -> Option<bool> {
    // A request in which nothing is asked to change only reads, and needs no privilege.
    let mut asked = Timex::new();
    adjtimex(&mut asked).ok()?;
    Some(asked.0.maxerror < NOBODY_KEEPS_IT)
}
