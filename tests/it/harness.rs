//! A bed for a test: a sandbox in this process, a daemon in its own, a temporary directory for both.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adjourn::clock;
use adjourn::job::UtcMs;
use adjourn::sandbox::{
    Asked, Fault, Front, InstanceTruth, NewMeeting, Options, Sandbox, Settings, TimeSource, Truth,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longest wait for anything; a test that gets here has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of the daemon's log that a failed test shows.
const LOG_TAIL: usize = 300;

/// Limits that make a test short: every one can be overridden by a later line of `extra`.
pub const QUICK: &str = "resend-after = \"1s\"\nprove-within = \"15s\"\n";

pub struct Bed {
    pub directory: TempDir,
    pub sandbox: Sandbox,
    runtime: Option<Runtime>,
    daemon: Option<Child>,
    socket: PathBuf,
}

/// What the bed is made of.
#[derive(Default)]
pub struct Plan {
    pub settings: Settings,
    /// More lines for `[servers.campus]`.
    pub server: String,
    /// More lines at the end of the file: `[[end]]` and the like.
    pub extra: String,
    /// What the sandbox takes for the time, if not the machine's clock.
    pub now: Option<TimeSource>,
}

impl Plan {
    pub fn behind(front: Front) -> Plan {
        Plan { settings: Settings { front, ..Settings::default() }, ..Plan::default() }
    }

    pub fn server(self, lines: &str) -> Plan {
        Plan { server: lines.to_owned(), ..self }
    }

    /// A bed without a daemon.
    pub fn lay(self) -> Bed {
        let runtime = Runtime::new().unwrap();
        let mut options = Options::new(self.now.unwrap_or_else(|| Arc::new(clock::wall_micros)));
        options.settings = self.settings;
        let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let bed = Bed { directory, sandbox, runtime: Some(runtime), daemon: None, socket };
        bed.write_schedule(&self.server, &self.extra);
        bed
    }

    pub fn start(self) -> Bed {
        let mut bed = self.lay();
        bed.start_daemon();
        bed
    }
}

impl Bed {
    /// A direct 3.0 server, quick limits, a running daemon.
    pub fn start() -> Bed {
        Plan::default().start()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn schedule(&self) -> PathBuf {
        self.path("schedule.toml")
    }

    pub fn write_schedule(&self, server: &str, extra: &str) {
        let (url, state) = (self.sandbox.url(), self.path("state"));
        let text = format!(
            "[daemon]\nstate-dir = {state:?}\n[control]\nsocket = {:?}\nmode = \"0600\"\n\
             [defaults]\n{QUICK}\
             [servers.campus]\nplatform = \"bigbluebutton\"\nurl = {url:?}\nsecret = {{ env = \"CAMPUS_SECRET\" }}\n{server}\n{extra}",
            self.socket,
        );
        std::fs::write(self.schedule(), text).unwrap();
    }

    /// The binary with everything it needs to find this bed.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("ADJOURN_SOCKET", &self.socket)
            .env("CAMPUS_SECRET", self.sandbox.secret())
            .env("TZ", "UTC")
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    pub fn daemon_command(&self) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let schedule = self.schedule();
        let mut command = self.command(&["daemon", "--config", schedule.to_str().unwrap()]);
        command.env("ADJOURN_LOG", "adjourn=debug").stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts the daemon and waits until it says that it is ready, as systemd would.
    pub fn start_daemon(&mut self) {
        self.start_daemon_as(|command| command);
    }

    /// The same, in another environment or under another program.
    pub fn start_daemon_as(&mut self, change: impl FnOnce(Command) -> Command) {
        self.try_start_daemon(change).expect("the daemon did not get ready");
    }

    /// Ready, or the exit code of a daemon that ended by itself.
    pub fn try_start_daemon(&mut self, change: impl FnOnce(Command) -> Command) -> Result<(), Option<i32>> {
        let notify = self.path("notify.sock");
        // Left by an earlier start, if there was one.
        let _ = std::fs::remove_file(&notify);
        let listener = UnixDatagram::bind(&notify).unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut command = self.daemon_command();
        command.env("NOTIFY_SOCKET", &notify);
        let mut child = change(command).spawn().unwrap();
        let began = clock::system_now();
        loop {
            let mut message = [0; 4096];
            let length = listener.recv(&mut message).unwrap_or(0);
            if String::from_utf8_lossy(&message[..length]).contains("READY=1") {
                // Kept open: later messages must not fail.
                std::mem::forget(listener);
                self.daemon = Some(child);
                return Ok(());
            }
            if let Some(status) = child.try_wait().unwrap() {
                return Err(status.code());
            }
            if clock::system_now().since(began) > PATIENCE {
                child.kill().unwrap();
                return Err(child.wait().unwrap().code());
            }
        }
    }

    pub fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().expect("a daemon runs").id()).unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.daemon_pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// `kill -9`, and nothing of the process is left when this returns.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// SIGTERM; gives the exit code.
    pub fn stop_daemon(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.daemon.take().expect("a daemon runs").wait().unwrap().code()
    }

    pub fn wait_for_exit(&mut self) -> Option<i32> {
        self.daemon.take().expect("a daemon runs").wait().unwrap().code()
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed, and gives its JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {:?}\n{out}{err}", output.status.code());
        serde_json::from_str(&out)
            .unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}):\n{out}"))
    }

    /// Runs a command; gives its exit code and everything that it printed.
    pub fn says(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
    }

    pub fn create(&self, meeting: &str) -> String {
        self.create_meeting(NewMeeting::new(meeting))
    }

    pub fn create_meeting(&self, meeting: NewMeeting) -> String {
        self.sandbox.create_meeting(&meeting).unwrap()
    }

    pub fn fault(&self, fault: Fault, meeting: &str) {
        self.sandbox.set_fault(fault.on_meeting(meeting)).unwrap();
    }

    /// Submits a deadline and gives the job's id.
    #[track_caller]
    pub fn end_in(&self, meeting: &str, pause: &str) -> String {
        let job = self.json(&["end", "campus", meeting, "--in", pause]);
        id_of(&job)
    }

    /// Waits for the outcome and gives the job with its history.
    #[track_caller]
    pub fn outcome(&self, id: &str) -> Value {
        let (code, said) = self.says(&["wait", id, "--timeout", "150s"]);
        assert_ne!(code, 75, "{id} got no outcome in time: {said}\n{}", self.log());
        self.show(id)
    }

    #[track_caller]
    pub fn show(&self, id: &str) -> Value {
        self.json(&["show", id])
    }

    pub fn truth(&self) -> Truth {
        self.sandbox.truth(&Asked::default())
    }

    #[track_caller]
    pub fn instance(&self, internal_id: &str) -> InstanceTruth {
        self.truth().instance(internal_id).expect("the sandbox knows the instance").clone()
    }

    /// Waits until the sandbox's truth is as wanted.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut holds: impl FnMut(&Truth) -> bool) {
        let start = clock::system_now();
        while !holds(&self.truth()) {
            assert!(
                clock::system_now().since(start) < PATIENCE,
                "waited in vain until {what}\n{}",
                self.log()
            );
            // The truth changes with time alone, too: there is no event to wait for.
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        let log = std::fs::read(self.path("daemon.log")).unwrap_or_default();
        text(&log)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            eprintln!("--- the daemon's log, its last {} lines ---\n{}", tail.len(), tail.join("\n"));
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The command, run by a tracer with these arguments of its own.
pub fn under(tracer: &str, args: &[&str], command: &Command) -> Command {
    let mut traced = Command::new(tracer);
    traced.args(args).arg(command.get_program()).args(command.get_args()).env_clear();
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.current_dir(command.get_current_dir().unwrap());
    // Not ours: whoever reads the output of the tests would wait for a daemon that outlives them.
    traced.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    traced
}

/// The binary under test; `ADJOURN_BIN` names another build of it.
pub fn binary() -> PathBuf {
    std::env::var_os("ADJOURN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_adjourn").into(), PathBuf::from)
}

