//! What a device reports in a run: that its agent started, and of each advertisement that it was
//! accepted, run, and done. With 33 advertisements that is a batch of 100 messages.

use std::time::Duration;

use bytes::Bytes;
use muster_model::clock::{Elapsed, Wall};
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, BootId, Sequence};
use muster_model::message::{Body, Message, Occurrence, Report, RunId};
use muster_model::name::Name;
use muster_model::state::{Evidence, EvidenceKind, State};
use muster_model::wire::batch::Batch;

use crate::device::{Device, INCARNATION};
use crate::error::BenchError;

/// The revision of the advertisements: none was edited.
const REVISION: u32 = 1;
/// How far apart messages are on the device's clocks.
const APART: Duration = Duration::from_millis(250);
/// What a quiet installation leaves in the tail of its output.
const OUTPUT: &str = "Selecting previously unselected package.\nUnpacking ...\nSetting up ...\n";

/// The first batch of a device's stream, signed, as it travels; and how many messages it holds.
pub(crate) fn batch(
    device: Device,
    advertisements: &[AdvertisementId],
    assignment: &Name,
    now: Wall,
) -> Result<(Bytes, usize), BenchError> {
    let occurrence = Occurrence { assignment: assignment.clone(), n: 1 };
    let started = std::iter::once(Body::AgentStarted { facts: device.facts() });
    let reports = advertisements
        .iter()
        .flat_map(|id| reports(device, *id, &occurrence))
        .map(Body::Obligation);
    let messages = started
        .chain(reports)
        .zip(1..)
        .map(|(body, sequence)| serde_json::to_vec(&message(device, sequence, body, now)));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let count = messages.len();
    let batch = Batch::signed(
        &device.key(),
        device.id(),
        INCARNATION,
        Sequence(1),
        Digest::from_bytes([0; 32]),
        Sequence(1),
        count as u64,
        messages,
    );
    Ok((batch.encode().into(), count))
}

fn message(device: Device, sequence: u64, body: Body, now: Wall) -> Message {
    let after = APART * u32::try_from(sequence).unwrap_or(u32::MAX);
    Message {
        device: device.id(),
        incarnation: INCARNATION,
        sequence: Sequence(sequence),
        wall: now.plus(after),
        elapsed: Elapsed(3_600_000).plus(after),
        boot: BootId("5c0c1c57-3a0e-4f0c-9a5e-0d4a2f1b6c9d".to_owned()),
        trusted: now.plus(after),
        body,
    }
}

fn reports(
    device: Device,
    advertisement: AdvertisementId,
    occurrence: &Occurrence,
) -> impl Iterator<Item = Report> {
    let run = RunId::of(device.id(), INCARNATION, advertisement, REVISION, occurrence, 1);
    let report = |state, attempt| Report {
        advertisement,
        occurrence: occurrence.clone(),
        revision: REVISION,
        state,
        attempt,
        run: (attempt > 0).then_some(run),
        exit_code: None,
        attempt_ended: None,
        disputed: None,
        output: String::new(),
        dependency: None,
        user: None,
        passed_over: String::new(),
    };
    let evidence = Evidence { rule: EvidenceKind::ExitCode, exit_code: Some(0) };
    let succeeded = Report {
        exit_code: Some(0),
        output: OUTPUT.to_owned(),
        ..report(State::Succeeded { evidence }, 1)
    };
    [report(State::Accepted, 0), report(State::Running { attempt: 1 }, 1), succeeded].into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Devices;

    #[test]
    fn a_batch_of_thirty_three_advertisements_has_a_hundred_messages_that_verify() {
        let device = "7..8".parse::<Devices>().unwrap().first();
        let ids: Vec<AdvertisementId> =
            (0..33).map(|n| AdvertisementId(uuid::Uuid::from_u128(n))).collect();
        let (bytes, count) = batch(device, &ids, &Name::new("first").unwrap(), Wall(0)).unwrap();
        let read = Batch::decode(&bytes).unwrap();
        assert_eq!((count, read.messages.len()), (100, 100));
        read.verify(&device.key().public()).unwrap();
        let last: Message = serde_json::from_slice(&read.messages[99]).unwrap();
        assert_eq!((last.sequence, last.device), (Sequence(100), device.id()));
    }
}
