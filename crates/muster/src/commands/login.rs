//! `login`: a token, or the site's own folder, becomes a context.

use std::io::Read;
use std::path::Path;

use muster_model::api::{LoginAnswer, LoginRequest, SiteView};
use muster_model::token::Token;
use serde_json::Value;

use crate::api::{Api, Query};
use crate::args;
use crate::context::{self, Config, Context};
use crate::error::{Failure, Outcome, Tried};
use crate::print::out;

/// The longest token that is read from a file or standard input, in bytes.
const TOKEN_BYTES_MAX: u64 = 4 * 1024;

/// `login URL --token T`, `login --data SITE_DIR`.
pub(crate) async fn login(args: args::Login) -> Outcome {
    let context = match (&args.data, &args.url) {
        (Some(data), _) => from_folder(data)?,
        (None, Some(url)) => {
            let token = read_token(args.token.as_deref(), args.token_file.as_deref())?;
            from_token(url, &token).await?
        }
        (None, None) => return Err(Failure::usage("give the site's address, or --data")),
    };
    let site: SiteView = Api::new(&context)?.get("/site", &Query::new()).await?;
    let path = context::path()?;
    let mut config = Config::load(&path)?;
    config.contexts.insert(site.code.clone(), context.clone());
    config.current = Some(site.code.clone());
    config.save(&path)?;
    out(format!("logged on to site {} at {} as {}", site.code, context.url, context.principal));
    Ok(())
}

pub(crate) fn from_folder(data: &Path) -> Outcome<Context> {
    let found = muster_site::folder::local_credential(data).map_err(|error| {
        Failure::new(format!("failed to log on with the folder {}", data.display()))
            .because(&error)
            .hint("this form is for who can read the site's own folder; the site must be running")
    })?;
    Ok(Context {
        url: found.url,
        ca_pin: found.ca_pin.to_string(),
        credential: found.credential,
        principal: "local administrator".to_owned(),
    })
}

async fn from_token(url: &str, token: &Token) -> Outcome<Context> {
    let mut context = Context {
        url: url.to_owned(),
        ca_pin: token.ca.to_string(),
        credential: String::new(),
        principal: String::new(),
    };
    let request = LoginRequest { token: token.claim() };
    let found: LoginAnswer = Api::new(&context)?.post("/login", &request).await?;
    context.credential = found.credential;
    context.principal = format!("{} ({})", found.principal, found.role);
    Ok(context)
}

/// The token of a flag, a file, or standard input (`-`); without any, of `MUSTER_TOKEN`.
pub(crate) fn read_token(flag: Option<&str>, file: Option<&Path>) -> Outcome<Token> {
    let text = match (flag, file) {
        (Some("-"), _) => {
            let mut text = String::new();
            std::io::stdin()
                .take(TOKEN_BYTES_MAX)
                .read_to_string(&mut text)
                .tried(|| "read the token from standard input".into())?;
            text
        }
        (Some(text), _) => text.to_owned(),
        (None, Some(file)) => {
            let tried = || format!("read the token file {}", file.display());
            let bytes = muster_host::publish::read_limited(file, TOKEN_BYTES_MAX).tried(tried)?;
            String::from_utf8(bytes).tried(tried)?
        }
        (None, None) => std::env::var("MUSTER_TOKEN").map_err(|_| {
            Failure::usage("no token").hint("give --token-file FILE, or --token - to read it")
        })?,
    };
    text.parse().tried(|| "read the token".into())
}

/// `site settings`.
pub(crate) async fn settings(api: &Api, changes: &[String], output: args::Output) -> Outcome {
    let found: Value = if changes.is_empty() {
        api.get("/settings", &Query::new()).await?
    } else {
        let mut wanted = serde_json::Map::new();
        for change in changes {
            let (name, value) = change.split_once('=').ok_or_else(|| {
                Failure::usage(format!("`{change}` is no change")).hint("NAME=VALUE")
            })?;
            wanted.insert(name.to_owned(), value.into());
        }
        api.patch("/settings", &serde_json::json!({"changes": wanted})).await?
    };
    let output = if output == args::Output::Table { args::Output::Yaml } else { output };
    crate::print::answer(output, &found, |_| ())
}
