//! `messages`, and `--follow`: what was said, and what is being said.

use std::time::Duration;

use muster_model::api::{MessageView, Page};
use muster_model::object::Kind;

use crate::api::{Api, Query};
use crate::args::{self, Output};
use crate::error::{Failure, Outcome, Tried};
use crate::print::{answer, dash, say, try_out};

/// The wait before the first try to follow again.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const AGAIN_MOST: Duration = Duration::from_secs(15);
/// The place before the first message, when there is none yet.
const START: &str = "start";

/// `messages`.
pub(crate) async fn messages(api: &Api, args: args::Messages) -> Outcome {
    let mut query = Query::new();
    if let Some(device) = &args.device {
        query.set("device", Some(api.resolve("device", device).await?));
    }
    if let Some(advertisement) = &args.advertisement {
        let id = api.resolve(Kind::Advertisement.word(), advertisement).await?;
        query.set("advertisement", Some(id));
    }
    query.set("severity", args.severity.map(|severity| severity.word()));
    let mut newest = query.clone();
    newest.set("limit", Some(args.limit));
    let page: Page<MessageView> = api.get("/messages", &newest).await?;
    let output = args.format.output;
    if !args.follow {
        return answer(output, &page, |page| {
            page.items.iter().for_each(|message| _ = try_out(line(message)));
        });
    }
    for message in &page.items {
        if !tell(output, message)? {
            return Ok(());
        }
    }
    let after = page.items.last().map_or_else(|| START.to_owned(), |last| last.cursor.clone());
    follow(api, query, after, output).await
}

/// Tells what comes after a place, until nobody reads any more. Each event carries the place behind
/// it, and a broken connection is made again from there: nothing is left out, nothing told twice.
async fn follow(api: &Api, mut query: Query, mut after: String, output: Output) -> Outcome {
    let mut wait = AGAIN_FIRST;
    loop {
        query.set("after", Some(&after));
        let broken = match api.events("/messages/follow", &query).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Ok(Some(event)) => {
                        let message: MessageView = serde_json::from_str(&event.data)
                            .tried(|| "understand a message".into())?;
                        if !tell(output, &message)? {
                            return Ok(());
                        }
                        after = event.id;
                        wait = AGAIN_FIRST;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(Failure::new("the connection broke").because(&error)),
                }
            },
            Err(refusal) if !refusal.is_transient => return Err(refusal.into()),
            Err(refusal) => Some(refusal.into()),
        };
        if let Some(why) = broken {
            say(format!("{why}\n\ntrying again in {} s", wait.as_secs()));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MOST);
    }
}

/// One followed message: a line, or a document of its own. Answers whether somebody still reads.
fn tell(output: Output, message: &MessageView) -> Outcome<bool> {
    let tried = || "print a message".to_owned();
    Ok(match output {
        Output::Table => try_out(line(message)),
        Output::Json => try_out(serde_json::to_string(message).tried(tried)?),
        Output::Yaml => {
            let value = serde_json::to_value(message).tried(tried)?;
            try_out(format!("---\n{}", crate::yaml::write(&value).trim_end()))
        }
    })
}

fn line(message: &MessageView) -> String {
    let place = match (message.incarnation, message.sequence) {
        (Some(incarnation), Some(sequence)) => format!("{incarnation}/{sequence}"),
        _ => "-".to_owned(),
    };
    format!(
        "{:.3} {:<7} {} {:<12} {:>6} {} {}",
        message.received,
        message.severity.word(),
        message.code,
        message.name,
        place,
        dash(message.advertisement.as_ref()),
        message.text
    )
}
