//! A real conference server: Janus on loopback, with rooms that its own admin address creates.
//!
//! Where `janus` is not installed these tests are left out, and say so.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use adjourn::clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Bed, PATIENCE, Plan, id_of};

const ADMIN_SECRET: &str = "the-admin-secret";
const ROOM_SECRET: &str = "the-room-secret";
const LIBRARIES: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];

/// A running Janus; gone with it.
struct Janus {
    child: Child,
    /// Of the admin address.
    port: u16,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    _configuration: TempDir,
}

impl Janus {
    /// `None`, said on stderr, where it is not installed.
    fn start() -> Option<Janus> {
        let library =
            LIBRARIES.into_iter().find(|path| std::path::Path::new(path).join("janus/plugins").is_dir());
        let installed = Command::new("janus").arg("--version").stdout(Stdio::null()).status().is_ok();
        let (true, Some(library)) = (installed, library) else {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            // Not through the macros, whose words are kept from a test that passes.
            let mut out = std::io::stderr();
            writeln!(out, "LEFT OUT: {test}, because janus is not installed").unwrap();
            return None;
        };
        let configuration = tempfile::tempdir().unwrap();
        let [http, port] = free_ports();
        let write = |name: &str, text: String| std::fs::write(configuration.path().join(name), text).unwrap();
        let folder = |name: &str| format!("{name}_folder = \"{library}/janus/{name}\"\n");
        let folders: String =
            ["plugins", "transports", "events", "loggers"].into_iter().map(folder).collect();
        write(
            "janus.jcfg",
            format!(
                "general: {{\nconfigs_folder = {:?}\n{folders}interface = \"127.0.0.1\"\nadmin_secret = \"{ADMIN_SECRET}\"\n}}\n\
                 nat: {{ ice_enforce_list = \"lo\" }}\n",
                configuration.path(),
            ),
        );
        write(
            "janus.transport.http.jcfg",
            format!(
                "general: {{ http = true port = {http} ip = \"127.0.0.1\" }}\n\
                 admin: {{ admin_http = true admin_port = {port} admin_ip = \"127.0.0.1\" }}\n"
            ),
        );
        let child = Command::new("janus")
            .arg("-F")
            .arg(configuration.path())
            .arg("-C")
            .arg(configuration.path().join("janus.jcfg"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let janus =
            Janus { child, port, http: reqwest::Client::new(), runtime, _configuration: configuration };
        wait_until("janus answers", || janus.ask(json!({ "request": "list" })).is_some());
        Some(janus)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/admin", self.port)
    }

    /// The answer of the plugin; `None` while nobody listens.
    fn ask(&self, request: Value) -> Option<Value> {
        let body = json!({
            "janus": "message_plugin",
            "transaction": "t",
            "admin_secret": ADMIN_SECRET,
            "plugin": "janus.plugin.videoroom",
            "request": request,
        });
        let answer = self.runtime.block_on(async {
            let answer = self.http.post(self.url()).json(&body).send().await.ok()?;
            answer.json::<Value>().await.ok()
        })?;
        answer.get("response").cloned()
    }

    fn create(&self, room: u64, secret: &str) {
        let answer = self.ask(json!({ "request": "create", "room": room, "secret": secret })).unwrap();
        assert_eq!(answer["videoroom"], "created", "{answer}");
    }

    fn create_private(&self, room: u64) {
        let request = json!({ "request": "create", "room": room, "secret": ROOM_SECRET, "is_private": true });
        assert_eq!(self.ask(request).unwrap()["videoroom"], "created");
    }

    fn destroy(&self, room: u64, secret: &str) {
        let answer = self.ask(json!({ "request": "destroy", "room": room, "secret": secret })).unwrap();
        assert_eq!(answer["videoroom"], "destroyed", "{answer}");
    }

    fn exists(&self, room: u64) -> bool {
        self.ask(json!({ "request": "exists", "room": room })).unwrap()["exists"].as_bool().unwrap()
    }

    /// A bed with a daemon that knows this server as `rooms`, with these further lines.
    fn bed(&self, lines: &str) -> Bed {
        let mut bed = Plan::default().lay();
        std::fs::write(bed.path("admin-secret"), ADMIN_SECRET).unwrap();
        std::fs::write(bed.path("room-secret"), ROOM_SECRET).unwrap();
        bed.write_schedule(
            "",
            &format!(
                "[servers.rooms]\nplatform = \"janus\"\nurl = {:?}\nadmin-secret = {{ file = {:?} }}\n\
                 room-secret = {{ file = {:?} }}\n{lines}",
                self.url(),
                bed.path("admin-secret"),
                bed.path("room-secret"),
            ),
        );
        bed.start_daemon();
        bed
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bound at the same time, so that they differ; Janus cannot be handed a socket.
fn free_ports() -> [u16; 2] {
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = clock::system_now();
    while !holds() {
        assert!(clock::system_now().since(start) < PATIENCE, "waited in vain until {what}");
        // Somebody else's server: there is no event to wait for.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn end_in(bed: &Bed, room: u64, pause: &str) -> String {
    id_of(&bed.json(&["end", "rooms", &room.to_string(), "--in", pause]))
}

fn wait_until_armed(bed: &Bed, id: &str) {
    wait_until("the job is armed", || !bed.show(id)["armed_at"].is_null());
}

fn story(job: &Value) -> String {
    job["history"].to_string()
}

#[test]
fn rooms_end_on_time_and_are_proven_gone() {
    let Some(janus) = Janus::start() else { return };
    janus.create(4242, ROOM_SECRET);
    janus.create_private(4243);
    janus.create(4244, ROOM_SECRET);
    let bed = janus.bed("");
    let jobs = [end_in(&bed, 4242, "4s"), end_in(&bed, 4243, "4s")];
    let absent = end_in(&bed, 4999, "4s");
    for id in jobs {
        let job = bed.outcome(&id);
        assert_eq!((&job["outcome"], &job["ends"]), (&json!("ended"), &json!(1)), "{job:#}");
        assert!(job["lateness_ms"].as_i64().unwrap() >= 0, "{job:#}");
    }
    assert_eq!(bed.outcome(&absent)["outcome"], "absent");
    assert!(!janus.exists(4242) && !janus.exists(4243));
    assert!(janus.exists(4244), "nobody asked for its end");
    let live = bed.json(&["meetings", "rooms"]);
    assert_eq!(live["meetings"].as_array().unwrap().len(), 1, "{live}");
}

#[test]
fn a_wrong_secret_leaves_the_room_alone_until_it_is_corrected() {
    let Some(janus) = Janus::start() else { return };
    janus.create(4242, "another-secret");
    let bed = janus.bed("");
    let id = end_in(&bed, 4242, "3s");
    wait_until("the job is an alarm", || story(&bed.show(&id)).contains("room-secret"));
    let job = bed.show(&id);
    assert_eq!(job["state"], "ending", "{job:#}");
    assert!(janus.exists(4242));
    assert!(!bed.log().contains(ROOM_SECRET) && !bed.log().contains(ADMIN_SECRET));

    std::fs::write(bed.path("room-secret"), "another-secret").unwrap();
    bed.json(&["reload"]);
    let job = bed.outcome(&id);
    assert_eq!((&job["outcome"], &job["ends"]), (&json!("ended"), &json!(2)), "{job:#}");
    assert!(!janus.exists(4242));
}

#[test]
fn a_wrong_admin_secret_is_said_of_the_server() {
    let Some(janus) = Janus::start() else { return };
    let bed = janus.bed("");
    std::fs::write(bed.path("admin-secret"), "wrong").unwrap();
    bed.json(&["reload"]);
    wait_until("status tells of the admin secret", || {
        bed.says(&["status"]).1.contains("compare admin-secret")
    });
}

#[test]
fn a_room_that_was_created_again_with_another_secret_is_not_touched() {
    let Some(janus) = Janus::start() else { return };
    janus.create(4242, ROOM_SECRET);
    let bed = janus.bed("");
    let id = end_in(&bed, 4242, "4s");
    wait_until_armed(&bed, &id);
    janus.destroy(4242, ROOM_SECRET);
    janus.create(4242, "the-next-class");
    wait_until("the call is refused", || story(&bed.show(&id)).contains("it may be another room"));
    let job = bed.show(&id);
    assert_eq!((&job["state"], &job["ends"]), (&json!("ending"), &json!(1)), "{job:#}");
    assert!(janus.exists(4242), "{job:#}");
}

/// What the first good look of the pin moment did not show belongs to somebody else, also with the right secret.
#[test]
fn a_room_that_was_opened_after_the_pin_moment_is_left_alone() {
    let Some(janus) = Janus::start() else { return };
    let bed = janus.bed("");
    let job = bed.json(&["end", "rooms", "4242", "--in", "4s"]);
    wait_until("nobody is there yet", || bed.show(&id_of(&job))["looks"].as_u64() >= Some(1));
    janus.create(4242, ROOM_SECRET);
    let job = bed.outcome(&id_of(&job));
    assert_eq!((&job["outcome"], &job["ends"]), (&json!("superseded"), &json!(0)), "{job:#}");
    assert!(janus.exists(4242));
    let instance = bed.json(&["meetings", "rooms"])["meetings"][0]["instance"].as_str().unwrap().to_owned();
    let job = bed.json(&["end", "rooms", "4242", "--now", "--instance", &instance]);
    assert_eq!(bed.outcome(&id_of(&job))["outcome"], "ended");
    assert!(!janus.exists(4242));
}

/// Whoever asks for the end at once means the room that is there.
#[test]
fn now_means_the_room_that_the_first_look_shows() {
    let Some(janus) = Janus::start() else { return };
    let bed = janus.bed("");
    janus.create(4242, ROOM_SECRET);
    let job = bed.json(&["end", "rooms", "4242", "--now"]);
    let job = bed.outcome(&id_of(&job));
    assert_eq!((&job["outcome"], &job["ends"]), (&json!("ended"), &json!(1)), "{job:#}");
    assert!(!janus.exists(4242));
}

/// The job knows the room from a listing alone, and the process that looks again has never seen it.
#[test]
fn a_limit_from_the_start_of_a_room_outlives_a_restart() {
    let Some(janus) = Janus::start() else { return };
    let mut bed = janus.bed("");
    janus.create(4242, ROOM_SECRET);
    let id = id_of(&bed.json(&["end", "rooms", "4242", "--max-duration", "15s"]));
    wait_until("the room is found", || !bed.show(&id)["due"].is_null());
    assert_eq!(bed.stop_daemon(), Some(0));
    bed.start_daemon();
    let job = bed.outcome(&id);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    assert!(!janus.exists(4242));
}

#[test]
fn a_lock_goes_before_the_end_and_unlock_opens_a_room() {
    let Some(janus) = Janus::start() else { return };
    janus.create(4242, ROOM_SECRET);
    let bed = janus.bed("lock = \"reversible\"\n");
    let id = end_in(&bed, 4242, "3s");
    let job = bed.outcome(&id);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    assert!(story(&job).contains("the room is locked"), "{job:#}");
    janus.create(4243, ROOM_SECRET);
    let (code, said) = bed.says(&["unlock", "rooms", "4243"]);
    assert_eq!((code, said.trim_end()), (0, "rooms/4243 is open again"));
    let (code, said) = bed.says(&["unlock", "rooms", "4999"]);
    assert_eq!(code, 1, "{said}");
    let (code, said) = bed.says(&["end", "rooms", "4243", "--in", "1h", "--lock", "permanent"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("lock = \"permanent\" is not possible on rooms"), "{said}");
}
