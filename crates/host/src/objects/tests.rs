//! Objects in a folder: what is kept, refused, healed and counted.

use std::fs;
use std::path::Path;

use super::*;
use crate::quota::ByteSize;
use crate::small_disk::SmallDisk;

fn open(dir: &Path, quota: Option<Arc<Quota>>) -> Arc<dyn ObjectStore> {
    open_store(&format!("file://{}", dir.display()), quota).unwrap()
}

async fn put(store: &dyn ObjectStore, bytes: &'static [u8]) -> Digest {
    let digest = Digest::of(bytes);
    store.put(digest, Bytes::from_static(bytes)).await.unwrap();
    digest
}

#[tokio::test]
async fn an_object_is_a_file_named_by_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), None);
    let digest = put(&*store, b"abc").await;
    let name = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(fs::read(dir.path().join("ba").join(name)).unwrap(), b"abc");
    assert_eq!(store.get(digest).await.unwrap(), b"abc".as_slice());
    assert_eq!(store.size(digest).await.unwrap(), Some(3));
    put(&*store, b"abc").await;
}

#[tokio::test]
async fn bytes_under_another_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), None);
    let refused = store.put(Digest::of(b"x"), Bytes::from_static(b"y")).await;
    assert!(matches!(refused, Err(ObjectError::Mismatch { .. })));
    assert_eq!(store.size(Digest::of(b"x")).await.unwrap(), None);
}

#[tokio::test]
async fn a_damaged_object_is_named_and_healed_by_storing_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), None);
    let digest = put(&*store, b"abc").await;
    let file = dir.path().join("ba").join(digest.to_string());
    for damage in [b"abd".as_slice(), b"ab", b""] {
        fs::write(&file, damage).unwrap();
        assert!(matches!(store.get(digest).await, Err(ObjectError::Damaged { .. })));
        put(&*store, b"abc").await;
        assert_eq!(store.get(digest).await.unwrap(), b"abc".as_slice());
    }
}

#[tokio::test]
async fn a_missing_object_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), None);
    let digest = put(&*store, b"abc").await;
    assert!(store.delete(digest).await.unwrap());
    assert!(!store.delete(digest).await.unwrap());
    assert!(matches!(store.get(digest).await, Err(ObjectError::Missing(name)) if name == digest));
}

#[tokio::test]
async fn objects_are_listed_page_by_page_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), None);
    let mut digests = Vec::new();
    for bytes in [b"1".as_slice(), b"2", b"3", b"4", b"5"] {
        digests.push(put(&*store, bytes).await);
    }
    digests.sort();
    fs::write(dir.path().join("notes"), b"").unwrap();
    fs::write(dir.path().join(&digests[0].to_string()[..2]).join("notes"), b"").unwrap();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.digest);
        listed.extend(page.iter().map(|stored| stored.digest));
    }
    assert_eq!(listed, digests);
}

#[tokio::test]
async fn a_quota_refuses_and_deleting_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Arc::new(Quota::new(ByteSize(4096), 0));
    let store = open(dir.path(), Some(Arc::clone(&quota)));
    let first = put(&*store, b"first").await;
    put(&*store, b"first").await;
    let second = Digest::of(b"second");
    let refused = store.put(second, Bytes::from_static(b"second")).await.unwrap_err();
    assert!(matches!(refused, ObjectError::Quota { .. }) && refused.is_full());
    assert_eq!(store.free_bytes().await.unwrap(), 0);
    store.delete(first).await.unwrap();
    put(&*store, b"second").await;
}

#[tokio::test]
async fn a_full_disk_is_named_and_takes_no_quota() {
    let Some(disk) = SmallDisk::mount() else { return };
    let quota = Arc::new(Quota::new(ByteSize(1 << 20), 0));
    let store = open(disk.path(), Some(Arc::clone(&quota)));
    let large = Bytes::from(vec![7; 128 * 1024]);
    let refused = store.put(Digest::of(&large), large).await.unwrap_err();
    assert!(refused.is_full() && !refused.is_fatal(), "{refused:?}");
    assert_eq!(quota.used(), 0);
    put(&*store, b"small").await;
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let digest = put(&*open(dir.path(), None), b"abc").await;
    let draft = dir.path().join("ba").join(format!(".muster-draft-{}-9", std::process::id()));
    fs::write(&draft, b"ab").unwrap();
    let store = open(dir.path(), None);
    assert!(!draft.exists());
    assert_eq!(store.list(None, 9).await.unwrap(), [Stored { digest, bytes: 3 }]);
}

#[test]
fn other_urls_are_refused() {
    for url in ["s3://bucket", "file://relative", "/plain", ""] {
        assert!(matches!(open_store(url, None), Err(ObjectError::Url(_))), "{url}");
    }
}
