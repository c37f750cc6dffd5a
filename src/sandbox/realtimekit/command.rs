//! `adjourn sandbox --platform realtimekit`.

use std::future::Future;
use std::io::Write;

use secrecy::ExposeSecret;

use super::{DEMO_TOKEN, Sandbox, Settings};
use crate::sandbox::TimeSource;
use crate::sandbox::command::{Options, Paper, shell_word};
use crate::sandbox::sessions::command;

pub(in crate::sandbox) async fn run(
    options: Options,
    now: TimeSource,
    paper: Paper<impl Write + Send + 'static>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let token = options.token.as_ref().map_or(DEMO_TOKEN, |token| token.expose_secret()).to_owned();
    let settings = Settings { token, ..Settings::default() };
    command::run(settings, block, options, now, paper, shutdown).await
}

fn block(sandbox: &Sandbox) -> Vec<String> {
    let Settings { account_id, app_id, token, organization_id, api_key, .. } = sandbox.settings();
    vec![
        format!("A simulated RealtimeKit is at {}", sandbox.url()),
        format!("Its token is {token}"),
        String::new(),
        "For the schedule file:".to_owned(),
        String::new(),
        "[servers.sandbox]".to_owned(),
        "platform   = \"realtimekit\"".to_owned(),
        format!("url        = \"{}\"", sandbox.url()),
        format!("account-id = \"{account_id}\""),
        format!("app-id     = \"{app_id}\""),
        "token      = { env = \"SANDBOX_TOKEN\" }".to_owned(),
        String::new(),
        format!("export SANDBOX_TOKEN={}", shell_word(token)),
        String::new(),
        format!("The legacy API is at {}", sandbox.legacy_url()),
        format!("Its organization id is {organization_id} and its key is {api_key}"),
    ]
}
