//! Devices of which two histories were seen: held, and mended where it is one machine that was put back
//! to a snapshot. What is made of it is decided in [`muster_site_core::put_back`]; here it is loaded,
//! written in one transaction, and told.

use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_model::message::{Message, Severity};
use muster_model::policy::Order;
use muster_site_core::decision::merged;
use muster_site_core::device::Admission;
use muster_site_core::ingest::{Fork, Reading, StreamRow};
use muster_site_core::obligation::{Applied, ObligationRow, Place};
use muster_site_core::put_back::{
    Claim, Hearing, Judged, Lives, Parted, Suspect, Suspicion, Watch, Why, accept, doubt,
    is_outlived, judge, outlived_point, parted, undo, watched,
};

use super::App;
use super::change::{Change, Code};
use super::device::{SITE, by_the_site, hold, lock, save};
use super::error::Outcome;
use crate::store::DeviceRow;

/// What a life of a device is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It may speak.
    Speaks,
    /// Its word is not taken yet: the other lives are watched.
    Watched,
    /// Perhaps there are two machines, and the device is held.
    Doubted,
}

impl App {
    /// What becomes of a device whose batch contradicts its stream. The fork is committed; the device is
    /// held on return. If it looks put back, its policy says from now on in which life it goes on.
    pub(crate) async fn device_forked(&self, reading: &Reading) -> Outcome<()> {
        let (id, life) = (reading.header.device, reading.header.incarnation);
        let mut change = Change::begin_by_site(self).await?;
        let streams = change.tx.stream_lock_many([id]).await?;
        let row = lock(&mut change, id).await?;
        let range = (Sequence(reading.header.first.0 - 1), reading.header.last);
        let ours = change.tx.message_chain_range(id, life, range).await?;
        let parted = parted(&Lives::of(&streams), reading, &ours);
        let machine = match (reading.facts(), parted) {
            // The first word of its boot may have been taken before anything spoke against it.
            (None, Some(Parted { from, .. })) => machine_told(&mut change, id, life, from).await?,
            (facts, _) => facts.and_then(|facts| facts.machine),
        };
        self.judge(change, streams, row, life, (parted, machine)).await
    }

    /// A life asks that had ended, or that a newer one has followed: the device is held on return. If the life
    /// has said anything since, that is judged as a history of its own; if not, its messages will tell.
    async fn device_outlived(&self, id: DeviceId, life: Incarnation) -> Outcome<()> {
        let mut change = Change::begin_by_site(self).await?;
        let streams = change.tx.stream_lock_many([id]).await?;
        let mut row = lock(&mut change, id).await?;
        let newer_since = change.tx.message_first_received(id, row.incarnation).await?;
        let newest = change.tx.message_last_received(id, life).await?;
        let stream = streams.iter().find(|stream| stream.incarnation == life);
        let parted = stream.zip(newest).zip(newer_since);
        let parted = parted.and_then(|((stream, at), since)| outlived_point(stream, at, since));
        if let Some(Parted { from, .. }) = parted {
            let machine = machine_told(&mut change, id, life, from.next()).await?;
            return self.judge(change, streams, row, life, (parted, machine)).await;
        }
        if row.device.admission == Admission::Admitted
            && suspected(&mut change, &mut row, Why::EndedLife.text())
        {
            save(&mut change, row).await?;
            change.commit().await?;
        }
        Ok(())
    }

    /// Judges a history of the life `of` that parts from the site's, and says of which machine it is.
    async fn judge(
        &self,
        mut change: Change<'_>,
        mut streams: Vec<StreamRow>,
        mut row: DeviceRow,
        of: Incarnation,
        (parted, machine): (Option<Parted>, Option<Digest>),
    ) -> Outcome<()> {
        if row.device.admission == Admission::Retired {
            return Ok(());
        }
        let suspect = Suspect {
            incarnation: of,
            parted,
            known_machine: row.device.facts.machine,
            machine,
            held_by_person: is_held_by_person(&row),
            next: Incarnation(row.next_incarnation.max(row.incarnation).0 + 1),
            now: change.now,
        };
        let (is_news, why) = match &judge(&Lives::of(&streams), &suspect) {
            Judged::PutBack(claim) => {
                let is_news = claim_stands(&mut streams, of, claim, &mut row);
                (is_news, watched(claim, self.watch().await?))
            }
            Judged::Held(why) => {
                let is_news = *why == Why::SecondMachine && refuse(&mut streams);
                (is_news, why.text().to_owned())
            }
        };
        if is_news | suspected(&mut change, &mut row, &why) {
            change.tx.stream_write_many(&streams).await?;
            save(&mut change, row).await?;
            change.commit().await?;
        }
        Ok(())
    }

    /// What a life of a device that asks for something is answered. Begins the watch, and ends it, when
    /// the life asks that was handed out; holds the device when another one does.
    pub(crate) async fn device_asks(&self, id: DeviceId, life: Incarnation) -> Outcome<Heard> {
        let heard = self.heard(id, life, Lives::hears).await?;
        if heard == Heard::Speaks && self.is_outlived(id, life).await? {
            self.device_outlived(id, life).await?;
            return Ok(Heard::Doubted);
        }
        Ok(heard)
    }

