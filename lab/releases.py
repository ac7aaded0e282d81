"""A machine with an agent of release 0.1 at a site of today: upgraded from it and returned to it, during runs.

What one version started, the other finds, tells of, and does not start again.
"""

from . import packages
from .device import INSTALL, PAYLOAD

OLD = f"DEBIAN_FRONTEND=noninteractive dpkg -i --force-downgrade {PAYLOAD}/muster_*~release_*.deb"
# Release 0.1 had no package: its unit was written by hand, and its runs are inside of it.
UNIT = r"""[Unit]
ConditionPathExists=/var/lib/muster/agent/identity.json
[Service]
ExecStart=/usr/bin/muster agent run --data /var/lib/muster/agent
Restart=always
KillMode=process
[Install]
WantedBy=multi-user.target
"""
BY_HAND = f"cat >/etc/systemd/system/muster-agent.service <<'UNIT'\n{UNIT}UNIT\n"


def install(site, device):
    """The agent of 0.1 does the main job at a site of today. It knows no units for its runs."""
    packages.install(site, device, BY_HAND + OLD, isolation="session")


def upgraded(site, device):
    """Today's agent takes over a run that one of 0.1 began."""
    packages.upgraded(site, device, INSTALL, "from-0.1")
    assert device.status()["isolation"] == "unit", device.status()


def returned(site, device):
    """An agent of 0.1 takes over a run that today's began, from a journal that today's wrote."""
    packages.upgraded(site, device, OLD, "to-0.1")
    assert device.status()["isolation"] == "session", device.status()


def scenarios(_):
    """The scenarios of this track; the upgrade twice, since the second is over a journal of both."""
    again = ("upgraded-again", lambda site, device: packages.upgraded(site, device, INSTALL, "again"))
    return [*((scenario.__name__, scenario) for scenario in (install, upgraded, returned)), again]
