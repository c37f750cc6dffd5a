//! A harmless signed read, and what is live, for people.

use super::answer::Session;
use super::listing::{Gap, walk};
use super::requests::{Api, Which};
use super::{Version, VideoSdk};
use crate::job::MeetingId;
use crate::platform::{Fault, Listed, LiveMeeting, Probe};
use std::collections::BTreeMap;

pub(super) async fn probe(sdk: &VideoSdk) -> Result<Probe, Fault> {
    let page = sdk.api.page(Which::All, 1, "1").await.map_err(super::answer::Problem::fault)?;
    let mut summary = match sdk.api.reader.version {
        Version::V1 => format!("VideoSDK v1; {} sessions on record", page.total),
        Version::V2 => format!("VideoSDK v2; {} sessions live", page.total),
    };
    if let Some(end) = sdk.api.reader.credentials.expires() {
        summary.push_str(&format!("; its token expires at {end}"));
    }
    Ok(Probe { summary })
}

pub(super) async fn listing(sdk: &VideoSdk) -> Result<Listed, Fault> {
    let listing = walk(&sdk.api, Which::All, |_| (), |_| false).await;
    let complete = listing.is_of_one_moment();
    match listing.gap {
        // What moved in the meantime is worth showing all the same.
        None | Some(Gap::Moved(_)) => {}
        Some(Gap::TooLong(why)) => return Err(Fault::Unreachable(why)),
        Some(Gap::Problem(problem)) => return Err(problem.fault()),
    }
    let live = listing.sessions.into_iter().filter(|session| !session.over);
    let live = live.filter_map(|session| live_meeting(&sdk.api, session)).collect();
    Ok(Listed { live, complete })
}

/// `None`: without a room or an id there is nothing to name in a deadline.
fn live_meeting(api: &Api, session: Session) -> Option<LiveMeeting> {
    let instance = session.instance(true, |at| api.told(at))?;
    Some(LiveMeeting {
        meeting: MeetingId(session.room?),
        instance: instance.id,
        name: session.custom_room.unwrap_or_default(),
        started_at: instance.started_at,
        participants: instance.participants,
        meta: BTreeMap::new(),
        meta_cut: false,
        breakout_of: None,
    })
}
