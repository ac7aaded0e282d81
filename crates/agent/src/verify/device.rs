//! The device around the agent: who it is, whom it trusts, what it runs from, its clock and its disk.

use muster_host::pki::peer_identity;
use muster_host::publish::ReadError;
use muster_host::quota::{ByteSize, disk_free, folder_bytes};

use super::{Look, Seen, bad, good};
use crate::chain_of;
use crate::conditions::DISK_RESERVE_BYTES;
use crate::identity::IdentityError;
use crate::program::{ProgramFile, file_of};
use crate::status::wrong_clock;
use crate::trust_store::TrustStore;

pub(super) fn identity(look: &Look<'_>) -> Seen {
    let check = match &look.identity {
        Err(IdentityError::Read(error @ ReadError::TooOpen { .. })) => {
            bad("identity", chain_of(error), "take the permissions back with `chmod 600`")
        }
        Err(error) => bad(
            "identity",
            chain_of(error),
            "put identity.json back from a copy, or `muster agent leave` and enrol anew",
        ),
        Ok((identity, enrolment)) => match identity.key() {
            Err(error) => {
                bad("identity", chain_of(&error), "`muster agent leave`, then enrol anew")
            }
            Ok(_) => good(
                "identity",
                format!("{} is {} at site {}", identity.name, enrolment.device, enrolment.site),
            ),
        },
    };
    (check, Vec::new())
}

pub(super) fn program(look: &Look<'_>) -> Seen {
    let Some(agent) = &look.agent else {
        return (good("program", "no agent runs"), Vec::new());
    };
    let pid = agent.pid;
    let check = match file_of(&pid.to_string()) {
        None => good("program", format!("process {pid}; what it runs from cannot be seen")),
        Some(ProgramFile::Current(path)) => {
            good("program", format!("process {pid} runs from {}", path.display()))
        }
        Some(ProgramFile::Replaced(path)) => {
            let mut check = good(
                "program",
                format!(
                    "process {pid} runs from what {} was before it was replaced",
                    path.display()
                ),
            );
            check.remedy = "restart the agent to take the new one up; programs go on".to_owned();
            check
        }
        Some(ProgramFile::Removed(path)) => bad(
            "program",
            format!("{}, which process {pid} runs from, is gone", path.display()),
            "install muster again: the agent runs on, but cannot be started anew",
        ),
    };
    (check, Vec::new())
}

pub(super) fn trust(look: &Look<'_>) -> Seen {
    let remedy = "a newer document mends it; else `muster agent leave` and enrol anew";
    let check = match TrustStore::try_load(look.data) {
        Err(error) => bad("trust", chain_of(&error), remedy),
        Ok(None) => bad("trust", "whom this device trusts is not there", remedy),
        Ok(Some(store)) => match store.refused() {
            Some(refused) => bad("trust", refused, "see `muster publisher list` at the site"),
            None => {
                let pinned = if store.trust().is_pinned() { "pinned" } else { "not pinned" };
                good(
                    "trust",
                    format!("document {} is held; its first was {pinned}", store.number()),
                )
            }
        },
    };
    (check, Vec::new())
}

/// An expired certificate still renews, whatever its age: it is a sign that the site was not reached.
pub(super) fn certificate(look: &Look<'_>) -> Seen {
    let Ok((_, enrolment)) = &look.identity else {
        return (bad("certificate", "there is no identity", "mend the identity first"), Vec::new());
    };
    let trusted = look.trusted();
    let check = match peer_identity(&enrolment.certificate.certificate()) {
        Err(error) => bad("certificate", chain_of(&error), "`muster agent leave`, then enrol anew"),
        Ok(peer) if peer.not_after < trusted => bad(
            "certificate",
            format!("it expired at {}", peer.not_after),
            "let the device reach its site: it renews by itself, also when expired",
        ),
        Ok(peer) if peer.renew_at() < trusted => {
            good("certificate", format!("good until {}; renewal is due", peer.not_after))
        }
        Ok(peer) => good("certificate", format!("good until {}", peer.not_after)),
    };
    (check, Vec::new())
}

pub(super) fn clock(look: &Look<'_>) -> Seen {
    let wrong =
        look.memory.as_ref().ok().and_then(|memory| wrong_clock(&memory.saved, &look.clock));
    let heard = look
        .memory
        .as_ref()
        .ok()
        .and_then(|memory| memory.saved.memory.as_ref().and_then(|memory| memory.last_heard));
    let check = match (wrong, heard) {
        (Some(wrong), _) => bad("clock", wrong, "set the machine's clock, or let it be set by NTP"),
        (None, None) => good("clock", "the site has not told the time yet"),
        (None, Some(heard)) => good("clock", format!("as the site's, last heard {heard}")),
    };
    (check, Vec::new())
}

pub(super) fn disk(look: &Look<'_>) -> Seen {
    let free = match disk_free(look.data) {
        Ok(free) => free,
        Err(error) => return (bad("disk", chain_of(&error), "look at the disk"), Vec::new()),
    };
    let quota = look.config.as_ref().ok().and_then(|config| config.quota);
    let used = quota.and_then(|_| folder_bytes(look.data).ok());
    let check = match (free < DISK_RESERVE_BYTES, quota, used) {
        (true, _, _) => bad(
            "disk",
            format!("{free} bytes are free; {DISK_RESERVE_BYTES} are kept for outcomes"),
            "make room: nothing new starts until there is",
        ),
        (false, Some(ByteSize(limit)), Some(used))
            if limit.saturating_sub(used) < DISK_RESERVE_BYTES =>
        {
            bad(
                "disk",
                format!("{used} bytes of a quota of {limit} are in use"),
                "raise `agent enroll --quota`, or let content be used up",
            )
        }
        (false, Some(ByteSize(limit)), Some(used)) => {
            good("disk", format!("{free} bytes are free; {used} of a quota of {limit} are in use"))
        }
        (false, _, _) => good("disk", format!("{free} bytes are free")),
    };
    (check, Vec::new())
}
