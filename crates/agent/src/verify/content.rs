//! Fetched content: every byte that is kept for a run to come has the digest that its manifest says.

use muster_agent_core::maintenance::Fault;
use muster_agent_core::saved::{ContentRecord, ContentStanding};
use muster_model::digest::Digest;

use super::{Look, Seen, bad, few, good};
use crate::contents;
use crate::journal::Looked;

pub(super) fn content(look: &Look<'_>) -> Seen {
    let Ok(memory) = &look.memory else {
        return (good("content", "known once the journal can be read"), Vec::new());
    };
    let kept: Vec<Digest> = memory.saved.contents.iter().filter_map(ready).collect();
    let is_kept = |looked: &Looked, manifest: Digest| {
        looked.saved.contents.iter().filter_map(ready).any(|known| known == manifest)
    };
    let damaged: Vec<Digest> = kept
        .iter()
        .filter(|manifest| !contents::is_whole(look.data, **manifest))
        .filter(|manifest| look.still(|now| is_kept(now, **manifest)))
        .copied()
        .collect();
    if damaged.is_empty() {
        return (
            good("content", format!("{} packages, every byte as signed", kept.len())),
            Vec::new(),
        );
    }
    let names: Vec<String> = damaged.iter().map(|manifest| manifest.short()).collect();
    let detail = format!("damaged or incomplete: {}", few(&names));
    let check = bad("content", detail, "nothing: a running agent fetches it again");
    (check, damaged.into_iter().map(|manifest| Fault::Content { manifest }).collect())
}

fn ready(record: &ContentRecord) -> Option<Digest> {
    let here = matches!(record.standing, ContentStanding::Ready { .. });
    here.then_some(record.package.manifest)
}
