//! Debian packages made in code, good and hostile ones.

use std::io::Write;

use tar::{EntryType, Header};

use crate::deb::Compression;

/// One entry of a tar, exactly as it is to stand there.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
    /// What the header claims, when that is not the content's length.
    pub(crate) size: Option<u64>,
}

impl Item {
    pub(crate) fn new(path: &str, kind: EntryType) -> Self {
        let path = path.as_bytes().to_vec();
        Self { path, kind, link: Vec::new(), mode: 0o644, content: Vec::new(), size: None }
    }

    pub(crate) fn file(path: &str, content: &str) -> Self {
        Self { content: content.as_bytes().to_vec(), ..Self::new(path, EntryType::Regular) }
    }

    pub(crate) fn folder(path: &str) -> Self {
        Self { mode: 0o755, ..Self::new(path, EntryType::Directory) }
    }

    pub(crate) fn link(path: &str, kind: EntryType, target: &str) -> Self {
        Self { link: target.as_bytes().to_vec(), ..Self::new(path, kind) }
    }
}

/// A tar of these items, which may be as wrong as they like.
pub(crate) fn tar(items: &[Item]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for item in items {
        for (kind, text) in
            [(EntryType::GNULongName, &item.path), (EntryType::GNULongLink, &item.link)]
        {
            if text.len() > 100 {
                let content = [text.as_slice(), b"\0"].concat();
                let long = Item { content, ..Item::new("././@LongLink", kind) };
                tar.append(&header(&long), long.content.as_slice()).unwrap();
            }
        }
        tar.append(&header(item), item.content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn header(item: &Item) -> Header {
    let mut header = Header::new_gnu();
    let put = |field: &mut [u8; 100], text: &[u8]| {
        let end = text.len().min(100);
        field[..end].copy_from_slice(&text[..end]);
    };
    put(&mut header.as_old_mut().name, &item.path);
    put(&mut header.as_old_mut().linkname, &item.link);
    header.set_entry_type(item.kind);
    header.set_mode(item.mode);
    header.set_size(item.size.unwrap_or(item.content.len() as u64));
    // dpkg gives files away only for root; whoever runs the tests can keep their own.
    header.set_uid(rustix::process::getuid().as_raw().into());
    header.set_gid(rustix::process::getgid().as_raw().into());
    header.set_mtime(0);
    header.set_cksum();
    header
}

/// Packs an archive and tells its suffix.
pub(crate) fn pack(bytes: &[u8], compression: Compression) -> (Vec<u8>, &'static str) {
    match compression {
        Compression::None => (bytes.to_vec(), ""),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(bytes).unwrap();
            (encoder.finish().unwrap(), ".gz")
        }
        Compression::Xz => (liblzma::encode_all(bytes, 6).unwrap(), ".xz"),
        Compression::Zstd => (zstd::encode_all(bytes, 3).unwrap(), ".zst"),
    }
}

/// An `ar` of these members.
pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut ar = ar::Builder::new(Vec::new());
    for (name, content) in members {
        let header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        ar.append(&header, *content).unwrap();
    }
    ar.into_inner().unwrap()
}

/// The control file of a small package for every machine.
pub(crate) fn control(package: &str, version: &str) -> String {
    format!(
        "Package: {package}\nVersion: {version}\nArchitecture: all\n\
         Maintainer: Ada <ada@example.org>\nInstalled-Size: 3\n\
         Description: greets\n It greets whoever asks.\n"
    )
}

/// A whole package: members of the control archive, and of the data archive.
pub(crate) fn deb(control: &[Item], data: &[Item], compression: Compression) -> Vec<u8> {
    let (control, suffix) = pack(&tar(control), compression);
    let control_name = format!("control.tar{suffix}");
    let (data, suffix) = pack(&tar(data), compression);
    let data_name = format!("data.tar{suffix}");
    ar(&[("debian-binary", b"2.0\n"), (&control_name, &control), (&data_name, &data)])
}

/// A package `greet` with these files, each in its folders, the first of them a conffile.
pub(crate) fn greet(version: &str, files: &[(&str, &str)], conffiles: &[&str]) -> Vec<u8> {
    let list: String = conffiles.iter().map(|path| format!("/{path}\n")).collect();
    let control =
        [Item::file("./control", &control("greet", version)), Item::file("./conffiles", &list)];
    let mut data = vec![Item::folder("./")];
    let mut folders = std::collections::BTreeSet::new();
    for (path, content) in files {
        for (end, _) in path.match_indices('/') {
            if folders.insert(&path[..end]) {
                data.push(Item::folder(&format!("./{}/", &path[..end])));
            }
        }
        data.push(Item::file(&format!("./{path}"), content));
    }
    deb(&control, &data, Compression::Gzip)
}
