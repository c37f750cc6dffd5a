//! Fetching secrets from where the configuration says they are. The value goes straight into a [`SecretString`] and into
//! no message.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;

use super::diagnostics::{Diagnostics, Located, Place};
use super::file::Secret;

/// Bytes of a secret.
const MAX_SECRET: usize = 4 << 10;
/// Mode bit: readable by everybody.
const OTHERS_MAY_READ: u32 = 0o004;
/// Where systemd puts the credentials of a unit.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The environment variables that secrets may come from: the process's, or a test's.
pub struct Environment(Option<BTreeMap<String, OsString>>);

impl Environment {
    pub fn process() -> Environment {
        Environment(None)
    }

    pub fn fixed<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Environment {
        let own = |(name, value): (&str, &str)| (name.to_owned(), OsString::from(value));
        Environment(Some(variables.into_iter().map(own).collect()))
    }

    fn get(&self, name: &str) -> Option<OsString> {
        match &self.0 {
            None => std::env::var_os(name),
            Some(fixed) => fixed.get(name).cloned(),
        }
    }
}

/// Without the values.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Environment(fixed)" } else { "Environment(process)" })
    }
}

/// Fetches one secret. `None` if that failed, which has then been reported.
pub(super) fn load(
    source: &Located<Secret>,
    env: &Environment,
    found: &mut Diagnostics,
) -> Option<SecretString> {
    let place = source.place;
    let bytes = match &source.value {
        Secret::Env(name) => from_variable(name, place, env, found)?,
        Secret::Credential(name) => from_credential(name, place, env, found)?,
        Secret::File(path) => from_file(path, place, found)?,
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

fn from_variable(name: &str, place: Place, env: &Environment, found: &mut Diagnostics) -> Option<Vec<u8>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        // It may be the secret itself.
        found.mask(place);
        let hint = "env is the name of a variable, such as CAMPUS_SECRET, not the value";
        found.error(place, "env is not the name of an environment variable", hint);
        return None;
    }
    let value = env.get(name);
    if value.is_none() {
        let hint = "set it for the daemon (in a unit: EnvironmentFile=), and for this command";
        found.error(place, format!("the environment variable {name} is not set"), hint);
    }
    value.map(OsString::into_encoded_bytes)
}

fn from_credential(name: &str, place: Place, env: &Environment, found: &mut Diagnostics) -> Option<Vec<u8>> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let hint =
            "credential is the name given in LoadCredential=NAME:PATH; use file = \"/path\" for a path";
        found.error(place, format!("{name:?} is not the name of a credential"), hint);
        return None;
    }
    let hint = format!("in a unit: LoadCredential={name}:/path; elsewhere use env or file");
    let Some(directory) = env.get(CREDENTIALS_DIRECTORY) else {
        let message = format!(
            "there are no credentials here to take {name:?} from: {CREDENTIALS_DIRECTORY} is not set"
        );
        found.error(place, message, hint);
        return None;
    };
    let path = Path::new(&directory).join(name);
    match read(&path) {
        Ok((bytes, _)) => Some(bytes),
        Err(error) => {
            found.error(place, format!("cannot read the credential {}: {error}", path.display()), hint);
            None
        }
    }
}

fn from_file(path: &str, place: Place, found: &mut Diagnostics) -> Option<Vec<u8>> {
    if !path.starts_with('/') {
        // It may be the secret itself.
        found.mask(place);
        found.error(
            place,
            "the file of a secret must be an absolute path",
            "write file = \"/etc/adjourn/NAME\"",
        );
        return None;
    }
    match read(Path::new(path)) {
        Ok((bytes, mode)) => {
            if mode & OTHERS_MAY_READ != 0 {
                let message = format!("the secret in {path} can be read by every user of this machine");
                found.note(place, message, format!("chmod 600 {path}, owned by the user that runs adjourn"));
            }
            Some(bytes)
        }
        Err(error) => {
            let hint = "it must exist and be readable by the user that runs adjourn";
            found.error(place, format!("cannot read the secret in {path}: {error}"), hint);
            None
        }
    }
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
