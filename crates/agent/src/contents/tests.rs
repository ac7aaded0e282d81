//! Fetching, keeping and unpacking with real files, and a source that alters, loses and breaks off.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use muster_agent_core::input::ContentNews;
use muster_content::plan::TRIES_MAX;
use muster_host::quota::ByteSize;
use muster_model::name::Name;
use muster_model::policy::PinnedPackage;
use muster_model::sign::PrivateKey;
use muster_model::state::Waiting;
use tempfile::TempDir;

use super::testing::{Fault, Package, Source, noise, pin, publisher, trust};
use super::*;

/// A device's content in a scratch folder.
struct Device {
    data: TempDir,
    contents: Contents,
}

impl Device {
    fn new() -> Self {
        Self::with_quota(None)
    }

    fn with_quota(quota: Option<Arc<Quota>>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let contents = Contents::open(data.path(), quota).unwrap();
        Self { data, contents }
    }

    async fn fetch(&self, package: &Package, source: &Source) -> ContentNews {
        self.contents.fetch(&package.pinned, &trust(), source, |_| {}).await
    }

    async fn fetched(package: &Package) -> Self {
        let device = Self::new();
        let news = device.fetch(package, &Source::of(&package.objects)).await;
        assert!(matches!(news, ContentNews::Ready(_)), "{news:?}");
        device
    }

    fn copy(&self) -> PathBuf {
        self.data.path().join("copy")
    }

    fn unpack(&self, package: &Package) -> Result<Manifested, UnpackError> {
        let PinnedPackage { manifest, signatures, .. } = &package.pinned;
        self.contents.unpack(*manifest, signatures, &trust(), &self.copy())
    }

    /// The file that holds `object`.
    fn file(&self, kind: &str, object: Digest) -> PathBuf {
        let name = object.to_string();
        self.data.path().join(CONTENT_DIR).join(kind).join(&name[..2]).join(name)
    }

    fn stored(&self) -> BTreeSet<Digest> {
        self.contents.0.objects.list().unwrap()
    }
}

#[track_caller]
fn check_unavailable(news: &ContentNews, wait: Waiting, said: &str) {
    let fits = matches!(news, ContentNews::Unavailable { wait: w, why }
        if *w == wait && why.contains(said));
    assert!(fits, "{news:?}");
}

#[track_caller]
fn check_refused(news: &ContentNews, rule: Rule, said: &str) {
    let fits = matches!(news, ContentNews::Refused { rule: r, why }
        if *r == rule && why.contains(said));
    assert!(fits, "{news:?}");
}

#[tokio::test]
async fn a_package_arrives_whole_and_unpacks_to_what_was_published() {
    let big = noise(1, 1_500_000);
    let package = Package::of("hello", &big);
    let device = Device::new();
    let source = Source::of(&package.objects);
    let mut news = Vec::new();
    let end = device.contents.fetch(&package.pinned, &trust(), &source, |one| news.push(one)).await;
    let ContentNews::Ready(manifested) = end else { panic!("{end:?}") };
    assert_eq!(manifested.programs[0].name.as_str(), "install");
    assert_eq!(manifested.size, 1_500_000 + 11);
    assert_eq!(news[0], ContentNews::Manifest(manifested.clone()));
    let bytes: usize = package.chunks().iter().map(|chunk| package.objects[chunk].len()).sum();
    let Some(ContentNews::Progress { have, of }) = news.last() else { panic!("{news:?}") };
    assert!(*of == bytes as u64 && *have > of - of / 50, "{have} of {of}");
    assert!(source.most_under_way.load(Ordering::Relaxed) > 1, "one after the other");

    assert_eq!(device.unpack(&package).unwrap(), *manifested);
    let copy = device.copy();
    assert_eq!(fs::read(copy.join("link")).unwrap(), big);
    assert_eq!(fs::read(copy.join("install.sh")).unwrap(), b"echo hello\n");
    for (path, mode) in
        [("", 0o700), ("etc", 0o500), ("etc/inner", 0o755), ("install.sh", 0o755), ("empty", 0o640)]
    {
        let seen = fs::metadata(copy.join(path)).unwrap().permissions().mode();
        assert_eq!(seen & 0o7777, mode, "{path}");
    }
}

