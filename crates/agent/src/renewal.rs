//! Keeps the device's certificate fresh: after two thirds of its life, when the site's signature no
//! longer fits, and when no incarnation is left for a lost memory.
//!
//! A failed renewal is tried again with growing waits; the old certificate is good meanwhile, and one
//! that has expired still reaches renewal.

use std::path::Path;
use std::time::Duration;

use muster_model::clock::Wall;

use crate::identity::{Enrolment, Identity};
use crate::transport::{Transport, TransportError};

/// How often it is looked whether renewal is due. Trusted time may move by any amount when the site is
/// heard.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The waits after failures.
const AGAIN_LEAST: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_secs(15 * 60);

/// Renews whenever it is due. Answers only an error that the process must not go on after.
pub(crate) async fn keep(data: &Path, transport: &Transport) -> TransportError {
    loop {
        if is_due(data, transport)
            && let Err(error) = once(data, transport).await
        {
            return error;
        }
        tokio::select! {
            () = transport.stirred() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Renews once, however many tries it takes. The only error is one that the process must not go on
/// after.
pub(crate) async fn once(data: &Path, transport: &Transport) -> Result<(), TransportError> {
    let mut wait = AGAIN_LEAST;
    loop {
        match transport.renew(data).await {
            Ok(_) => {
                tracing::info!("the certificate was renewed");
                return Ok(());
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => tracing::warn!(why = %crate::chain_of(&error), "renewal failed"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MOST);
    }
}

fn is_due(data: &Path, transport: &Transport) -> bool {
    let Ok((_, enrolment)) = Identity::load_enrolled(data) else { return false };
    transport.take_doubt() || wants_renewal(&enrolment, transport.time().trusted())
}

/// Whether it is time. Without trusted time no date is judged.
fn wants_renewal(enrolment: &Enrolment, now: Option<Wall>) -> bool {
    let old = || Some(enrolment.renew_at().ok()? <= now?);
    enrolment.next_incarnation.is_none() || old().unwrap_or(false)
}
