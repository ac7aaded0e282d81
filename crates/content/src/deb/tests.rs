//! Debian packages as they are, and as an attacker would make them.

use std::io::Cursor;

use tar::EntryType;

use super::*;
use crate::testing::debs::{Item, ar, control, deb, greet, pack, tar};

fn read(bytes: Vec<u8>) -> Result<Deb, DebRefused> {
    Deb::read(&mut Cursor::new(bytes))
}

/// The text of an error with its sources.
#[track_caller]
fn refused(bytes: Vec<u8>, said: &str) {
    let error = read(bytes).map(|deb| deb.files).unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    assert!(text.contains(said), "{text}");
}

fn with_control(text: &str) -> Vec<u8> {
    deb(&[Item::file("./control", text)], &[], Compression::None)
}

fn with_data(items: &[Item]) -> Vec<u8> {
    let control = Item::file("./control", &control("greet", "1.0"));
    deb(&[control], items, Compression::None)
}

#[track_caller]
fn data_refused(items: &[Item], said: &str) {
    refused(with_data(items), said);
}

#[test]
fn a_package_tells_its_name_needs_and_files() {
    let fields = control("greet", "1:2.0-1~b") + "Depends: libc6 (>= 2.34)\nPre-Depends: dpkg\n";
    let scripts = [
        Item::folder("./"),
        Item::file("./control", &fields),
        Item::file("./conffiles", "/etc/greet.conf\nremove-on-upgrade /etc/old\n"),
        Item::file("./postinst", "#!/bin/sh\n"),
        Item::file("./md5sums", "x"),
    ];
    let long = format!("usr/share/{}/{}", "d".repeat(90), "f".repeat(90));
    let files = [
        Item::folder("./"),
        Item::folder("./usr/"),
        Item { mode: 0o4755, ..Item::file("./usr/greet", "hi") },
        Item::link("./usr/same", EntryType::Link, "./usr/greet"),
        Item::link("./usr/soft", EntryType::Symlink, "/etc/alternatives/greet"),
        Item::file("etc/greet.conf", ""),
        Item::file(&long, "long"),
        Item::folder("./usr/"),
    ];
    for compression in [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd] {
        let bytes = deb(&scripts, &files, compression);
        let deb = read(bytes.clone()).unwrap();
        assert_eq!((deb.package.as_str(), deb.version.as_str()), ("greet", "1:2.0-1~b"));
        assert_eq!((deb.depends.as_str(), deb.pre_depends.as_str()), ("libc6 (>= 2.34)", "dpkg"));
        assert_eq!((deb.description.as_str(), deb.installed_bytes), ("greets", 3 * 1024));
        assert_eq!(deb.conffiles, ["etc/greet.conf"]);
        assert!(deb.has_maintainer_scripts);
        assert_eq!(deb.file_name(), "greet_1%3a2.0-1~b_all.deb");

        let file = |text: &str| {
            let (size, digest) = (text.len() as u64, Digest::of(text.as_bytes()));
            DebKind::File { size, digest }
        };
        let target = "/etc/alternatives/greet".to_owned();
        let expected = [
            ("usr", 0o755, DebKind::Folder),
            ("usr/greet", 0o4755, file("hi")),
            ("usr/same", 0o644, file("hi")),
            ("usr/soft", 0o644, DebKind::Symlink { target }),
            ("etc/greet.conf", 0o644, file("")),
            (&long, 0o644, file("long")),
        ];
        let found: Vec<_> =
            deb.files.iter().map(|f| (f.path.as_str(), f.mode, f.kind.clone())).collect();
        assert_eq!(found, expected);

        let data = &bytes[deb.data.offset as usize..][..deb.data.bytes as usize];
        assert_eq!(data, pack(&tar(&files), compression).0);
        assert_eq!(deb.data.compression, compression);
    }
}