/// A directory with everything in it; `to` must not be there.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).output().unwrap();
    assert!(copied.status.success(), "{}", text(&copied.stderr));
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn id_of(job: &Value) -> String {
    job["id"].as_str().unwrap_or_else(|| panic!("no id in {job}")).to_owned()
}

/// The invariants that can be checked from outside, for one job of one meeting.
#[track_caller]
pub fn check_truth(bed: &Bed, job: &Value) {
    let due: jiff::Timestamp = job["due"].as_str().unwrap().parse().unwrap();
    let due = UtcMs::from(due);
    let meeting = job["meeting"].as_str().unwrap();
    let asked = Asked { meeting: Some(meeting.to_owned()), since: u64::MAX, ..Asked::default() };
    let truth = bed.sandbox.truth(&asked);
    for instance in truth.instances(meeting) {
        for hit in &instance.hits {
            assert!(hit.at >= due, "hit {} ms before due\n{job:#}", due.ms_since(hit.at));
            let late_start = instance.created_at.ms_since(due);
            assert!(late_start < 0, "an instance created {late_start} ms after due was hit\n{job:#}");
        }
        if instance.created_at < due
            && matches!(job["outcome"].as_str(), Some("ended" | "already-over" | "absent"))
        {
            assert!(!instance.alive(), "{} is claimed, but the meeting lives\n{job:#}", job["outcome"]);
        }
    }
}
