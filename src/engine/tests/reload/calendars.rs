//! Calendars that come, change and go with a reload.

use super::*;

/// A feed with one event, which ends then; or with none.
fn feed(end: Option<UtcMs>) -> Feeds {
    let time = |at: UtcMs| at.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string();
    let event = end.map_or_else(String::new, |end| {
        let (begin, end) = (time(end - HOUR), time(end));
        format!(
            "BEGIN:VEVENT\r\nUID:lecture-1\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:{begin}\r\nDTEND:{end}\r\n\
             LOCATION:math-101\r\nEND:VEVENT\r\n"
        )
    });
    let text = format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\n{event}END:VCALENDAR\r\n");
    let read = crate::schedule::Feed::parse(text.as_bytes()).unwrap();
    Feeds::default().with(lectures(), Arc::new(read))
}

fn lectures() -> crate::schedule::Source {
    crate::schedule::Source::File("/nowhere/lectures.ics".into())
}

/// Settings with a calendar whose events are deadlines.
fn with_lectures() -> Settings {
    let mut with_calendar = settings(&[]);
    Arc::make_mut(&mut with_calendar.schedule).ahead = 48 * HOUR;
    Arc::make_mut(&mut with_calendar.schedule).calendar_ends.push(crate::schedule::CalendarEnd {
        name: "lectures".to_owned(),
        server: "campus".into(),
        source: lectures(),
        property: "LOCATION".to_owned(),
        pattern: None,
        skip: None,
        timezone: None,
        days: crate::schedule::Days::default(),
        limits: Limits::default(),
    });
    with_calendar
}

#[tokio::test]
async fn deadlines_follow_the_events_of_a_calendar() {
    let rig = start(&[]);
    let whole_second = UtcMs(system_now().wall.0 / 1_000 * 1_000);
    let first = whole_second + 2 * HOUR;
    let handle = rig.handle.clone();
    let with_calendar = Arc::new(with_lectures());
    let rehearsed = handle.rehearse(with_calendar.clone(), feed(Some(first))).await.unwrap();
    assert_eq!((rehearsed.changes.len(), rig.jobs().len()), (1, 0));
    assert!(handle.current().await.unwrap().feeds.is_empty(), "a rehearsal leaves no calendar behind");
    let reloaded = handle.apply(with_calendar, feed(Some(first))).await.unwrap();
    assert_eq!(reloaded.changes[0].action, PlannedAction::Add, "{reloaded:?}");
    let due = |rig: &Planned| {
        let jobs = rig.store.select(|job| !job.is_done());
        jobs.iter().map(|job| job.due).collect::<Vec<_>>()
    };
    assert_eq!(due(&rig), [first]);
    handle.set_feeds(feed(Some(first + HOUR)), Vec::new()).await.unwrap();
    rig.until("the event has moved", |rig| due(rig) == [first + HOUR]).await;
    handle.set_feeds(feed(None), Vec::new()).await.unwrap();
    rig.until("the event is gone", |rig| due(rig).is_empty()).await;
}

#[tokio::test]
async fn a_calendar_that_nothing_uses_is_forgotten_and_what_a_reload_reads_counts() {
    let rig = start(&[]);
    let first = UtcMs(system_now().wall.0 / 1_000 * 1_000) + 2 * HOUR;
    let (used, handle) = (Arc::new(with_lectures()), rig.handle.clone());
    let due =
        |rig: &Planned| rig.store.select(|job| !job.is_done()).iter().map(|job| job.due).collect::<Vec<_>>();
    handle.apply(used.clone(), feed(Some(first))).await.unwrap();
    // It is known, and read anew with the reload.
    handle.apply(used.clone(), feed(Some(first + HOUR))).await.unwrap();
    assert_eq!(due(&rig), [first + HOUR]);
    rig.apply(settings(&[])).await.unwrap();
    assert!(handle.current().await.unwrap().feeds.is_empty());
    handle.set_feeds(feed(Some(first)), Vec::new()).await.unwrap();
    assert!(handle.current().await.unwrap().feeds.is_empty(), "a refresh that was under way");
    // Put back: nothing is known, and nothing made of an old copy.
    handle.apply(used, Feeds::default()).await.unwrap();
    assert_eq!(due(&rig), []);
    handle.set_feeds(feed(Some(first)), Vec::new()).await.unwrap();
    rig.until("it was read", |rig| due(rig) == [first]).await;
    handle.set_feeds(Feeds::default(), vec![lectures()]).await.unwrap();
    assert!(handle.current().await.unwrap().feeds.is_empty());
    handle.expand().await.unwrap();
    assert_eq!(due(&rig), [first], "what is not known cancels nothing");
}

#[tokio::test]
async fn a_reload_tells_which_calendars_it_lacks_and_has_them_read() {
    let rig = start(&[]);
    let unread = UnreadFeed {
        source: "/nowhere/lectures.ics".to_owned(),
        used_by: vec!["calendar-end lectures".to_owned()],
        why: "no such file".to_owned(),
        known: false,
    };
    let lacking = unread.clone();
    let handle = Handle {
        reread: Arc::new(|| Ok(with_lectures())),
        read_feeds: Arc::new(move |_, _| {
            let unread = vec![lacking.clone()];
            Box::pin(async move { (Feeds::default(), unread) })
        }),
        ..rig.handle.clone()
    };
    let asked = || tokio::time::timeout(SECOND / 5, handle.lacks_feeds());
    let rehearsed = handle.would_reload().await.unwrap();
    assert_eq!(rehearsed.unread, std::slice::from_ref(&unread));
    asked().await.unwrap_err();
    assert_eq!(handle.reload().await.unwrap().unread, [unread]);
    assert_eq!(asked().await, Ok(Some(())));
    asked().await.unwrap_err();
}
