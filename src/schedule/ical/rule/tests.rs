use super::*;

fn dates(rule: &str, start: &str, last: &str) -> String {
    let rule = Rule::parse(rule).unwrap();
    let times = rule.times(start.parse().unwrap(), last.parse().unwrap()).unwrap();
    let all: Vec<String> = times.iter().map(|time| time.strftime("%y%m%d").to_string()).collect();
    all.join(" ")
}

#[track_caller]
fn check(rule: &str, expected: &str) {
    assert_eq!(dates(rule, "2026-12-01T09:00", "2028-01-01T00:00"), expected, "{rule}");
}

#[test]
fn days_that_are_counted_from_the_end() {
    // Months with five Tuesdays.
    check("FREQ=MONTHLY;BYDAY=-5TU", "261201 270302 270601 270803 271102");
    check("FREQ=MONTHLY;BYDAY=5TU", "261229 270330 270629 270831 271130");
    check("FREQ=MONTHLY;BYMONTHDAY=-31;COUNT=3", "261201 270101 270301");
    check("FREQ=YEARLY;BYYEARDAY=-1", "261231 271231");
    check("FREQ=YEARLY;BYDAY=-1MO", "261228 271227");
    check("FREQ=YEARLY;BYDAY=-5MO;BYMONTH=3", "270301");
    check("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1,1;COUNT=4", "261201 261231 270101 270129");
}

#[test]
fn weeks_of_the_year_begin_where_the_rule_says() {
    check("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO", "270104");
    check("FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO,SU", "261228 270103");
    check("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=SU;WKST=SU", "261227 271226");
    // Without a weekday that of the start, a Tuesday.
    check("FREQ=YEARLY;BYWEEKNO=20", "270518");
    check("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=MO;COUNT=4", "261201 261206 261215 261220");
    check("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU;COUNT=4", "261201 261213 261215 261227");
}

#[test]
fn an_end_is_included_and_an_instant_is_read_where_the_event_is() {
    check("FREQ=DAILY;UNTIL=20261202T090000", "261201 261202");
    check("FREQ=DAILY;UNTIL=20261202", "261201 261202");
    check("FREQ=DAILY;UNTIL=99991231T235959Z;INTERVAL=300", "261201 270927");
    let rule = Rule::parse("FREQ=DAILY;UNTIL=20261202T080000Z").unwrap();
    let times = |hours: i64| {
        let rule =
            rule.clone().ending(|at| jiff::tz::Offset::UTC.to_datetime(at).saturating_add(hours.hours()));
        rule.times("2026-12-01T09:00".parse().unwrap(), DateTime::MAX).unwrap().len()
    };
    assert_eq!((times(0), times(1), times(25)), (1, 2, 3));
}

#[test]
fn its_start_is_hit_or_not() {
    let hits = |rule: &str| Rule::parse(rule).unwrap().hits("2026-12-01T09:00".parse().unwrap());
    assert!(hits("FREQ=WEEKLY") && hits("FREQ=WEEKLY;BYDAY=TU") && !hits("FREQ=WEEKLY;BYDAY=WE"));
    assert!(!hits("FREQ=DAILY;BYHOUR=10"));
}

#[test]
fn what_cannot_be_read_makes_no_other_rule() {
    let refused = |rule: &str| Rule::parse(rule).unwrap_err();
    for odd in [
        "",
        "COUNT=3",
        "FREQ=OFTEN",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;COUNT=-1",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;BYEASTER=1",
        "FREQ=DAILY;X-ODD=1",
        "FREQ=DAILY;COUNT",
        "FREQ=WEEKLY;BYDAY=XX",
        "FREQ=WEEKLY;BYDAY=0MO",
        "FREQ=WEEKLY;BYDAY=\u{f6}",
        "FREQ=YEARLY;BYMONTH=13",
        "FREQ=MONTHLY;BYMONTHDAY=0",
        "FREQ=DAILY;BYHOUR=24",
    ] {
        assert_eq!(refused(odd), "cannot be read", "{odd}");
    }
    for odd in [
        "FREQ=WEEKLY;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYYEARDAY=1",
        "FREQ=DAILY;BYWEEKNO=1",
        "FREQ=WEEKLY;BYDAY=1MO",
        "FREQ=MONTHLY;BYDAY=6MO",
        "FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO",
    ] {
        assert_eq!(refused(odd), "makes no sense", "{odd}");
    }
    assert_eq!(refused("FREQ=HOURLY"), "repeats more often than daily");
    assert_eq!(refused("FREQ=DAILY;UNTIL=soon"), "ends at an UNTIL that is no time");
    assert_eq!(refused("RSCALE=HEBREW;FREQ=YEARLY"), "counts by another calendar (RSCALE)");
}

#[test]
fn no_rule_takes_for_ever() {
    let all = |most: u8| (0..most).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let often = format!("FREQ=DAILY;BYHOUR={};BYMINUTE={};BYSETPOS=1", all(24), all(60));
    assert_eq!(Rule::parse(&often).unwrap_err(), "has more than 500 times a day");
    let times =
        |rule: &str| Rule::parse(rule).unwrap().times("1900-01-01T00:00".parse().unwrap(), DateTime::MAX);
    assert_eq!(times("FREQ=MONTHLY;BYMONTHDAY=31;BYMONTH=2"), Ok(Vec::new()));
    assert_eq!(times("FREQ=DAILY;BYMINUTE=1,2,3").unwrap_err(), "has more than 100000 times before then");
}
