//! What was asked and shown, in words, for the story of a history.

use crate::job::Sighting;
use crate::platform::{LiveMeeting, Round, Target};

pub(super) fn names(targets: &[Target]) -> String {
    let name =
        |target: &Target| format!("{} for job {} ({:?})", target.meeting, target.job.short(), target.purpose);
    targets.iter().map(name).collect::<Vec<_>>().join(", ")
}

pub(super) fn listed(live: &[LiveMeeting]) -> String {
    let name = |live: &LiveMeeting| format!("{} ({})", live.instance, live.participants.unwrap_or(0));
    live.iter().map(name).collect::<Vec<_>>().join(", ")
}

pub(super) fn shown(round: &Round) -> String {
    let name = |sighting: &Sighting| match sighting {
        Sighting::Live(instance) => format!("shows {}", instance.id),
        Sighting::NotThere(_) => "not there".to_owned(),
        other => format!("{other:?}"),
    };
    round.sightings.iter().map(name).collect::<Vec<_>>().join(", ")
}