#[test]
fn what_is_no_package_is_refused() {
    refused(Vec::new(), "read the first bytes");
    refused(b"PK\x03\x04 a zip file it is".to_vec(), "does not start like one");
    refused(ar(&[("control.tar", b"")]), "instead of debian-binary");
    refused(ar(&[("debian-binary", b"3.0\n")]), "format is \"3.0\"");
    refused(ar(&[("debian-binary", b"2.0\n")]), "a member's header");
    let swapped = ar(&[("debian-binary", b"2.0\n"), ("data.tar", b""), ("control.tar", b"")]);
    refused(swapped, "\"data.tar\" stands where control.tar should");
    let packed = ar(&[("debian-binary", b"2.0\n"), ("control.tar.bz2", b"")]);
    refused(packed, "packed in a way");
    let empty = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar", b"")]);
    refused(empty, "has no control file");
}

#[test]
fn members_that_deb5_lets_pass_are_passed_over() {
    let whole = with_data(&[Item::file("./a", "x")]);
    let plain = read(whole.clone()).unwrap();
    let (control, data) = (&whole[132..][..2048], &whole[whole.len() - 2048..]);
    let members: [(&str, &[u8]); 5] = [
        ("debian-binary", b"2.0\n"),
        ("_gpgorigin", b"odd"),
        ("control.tar", control),
        ("_x", b"ab"),
        ("data.tar", data),
    ];
    let deb = read(ar(&members)).unwrap();
    assert_eq!((deb.package, deb.files), (plain.package, plain.files));
    let many = [[("debian-binary", &b"2.0\n"[..])].as_slice(), &[("_x", &b""[..]); 20]].concat();
    refused(ar(&many), "not among its first 16 parts");
}

#[test]
fn sizes_that_the_file_does_not_have_are_refused() {
    let mut bytes = with_data(&[]);
    bytes[8 + 48..8 + 58].copy_from_slice(b"9999999999");
    refused(bytes.clone(), "does not have");
    bytes[8 + 48..8 + 58].copy_from_slice(b"-4        ");
    refused(bytes, "does not have");
    let whole = with_data(&[Item::file("./a", &"x".repeat(5000))]);
    refused(whole[..whole.len() - 3000].to_vec(), "does not have");
    refused(with_data(&[Item { size: Some(1 << 40), ..Item::file("a", "x") }]), "end of file");
    refused(with_data(&[Item { size: Some(u64::MAX), ..Item::file("a", "x") }]), "size overflow");
}

#[test]
fn control_fields_are_what_debian_allows() {
    let with = |from: &str, to: &str| with_control(&control("greet", "1.0").replace(from, to));
    refused(with("greet\n", "../greet\n"), "field Package");
    refused(with("greet\n", "Greet\n"), "capital letter");
    refused(with("greet\n", "greet$(id)\n"), "field Package");
    refused(with("greet\n", "-greet\n"), "field Package");
    refused(with("Package: greet\n", ""), "field Package");
    refused(with("1.0", "1.0; reboot"), "field Version");
    refused(with("1.0", "v1.0"), "field Version");
    refused(with("1.0", &"1".repeat(129)), "field Version");
    refused(with("all\n", "all amd64\n"), "field Architecture");
    refused(with("3\n", "99999999999999999999\n"), "field Installed-Size");
    refused(with("Installed-Size", "version"), "field version: it stands twice");
    refused(with("Maintainer: ", "Maintainer "), "no colon");
    refused(with("Ada", "A\u{1b}[2Jda"), "control character");
    refused(with_control(&"x".repeat(FIELD_BYTES_MAX as usize + 1)), "longer than 1048576");
    let bad_list = [
        Item::file("./control", &control("greet", "1.0")),
        Item::file("./conffiles", "/etc/../../x\n"),
    ];
    refused(deb(&bad_list, &[], Compression::None), "`..`");
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    data_refused(&[Item::file("../../etc/cron.d/x", "")], "contains");
    data_refused(&[Item::file("/etc/passwd", "")], "absolute");
    data_refused(&[Item::file("./a/../../b", "")], "contains");
    data_refused(&[Item::file(".//etc/passwd", "")], "absolute");
    data_refused(&[Item::file("./a\nb", "")], "control character");
    data_refused(&[Item { path: b"./\xff".to_vec(), ..Item::file("", "") }], "not UTF-8");
    data_refused(&[Item::file(&format!("./{}", "x/".repeat(2100)), "")], "longer than");
    data_refused(&[Item::file(&"x".repeat(256), "")], "longer than 255");
    data_refused(&[Item::file("./", "")], "slash");
    data_refused(&[Item::file(".", "")], "the top is not a folder");
}

