use secrecy::ExposeSecret;

use super::*;

fn of(inner: &str) -> Answer {
    parse(format!("<response><returncode>SUCCESS</returncode>{inner}</response>").as_bytes())
        .unwrap_or_else(|why| panic!("{why}"))
}

fn meetings(inner: &str) -> Vec<Entry> {
    let all = format!("<meetings>{inner}</meetings>");
    listing(of(&all)).unwrap_or_else(|why| panic!("{why}"))
}

#[track_caller]
fn check_unreadable(body: &[u8], why: &str) {
    match parse(body) {
        Ok(_) => panic!("readable"),
        Err(found) => assert!(found.contains(why), "{found:?} is not {why:?}"),
    }
}

#[test]
fn a_listing_is_read_with_what_the_looks_need() {
    let entries = meetings(
        "<meeting><meetingName>Maths &amp; more</meetingName><meetingID>a&amp;b</meetingID>\
         <internalMeetingID>i-1</internalMeetingID><createTime>1764612000005</createTime>\
         <moderatorPW>m&lt;p</moderatorPW><participantCount>1,500</participantCount>\
         <isBreakout>false</isBreakout></meeting>\
         <meeting><meetingID>b</meetingID><isBreakout>true</isBreakout></meeting>",
    );
    assert_eq!(entries.len(), 2);
    let first = &entries[0];
    assert_eq!(first.name.as_deref(), Some("Maths & more"));
    assert!(first.is_called("a&b") && first.is_called(" a&b "));
    assert_eq!(first.internal, Some("i-1".into()));
    assert_eq!(first.started_at, Some(UtcMs(1_764_612_000_005)));
    assert_eq!(first.participants, Some(1500));
    assert_eq!(first.password.as_ref().map(ExposeSecret::expose_secret), Some("m<p"));
    assert!(!first.breakout && entries[1].breakout);
}

#[test]
fn metadata_is_kept_as_it_stands_right_below_its_element() {
    let entries = meetings(
        "<meeting><meetingID>a</meetingID><metadata><bbb-origin> Greenlight </bbb-origin><a&#32;b/>\
         <deep>x<inner>y</inner></deep><bbb-origin>second</bbb-origin><has space>z</has></metadata></meeting>\
         <meeting><meetingID>b</meetingID><metadata><k>v</k></metadata></meeting>",
    );
    let meta = |entry: &Entry| entry.meta.clone().into_iter().collect::<Vec<_>>();
    assert_eq!(entries[0].meta["bbb-origin"], "Greenlight", "the first wins");
    assert!(!entries[0].meta.contains_key("inner"));
    assert_eq!(meta(&entries[1]), [("k".to_owned(), "v".to_owned())]);
    let info = of("<meetingID>m</meetingID><metadata><k>v&amp;w</k></metadata>");
    assert_eq!(meta(&info.top), [("k".to_owned(), "v&w".to_owned())]);
}

#[test]
fn metadata_is_bounded_and_what_is_not_kept_is_said() {
    let of = |meta: &str| {
        meetings(&format!("<meeting><meetingID>a</meetingID><metadata>{meta}</metadata></meeting>")).remove(0)
    };
    let some = |count: usize| (0..count).map(|n| format!("<k{n}>v</k{n}>")).collect::<String>();
    let (all, more) = (of(&some(MAX_META)), of(&some(MAX_META + 1)));
    assert_eq!((all.meta.len(), all.meta_cut), (MAX_META, false));
    assert_eq!((more.meta.len(), more.meta_cut), (MAX_META, true));
    let again = of(&format!("{}<k0>again</k0>", some(MAX_META)));
    assert!(!again.meta_cut, "it is there already");
    let long = of(&format!("<a>{}</a><b>short</b>", "x".repeat(MAX_META_BYTES + 1)));
    assert!(long.meta_cut && !long.meta.contains_key("a"));
    assert_eq!(long.meta["b"], "short");
    let huge = of(&format!("<a>{}</a><b>short</b>", "x".repeat(MAX_TEXT + 1)));
    assert!(huge.meta_cut && !huge.meta.contains_key("a") && huge.meta["b"] == "short");
}

/// What is kept of an answer is bounded, however little of it each piece takes on the line.
#[test]
fn an_answer_cannot_be_blown_up() {
    let keys: String = (0..MAX_META).map(|n| format!("<{n:x}>v</{n:x}>")).collect();
    let meeting =
        |n: usize| format!("<meeting><meetingID>{n}</meetingID><metadata>{keys}</metadata></meeting>");
    let some = MAX_META_IN_ALL / MAX_META + 2;
    let listed = meetings(&(0..some).map(meeting).collect::<String>());
    let kept: usize = listed.iter().map(|entry| entry.meta.len()).sum();
    assert_eq!((listed.len(), kept), (some, MAX_META_IN_ALL));
    assert!(listed[some - 1].meta_cut && !listed[0].meta_cut);

    let whole =
        |inner: &[u8]| [b"<response><returncode>SUCCESS</returncode>", inner, b"</response>"].concat();
    let long = format!("<meetingName>{}</meetingName>", "x".repeat(MAX_TEXT + 1));
    assert_eq!(parse(&whole(long.as_bytes())).err().as_deref(), Some("holds a text of more than 64 KiB"));
    let latin = [b"<!--".as_slice(), &vec![0xfc; MAX_MENDED], b"-->"].concat();
    assert_eq!(parse(&whole(&latin)).err().as_deref(), Some("is not UTF-8 text"));
}