#[tokio::test]
async fn nothing_that_is_here_is_fetched_again_and_what_is_damaged_is_healed() {
    let package = Package::of("hello", &noise(2, 1_000_000));
    let device = Device::fetched(&package).await;
    let again = Source::of(&package.objects);
    assert!(matches!(device.fetch(&package, &again).await, ContentNews::Ready(_)));
    assert_eq!(again.asked(), 0);

    let chunks = package.chunks();
    fs::write(device.file("objects", chunks[0]), b"damaged").unwrap();
    let mut flipped = package.objects[&chunks[1]].clone();
    flipped[7] ^= 1;
    fs::write(device.file("objects", chunks[1]), flipped).unwrap();
    fs::remove_file(device.file("objects", chunks[2])).unwrap();
    let error = device.unpack(&package).unwrap_err();
    assert!(matches!(error, UnpackError::Unavailable { .. }), "{error}");
    assert!(!device.copy().exists(), "half a copy stays");
    let healing = Source::of(&package.objects);
    assert!(matches!(device.fetch(&package, &healing).await, ContentNews::Ready(_)));
    assert_eq!(healing.asked(), 3);
    device.unpack(&package).unwrap();
}

#[tokio::test]
async fn a_damaged_manifest_is_fetched_again() {
    let package = Package::of("hello", b"big");
    let device = Device::fetched(&package).await;
    fs::write(device.file("manifests", package.pinned.manifest), b"{}").unwrap();
    assert!(matches!(device.unpack(&package), Err(UnpackError::Unavailable { .. })));
    let healing = Source::of(&package.objects);
    assert!(matches!(device.fetch(&package, &healing).await, ContentNews::Ready(_)));
    assert_eq!(healing.asked(), 1);
    device.unpack(&package).unwrap();
}

#[tokio::test]
async fn bytes_that_do_not_fit_their_digest_are_never_stored() {
    let package = Package::of("hello", &noise(3, 600_000));
    let bad = package.chunks()[0];
    for fault in [Fault::Alter, Fault::Truncate, Fault::Lengthen] {
        let device = Device::new();
        let source = Source::of(&package.objects).fault(bad, fault);
        let said = if fault == Fault::Lengthen { "more came" } else { "digest does not match" };
        check_unavailable(&device.fetch(&package, &source).await, Waiting::Content, said);
        let asked = source.asked.lock().unwrap().iter().filter(|one| **one == bad).count();
        assert_eq!(asked, usize::from(TRIES_MAX));
        assert!(!device.file("objects", bad).exists());
        // One bad object holds up no other: all the rest is here.
        assert_eq!(device.stored().len(), package.chunks().len() - 1);
        assert!(matches!(device.unpack(&package), Err(UnpackError::Unavailable { .. })));
        let right = Source::of(&package.objects);
        assert!(matches!(device.fetch(&package, &right).await, ContentNews::Ready(_)));
        assert_eq!(right.asked(), 1);
    }
}

#[tokio::test]
async fn an_altered_manifest_is_not_kept_and_nothing_it_names_is_asked_for() {
    let package = Package::of("hello", b"big");
    for (fault, said) in [
        (Fault::Alter, "digest does not match"),
        (Fault::Lose, "does not have it"),
        (Fault::BreakOff, "could not be asked"),
    ] {
        let device = Device::new();
        let source = Source::of(&package.objects).fault(package.pinned.manifest, fault);
        check_unavailable(&device.fetch(&package, &source).await, Waiting::Content, said);
        assert_eq!(source.asked(), 1);
        assert!(!device.file("manifests", package.pinned.manifest).exists());
    }
}

#[tokio::test]
async fn a_link_that_is_down_ends_the_round_and_what_came_is_kept() {
    let package = Package::of("hello", &noise(4, 3_000_000));
    let device = Device::new();
    let chunks = package.chunks();
    let mut flaky = Source::of(&package.objects);
    for chunk in &chunks[5..] {
        flaky = flaky.fault(*chunk, Fault::BreakOff);
    }
    check_unavailable(&device.fetch(&package, &flaky).await, Waiting::Content, "reset");
    let kept = device.stored().len();

    let down = Source { all: Some(Fault::BreakOff), ..Source::of(&package.objects) };
    check_unavailable(&device.fetch(&package, &down).await, Waiting::Content, "reset");
    let asked = down.asked();
    assert!(asked < 2 * fetch::FAILURES_IN_A_ROW_MAX as usize && asked < chunks.len(), "{asked}");

    let right = Source::of(&package.objects);
    assert!(matches!(device.fetch(&package, &right).await, ContentNews::Ready(_)));
    assert_eq!(right.asked(), chunks.len() - kept);
}