    /// Whether a newer life of the device's memory was heard, and not only now. Nearly never: then no life but
    /// the newest and the next are handed out, and nothing is read.
    async fn is_outlived(&self, id: DeviceId, life: Incarnation) -> Outcome<bool> {
        let granted = self.index.device(id).map_or(Incarnation(0), |known| known.granted);
        if granted.0 <= life.0.saturating_add(1) {
            return Ok(false);
        }
        let mut read = self.db.read().await?;
        let row = read.device_load(id).await?.filter(|row| life < row.incarnation);
        let Some(row) = row else { return Ok(false) };
        let newer_since = read.message_first_received(id, row.incarnation).await?;
        Ok(newer_since.is_some_and(|since| is_outlived(since, self.now())))
    }

    /// The same of a life that brings messages, which need not be new.
    pub(crate) async fn device_says(&self, id: DeviceId, life: Incarnation) -> Outcome<Heard> {
        self.heard(id, life, Lives::hears_messages).await
    }

    async fn heard(
        &self,
        id: DeviceId,
        life: Incarnation,
        hears: impl Fn(&Lives, Incarnation, Wall, Watch) -> Hearing,
    ) -> Outcome<Heard> {
        let Some(lives) = self.index.lives(id) else { return Ok(Heard::Speaks) };
        let watch = self.watch().await?;
        match hears(&lives, life, self.now(), watch) {
            Hearing::Speaks => Ok(Heard::Speaks),
            Hearing::Watched { .. } => Ok(Heard::Watched),
            Hearing::Begins => {
                self.watch_begin(id, watch).await?;
                Ok(Heard::Watched)
            }
            Hearing::Mends => self.mend(id, life, watch).await,
            Hearing::GivesUp => {
                self.give_up(id, life, watch).await?;
                Ok(Heard::Speaks)
            }
            Hearing::Doubted => {
                self.device_outlived(id, life).await?;
                Ok(Heard::Doubted)
            }
            Hearing::SecondMachine => {
                self.device_copied(id).await?;
                Ok(Heard::Doubted)
            }
        }
    }

    /// What follows from a batch that was taken: messages that go on with a history that has ended are a
    /// second machine's.
    pub(crate) async fn device_went_on(&self, reading: &Reading) -> Outcome<()> {
        let (id, life) = (reading.header.device, reading.header.incarnation);
        let Some(lives) = self.index.lives(id) else { return Ok(()) };
        match reading.written() {
            Some(written) if lives.goes_on(life, written) => self.device_copied(id).await,
            _ => Ok(()),
        }
    }

    /// How long a poll of a device is held at most.
    pub(crate) async fn poll_most(&self, id: DeviceId) -> Outcome<Duration> {
        let is_claimed = self.index.lives(id).is_some_and(|lives| lives.claim().is_some());
        Ok(if is_claimed { self.watch().await?.poll() } else { self.poll_wait().await? })
    }

    async fn watch(&self) -> Outcome<Watch> {
        Ok(Watch::of(self.poll_wait().await?))
    }

    /// The watch begins. The reason for which the device is held names its end, and that is another policy:
    /// whoever has a poll held is woken, and polls anew.
    async fn watch_begin(&self, id: DeviceId, watch: Watch) -> Outcome<()> {
        let mut change = Change::begin_by_site(self).await?;
        let mut streams = change.tx.stream_lock_many([id]).await?;
        let mut row = lock(&mut change, id).await?;
        let now = change.now;
        forks(&mut streams).for_each(|fork| fork.begin(now));
        change.tx.stream_write_many(&streams).await?;
        let why = Lives::of(&streams).claim().map(|(_, claim)| watched(claim, watch));
        if let Some(why) = why {
            suspected(&mut change, &mut row, &why);
        }
        save(&mut change, row).await?;
        change.commit().await?;
        Ok(())
    }

    /// The others were silent: what was told after the fork is undone, and the device goes on.
    async fn mend(&self, id: DeviceId, life: Incarnation, watch: Watch) -> Outcome<Heard> {
        let mut change = Change::begin_by_site(self).await?;
        let mut streams = change.tx.stream_lock_many([id]).await?;
        let mut row = lock(&mut change, id).await?;
        let lives = Lives::of(&streams);
        // Another process may have been quicker, or a second machine.
        let claim = lives.claim().map(|(of, claim)| (of, claim.clone()));
        let Some((of, claim)) =
            claim.filter(|_| lives.hears(life, change.now, watch) == Hearing::Mends)
        else {
            return Ok(Heard::Watched);
        };
        if is_held_by_person(&row) {
            return Ok(Heard::Watched);
        }
        let now = change.now;
        forks(&mut streams).for_each(|fork| fork.mend(now));
        change.tx.stream_write_many(&streams).await?;
        let from = Place { incarnation: of, sequence: claim.from };
        let undone = undo_rows(&mut change, id, &Lives::of(&streams)).await?;
        change.tx.message_undo(id, from, claim.life).await?;
        if let Admission::Held { .. } = row.device.admission {
            row.device.admission = Admission::Admitted;
        }
        let said = format!(
            "device `{}` was put back to a snapshot: it goes on as incarnation {}; {undone} outcomes \
             from after message {}/{} are undone",
            row.device.name, claim.life, of, claim.from
        );
        change.say_severe(Code::DevicePutBack, Severity::Warning, id, said);
        save(&mut change, row).await?;
        change.commit().await?;
        Ok(Heard::Speaks)
    }

