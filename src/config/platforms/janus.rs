//! The keys of a Janus server.

use crate::config::diagnostics::Located;
use crate::config::document::Section;
use crate::config::file::{Secret, optional_secret, required_secret};
use crate::config::servers::Builder;
use crate::config::url::base;
use crate::platform::janus::Settings;

const EXAMPLE: &str = "http://127.0.0.1:7188/admin, as janus.transport.http.jcfg says";

pub(in crate::config) struct File {
    url: Option<Located<String>>,
    admin_secret: Option<Located<Secret>>,
    room_secret: Option<Located<Secret>>,
    string_ids: Option<Located<bool>>,
}

pub(super) fn read(section: &mut Section<'_, '_>) -> File {
    File {
        url: section.required("url"),
        admin_secret: required_secret(section, "admin-secret"),
        room_secret: optional_secret(section, "room-secret"),
        string_ids: section.get("string-ids"),
    }
}

impl File {
    pub(super) fn settings(&self, builder: &mut Builder<'_>) -> Option<Settings> {
        let url = builder.url(self.url.as_ref(), base, EXAMPLE);
        let admin_secret = builder.secret(self.admin_secret.as_ref());
        let room_secret = match &self.room_secret {
            Some(given) => Some(builder.secret(Some(given))?),
            None => None,
        };
        let string_ids = self.string_ids.as_ref().is_some_and(|given| given.value);
        let network = builder.network.clone();
        Some(Settings { url: url?, network, admin_secret: admin_secret?, room_secret, string_ids })
    }
}