#[tokio::test]
async fn a_fetch_that_is_dropped_loses_nothing() {
    let package = Package::of("hello", &noise(5, 2_000_000));
    let device = Device::new();
    let chunks = package.chunks();
    let source = Source::of(&package.objects).fault(chunks[0], Fault::Stall);
    let others_are_here = async {
        while device.stored().len() < chunks.len() - 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        news = device.fetch(&package, &source) => panic!("{news:?}"),
        () = others_are_here => {}
    }
    let right = Source::of(&package.objects);
    assert!(matches!(device.fetch(&package, &right).await, ContentNews::Ready(_)));
    assert_eq!(right.asked(), 1);
}

#[tokio::test]
async fn a_stranger_is_refused_before_anything_is_fetched() {
    let package = Package::signed_by(&PrivateKey::from_seed([9; 32]), "hello", b"big");
    let device = Device::new();
    let source = Source::of(&package.objects);
    let news = device.fetch(&package, &source).await;
    check_refused(&news, Rule::PublisherRefused, "no publisher of trust document 1");
    assert_eq!(source.asked(), 1);
    assert!(!device.file("manifests", package.pinned.manifest).exists());

    let mut unsigned = Package::of("hello", b"big");
    unsigned.pinned.signatures.clear();
    let news = device.fetch(&unsigned, &Source::of(&unsigned.objects)).await;
    check_refused(&news, Rule::PublisherRefused, "nobody signed");
}

#[tokio::test]
async fn whoever_is_no_longer_trusted_is_refused_right_before_a_run() {
    let package = Package::of("hello", b"big");
    let device = Device::fetched(&package).await;
    let PinnedPackage { manifest, signatures, .. } = &package.pinned;
    let unpack = |signatures: &[KeySignature], trust: &Trust| {
        device.contents.unpack(*manifest, signatures, trust, &device.copy()).unwrap_err()
    };
    let refused = unpack(&[], &trust());
    assert!(matches!(refused, UnpackError::Refused { rule: Rule::PublisherRefused, .. }));
    let nobody_yet = unpack(signatures, &Trust::unpinned());
    assert!(matches!(nobody_yet, UnpackError::Unavailable { .. }));
    assert!(!device.copy().exists());
}

#[tokio::test]
async fn without_a_trust_document_content_is_waited_for() {
    let package = Package::of("hello", b"big");
    let (device, source) = (Device::new(), Source::of(&package.objects));
    let news = device.contents.fetch(&package.pinned, &Trust::unpinned(), &source, |_| {}).await;
    check_unavailable(&news, Waiting::Content, "no trust document");
}

#[tokio::test]
async fn what_is_signed_but_no_manifest_is_refused_as_content() {
    let mut package = Package::of("hello", b"big");
    let signed = SignedManifest::sign(b"{\"format\":99}".to_vec(), &publisher());
    package.pinned = pin(Name::new("hello").unwrap(), &signed);
    package.objects.insert(package.pinned.manifest, signed.payload);
    let news = Device::new().fetch(&package, &Source::of(&package.objects)).await;
    check_refused(&news, Rule::ContentRefused, "format 99");
}

#[tokio::test]
async fn a_dropped_package_leaves_what_another_one_needs() {
    let shared = noise(6, 500_000);
    let mut longer = shared.clone();
    longer.extend(noise(7, 500_000));
    let (first, second) = (Package::of("first", &shared), Package::of("second", &longer));
    let device = Device::fetched(&first).await;
    let source = Source::of(&second.objects);
    assert!(matches!(device.fetch(&second, &source).await, ContentNews::Ready(_)));
    assert!(source.asked() < second.objects.len(), "nothing was shared");

    device.contents.drop_package(second.pinned.manifest).unwrap();
    device.unpack(&first).unwrap();
    assert_eq!(device.stored(), first.chunks().into_iter().collect());
    device.contents.drop_package(second.pinned.manifest).unwrap();
    device.contents.drop_package(first.pinned.manifest).unwrap();
    assert!(device.stored().is_empty());
    assert!(matches!(device.unpack(&first), Err(UnpackError::Unavailable { .. })));
}

#[tokio::test]
async fn only_what_is_still_wanted_is_kept_at_start() {
    let (first, second) = (Package::of("first", &noise(8, 90_000)), Package::of("second", b"2"));
    let device = Device::fetched(&first).await;
    device.fetch(&second, &Source::of(&second.objects)).await;
    // What a fetch of a package that nobody knows any more has left.
    device.contents.0.objects.put(Digest::of(b"stray"), b"stray").unwrap();
    device.contents.keep_only(&BTreeSet::from([second.pinned.manifest])).unwrap();
    assert_eq!(device.stored(), second.chunks().into_iter().collect());
    device.unpack(&second).unwrap();
}

