"""A machine put back to a snapshot: what it did since is undone and said so, and done again where its author allows it.

The snapshot is a copy of the disk of a machine that is off. The copy has the agent's folder, the installed packages and what
programs left, so everything of the machine is as old as its agent's memory.
"""

import shutil

from .device import NOTE
from .packages import install

# Muster watches for three minutes whether a second machine speaks; a machine that is emulated is slow besides.
MENDED_MOST = 600


def put_back(site, device):
    """Copy the disk, run two programs, put the copy back, boot: one is gone for good, one is installed again."""
    goal = "/var/lib/since"
    site.package("since", {"go.sh": NOTE + f"note since; touch {goal}; sync {goal} /var/lib"}, {
        "commandLine": "sh go.sh", "rerun": "if-not-detected"}, f"test -e {goal}")
    site.package("plain", {"go.sh": NOTE + "note plain"}, {"commandLine": "sh go.sh", "rerun": "never"})
    device.ok("rm -f /var/lib/truth; sync")
    disk, snapshot = device.folder / "disk", device.folder / "snapshot"
    device.cut_power()
    shutil.copyfile(disk, snapshot)
    device.power_on()
    device.await_boot()
    for name in ("since", "plain"):
        site.advertise(name, device.name)
        assert site.await_state(name, "succeeded", "failed")["state"] == "succeeded"
    assert device.truth() == ["since", "plain"]
    device.cut_power()
    snapshot.replace(disk)
    device.power_on()
    device.await_boot()
    row = site.await_state("plain", "rolled-back", most=MENDED_MOST)
    assert row["reason"] == "snapshot", row
    # Rolled back at the same moment as the other one: from there it goes on to a run of its own.
    row = site.await_state("since", "succeeded", "failed", most=MENDED_MOST)
    assert (row["state"], row["reason"], row["attempt"]) == ("succeeded", "detected", 2), row
    assert device.truth() == ["since"], "the machine as it is now has run it once"
    assert device.status()["incarnation"] > 1, device.status()
    # What contradicted the site's history is kept until a person gives it up; the machine has told it again.
    for kept in site.json("set-aside", "list")["items"]:
        assert kept["reason"].startswith("two histories"), kept
        site("set-aside", "drop", kept["id"])
    site.verify(device)
    return "rolled back, and done again"


def scenarios(_count):
    """One machine, put back once."""
    return [("install", install), ("put-back", put_back)]
