//! The site's revisions: each committed change of what is defined takes the next number.
//!
//! The number is taken under the lock of one row, which is held until the commit: commit order is
//! number order, and who has read up to N has missed nothing. Takers are the changes that a person
//! or the site makes; what devices say does not take one.

use muster_site_core::occurrence::Revision;
use uuid::Uuid;

use super::arg::{Kind, ToArg};
use super::db::{Read, Tx};
use super::error::StoreError;
use super::row::Row;
use super::sql::{many, sql};
use super::watch::CHANNEL;

/// Changes in one answer of [`Read::change_list`], and subjects of one revision.
pub const CHANGES_MAX: u32 = 10_000;

/// What a change is about, so that a process knows which part of its memory to read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The site's own row: settings, halt, trust.
    Site,
    /// A package: a version was published or revoked.
    Package(Uuid),
    /// A collection: its definition, or what is offered to it.
    Collection(Uuid),
    /// A collection's members.
    Members(Uuid),
    /// An advertisement or its occurrences.
    Advertisement(Uuid),
    /// A maintenance window or freeze.
    Window(Uuid),
    /// A device: its admission, name, key or own version.
    Device(Uuid),
    /// A token, principal or other credential.
    Credential(Uuid),
}

/// One entry of the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision that made it.
    pub revision: Revision,
    /// What it is about.
    pub subject: Subject,
}

impl Subject {
    fn word(self) -> &'static str {
        match self {
            Subject::Site => "site",
            Subject::Package(_) => "package",
            Subject::Collection(_) => "collection",
            Subject::Members(_) => "members",
            Subject::Advertisement(_) => "advertisement",
            Subject::Window(_) => "window",
            Subject::Device(_) => "device",
            Subject::Credential(_) => "credential",
        }
    }

    fn id(self) -> Option<Uuid> {
        match self {
            Subject::Site => None,
            Subject::Package(id)
            | Subject::Collection(id)
            | Subject::Members(id)
            | Subject::Advertisement(id)
            | Subject::Window(id)
            | Subject::Device(id)
            | Subject::Credential(id) => Some(id),
        }
    }

    /// A subject of a newer program that this one does not know reads as the whole site: everything
    /// is read anew.
    fn of(word: &str, id: Option<Uuid>) -> Self {
        match (word, id) {
            ("package", Some(id)) => Subject::Package(id),
            ("collection", Some(id)) => Subject::Collection(id),
            ("members", Some(id)) => Subject::Members(id),
            ("advertisement", Some(id)) => Subject::Advertisement(id),
            ("window", Some(id)) => Subject::Window(id),
            ("device", Some(id)) => Subject::Device(id),
            ("credential", Some(id)) => Subject::Credential(id),
            _ => Subject::Site,
        }
    }
}

impl Read {
    /// The newest committed revision, or the one that this transaction has taken.
    pub async fn revision_newest(&mut self) -> Result<Revision, StoreError> {
        let statement = sql("revision_newest", "SELECT number FROM revision");
        let number = self.one(statement, |row| row.get("number")).await?;
        Ok(number.unwrap_or_default())
    }

    /// The changes after `after`, oldest first, at most [`CHANGES_MAX`]; ask again from the last
    /// one's revision until none comes. A revision is never cut in two: one more than the limit is
    /// asked for, and a last revision whose end may be missing is left for the next answer.
    pub async fn change_list(&mut self, after: Revision) -> Result<Vec<Change>, StoreError> {
        let statement = sql(
            "change_list",
            "SELECT revision, subject, id FROM change WHERE revision > $1
             ORDER BY revision, item LIMIT $2",
        );
        let statement = statement.bind(after).bind(CHANGES_MAX + 1);
        let mut changes = self.all(statement, change).await?;
        if changes.len() > CHANGES_MAX as usize {
            let last = changes[changes.len() - 1].revision;
            changes.retain(|change| change.revision != last);
        }
        Ok(changes)
    }
}

impl Tx {
    /// The revision of this change: the first call takes the next number and holds every other
    /// taker back until this transaction ends; later calls answer the same.
    pub async fn revision_take(&mut self) -> Result<Revision, StoreError> {
        if let Some(taken) = self.revision {
            return Ok(taken);
        }
        let statement =
            sql("revision_take", "UPDATE revision SET number = number + 1 RETURNING number");
        let taken: Option<Revision> = self.one(statement, |row| row.get("number")).await?;
        let taken = taken.ok_or_else(|| StoreError::Damaged {
            operation: "revision_take",
            column: "number".into(),
            detail: "nothing".into(),
        })?;
        if self.announces() && self.dialect() == super::dialect::Dialect::Pg {
            // Sent by the server when this transaction commits, and only then.
            let notify = sql("revision_take", "SELECT pg_notify($1, $2)");
            self.fetch(notify.bind(CHANNEL).bind(taken.to_string())).await?;
        }
        self.revision = Some(taken);
        Ok(taken)
    }

    /// Appends to the change log, under this transaction's revision, what every process must read
    /// anew. Call it once a transaction, with all of its subjects; more than [`CHANGES_MAX`] stand
    /// as the whole site.
    pub async fn change_insert(&mut self, subjects: &[Subject]) -> Result<Revision, StoreError> {
        let revision = self.revision_take().await?;
        let too_many = subjects.len() > CHANGES_MAX as usize;
        let subjects = if too_many { &[Subject::Site] } else { subjects };
        let rows = subjects
            .iter()
            .enumerate()
            .map(|(item, subject)| {
                [
                    revision.to_arg(),
                    (item as u64).to_arg(),
                    subject.word().to_arg(),
                    subject.id().to_arg(),
                ]
            })
            .collect();
        let columns = [
            ("revision", Kind::Int),
            ("item", Kind::Int),
            ("subject", Kind::Text),
            ("id", Kind::Id),
        ];
        let tail = "INSERT INTO change (revision, item, subject, id)
                    SELECT revision, item, subject, id FROM k";
        self.run_many(many("change_insert", columns, rows, tail)).await?;
        Ok(revision)
    }

    /// Forgets changes up to `through`, at most `most` of them; answers how many. A process that
    /// starts reads everything, so only one that slept through them would miss them.
    pub async fn change_forget(&mut self, through: Revision, most: u32) -> Result<u64, StoreError> {
        let statement = sql(
            "change_forget",
            "DELETE FROM change WHERE (revision, item) IN
             (SELECT revision, item FROM change WHERE revision <= $1
              ORDER BY revision, item LIMIT $2)",
        );
        self.run(statement.bind(through).bind(most)).await
    }
}

fn change(row: &Row) -> Result<Change, StoreError> {
    let word: String = row.get("subject")?;
    let subject = Subject::of(&word, row.maybe("id")?);
    Ok(Change { revision: row.get("revision")?, subject })
}
