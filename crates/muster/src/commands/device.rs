//! `device`, `set-aside`: the machines, and what could not be taken.

use muster_model::api::{DeviceView, Page, SetAsideView};
use serde_json::Value;

use super::objects::device_row;
use crate::api::{Api, Query};
use crate::args::{self, Output};
use crate::error::{Failure, Outcome};
use crate::print::{answer, out, table, time};
use serde::de::IgnoredAny;

/// `device list|approve|retire`.
pub(crate) async fn command(api: &Api, command: args::DeviceCommand) -> Outcome {
    match command {
        args::DeviceCommand::List(args) => list(api, args.limit, args.format.output).await,
        args::DeviceCommand::Approve { device } => {
            let id = api.resolve("device", &device).await?;
            let IgnoredAny = api.post(&format!("/devices/{id}/approve"), &Value::Null).await?;
            out(format!("{device} is admitted"));
            Ok(())
        }
        args::DeviceCommand::Retire { device } => {
            let id = api.resolve("device", &device).await?;
            let IgnoredAny = api.post(&format!("/devices/{id}/retire"), &Value::Null).await?;
            out(format!("{device} is retired; what it still owed is lost(retired)"));
            Ok(())
        }
    }
}

/// All devices.
pub(crate) async fn list(api: &Api, limit: Option<u32>, output: Output) -> Outcome {
    let items: Vec<DeviceView> = api.all("/devices", &Query::new(), limit).await?;
    answer(output, &Page { items, next: None }, |page| {
        let head = ["name", "standing", "os", "agent", "last contact", "waiting", "id"];
        table(&head, page.items.iter().map(device_row));
    })
}

/// One device.
pub(crate) async fn show(api: &Api, name: &str, output: Output) -> Outcome {
    let id = api.resolve("device", name).await?;
    let found: DeviceView = api.get(&format!("/devices/{id}"), &Query::new()).await?;
    let output = if output == Output::Table { Output::Yaml } else { output };
    answer(output, &found, |_| ())
}

/// `set-aside --data` of an agent: what it cannot take it refuses with its reason, so it keeps nothing
/// aside.
pub(crate) fn set_aside_of_agent(command: &args::SetAsideCommand) -> Outcome {
    use args::SetAsideCommand::{Drop, List, Retry, Show};
    match command {
        List { format, .. } => {
            let none: Page<SetAsideView> = Page { items: Vec::new(), next: None };
            answer(format.output, &none, |_| out("an agent sets nothing aside"))
        }
        Show { id, .. } | Retry { id, .. } | Drop { id, .. } => {
            Err(Failure::new(format!("no item {id}: an agent sets nothing aside")))
        }
    }
}

/// `set-aside list|show|retry|drop`.
pub(crate) async fn set_aside(api: &Api, command: args::SetAsideCommand) -> Outcome {
    use args::SetAsideCommand::{Drop, List, Retry, Show};
    match command {
        List { format, .. } => {
            let items: Vec<SetAsideView> = api.all("/set-aside", &Query::new(), None).await?;
            answer(format.output, &Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|item| {
                    [
                        item.id.clone(),
                        time(Some(item.at)),
                        item.sender.clone(),
                        item.length.to_string(),
                        item.reason.clone(),
                    ]
                });
                table(&["id", "at", "sender", "bytes", "reason"], rows);
            })
        }
        Show { id, format, .. } => {
            let path = format!("/set-aside/{}", crate::api::segment(&id)?);
            let found: SetAsideView = api.get(&path, &Query::new()).await?;
            let output = if format.output == Output::Table { Output::Yaml } else { format.output };
            answer(output, &found, |_| ())
        }
        Retry { id, .. } => {
            let path = format!("/set-aside/{}/retry", crate::api::segment(&id)?);
            let IgnoredAny = api.post(&path, &Value::Null).await?;
            out(format!("{id} was applied"));
            Ok(())
        }
        Drop { id, .. } => {
            let IgnoredAny =
                api.delete(&format!("/set-aside/{}", crate::api::segment(&id)?)).await?;
            out(format!("{id} is dropped"));
            Ok(())
        }
    }
}
