//! `logout`, `credential list|revoke`, `token create|list|revoke`: who is let in, and for how long.

use muster_model::api::{CredentialView, Page, TokenAnswer, TokenRequest, TokenView};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::api::{Api, Query};
use crate::args::{self, CredentialCommand, TokenCommand};
use crate::context::{self, Config};
use crate::error::{Failure, Outcome};
use crate::print::{answer, dash, out, say, table, time};

/// `logout`: the credential ends at the site, then the context goes. A site that cannot be reached
/// keeps the context, so that it can be tried again.
pub(crate) async fn logout(named: Option<&str>) -> Outcome {
    let path = context::path()?;
    let mut config = Config::load(&path)?;
    let context = config.choose(named)?;
    let name = named.map(str::to_owned).or_else(|| config.current.clone());
    let name = name.ok_or_else(|| Failure::usage("no context to log off from"))?;
    match Api::new(&context)?.post("/logout", &Value::Null).await {
        Ok(IgnoredAny) => {}
        // A credential that is good for nothing is what was asked for.
        Err(refused) if refused.is_unauthorised => {}
        Err(refused) => return Err(refused.into()),
    }
    config.contexts.remove(&name);
    if config.current.as_ref() == Some(&name) {
        config.current = None;
    }
    config.save(&path)?;
    out(format!("logged off from site {name} at {}", context.url));
    Ok(())
}

/// `credential list|revoke`.
pub(crate) async fn credential(api: &Api, command: CredentialCommand) -> Outcome {
    match command {
        CredentialCommand::List(format) => {
            let found: Page<CredentialView> = api.get("/credentials", &Query::new()).await?;
            answer(format.output, &found, |found| {
                let rows = found.items.iter().map(|one| {
                    [
                        one.name.clone(),
                        one.role.clone(),
                        time(Some(one.created)),
                        one.created_by.clone(),
                        time(one.expires),
                        format!("{}{}", one.id, if one.own { " (you)" } else { "" }),
                    ]
                });
                table(&["name", "role", "since", "let in by", "expires", "id"], rows);
            })
        }
        CredentialCommand::Revoke { id } => {
            let IgnoredAny = api.delete(&format!("/credentials/{id}")).await?;
            out(format!("the log-on {id} has ended"));
            Ok(())
        }
    }
}

/// `token create|list|revoke`.
pub(crate) async fn token(api: &Api, command: TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create(args) => create(api, args).await,
        TokenCommand::List(format) => {
            let found: Page<TokenView> = api.get("/tokens", &Query::new()).await?;
            answer(format.output, &found, |found| {
                let rows = found.items.iter().map(|one| {
                    [
                        one.role.clone(),
                        dash(one.name.as_ref()),
                        one.uses_left.to_string(),
                        time(Some(one.expires)),
                        one.created_by.clone(),
                        one.id.to_string(),
                    ]
                });
                table(&["role", "name", "uses left", "expires", "made by", "id"], rows);
            })
        }
        TokenCommand::Revoke { id } => {
            let IgnoredAny = api.delete(&format!("/tokens/{id}")).await?;
            out(format!("token {id} lets nobody in any more; whom it has let in stays"));
            Ok(())
        }
    }
}

async fn create(api: &Api, args: args::TokenCreate) -> Outcome {
    let request = TokenRequest {
        role: args.role,
        name: args.name,
        collection: args.collection,
        uses: args.uses,
        ttl: args.ttl,
        hold: args.hold,
    };
    let found: TokenAnswer = api.post("/tokens", &request).await?;
    found.warnings.iter().for_each(|warning| say(format!("warning: {warning}")));
    answer(args.format.output, &found, |found| {
        out(&found.token);
        say(format!("good until {}; it is not shown again", found.expires));
    })
}
