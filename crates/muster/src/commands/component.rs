//! `component list|pause|resume`, `status`: a role as a whole, on this machine or over the network.

use std::path::Path;
use std::time::{Duration, Instant};

use muster_model::api::{ComponentState, Page, SiteView};
use muster_model::component::{Component, INVENTORY, SOFTWARE_DISTRIBUTION};
use serde_json::{Value, json};

use crate::api::{Api, Query, segment};
use crate::args::{self, ComponentCommand, Format, Output};
use crate::error::{Failure, Outcome, Tried};
use crate::print::{answer, out, table};
use crate::role::{self, Role};

/// A running agent looks every five seconds; a busy machine takes longer.
const TAKEN_MOST: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Every `component` command. `connect` makes the API of the current context's site.
pub(crate) async fn command(
    connect: impl FnOnce() -> Outcome<Api>,
    command: ComponentCommand,
) -> Outcome {
    match command {
        ComponentCommand::List { role, format } => {
            let items = match &role.data {
                Some(data) => list(data).await?,
                None => asked(&connect()?).await?,
            };
            show(items, format)
        }
        ComponentCommand::Pause { name, role } => set(connect, role, &name, true).await,
        ComponentCommand::Resume { name, role } => set(connect, role, &name, false).await,
    }
}

fn show(items: Vec<ComponentState>, format: Format) -> Outcome {
    answer(format.output, &Page { items, next: None }, |page| {
        let rows = page.items.iter().map(|one| {
            let reason = one.reason.as_ref().map_or(String::new(), |why| format!("({why})"));
            [one.name.clone(), one.state.clone() + &reason, one.description.clone()]
        });
        table(&["component", "state", "what it does"], rows);
    })
}

async fn asked(api: &Api) -> Outcome<Vec<ComponentState>> {
    let found: Page<ComponentState> = api.get("/components", &Query::new()).await?;
    Ok(found.items)
}

/// The components of the role in a folder.
async fn list(data: &Path) -> Outcome<Vec<ComponentState>> {
    let tried = || format!("read the components of {}", data.display());
    match role::of(data)? {
        Role::Site => muster_site::component_states(data).tried(tried),
        Role::Agent => {
            let found = muster_agent::status::component_states(data).tried(tried)?;
            Ok(found.iter().map(of_agent).collect())
        }
    }
}

fn of_agent(component: &Component) -> ComponentState {
    let description = match component.name.as_str() {
        SOFTWARE_DISTRIBUTION => "fetches and runs what is advertised; paused: nothing new starts",
        INVENTORY => "tells the site what is on the device",
        _ => "",
    };
    ComponentState {
        name: component.name.clone(),
        state: component.state.word().to_owned(),
        reason: component.state.reason().map(str::to_owned),
        description: description.to_owned(),
    }
}

async fn set(
    connect: impl FnOnce() -> Outcome<Api>,
    role: args::Role,
    name: &str,
    pause: bool,
) -> Outcome {
    match &role.data {
        Some(data) => set_in(data, name, pause).await?,
        None => ask(&connect()?, name, pause).await?,
    }
    let of = role.data.as_ref().map(|data| format!(" --data {}", data.display()));
    let of = of.unwrap_or_default();
    out(match pause {
        true => format!("{name} is paused; `muster component resume {name}{of}` lets it go on"),
        false => format!("{name} goes on"),
    });
    Ok(())
}

/// A running site is asked, so that its audit says who did it; everybody else reads the folder.
async fn set_in(data: &Path, name: &str, pause: bool) -> Outcome {
    let tried = || format!("change a component of {}", data.display());
    match role::of(data)? {
        Role::Site => {
            if role::running_site(data)?.is_some() {
                let asked = ask(&role::site_api(data)?, name, pause).await;
                // What a crash left says that it runs when it does not.
                if asked.is_ok() {
                    return asked;
                }
            }
            muster_site::set_component(data, name, pause).tried(tried)
        }
        Role::Agent => {
            muster_agent::components::set_paused(data, name, pause).tried(tried)?;
            await_agent(data).await
        }
    }
}

/// Waits until a running agent acts on what was written, so that nothing starts after `pause` has
/// returned.
async fn await_agent(data: &Path) -> Outcome {
    let tried = || format!("see whether the agent in {} has taken it", data.display());
    let deadline = Instant::now() + TAKEN_MOST;
    while muster_agent::components::is_in_force(data).tried(tried)? == Some(false) {
        if Instant::now() >= deadline {
            let said = format!("the agent in {} has not taken it yet", data.display());
            return Err(Failure::new(said).hint("it is written, and holds once the agent looks"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn ask(api: &Api, name: &str, pause: bool) -> Outcome {
    let word = if pause { "pause" } else { "resume" };
    let path = format!("/components/{}/{word}", segment(name)?);
    let _: Page<ComponentState> = api.post(&path, &Value::Null).await?;
    Ok(())
}

/// `status`.
pub(crate) async fn status(connect: impl FnOnce() -> Outcome<Api>, args: args::Status) -> Outcome {
    let found = match &args.role.data {
        None => site_status(&connect()?).await?,
        Some(data) => match role::of(data)? {
            Role::Site => local_site(data).await?,
            Role::Agent => {
                let found = muster_agent::status::status(data)
                    .tried(|| format!("read the state of the device in {}", data.display()))?;
                with_role("agent", &found)?
            }
        },
    };
    let output =
        if args.format.output == Output::Table { Output::Yaml } else { args.format.output };
    answer(output, &found, |_| ())
}

async fn site_status(api: &Api) -> Outcome<Value> {
    let found: SiteView = api.get("/site", &Query::new()).await?;
    let mut found = with_role("site", &found)?;
    found["components"] = json!(asked(api).await?);
    Ok(found)
}

/// The site in a folder: what it answers, or, when it does not run, what its folder says.
async fn local_site(data: &Path) -> Outcome<Value> {
    let context = crate::commands::login::from_folder(data)?;
    let running = role::running_site(data)?;
    if let Some(running) = &running
        && let Ok(mut found) = site_status(&Api::new(&context)?).await
    {
        found["running"] = json!(running.pid);
        found["metricsUrl"] = json!(running.metrics_url);
        return Ok(found);
    }
    Ok(json!({
        "role": "site", "running": null, "url": context.url,
        "components": list(data).await?,
    }))
}

/// What a role says of itself, led by which role it is.
fn with_role(role: &str, found: &impl serde::Serialize) -> Outcome<Value> {
    let mut value = json!({ "role": role });
    let said = serde_json::to_value(found).tried(|| "print the state".into())?;
    if let (Value::Object(fields), Value::Object(said)) = (&mut value, said) {
        fields.extend(said);
    }
    Ok(value)
}