#[test]
fn nothing_is_written_through_a_link_or_over_another_kind() {
    let link = Item::link("./d", EntryType::Symlink, "/etc");
    data_refused(&[link.clone(), Item::file("./d/passwd", "")], "is a file or a link");
    data_refused(&[Item::file("./d", ""), Item::file("./d/e/f", "")], "is a file or a link");
    data_refused(&[Item::file("./d/e", ""), link.clone()], "other paths need it");
    data_refused(&[Item::folder("./d"), link.clone()], "stands twice");
    data_refused(&[link.clone(), Item::folder("./d")], "stands twice");
    data_refused(&[Item::file("a", "1"), Item::file("./a", "2")], "stands twice");
}

#[test]
fn hard_links_lead_to_files_of_the_same_package() {
    let link = |target: &str| Item::link("./l", EntryType::Link, target);
    data_refused(&[link("./etc/shadow")], "no file before it");
    data_refused(&[link("../etc/shadow")], "contains");
    data_refused(&[link("/etc/shadow")], "absolute");
    data_refused(&[Item::folder("./d"), link("./d")], "no file before it");
    data_refused(&[link("./l")], "no file before it");
}

#[test]
fn devices_and_what_only_other_tars_know_are_refused() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::Continuous] {
        data_refused(&[Item::new("./dev/x", kind)], "no file, folder or link");
    }
    // RUSTSEC-2026-0067/0068, CVE-2025-62518: two readers that disagree about pax sizes.
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNUSparse] {
        data_refused(&[Item { content: b"12 size=99\n".to_vec(), ..Item::new("x", kind) }], "type");
    }
    let file_with_slash = Item::file("./d/", "content");
    data_refused(&[file_with_slash], "ends with a slash");
    let loaded = Item { content: b"x".to_vec(), ..Item::folder("./d") };
    data_refused(&[loaded], "it has content");
    let link = Item::link("./l", EntryType::Symlink, "");
    data_refused(&[link], "target is empty");
}

#[test]
fn long_names_are_bounded_and_name_something() {
    let long =
        |content: Vec<u8>| Item { content, ..Item::new("././@LongLink", EntryType::GNULongName) };
    data_refused(&[long(vec![b'x'; 1 << 20])], "longer than a path");
    data_refused(&[long(b"x\0".to_vec())], "names nothing");
}

#[test]
fn nothing_follows_the_end_of_an_archive() {
    let hidden = [tar(&[Item::file("./a", "")]), tar(&[Item::file("./b", "")])].concat();
    let control = tar(&[Item::file("./control", &control("greet", "1.0"))]);
    let members = [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control)];
    refused(ar(&[&members[..], &[("data.tar", &hidden)]].concat()), "something follows the end");
}

#[test]
fn a_tar_whose_checksum_is_wrong_is_refused() {
    let mut bytes = with_data(&[Item::file("./abc", "")]);
    let at = bytes.windows(5).rposition(|window| window == b"./abc").unwrap();
    bytes[at] = b'x';
    refused(bytes, "checksum");
}

#[test]
fn one_bit_flipped_in_a_compressed_package_never_passes_unseen() {
    let good = greet("1.0", &[("usr/bin/greet", "echo hello"), ("etc/greet.conf", "x")], &[]);
    let deb = read(good.clone()).unwrap();
    for at in deb.data.offset as usize + 10..good.len() - 1 {
        let mut bad = good.clone();
        bad[at] ^= 4;
        if let Ok(read) = read(bad) {
            assert_eq!(read.files, deb.files, "byte {at}");
        }
    }
}