#[test]
fn numbers_of_every_locale() {
    for text in ["1500", "1,500", "1.500", "1\u{a0}500", "1\u{202f}500", "1’500", " 1500 "] {
        assert_eq!(number(text), Some(1500), "{text}");
    }
    for text in ["", "-1", "many", "1e3"] {
        assert_eq!(number(text), None, "{text}");
    }
}

#[test]
fn decoys_in_free_form_elements_are_not_believed() {
    let body = "<response><metadata><returncode>FAILED</returncode><messageKey>notFound</messageKey>\
        <meetingID>other</meetingID><metadata>x</metadata><running>false</running></metadata>\
        <attendees><attendee><customdata><running>false</running></customdata></attendee></attendees>\
        <returncode>SUCCESS</returncode><meetingID>m</meetingID><running>true</running></response>";
    let answer = parse(body.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
    assert!(answer.success);
    assert!(answer.keys.is_empty());
    assert_eq!(answer.running, Some(true));
    assert!(answer.top.is_called("m"));
}

#[test]
fn decoys_in_the_metadata_of_a_listed_meeting_are_not_believed() {
    let entries = meetings(
        "<meeting><metadata><meetingID>z</meetingID><internalMeetingID>z</internalMeetingID></metadata>\
         <meetingID>m</meetingID><internalMeetingID>i</internalMeetingID></meeting>",
    );
    assert!(entries[0].is_called("m"));
    assert_eq!(entries[0].internal, Some("i".into()));
}

#[test]
fn names_that_are_no_xml_do_not_derail_the_reader() {
    let names = ["1digit", "has space", "bbb:colon", "slash/", "2nd-key", "q\"uote", "a=b", "/slash", "-"];
    for name in names {
        let inner =
            format!("<meetingID>m</meetingID><metadata><{name}>x</{name}></metadata><running>true</running>");
        let answer = of(&inner);
        assert!(answer.top.is_called("m"), "{name}");
        assert_eq!(answer.running, Some(true), "{name}");
    }
}

#[test]
fn a_name_that_closes_its_zone_makes_the_document_unreadable() {
    let body = "<response><returncode>SUCCESS</returncode><meetings><meeting><meetingID>m</meetingID>\
        <metadata></metadata>x<//metadata></metadata></meeting></meetings></response>";
    check_unreadable(body.as_bytes(), "ill-formed");
}

#[test]
fn what_is_not_whole_is_not_an_answer() {
    let whole = b"<response><returncode>SUCCESS</returncode><meetings><meeting><meetingID>m</meetingID>\
        </meeting></meetings></response>";
    assert!(parse(whole).is_ok());
    for cut in 1..whole.len() {
        assert!(parse(&whole[..cut]).is_err(), "readable when cut at {cut}");
    }
    assert!(parse(&[whole.as_slice(), b"\r\n "].concat()).is_ok());
    check_unreadable(&[whole.as_slice(), whole].concat(), "followed by something else");
    check_unreadable(&[whole.as_slice(), b"FreeMarker template error"].concat(), "not XML alone");
    check_unreadable(b"", "empty");
    check_unreadable(b"<response></response>", "no returncode");
    check_unreadable(b"Unauthorized", "not XML alone");
    check_unreadable(b"<!DOCTYPE html><html><body>404</body></html>", "not the API's");
    check_unreadable(b"<meetings><meeting><returncode>SUCCESS</returncode></meeting></meetings>", "not the");
    check_unreadable(b"{\"response\":{\"returncode\":\"SUCCESS\"}}", "not XML alone");
    check_unreadable("<response>".repeat(50).as_bytes(), "nested too deeply");
    check_unreadable(b"<response><returncode>SUCCESS</return></response>", "ill-formed");
}

#[test]
fn a_template_error_in_the_middle_is_seen() {
    let body = "<response><returncode>SUCCESS</returncode><meetings><meeting><meetingID>m</meetingID>\
        <createTime>FreeMarker template error:\n==> meeting.createTime</createTime>";
    check_unreadable(body.as_bytes(), "cut off");
}

#[test]
fn a_prolog_and_control_characters_do_no_harm() {
    let body = "\u{feff}<?xml version=\"1.0\"?>\n<response><returncode>success</returncode>\
        <meetingID>m</meetingID><meetingName>bell\u{7} ff\u{c} \u{fffe}&#7;</meetingName></response>";
    let answer = parse(body.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
    assert!(answer.success, "returncode compares without case");
    assert!(matches!(info(answer), Info::Live(entry) if entry.is_called("m")));
}

#[test]
fn a_listing_counts_only_as_a_listing() {
    assert_eq!(listing(of("<meetings/><messageKey>noMeetings</messageKey>")).map(|all| all.len()), Ok(0));
    assert_eq!(listing(of("<messageKey>noMeetings</messageKey>")).map(|all| all.len()), Ok(0));
    assert_eq!(listing(of("<meetings></meetings>")).map(|all| all.len()), Ok(0));
    assert!(listing(of("")).is_err());
    assert!(listing(of("<meetingID>m</meetingID>")).is_err());
    assert!(listing(of("<meetings><meeting></meeting></meetings>")).is_err());
    let failed = b"<response><returncode>FAILED</returncode><meetings/></response>";
    assert!(parse(failed).is_ok_and(|answer| listing(answer).is_err()));
}

#[test]
fn an_id_that_cannot_be_read_spoils_the_listing() {
    let latin1 = [
        b"<response><returncode>SUCCESS</returncode><meetings><meeting><meetingID>R".as_slice(),
        b"\xe4",
        b"ume</meetingID></meeting></meetings></response>",
    ];
    assert!(parse(&latin1.concat()).is_ok_and(|answer| listing(answer).is_err()));
    let nbsp = "<meetings><meeting><meetingID>a&nbsp;b</meetingID></meeting></meetings>";
    assert!(listing(of(nbsp)).is_err());
    let name =
        "<meetings><meeting><meetingID>m</meetingID><meetingName>&nbsp;</meetingName></meeting></meetings>";
    assert!(listing(of(name)).is_ok(), "a damaged name harms nobody");
}

fn failed(inner: &str) -> Answer {
    let body = format!("<response><returncode>FAILED</returncode>{inner}</response>");
    parse(body.as_bytes()).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn both_error_shapes_and_several_keys_are_read() {
    assert_eq!(failed("<messageKey>notFound</messageKey><message>m</message>").keys, ["notFound"]);
    let list = "<errors><error><key>checksumError</key><message>m</message></error>\
        <error><key>missingParamMeetingID</key></error></errors>";
    assert_eq!(failed(list).keys, ["checksumError", "missingParamMeetingID"]);
    assert_eq!(failed("<errors><error key=\"notFound\" message=\"m\"/></errors>").keys, ["notFound"]);
    assert_eq!(failed("<message>limit reached</message>").shown(), "no message key");
    assert_eq!(failed("<messageKey>\u{1b}[31mred</messageKey>").shown(), "31mred");
}

#[test]
fn info_says_absent_only_by_its_own_keys() {
    let absent = |inner: &str| matches!(info(failed(inner)), Info::NotFound);
    assert!(absent("<messageKey>notFound</messageKey>"));
    assert!(absent("<messageKey>validationError</messageKey>"));
    assert!(absent("<errors><error><key>invalidMeetingIdentifier</key></error></errors>"));
    assert!(!absent("<messageKey>invalidPassword</messageKey>"));
    assert!(!absent("<messageKey>unsupportedRequest</messageKey>"));
    assert!(!absent("<errors><error><key>notFound</key></error><error><key>x</key></error></errors>"));
    assert!(!absent("<message>No Node available.</message>"));
    assert!(matches!(info(of("")), Info::Unclear(_)));
}

#[test]
fn of_two_meetings_with_one_name_the_first_begun_is_found() {
    let listing = Listing::new(meetings(
        "<meeting><meetingID>m</meetingID><internalMeetingID>b</internalMeetingID><createTime>2</createTime></meeting>\
         <meeting><meetingID>m</meetingID><internalMeetingID>a</internalMeetingID><createTime>1</createTime></meeting>",
    ));
    assert_eq!(listing.meeting("m").and_then(|entry| entry.internal.clone()), Some("a".into()));
    assert!(listing.instance(&"b".into()).is_some_and(|entry| entry.is_called("m")));
    assert!(listing.meeting("M").is_none(), "ids are compared exactly");
}

#[test]
fn the_version_answer_tells_what_stands_in_front() {
    let own = of("<version>2.0</version><bbbVersion>3.0.19</bbbVersion>\
        <graphqlWebsocketUrl>wss://h/graphql</graphqlWebsocketUrl>");
    assert!(own.version.own_of_3 && own.version.build.is_none());
    assert_eq!(own.version.bbb.as_deref(), Some("3.0.19"));
    assert_eq!(of("<version>2.0</version><build>1.6</build>").version.build.as_deref(), Some("1.6"));
}

/// Ten bytes a meeting would become a gigabyte in memory; it is refused while it is read.
#[test]
fn a_listing_of_more_meetings_than_there_can_be_is_refused_while_it_is_read() {
    let listing = |count: usize, rest: &str| {
        let many = "<meeting/>".repeat(count);
        parse(format!("<response><returncode>SUCCESS</returncode><meetings>{many}{rest}").as_bytes()).err()
    };
    // What follows is not read any more: it is not even whole.
    assert_eq!(listing(MAX_MEETINGS + 1, "<mee").unwrap(), "lists more than 20000 meetings");
    assert_eq!(listing(MAX_MEETINGS, "</meetings></response>"), None);
}
