//! `stop`, `resume`, `halt`, `rerun`: somebody's word, and how far it has gone.

use muster_model::api::{OrderAnswer, OrderRequest, RerunAnswer, RerunRequest};
use muster_model::id::DeviceId;
use muster_model::object::Kind;
use muster_model::plural::counted;

use crate::api::Api;
use crate::args;
use crate::error::Outcome;
use crate::print::{answer, out};

/// `stop ADVERTISEMENT`.
pub(crate) async fn stop(api: &Api, args: args::Stop) -> Outcome {
    let id = api.resolve(Kind::Advertisement.word(), &args.advertisement).await?;
    let request = OrderRequest { reason: args.reason, kill: args.kill };
    let found: OrderAnswer = api.post(&format!("/advertisements/{id}/stop"), &request).await?;
    answer(args.format.output, &found, |found| {
        out(format!("{} is stopped; {}", args.advertisement, reach(found)));
    })
}

/// `resume ADVERTISEMENT`, `resume --all`.
pub(crate) async fn resume(api: &Api, args: args::Resume) -> Outcome {
    let (path, what) = match &args.advertisement {
        Some(advertisement) => {
            let id = api.resolve(Kind::Advertisement.word(), advertisement).await?;
            (format!("/advertisements/{id}/resume"), advertisement.as_str())
        }
        None => ("/resume".to_owned(), "everything"),
    };
    let found: OrderAnswer = api.post(&path, &OrderRequest::default()).await?;
    answer(args.format.output, &found, |found| {
        out(format!("{what} may go on; {}", reach(found)));
    })
}

/// `halt --all`.
pub(crate) async fn halt(api: &Api, args: args::Halt) -> Outcome {
    let request = OrderRequest { reason: args.reason, kill: args.kill };
    let found: OrderAnswer = api.post("/halt", &request).await?;
    answer(args.format.output, &found, |found| {
        out(format!("everything is halted until `muster resume --all`; {}", reach(found)));
    })
}

/// `rerun ADVERTISEMENT`.
pub(crate) async fn rerun(api: &Api, args: args::Rerun) -> Outcome {
    let id = api.resolve(Kind::Advertisement.word(), &args.advertisement).await?;
    let mut devices = Vec::new();
    for device in &args.device {
        devices.push(DeviceId(api.resolve("device", device).await?));
    }
    let request = RerunRequest { state: args.state, devices, reason: args.reason };
    let found: RerunAnswer = api.post(&format!("/advertisements/{id}/rerun"), &request).await?;
    answer(args.format.output, &found, |found| {
        out(format!("{} opened for {}", found.occurrence, counted(found.devices, "device")));
    })
}

/// `known by 48,212 of 50,000; 1,788 may still start`.
pub(crate) fn reach(found: &OrderAnswer) -> String {
    format!(
        "known by {} of {}; {} may still start",
        found.known, found.concerned, found.may_still_start
    )
}
