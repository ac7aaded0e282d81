//! Windows and freezes as a site sees them: which programs have no room in them.
//!
//! A site does not know the zone of a device, so it says what holds in any zone; when a device's next
//! window opens, the device itself says in its report.

use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::clock::Wall;
use muster_model::name::Name;
use muster_model::package::Program;
use muster_model::period::Period;
use muster_model::window::{Effect, Opening, Purpose, Window, opening, room, windows_for};

/// Why `program` never has room in the windows of `collection`, for the warning at `apply`. A device
/// that is in another collection may have a longer window from there.
pub fn too_short(
    collection: &Name,
    windows: &[Window],
    program: &Program,
    grace: Duration,
    now: Wall,
) -> Option<String> {
    let bound = windows_for(windows, Purpose::Run);
    if bound.is_empty() {
        return None;
    }
    // Freezes end; what is asked is whether the windows alone could ever do.
    let open: Vec<Window> =
        windows.iter().filter(|one| one.effect == Effect::Window).cloned().collect();
    let found = opening(&open, &TimeZone::UTC, Purpose::Run, now, room(program, grace));
    let Opening::Never { .. } = found else { return None };
    let longest = bound.iter().map(|one| one.duration).max()?;
    Some(format!(
        "program `{}` may run {} and needs {} in a window; the windows of `{collection}` ({}) last at \
         most {longest}, or have ended: it stays waiting(window) where no other collection gives it room",
        program.name,
        program.max_run_time,
        Period::of(room(program, grace)),
        names(bound.into_iter()),
    ))
}

/// The names, for people.
pub(crate) fn names<'a>(windows: impl Iterator<Item = &'a Window>) -> String {
    let names: Vec<&str> = windows.map(|one| one.name.as_str()).collect();
    names.join(", ")
}
