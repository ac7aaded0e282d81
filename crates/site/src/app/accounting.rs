//! The accounting of an advertisement: sums that always add up, and where each device stands.

use muster_model::advertisement::At;
use muster_model::api::{AccountingAnswer, DeviceStanding, WaitAnswer};
use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::object::Kind as ObjectKind;
use muster_model::settings::Settings;
use muster_model::state::{State, Word};
use muster_site_core::accounting::{
    Accounting, Marked, marks, overdue_before, silent_before, summary,
};
use muster_site_core::condition::Condition;
use muster_site_core::occurrence::{OccurrenceRow, in_order};

use super::App;
use super::error::{Outcome, Refusal, Tried};
use super::policy::site_row;
use crate::store::{AccountingDevice, AdvertisementRow, MarkLimits, ObjectRow, Read};

/// Which part of an accounting is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Only devices in this state.
    pub(crate) state: Option<Word>,
    /// This occurrence instead of each device's newest due one.
    pub(crate) occurrence: Option<Occurrence>,
    /// Each occurrence of each device.
    pub(crate) all: bool,
    /// Devices on the page.
    pub(crate) limit: u32,
    /// Where the page before ended.
    pub(crate) cursor: Option<String>,
}

/// An advertisement in one snapshot, with the occurrences that are looked at.
struct Look {
    object: ObjectRow,
    row: AdvertisementRow,
    all: Vec<OccurrenceRow>,
    shown: Vec<Occurrence>,
    settings: Settings,
    now: Wall,
}

impl App {
    /// Where each targeted device stands. All figures are of one snapshot.
    pub(crate) async fn accounting(
        &self,
        id: AdvertisementId,
        asked: &Asked,
    ) -> Outcome<AccountingAnswer> {
        let mut read = self.db.read().await?;
        let look = self.look(&mut read, id, asked.occurrence.as_ref()).await?;
        let found = sums(&mut read, &look).await?;
        let (devices, next) = page(&mut read, &look, asked).await?;
        let marks = [
            ("silent", found.marks.silent),
            ("overdue", found.marks.overdue),
            ("disputed", found.marks.disputed),
        ];
        Ok(AccountingAnswer {
            advertisement: look.object.name,
            as_of: look.now,
            targeted: found.targeted,
            members: found.members,
            states: found.states,
            marks: marks.into_iter().map(|(mark, n)| (mark.to_owned(), n)).collect(),
            devices,
            next,
        })
    }

    /// Whether a condition holds now.
    pub(crate) async fn wait_for(&self, id: AdvertisementId, text: &str) -> Outcome<WaitAnswer> {
        let condition: Condition =
            text.parse().map_err(|why: muster_site_core::condition::BadCondition| {
                Refusal::invalid("for", why.to_string())
            })?;
        let mut read = self.db.read().await?;
        let look = self.look(&mut read, id, None).await?;
        let found = sums(&mut read, &look).await?;
        Ok(WaitAnswer {
            met: condition.is_met(&found),
            targeted: found.targeted,
            states: found.states,
        })
    }

    async fn look(
        &self,
        read: &mut Read,
        id: AdvertisementId,
        only: Option<&Occurrence>,
    ) -> Outcome<Look> {
        let object = read.object_load(id.0).await?;
        let object = object.filter(|row| row.kind == ObjectKind::Advertisement);
        let row = read.advertisement_load(id).await?;
        let (Some(object), Some(row)) = (object, row) else {
            return Err(Refusal::not_found("advertisement", id).into());
        };
        let all = read.occurrence_list(id).await?;
        let now = self.now();
        let shown = match only {
            None => in_order(&all, &self.here()),
            Some(wanted) => match all.iter().any(|row| row.occurrence == *wanted) {
                true => vec![wanted.clone()],
                false => return Err(Refusal::not_found("occurrence", wanted).into()),
            },
        };
        let settings = site_row(read).await?.settings;
        Ok(Look { object, row, all, shown, settings, now })
    }
}

/// The first instant at which an occurrence can be due: a local time begins in the zone that is
/// farthest ahead, UTC+14.
fn due_from(row: &OccurrenceRow) -> Option<Wall> {
    match row.due? {
        At::Now | At::StartUp | At::LogOn => None,
        At::Instant(at) => Some(at),
        At::Local(time) => {
            let ahead = jiff::tz::Offset::constant(14);
            ahead.to_timestamp(time).ok().map(|at| Wall(at.as_millisecond()))
        }
    }
}

