"""Runs the tracks of the laboratory beside each other, each on a machine of its own, at one site."""

import argparse
import concurrent.futures
import sys
import time
import traceback
from pathlib import Path

from . import misbehaving, packages, power, releases, restarts, rpm, snapshot, upgrades
from .device import Device
from .site import Site

# A track's scenarios, in the order in which they run on its machine.
TRACKS = {
    "packages": packages.scenarios,
    "rpm": rpm.scenarios,
    "releases": releases.scenarios,
    "restarts": restarts.scenarios,
    "misbehaving": misbehaving.scenarios,
    "power": power.scenarios,
    "upgrades": upgrades.scenarios,
    "snapshot": snapshot.scenarios,
}
# A machine for each core of the smallest computer that the tests run on.
AT_ONCE = 2


def say(*words):
    """One line, at once: the tracks write beside each other."""
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def track(name, count, options, site):
    """Runs one track; returns how many of its scenarios passed and failed."""
    kind = "rpm" if name == "rpm" else "deb"
    files = {path: path.name for path in sorted(options.work.glob(f"*.{kind}"))}
    device = Device(options.rpm_image if kind == "rpm" else options.image, options.work / name, files)
    passed, begin = 0, time.monotonic()
    scenarios = TRACKS[name](count)
    try:
        for scenario, run in scenarios:
            began = time.monotonic()
            told = run(site, device)
            passed += 1
            say(f"PASS  {name}/{scenario}  {time.monotonic() - began:.0f} s", told or "")
        say(f"      {name}: {time.monotonic() - begin:.0f} s in all")
        return passed, 0
    except Exception:  # whatever went wrong, the machine's own words belong to it
        say(f"FAIL  {name}/{scenario}\n{traceback.format_exc()}{device.last_words()}")
        # What follows on a machine in an unknown state would tell nothing.
        return passed, len(scenarios) - passed
    finally:
        device.end()


def main():
    """Returns the exit code: 0 if every scenario passed."""
    parser = argparse.ArgumentParser(prog="lab/run")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--rpm-image", type=Path)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("tracks", nargs="*", metavar="TRACK[:N]", help=" ".join(TRACKS))
    options = parser.parse_args()
    chosen = [word.partition(":")[::2] for word in options.tracks or TRACKS]
    unknown = [name for name, _ in chosen if name not in TRACKS]
    if unknown:
        parser.error(f"no such track: {', '.join(unknown)}; there are {', '.join(TRACKS)}")
    site = Site(options.binary, options.work / "site")
    try:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = [pool.submit(track, name, int(n or 5), options, site) for name, n in chosen]
            counts = [job.result() for job in jobs]
        site.verify()
    finally:
        site.end()
    passed, failed = (sum(column) for column in zip(*counts))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