    /// Nobody takes the claim up, and the device goes on.
    async fn give_up(&self, id: DeviceId, life: Incarnation, watch: Watch) -> Outcome<()> {
        let mut change = Change::begin_by_site(self).await?;
        let mut streams = change.tx.stream_lock_many([id]).await?;
        let mut row = lock(&mut change, id).await?;
        let lives = Lives::of(&streams);
        if lives.hears(life, change.now, watch) != Hearing::GivesUp || is_held_by_person(&row) {
            return Ok(());
        }
        forks(&mut streams).for_each(Fork::give_up);
        change.tx.stream_write_many(&streams).await?;
        if let Admission::Held { .. } = row.device.admission {
            row.device.admission = Admission::Admitted;
        }
        let name = &row.device.name;
        let said = format!("device `{name}` goes on: its other history has not spoken again");
        change.say_severe(Code::DevicePutBack, Severity::Warning, id, said);
        save(&mut change, row).await?;
        change.commit().await?;
        Ok(())
    }

    /// Two machines speak: the device is held, and no claim stands.
    async fn device_copied(&self, id: DeviceId) -> Outcome<()> {
        let mut change = Change::begin_by_site(self).await?;
        let mut streams = change.tx.stream_lock_many([id]).await?;
        let mut row = lock(&mut change, id).await?;
        if row.device.admission == Admission::Retired {
            return Ok(());
        }
        let refused = refuse(&mut streams);
        if refused | suspected(&mut change, &mut row, Why::SecondMachine.text()) {
            change.tx.stream_write_many(&streams).await?;
            save(&mut change, row).await?;
            change.commit().await?;
        }
        Ok(())
    }
}

/// Undoes the rows that rest on undone messages. Answers how many outcomes there were among them.
async fn undo_rows(change: &mut Change<'_>, id: DeviceId, lives: &Lives) -> Outcome<usize> {
    let rows = change.tx.obligation_list_device(id).await?;
    let undone: Vec<Applied> = rows.iter().filter_map(|row| undo(row, lives, change.now)).collect();
    let rows: Vec<ObligationRow> = undone.iter().map(|one| one.row.clone()).collect();
    change.tx.obligation_write_many(&rows).await?;
    change.tx.counter_add(&merged(&undone)).await?;
    Ok(rows.iter().filter(|row| row.state.word().is_terminal()).count())
}

/// Which machine it is of, as the newest facts say in the stream of `life`, at or before `until`.
async fn machine_told(
    change: &mut Change<'_>,
    id: DeviceId,
    life: Incarnation,
    until: Sequence,
) -> Outcome<Option<Digest>> {
    let facts = change.tx.message_facts(id, life, until).await?;
    let said = facts.and_then(|row| serde_json::from_str::<Message>(&row.body).ok());
    Ok(said.and_then(|said| said.body.facts()?.machine))
}

/// Lets a claim stand; answers whether it is new.
fn claim_stands(
    streams: &mut [StreamRow],
    of: Incarnation,
    claim: &Claim,
    row: &mut DeviceRow,
) -> bool {
    let is_new = Lives::of(&*streams).claim().is_none_or(|(_, known)| known.life != claim.life);
    streams.iter_mut().filter(|stream| stream.incarnation == of).for_each(doubt);
    accept(streams, of, claim);
    row.next_incarnation = row.next_incarnation.max(claim.life);
    is_new
}

/// Refuses the claim that stands, if one does.
fn refuse(streams: &mut [StreamRow]) -> bool {
    let open = |fork: &&mut Fork| fork.claim.is_some() && fork.suspicion != Suspicion::Copied;
    let mut claimed = forks(streams).filter(open).peekable();
    let is_claimed = claimed.peek().is_some();
    claimed.for_each(Fork::refuse);
    is_claimed
}

/// Holds a device for `why`, unless it is held for that or by a person. Answers whether it changed.
fn suspected(change: &mut Change<'_>, row: &mut DeviceRow, why: &str) -> bool {
    match &row.device.admission {
        Admission::Held { order } if order.by != SITE || order.reason == why => false,
        _ => {
            hold(change, row, by_the_site(why));
            true
        }
    }
}

fn is_held_by_person(row: &DeviceRow) -> bool {
    matches!(&row.device.admission, Admission::Held { order: Order { by, .. } } if by != SITE)
}

fn forks(streams: &mut [StreamRow]) -> impl Iterator<Item = &mut Fork> {
    streams.iter_mut().filter_map(|stream| stream.fork.as_mut())
}