#[tokio::test]
async fn a_quota_that_is_used_up_waits_for_disk_and_takes_no_more_than_it_may() {
    let package = Package::of("hello", &noise(9, 400_000));
    let quota = Arc::new(Quota::new(ByteSize(200_000), 0));
    let device = Device::with_quota(Some(Arc::clone(&quota)));
    let news = device.fetch(&package, &Source::of(&package.objects)).await;
    check_unavailable(&news, Waiting::Disk, "quota");
    assert!(quota.used() <= 200_000);
    device.contents.drop_package(package.pinned.manifest).unwrap();
    assert_eq!(quota.used(), 0);
}

#[tokio::test]
async fn storing_again_and_healing_take_no_more_of_the_quota() {
    let package = Package::of("hello", &noise(10, 100_000));
    let quota = Arc::new(Quota::new(ByteSize(10_000_000), 0));
    let device = Device::with_quota(Some(Arc::clone(&quota)));
    device.fetch(&package, &Source::of(&package.objects)).await;
    let used = quota.used();
    let bad = package.chunks()[0];
    let length = package.objects[&bad].len();
    fs::write(device.file("objects", bad), vec![0; length]).unwrap();
    device.fetch(&package, &Source::of(&package.objects)).await;
    assert_eq!(quota.used(), used);
}

#[tokio::test]
async fn a_copy_is_fresh_whatever_an_earlier_try_left() {
    let package = Package::of("hello", b"big");
    let device = Device::fetched(&package).await;
    let outside = device.data.path().join("outside");
    fs::write(&outside, "kept").unwrap();
    fs::create_dir(device.copy()).unwrap();
    std::os::unix::fs::symlink(&outside, device.copy().join("install.sh")).unwrap();
    fs::write(device.copy().join("stale"), "").unwrap();
    device.unpack(&package).unwrap();
    device.unpack(&package).unwrap();
    assert!(!device.copy().join("stale").exists());
    assert_eq!(fs::read(&outside).unwrap(), b"kept");
}

#[tokio::test]
async fn a_copy_that_cannot_be_written_names_its_path() {
    let package = Package::of("hello", b"big");
    let device = Device::fetched(&package).await;
    let file = device.data.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("copy");
    let PinnedPackage { manifest, signatures, .. } = &package.pinned;
    let error = device.contents.unpack(*manifest, signatures, &trust(), &below).unwrap_err();
    assert!(matches!(&error, UnpackError::Io { path, .. } if *path == below), "{error:?}");
}

/// A real file system of 1 MiB, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, with the reason printed, where mounting is not permitted.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path());
        let mounted = mount.output().unwrap();
        if mounted.status.success() {
            return Some(Self(dir));
        }
        let why = String::from_utf8_lossy(&mounted.stderr);
        eprintln!("skipped: a small disk cannot be mounted: {why}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg(self.0.path()).status().unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_waited_for_before_anything_is_fetched() {
    let Some(disk) = SmallDisk::mount() else { return };
    let package = Package::of("hello", &noise(11, 2_000_000));
    let contents = Contents::open(disk.0.path(), None).unwrap();
    let source = Source::of(&package.objects);
    let news = contents.fetch(&package.pinned, &trust(), &source, |_| {}).await;
    check_unavailable(&news, Waiting::Disk, "are to be fetched");
    assert_eq!(source.asked(), 1, "more than the manifest was asked for");
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_and_nothing_of_the_copy_stays() {
    let Some(disk) = SmallDisk::mount() else { return };
    let package = Package::of("hello", &noise(12, 2_000_000));
    let device = Device::fetched(&package).await;
    let into = disk.0.path().join("copy");
    let PinnedPackage { manifest, signatures, .. } = &package.pinned;
    let error = device.contents.unpack(*manifest, signatures, &trust(), &into).unwrap_err();
    assert!(matches!(error, UnpackError::Disk { .. }), "{error:?}");
    assert!(!into.exists());

    let store = Store::open(disk.0.path().join("objects"), None).unwrap();
    let big = noise(13, 2_000_000);
    let error = store.put(Digest::of(&big), &big).unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert!(store.list().unwrap().is_empty(), "half an object stays");
}
