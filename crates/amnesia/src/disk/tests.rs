use super::*;

const OWNER: Owner = Owner { mode: 0o700, user: 0, group: 0 };

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// What the root holds after `act` and a power cut that lets nothing survive: names and bytes.
fn check(act: impl FnOnce(&mut Disk), left: &[(&str, &str)]) {
    let mut disk = Disk::new(OWNER);
    act(&mut disk);
    disk.boot(0);
    let found: Vec<(String, String)> = disk
        .names(ROOT)
        .unwrap()
        .iter()
        .map(|(name, number)| {
            let bytes = disk.read(*number, 0, usize::MAX).unwrap_or_default();
            (name.to_string_lossy().into_owned(), String::from_utf8_lossy(bytes).into_owned())
        })
        .collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(n, b)| (n.as_str(), b.as_str())).collect();
    assert_eq!(found, left);
}

fn file(disk: &mut Disk, called: &str, text: &str) -> u64 {
    let number = disk.make_file(ROOT, name(called), OWNER).unwrap();
    disk.write(number, 0, text.as_bytes()).unwrap();
    number
}

#[test]
fn what_was_never_synced_is_gone() {
    check(|disk| _ = file(disk, "a", "text"), &[]);
}

#[test]
fn bytes_without_a_name_are_gone_and_a_name_without_bytes_is_empty() {
    check(
        |disk| {
            let number = file(disk, "a", "text");
            disk.sync(number).unwrap();
        },
        &[],
    );
    check(
        |disk| {
            file(disk, "a", "text");
            disk.sync(ROOT).unwrap();
        },
        &[("a", "")],
    );
}

#[test]
fn a_file_stands_when_both_were_synced_and_later_writes_do_not() {
    check(
        |disk| {
            let number = file(disk, "a", "text");
            disk.sync(number).unwrap();
            disk.sync(ROOT).unwrap();
            disk.write(number, 0, b"TEXT and more").unwrap();
            disk.resize(number, 2).unwrap();
        },
        &[("a", "text")],
    );
}

#[test]
fn a_rename_stands_when_its_folder_was_synced() {
    let renamed = |disk: &mut Disk| {
        let old = file(disk, "a", "old");
        disk.sync(old).unwrap();
        disk.sync(ROOT).unwrap();
        let new = file(disk, "draft", "new");
        disk.sync(new).unwrap();
        disk.rename((ROOT, name("draft")), (ROOT, name("a"))).unwrap();
    };
    check(renamed, &[("a", "old")]);
    check(
        |disk| {
            renamed(disk);
            disk.sync(ROOT).unwrap();
        },
        &[("a", "new")],
    );
}

#[test]
fn a_removal_that_was_not_synced_did_not_happen() {
    let removed = |disk: &mut Disk| {
        let number = file(disk, "a", "text");
        disk.sync(number).unwrap();
        disk.sync(ROOT).unwrap();
        disk.remove_file(ROOT, name("a")).unwrap();
    };
    check(removed, &[("a", "text")]);
    check(
        |disk| {
            removed(disk);
            disk.sync(ROOT).unwrap();
        },
        &[],
    );
}

#[test]
fn what_was_not_synced_survives_page_by_page() {
    let mut ends = BTreeSet::new();
    for seed in 1..200 {
        let mut disk = Disk::new(OWNER);
        let number = disk.make_file(ROOT, name("a"), OWNER).unwrap();
        disk.write(number, 0, &[1; 2 * PAGE_BYTES]).unwrap();
        disk.sync(number).unwrap();
        disk.sync(ROOT).unwrap();
        disk.write(number, 0, &[2; 2 * PAGE_BYTES]).unwrap();
        disk.boot(seed);
        let bytes = disk.read(number, 0, usize::MAX).unwrap();
        ends.insert((bytes[0], bytes[PAGE_BYTES], bytes.len()));
        assert!(bytes.chunks(PAGE_BYTES).all(|page| page.iter().all(|byte| *byte == page[0])));
    }
    let whole = 2 * PAGE_BYTES;
    assert_eq!(ends, BTreeSet::from([(1, 1, whole), (1, 2, whole), (2, 1, whole), (2, 2, whole)]));
}

#[test]
fn nothing_works_from_the_cut_to_the_boot() {
    let mut disk = Disk::new(OWNER);
    let number = file(&mut disk, "a", "text");
    disk.sync(number).unwrap();
    disk.cut_at(disk.operations() + 1);
    assert_eq!(disk.sync(ROOT), Err(Refusal::PowerCut));
    assert_eq!(disk.read(number, 0, 1), Err(Refusal::PowerCut));
    assert!(disk.is_cut());
    disk.boot(0);
    assert!(disk.names(ROOT).unwrap().is_empty());
}

#[test]
fn names_are_refused_as_on_any_disk() {
    let mut disk = Disk::new(OWNER);
    let folder = disk.make_folder(ROOT, name("f"), OWNER).unwrap();
    let number = disk.make_file(folder, name("a"), OWNER).unwrap();
    assert_eq!(disk.make_file(folder, name("a"), OWNER), Err(Refusal::Exists));
    assert_eq!(disk.link(number, folder, name("a")), Err(Refusal::Exists));
    assert_eq!(disk.remove_folder(ROOT, name("f")), Err(Refusal::NotEmpty));
    assert_eq!(disk.remove_file(ROOT, name("f")), Err(Refusal::IsFolder));
    assert_eq!(disk.lookup(ROOT, name("b")), Err(Refusal::Missing));
    assert_eq!(disk.names(number), Err(Refusal::NotFolder));
    disk.link(number, ROOT, name("b")).unwrap();
    assert_eq!(disk.links(number), 2);
}