async fn sums(read: &mut Read, look: &Look) -> Outcome<Accounting> {
    let id = look.row.id;
    let members = read.collection_load(look.row.collection).await?.map_or(0, |row| row.members);
    if look.shown.is_empty() {
        return Ok(Accounting { members, ..Accounting::default() });
    }
    let found = read.accounting_sums(id, &look.shown).await?;
    let limits = MarkLimits {
        silent_before: silent_before(look.now, &look.settings),
        overdue_before: match look.row.expires {
            Some(_) => None,
            None => Some(overdue_before(look.now, &look.settings)),
        },
    };
    let from = |occurrence: &Occurrence| {
        let row = look.all.iter().find(|row| row.occurrence == *occurrence);
        let at = row.and_then(due_from).unwrap_or(look.object.created_at);
        (occurrence.clone(), at)
    };
    let pending: Vec<(Occurrence, Wall)> = look.shown.iter().map(from).collect();
    let marks = read.accounting_marks(id, &pending, limits).await?;
    summary(found.targeted, members, &found.rows, marks).tried("add up the accounting")
}

/// One page of devices and where the next begins. With `all`, occurrence after occurrence.
async fn page(
    read: &mut Read,
    look: &Look,
    asked: &Asked,
) -> Outcome<(Vec<DeviceStanding>, Option<String>)> {
    let id = look.row.id;
    let (mut at, after) = read_cursor(asked.cursor.as_deref())?;
    if !asked.all {
        let found = read.accounting_page(id, &look.shown, asked.state, after, asked.limit).await?;
        let next = found.next.map(|device| format!("0:{device}"));
        return Ok((standings(look, found.devices), next));
    }
    let mut after = after;
    while let Some(occurrence) = look.shown.get(at) {
        let one = std::slice::from_ref(occurrence);
        let found = read.accounting_page(id, one, asked.state, after, asked.limit).await?;
        let next = match found.next {
            Some(device) => Some(format!("{at}:{device}")),
            None if at + 1 < look.shown.len() => Some(format!("{}:", at + 1)),
            None => None,
        };
        // An occurrence that has ended exactly at the end of a page leaves nothing for the next.
        if !found.devices.is_empty() || next.is_none() {
            return Ok((standings(look, found.devices), next));
        }
        after = found.next;
        at += usize::from(after.is_none());
    }
    Ok((Vec::new(), None))
}

/// `OCCURRENCE:DEVICE`: the place of the occurrence in the list, and the last device of the page.
fn read_cursor(cursor: Option<&str>) -> Outcome<(usize, Option<DeviceId>)> {
    let Some(text) = cursor else { return Ok((0, None)) };
    let read = || {
        let (at, device) = text.split_once(':')?;
        let device = match device {
            "" => None,
            id => Some(id.parse().ok()?),
        };
        Some((at.parse().ok()?, device))
    };
    Ok(read().ok_or_else(super::bad_cursor)?)
}

fn standings(look: &Look, devices: Vec<AccountingDevice>) -> Vec<DeviceStanding> {
    devices.into_iter().map(|one| standing(look, one)).collect()
}

fn standing(look: &Look, one: AccountingDevice) -> DeviceStanding {
    let targeted = State::Targeted;
    let state = one.row.as_ref().map_or(&targeted, |row| &row.state);
    let due = look.all.iter().find(|row| row.occurrence == one.occurrence).and_then(due_from);
    let marked = Marked {
        state,
        disputed: one.row.as_ref().and_then(|row| row.disputed.as_deref()),
        last_contact: one.last_contact,
        pending_since: one.targeted_at.max(due.unwrap_or(look.object.created_at)),
        expires: look.row.expires,
    };
    let marks = marks(&marked, look.now, &look.settings);
    let words = [
        ("silent", marks.silent.is_some()),
        ("overdue", marks.overdue.is_some()),
        ("disputed", marks.disputed.is_some()),
    ];
    let row = one.row.as_ref();
    DeviceStanding {
        device: one.device,
        name: one.name.to_string(),
        state: state.word(),
        reason: state.reason(),
        since: Some(row.map_or(one.targeted_at, |row| row.since)),
        occurrence: one.occurrence.clone(),
        revision: row.map(|row| row.revision),
        attempt: row.map_or(0, |row| row.attempt),
        exit_code: row.and_then(|row| row.exit_code),
        rule: state.rule().map(str::to_owned),
        run_id: row.and_then(|row| row.run).map(|run| run.to_string()),
        marks: words.iter().filter(|(_, has)| *has).map(|(word, _)| (*word).to_owned()).collect(),
        last_contact: Some(one.last_contact),
    }
}
