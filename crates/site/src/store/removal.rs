//! Which devices bear on the removals of an advertisement, so that the site's decisions look at few.

use muster_model::id::{AdvertisementId, CollectionId, DeviceId};
use muster_model::state::Word;
use muster_site_core::obligation::ObligationRow;

use super::arg::{Kind, ToArg};
use super::db::Read;
use super::error::StoreError;
use super::obligation::obligation;
use super::sql::{many, sql_of};

/// The words for which `of` holds, as a list in SQL.
fn words(of: impl Fn(Word) -> bool) -> String {
    let words = Word::ALL.into_iter().filter(|word| of(*word));
    words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}

impl Read {
    /// The devices for which something may follow: on which the program succeeded and nothing was removed
    /// since, unless they are members of `collection`; whose removal has not begun; and members whose
    /// removal has. `None`: it is advertised to nobody.
    pub async fn removal_devices(
        &mut self,
        advertisement: AdvertisementId,
        collection: Option<CollectionId>,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let unstarted = words(Word::is_unstarted);
        let nothing = words(|word: Word| word.is_unstarted() || word == Word::Withdrawn);
        let is_member = |device: &str| {
            format!(
                "EXISTS (SELECT 1 FROM membership m WHERE m.device = {device}
                 AND m.collection = $2 AND m.until_revision IS NULL)"
            )
        };
        let text = format!(
            "SELECT o.device AS device FROM obligation o
             JOIN occurrence i ON i.advertisement = o.advertisement AND i.occurrence = o.occurrence
             JOIN device d ON d.id = o.device AND d.retired_at IS NULL
             WHERE o.advertisement = $1 AND o.state = 'succeeded'
             AND o.occurrence NOT LIKE '(removal)#%' AND NOT {installed}
             AND NOT EXISTS (SELECT 1 FROM obligation r
             JOIN occurrence j ON j.advertisement = r.advertisement AND j.occurrence = r.occurrence
             WHERE r.advertisement = o.advertisement AND r.device = o.device
             AND r.occurrence LIKE '(removal)#%' AND r.state NOT IN ({nothing})
             AND j.announced >= i.announced)
             UNION
             SELECT r.device AS device FROM obligation r
             JOIN device d ON d.id = r.device AND d.retired_at IS NULL
             WHERE r.advertisement = $1 AND r.occurrence LIKE '(removal)#%'
             AND (r.state IN ({unstarted}) OR (r.state <> 'withdrawn' AND {removed}))
             ORDER BY device",
            installed = is_member("o.device"),
            removed = is_member("r.device"),
        );
        let collection = collection.map_or(uuid::Uuid::nil(), |one| one.0);
        let statement = sql_of("removal_devices", text).bind(advertisement).bind(collection);
        self.all(statement, |row| row.get("device")).await
    }

    /// The devices that an advertisement names one by one, for a run again or a removal that has not ended.
    pub async fn obligation_named_open(
        &mut self,
        advertisement: AdvertisementId,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let ended = words(Word::is_terminal);
        let text = format!(
            "SELECT DISTINCT device FROM obligation WHERE advertisement = $1
             AND (occurrence LIKE '(rerun)#%' OR occurrence LIKE '(removal)#%')
             AND state NOT IN ({ended})"
        );
        let statement = sql_of("obligation_named_open", text).bind(advertisement);
        self.all(statement, |row| row.get("device")).await
    }

    /// Every row that `devices` have of an advertisement.
    pub async fn obligation_list_of(
        &mut self,
        advertisement: AdvertisementId,
        devices: &[DeviceId],
    ) -> Result<Vec<ObligationRow>, StoreError> {
        let rows = devices.iter().map(|one| [advertisement.to_arg(), one.to_arg()]).collect();
        let tail = "SELECT o.* FROM k JOIN obligation o ON o.device = k.device
                    AND o.advertisement = k.advertisement";
        let columns = [("advertisement", Kind::Id), ("device", Kind::Id)];
        self.all_many(many("obligation_list_of", columns, rows, tail), obligation).await
    }
}
