//! `adjourn sandbox --platform videosdk`.

use std::future::Future;
use std::io::Write;

use secrecy::ExposeSecret;

use super::{DEMO_API_KEY, DEMO_SECRET, Sandbox, Settings};
use crate::sandbox::TimeSource;
use crate::sandbox::command::{Options, Paper, shell_word};
use crate::sandbox::sessions::command;

pub(in crate::sandbox) async fn run(
    options: Options,
    now: TimeSource,
    paper: Paper<impl Write + Send + 'static>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let secret = options.secret.as_ref().map_or(DEMO_SECRET, |secret| secret.expose_secret()).to_owned();
    let api_key = options.api_key.clone().unwrap_or_else(|| DEMO_API_KEY.to_owned());
    let settings = Settings { api_key, secret, ..Settings::default() };
    command::run(settings, block, options, now, paper, shutdown).await
}

fn block(sandbox: &Sandbox) -> Vec<String> {
    let Settings { api_key, secret, .. } = sandbox.settings();
    vec![
        format!("A simulated VideoSDK is at {}", sandbox.url()),
        format!("Its API key is {api_key} and its secret is {secret}"),
        String::new(),
        "For the schedule file (or platform = \"videosdk-v1\"):".to_owned(),
        String::new(),
        "[servers.sandbox]".to_owned(),
        "platform = \"videosdk\"".to_owned(),
        format!("url      = \"{}\"", sandbox.url()),
        format!("api-key  = {api_key:?}"),
        "secret   = { env = \"SANDBOX_SECRET\" }".to_owned(),
        String::new(),
        format!("export SANDBOX_SECRET={}", shell_word(secret)),
    ]
}
