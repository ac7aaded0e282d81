"""Power cuts at random moments of a run: each obligation ends once, with the outcome that is true.

The machine's disk keeps what was flushed and loses the rest. The moments are drawn from the whole way: before
the run is armed, while it is prepared, in the midst of it, after its end, and once its outcome is on its way. The
seed is printed; MUSTER_LAB_SEED repeats it (the moments, not what the machine did in them).
"""

import os
import random
import time

from .device import NOTE
from .packages import install

# The program takes this long; a cut comes within CUT_MOST of the advertisement.
PROGRAM_SECONDS = 4
CUT_MOST = 14
GOAL = "/var/lib/power"


def cut(number, dice):
    """One power cut, under a program that must not run twice and one that may, in turn."""
    never = number % 2 == 1

    def scenario(site, device):
        name = f"power-{number}"
        goal = f"{GOAL}.{number}"
        device.ok("rm -f /var/lib/truth; sync")
        script = f"note started; sleep {PROGRAM_SECONDS}; touch {goal}; sync {goal} /var/lib; note ended"
        program = {"commandLine": "sh go.sh", "rerun": "never" if never else "if-not-detected"}
        if not never:
            program["retryDelays"] = ["1s"]
        site.package(name, {"go.sh": NOTE + script}, program, None if never else f"test -e {goal}")
        site.advertise(name, device.name)
        moment = dice.uniform(0, CUT_MOST)
        told = cut_after(moment, site, device, name)
        row = site.await_state(name, "succeeded", "failed", "interrupted", "timed-out")
        truth = device.truth()
        judge(never, row, truth)
        outcomes_once(site, name)
        site.verify(device)
        said = f"cut {moment:.1f} s after the advertisement ({told}): {row['state']}({row['reason']})"
        return f"{said}, executed {truth.count('started')} times"

    return scenario


def cut_after(moment, site, device, name):
    """Takes the machine's power away so long after the advertisement, and gives it back; where that stood."""
    time.sleep(moment)
    told = site.stands(name)["state"]
    device.cut_power()
    device.power_on()
    device.await_boot()
    return told


def judge(never, row, truth):
    """The outcome against what the program itself left on the disk."""
    outcome = (row["state"], row["reason"])
    if not never:
        assert row["state"] == "succeeded" and "ended" in truth, (outcome, truth)
        return
    # Executed at most once, whatever happened.
    assert truth.count("started") <= 1, (outcome, truth)
    # A success only with the program's own word; else it was cut short, and after the program's last word only
    # by the cut before the exit record was on the disk.
    if row["state"] == "succeeded":
        assert truth == ["started", "ended"], (outcome, truth)
    else:
        assert outcome == ("interrupted", "restart"), (outcome, truth)


def outcomes_once(site, name):
    """The device said how the obligation ended exactly once."""
    rows = site.json("query", f"select state from obligation where advertisement_name = '{name}'")["rows"]
    assert len(rows) == 1, rows


def scenarios(count):
    """`count` cuts, the same ones for the same seed."""
    return drawn("power", cut, count)


def drawn(track, one, count):
    """`count` cuts of a track, at moments that the seed decides."""
    seed = int(os.environ.get("MUSTER_LAB_SEED") or random.SystemRandom().randrange(2**32))
    print(f"{track}: MUSTER_LAB_SEED={seed}", flush=True)
    dice = random.Random(seed)
    cuts = [(f"cut-{number}", one(number, dice)) for number in range(1, count + 1)]
    return [("install", install), *cuts]
