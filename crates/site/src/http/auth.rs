//! Who asks, and whether they may: a bearer credential becomes a principal, an action is granted or
//! refused. A refusal of a stranger names nothing.

use http::{HeaderMap, header};
use muster_site_core::roles::{Action, Principal, allowed};

use crate::app::error::{AppError, Kind, Outcome, Refusal};
use crate::app::{App, Who};

/// The principal behind a request, if it may do `action`.
pub(crate) async fn admit(
    app: &App,
    headers: &HeaderMap,
    action: Action,
) -> Result<Option<Who>, AppError> {
    let who = who(app, headers).await?;
    let principal = who.as_ref().map_or(Principal::None, |who| who.role);
    if allowed(principal, action) {
        return Ok(who);
    }
    Err(match who {
        None => Refusal::new(Kind::Unauthorised, "credentials are required").into(),
        Some(who) => {
            let detail = format!("the role {} does not allow {}", who.role, action.name());
            Refusal::new(Kind::Forbidden, detail).into()
        }
    })
}

async fn who(app: &App, headers: &HeaderMap) -> Outcome<Option<Who>> {
    let credential = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("Bearer "));
    match credential {
        Some(credential) => app.principal_of(credential.trim()).await,
        None => Ok(None),
    }
}
