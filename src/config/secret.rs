//! Fetching secrets from where the configuration says they are. The value goes straight into a [`SecretString`] and into
//! no message.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::diagnostics::{Diagnostics, Located, Place};
use super::file::Secret;

/// Bytes of a secret.
const MAX_SECRET: usize = 4 << 10;
/// Mode bit: readable by everybody.
const OTHERS_MAY_READ: u32 = 0o004;
/// Where systemd puts the credentials of a unit.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// What becomes of a secret that is not for this process to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secrets {
    /// An error: the daemon needs them all.
    Needed,
    /// A note: whoever checks a file is often not the daemon's user.
    IfReadable,
    /// Nothing is read, and nothing is said.
    Unread,
}

/// The environment variables that secrets may come from: the process's, or a test's.
pub struct Environment {
    variables: Option<BTreeMap<String, OsString>>,
    secrets: Secrets,
}

impl Environment {
    /// This process's, as the daemon reads it.
    pub fn process() -> Environment {
        Environment { variables: None, secrets: Secrets::Needed }
    }

    /// The same for a command that can do without secrets.
    pub fn for_a_look(secrets: Secrets) -> Environment {
        Environment { variables: None, secrets }
    }

    pub fn fixed<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Environment {
        let own = |(name, value): (&str, &str)| (name.to_owned(), OsString::from(value));
        Environment { variables: Some(variables.into_iter().map(own).collect()), secrets: Secrets::Needed }
    }

    fn get(&self, name: &str) -> Option<OsString> {
        match &self.variables {
            None => std::env::var_os(name),
            Some(fixed) => fixed.get(name).cloned(),
        }
    }
}

/// Without the values.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.variables.is_some() { "Environment(fixed)" } else { "Environment(process)" })
    }
}

/// What stands for a secret that was not read. No secret that was is empty.
fn unread() -> SecretString {
    SecretString::from("")
}

pub(super) fn is_unread(secret: &SecretString) -> bool {
    secret.expose_secret().is_empty()
}

/// Fetches one secret. `None` if that failed, which has then been reported.
pub(super) fn load(
    source: &Located<Secret>,
    env: &Environment,
    found: &mut Diagnostics,
) -> Option<SecretString> {
    let place = source.place;
    well_named(&source.value, place, found)?;
    if env.secrets == Secrets::Unread {
        return Some(unread());
    }
    let fetched = match &source.value {
        Secret::Env(name) => from_variable(name, env),
        Secret::Credential(name) => from_credential(name, env),
        Secret::File(path) => from_file(path, place, found),
    };
    let bytes = match fetched {
        Ok(bytes) => bytes,
        Err(Unfetched { what, is_ours: false, .. }) if env.secrets == Secrets::IfReadable => {
            let hint = "the daemon needs it; to check it too, run this as the daemon's user, with CREDENTIALS_DIRECTORY \
                        for credentials, or leave all secrets out with --no-secrets";
            found.note(place, format!("{what}: this secret is not checked"), hint);
            return Some(unread());
        }
        Err(Unfetched { what, hint, .. }) => {
            found.error(place, what, hint);
            return None;
        }
    };
    match usable(bytes) {
        Ok(secret) => Some(secret),
        Err(why) => {
            let message = format!("the secret in {} {why}", describe(&source.value));
            found.error(place, message, "it must hold the secret alone, on one line");
            None
        }
    }
}

fn describe(source: &Secret) -> String {
    match source {
        Secret::Env(name) => format!("the environment variable {name}"),
        Secret::Credential(name) => format!("the credential {name:?}"),
        Secret::File(path) => format!("the file {path:?}"),
    }
}

/// Why a secret was not fetched.
struct Unfetched {
    what: String,
    hint: String,
    /// Another user or another environment would do no better.
    is_ours: bool,
}

/// Is the source named as sources are? What is not may be the secret itself, and is masked.
fn well_named(source: &Secret, place: Place, found: &mut Diagnostics) -> Option<()> {
    match source {
        Secret::Env(name) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
                found.mask(place);
                let hint = "env is the name of a variable, such as CAMPUS_SECRET, not the value";
                found.error(place, "env is not the name of an environment variable", hint);
                return None;
            }
        }
        Secret::Credential(name) => {
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
                let hint = "credential is the name given in LoadCredential=NAME:PATH; use file = \"/path\" for a path";
                found.error(place, format!("{name:?} is not the name of a credential"), hint);
                return None;
            }
        }
        Secret::File(path) => {
            if !path.starts_with('/') {
                found.mask(place);
                found.error(
                    place,
                    "the file of a secret must be an absolute path",
                    "write file = \"/etc/adjourn/NAME\"",
                );
                return None;
            }
        }
    }
    Some(())
}

fn from_variable(name: &str, env: &Environment) -> Result<Vec<u8>, Unfetched> {
    let value = env.get(name).ok_or_else(|| Unfetched {
        what: format!("the environment variable {name} is not set"),
        hint: "set it for the daemon (in a unit: EnvironmentFile=), and for this command".to_owned(),
        is_ours: false,
    })?;
    Ok(value.into_encoded_bytes())
}

fn from_credential(name: &str, env: &Environment) -> Result<Vec<u8>, Unfetched> {
    let hint = format!("in a unit: LoadCredential={name}:/path; elsewhere use env or file");
    let Some(directory) = env.get(CREDENTIALS_DIRECTORY) else {
        let what = format!(
            "there are no credentials here to take {name:?} from: {CREDENTIALS_DIRECTORY} is not set"
        );
        return Err(Unfetched { what, hint, is_ours: false });
    };
    let path = Path::new(&directory).join(name);
    read(&path).map(|(bytes, _)| bytes).map_err(|error| Unfetched {
        what: format!("cannot read the credential {}: {error}", path.display()),
        hint,
        is_ours: error.kind() != io::ErrorKind::PermissionDenied,
    })
}

fn from_file(path: &str, place: Place, found: &mut Diagnostics) -> Result<Vec<u8>, Unfetched> {
    let (bytes, mode) = read(Path::new(path)).map_err(|error| Unfetched {
        what: format!("cannot read the secret in {path}: {error}"),
        hint: "it must exist and be readable by the user that runs adjourn".to_owned(),
        is_ours: error.kind() != io::ErrorKind::PermissionDenied,
    })?;
    if mode & OTHERS_MAY_READ != 0 {
        let message = format!("the secret in {path} can be read by every user of this machine");
        found.note(place, message, format!("chmod 600 {path}, owned by the user that runs adjourn"));
    }
    Ok(bytes)
}

/// At most one byte more than a secret may have, and the mode of the file.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // Asked first: opening a pipe would block.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SECRET as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.permissions().mode()))
}

/// Why is a predicate: "is empty".
fn usable(bytes: Vec<u8>) -> Result<SecretString, String> {
    if bytes.len() > MAX_SECRET {
        return Err(format!("is longer than {} KiB", MAX_SECRET >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err("is empty".to_owned());
    }
    if secret.chars().any(char::is_control) {
        return Err("has more than one line, or control characters".to_owned());
    }
    Ok(SecretString::from(secret))
}
