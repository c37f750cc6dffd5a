//! A machine that is short of files or threads when the daemon starts: 75 and a sentence, so that it is tried again.

use std::process::Command;

use crate::harness::{Bed, Plan};

/// A daemon under this `ulimit`: `None` if it got ready, or its exit code and what it wrote.
fn started_under(bed: &mut Bed, limit: &str) -> Option<(Option<i32>, String)> {
    let _ = std::fs::remove_file(bed.path("daemon.log"));
    let under = |command: Command| {
        let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(bed_directory(&command)).stdin(std::process::Stdio::null());
        let log = std::fs::File::create(bed_directory(&command).join("daemon.log")).unwrap();
        shell.stdout(std::process::Stdio::null()).stderr(log);
        shell
    };
    match bed.try_start_daemon(under) {
        Ok(()) => {
            bed.kill_daemon();
            None
        }
        Err(code) => Some((code, bed.log())),
    }
}

fn bed_directory(command: &Command) -> std::path::PathBuf {
    command.get_current_dir().expect("the bed's own").to_owned()
}

#[test]
fn too_few_files_are_temporary_and_said() {
    let mut bed = Plan::default().lay();
    for files in [8, 12, 16, 20, 24] {
        let (code, log) = started_under(&mut bed, &format!("-n {files}")).expect("it cannot start");
        assert_eq!(code, Some(75), "{files} files: {log}");
        assert!(log.contains("too few threads or files left for a start: Too many open files"), "{log}");
        assert!(!log.contains("panicked"), "{files} files: {log}");
    }
    // Near the edge it starts, or is tried again; it is never taken for a fault of the configuration or of the store.
    for files in [26, 28, 30, 34] {
        if let Some((code, log)) = started_under(&mut bed, &format!("-n {files}")) {
            assert_eq!(code, Some(75), "{files} files: {log}");
            assert!(!log.contains("panicked"), "{files} files: {log}");
        }
    }
    // Nothing of that has done any harm.
    bed.start_daemon();
    assert!(!bed.path("state/set-aside").exists(), "a shortage is no damage");
}
