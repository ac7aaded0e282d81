"""The RPM package on a real machine: installed, upgraded, removed, with runs in progress.

The machine is Debian's with rpm(8), whose database knows no package beside ours: what a package depends on is
not asked. The scriptlets run as they do anywhere, under a real systemd.
"""

from . import packages
from .device import DATA, PAYLOAD
from .packages import during_a_run
from .site import until

RPM = "rpm --nodeps --force-debian"
INSTALL = f"{RPM} -i {PAYLOAD}/muster-*[0-9]-1.*.rpm"
UPGRADE = f"{RPM} -U {PAYLOAD}/muster-*+next-1.*.rpm"


def install(site, device):
    """The agent from the package, as a service of systemd, installs a package of Debian."""
    packages.install(site, device, INSTALL)


def upgraded(site, device):
    """The package is upgraded during a run: another agent, the same run."""
    packages.upgraded(site, device, UPGRADE)


def removed(site, device):
    """The package is removed during a run, which ends in peace; installed again, the agent tells of it."""

    def act():
        device.ok(f"{RPM} -e muster")
        assert device.run("command -v muster")[0] != 0
        until("the run's end", lambda: device.has_noted("ended removed"), 120)
        device.ok(f"test -e {DATA}/journal.db")
        device.ok(UPGRADE)

    during_a_run(site, device, "removed", act)


def disabled(_, device):
    """An upgrade leaves a service that an administrator switched off as it is."""
    device.ok("systemctl disable --now muster-agent")
    device.ok(f"{RPM} -U --oldpackage {PAYLOAD}/muster-*[0-9]-1.*.rpm")
    assert device.agent_pid() == "0"
    assert device.run("systemctl is-enabled muster-agent")[0] != 0


def scenarios(_):
    """The scenarios of this track."""
    return [(scenario.__name__, scenario) for scenario in (install, upgraded, removed, disabled)]
