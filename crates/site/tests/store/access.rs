//! Tokens, principals and trust documents.

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{PrincipalId, TokenId};
use muster_model::sign::PublicKey;
use muster_site::store::{PrincipalRow, TokenRow, TrustRow};
use muster_site::testing::{TestDb, on_both};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

fn token(uses_left: u64) -> TokenRow {
    TokenRow {
        id: TokenId(Uuid::from_u128(1)),
        role: "agent".into(),
        name: Some("d1".into()),
        secret: Digest::of(b"secret"),
        uses_left,
        expires_at: Wall(NOW.0 + 1_000),
        hold: true,
        collection: Some(collection_id(1)),
        created_at: NOW,
        created_by: "ann".into(),
        revoked_at: None,
    }
}

async fn with_token(test: &TestDb, row: &TokenRow) {
    let mut tx = test.db.begin().await.unwrap();
    tx.token_insert(row).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_token_with_three_uses_lets_exactly_three_in_at_once() {
    on_both(async |test: TestDb| {
        let row = token(3);
        with_token(&test, &row).await;
        let mut users = JoinSet::new();
        for _ in 0..8 {
            let (db, row) = (test.db.clone(), row.clone());
            users.spawn(async move {
                let mut tx = db.begin().await.unwrap();
                let used = tx.token_use(row.id, row.secret, NOW).await.unwrap();
                tx.commit().await.unwrap();
                used.is_some()
            });
        }
        let let_in = users.join_all().await.into_iter().filter(|used| *used).count();
        assert_eq!(let_in, 3);
        let left = test.db.read().await.unwrap().token_load(row.id).await.unwrap().unwrap();
        assert_eq!(left, TokenRow { uses_left: 0, ..row });
    })
    .await;
}

#[tokio::test]
async fn a_wrong_secret_a_late_use_or_a_revoked_token_spends_nothing() {
    on_both(async |test: TestDb| {
        let row = token(1);
        with_token(&test, &row).await;
        let mut tx = test.db.begin().await.unwrap();
        assert_eq!(tx.token_use(row.id, Digest::of(b"guess"), NOW).await.unwrap(), None);
        assert_eq!(tx.token_use(row.id, row.secret, row.expires_at).await.unwrap(), None);
        assert_eq!(tx.token_list(NOW).await.unwrap(), std::slice::from_ref(&row));
        assert!(tx.token_revoke(row.id, NOW).await.unwrap());
        assert!(!tx.token_revoke(row.id, NOW).await.unwrap());
        assert_eq!(tx.token_use(row.id, row.secret, NOW).await.unwrap(), None);
        assert_eq!(tx.token_list(NOW).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_principal_is_found_by_its_secret_or_key_while_it_is_good() {
    on_both(async |test: TestDb| {
        let mut row = PrincipalRow {
            id: PrincipalId(Uuid::from_u128(1)),
            role: "admin".into(),
            name: name("ann"),
            secret: Some(Digest::of(b"secret")),
            key: Some(PublicKey([9; 32])),
            url: Some("https://point".into()),
            created_at: NOW,
            created_by: "init".into(),
            expires_at: Some(Wall(NOW.0 + 10)),
            revoked_at: None,
        };
        let mut tx = test.db.begin().await.unwrap();
        tx.principal_insert(&row).await.unwrap();
        let secret = Digest::of(b"secret");
        assert_eq!(tx.principal_find_secret(secret, NOW).await.unwrap(), Some(row.clone()));
        assert_eq!(tx.principal_find_secret(secret, Wall(NOW.0 + 10)).await.unwrap(), None);
        assert_eq!(tx.principal_find_key(&PublicKey([9; 32])).await.unwrap(), Some(row.clone()));
        assert_eq!(tx.principal_list("admin").await.unwrap(), [row.clone()]);
        row.revoked_at = Some(NOW);
        tx.principal_update(&row).await.unwrap();
        assert_eq!(tx.principal_find_secret(secret, NOW).await.unwrap(), None);
        assert_eq!(tx.principal_list("admin").await.unwrap(), []);
        assert_eq!(tx.principal_load(row.id).await.unwrap(), Some(row));
    })
    .await;
}

#[tokio::test]
async fn a_trust_document_has_a_number_of_its_own() {
    on_both(async |test: TestDb| {
        let document = |number| TrustRow {
            number,
            digest: Digest::of(b"trust"),
            document: "{}".into(),
            at: NOW,
            principal: "ann".into(),
        };
        let mut tx = test.db.begin().await.unwrap();
        assert_eq!(tx.trust_newest().await.unwrap(), None);
        tx.trust_insert(&document(1)).await.unwrap();
        tx.trust_insert(&document(2)).await.unwrap();
        assert_eq!(tx.trust_newest().await.unwrap(), Some(document(2)));
        assert_eq!(tx.trust_load(1).await.unwrap(), Some(document(1)));
        assert!(tx.trust_insert(&document(2)).await.unwrap_err().is_taken());
    })
    .await;
}
