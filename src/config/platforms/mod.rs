//! What `[servers.NAME]` may say depends on its `platform`: one file a platform.
//!
//! Each has the same two halves as the stages they belong to: `File`, an exact mirror of its keys, and `settings`, what
//! they mean. A key of a secret must be named in [`SECRET_KEYS`], and a key whose value may be shown in
//! [`mask::SHOWN`](super::mask::SHOWN).

mod bigbluebutton;
mod janus;
mod realtimekit;
mod videosdk;

use super::diagnostics::Located;
use super::document::{Section, did_you_mean};
use super::servers::Builder;
use super::settings::PlatformSettings;
use crate::platform::videosdk::Version;

/// Platforms that a server can be of.
const KINDS: [&str; 6] =
    ["bigbluebutton", "janus", "realtimekit", "realtimekit-legacy", "videosdk", "videosdk-v1"];

/// Keys behind which stands where a secret is to be had.
pub(super) const SECRET_KEYS: [&str; 5] = ["admin-secret", "proxy-secret", "room-secret", "secret", "token"];

/// The keys that depend on `platform`.
pub(super) enum Platform {
    BigBlueButton(bigbluebutton::File),
    Janus(janus::File),
    VideoSdk(videosdk::File),
    RealtimeKit(realtimekit::File),
}

/// `None` if it is not known of what platform the server is, which has then been reported.
pub(super) fn read(section: &mut Section<'_, '_>, kind: &Located<String>) -> Option<Platform> {
    Some(match kind.value.as_str() {
        "bigbluebutton" => Platform::BigBlueButton(bigbluebutton::read(section)),
        "janus" => Platform::Janus(janus::read(section)),
        "videosdk" => Platform::VideoSdk(videosdk::read(section, Version::V2)),
        "videosdk-v1" => Platform::VideoSdk(videosdk::read(section, Version::V1)),
        "realtimekit" => Platform::RealtimeKit(realtimekit::read(section)),
        "realtimekit-legacy" => Platform::RealtimeKit(realtimekit::read_legacy(section)),
        other => {
            let message = format!("unknown platform {other:?}; known: {}", KINDS.join(", "));
            section.found.error(kind.place, message, did_you_mean(other, &KINDS));
            return None;
        }
    })
}

impl Platform {
    /// `None` only if something was reported.
    pub(super) fn settings(&self, builder: &mut Builder<'_>) -> Option<PlatformSettings> {
        Some(match self {
            Platform::BigBlueButton(file) => PlatformSettings::BigBlueButton(file.settings(builder)?),
            Platform::Janus(file) => PlatformSettings::Janus(file.settings(builder)?),
            Platform::VideoSdk(file) => PlatformSettings::VideoSdk(file.settings(builder)?),
            Platform::RealtimeKit(file) => PlatformSettings::RealtimeKit(file.settings(builder)?),
        })
    }
}
