"""The package on a real machine: installed, upgraded, removed and purged, with runs in progress."""

import json

from .device import DATA, INSTALL, NOTE, PAYLOAD, UPGRADE
from .site import until

# How long the programs take that something happens under.
PROGRAM_SECONDS = 25


def install(site, device, how=INSTALL, isolation="unit"):
    """The agent from the package, as a service of systemd, installs a package of Debian."""
    device.install(site, how)
    assert device.status()["isolation"] == isolation, device.status()
    name = f"hello-{device.name}"
    files = {
        "hello.deb": device.image / "hello.deb",
        "go.sh": NOTE + "note started hello; dpkg -i hello.deb",
    }
    site.package(name, files, {"commandLine": "sh go.sh"}, "dpkg-query -W hello")
    site.advertise(name, device.name)
    row = site.await_state(name, "succeeded", "failed")
    assert (row["state"], row["reason"]) == ("succeeded", "detected"), row
    assert "Hello, world!" in device.ok("hello")
    assert device.truth() == ["started hello"]


def stopped(site, device):
    """The service is stopped and started during a run, which does not notice."""

    def act():
        device.ok("systemctl stop muster-agent")
        assert device.has_noted("started stopped") and not device.has_noted("ended stopped")
        device.ok("systemctl start muster-agent")

    during_a_run(site, device, "stopped", act)


def killed(site, device):
    """The agent is killed during a run; systemd starts it again, and it finds the run."""
    during_a_run(site, device, "killed", lambda: device.ok("systemctl kill -s KILL muster-agent"))


def supervisor_killed(site, device):
    """A supervisor is killed: systemd ends what it held together, and the agent says so at once."""
    name = "supervisor-killed"
    script = f"note started {name}; sleep 300 & note child $!; wait"
    site.package(name, {"go.sh": NOTE + script}, {"commandLine": "sh go.sh", "rerun": "never"})
    site.advertise(name, device.name)
    until(f"{name} is started", lambda: any("child" in line for line in device.truth()), 120)
    device.ok("systemctl kill --kill-who=main -s KILL 'muster-run-*'")
    row = site.await_state(name, "succeeded", "failed", "interrupted", "timed-out")
    assert (row["state"], row["reason"]) == ("interrupted", "killed"), row
    child = device.truth()[-1].split()[-1]
    assert device.run(f"kill -0 {child}")[0] != 0, "the program's child outlived its run"
    assert "muster-run" not in device.ok("systemctl list-units --all --no-pager 'muster-run-*'")


def upgraded(site, device, how=UPGRADE, name="upgraded"):
    """The package is upgraded during a run: another agent, the same run."""

    def act():
        before = device.agent_pid()
        device.ok(how)
        until("another agent", lambda: device.agent_pid() not in (before, "0"), 60)

    during_a_run(site, device, name, act)


def upgraded_by_a_run(site, device):
    """A run that upgrades the package of its own agent ends well, and is told by the new agent."""
    before = device.agent_pid()
    device.ok(f"dpkg -i --force-downgrade {PAYLOAD}/muster_*[0-9]_*.deb")
    script = f"note by; {UPGRADE} && note upgraded"
    detection = "dpkg-query -W muster | grep -q next"
    site.package("by-a-run", {"go.sh": NOTE + script}, {"commandLine": "sh go.sh"}, detection)
    site.advertise("by-a-run", device.name)
    row = site.await_state("by-a-run", "succeeded", "failed", "interrupted")
    assert (row["state"], row["reason"]) == ("succeeded", "detected"), row
    assert device.truth()[-2:] == ["by", "upgraded"] and device.agent_pid() != before


def removed(site, device):
    """The package is removed during a run, which ends in peace; installed again, the agent tells of it."""

    def act():
        device.ok("dpkg -r muster")
        assert device.run("command -v muster")[0] != 0
        until("the run's end", lambda: device.has_noted("ended removed"), 120)
        # Nor does purge delete what only this machine knows.
        said = device.ok("dpkg --purge muster 2>&1")
        assert f"{DATA} stays" in said, said
        device.ok(UPGRADE)

    during_a_run(site, device, "removed", act)


def unit_removed(site, device):
    """A program removes the unit of the very agent that runs it: its outcome is told, and so is the loss."""
    unit = "/usr/lib/systemd/system/muster-agent.service"
    files = {"go.sh": NOTE + f"note unit; rm {unit}; systemctl daemon-reload"}
    site.package("unit-removed", files, {"commandLine": "sh go.sh", "rerun": "never"})
    site.advertise("unit-removed", device.name)
    row = site.await_state("unit-removed", "succeeded", "failed", "interrupted")
    assert (row["state"], row["reason"]) == ("succeeded", "exit-code"), row
    assert service_check(device) == (False, "install the package again")
    device.ok(UPGRADE)
    assert service_check(device) == (True, "")


def service_check(device):
    """Whether `agent verify` finds the service well, and the remedy, if it names one."""
    found = json.loads(device.run(f"muster agent verify --data {DATA} -o json 2>/dev/null")[1])
    check = next(check for check in found["checks"] if check["name"] == "service")
    return check["ok"], check.get("remedy", "")


def purged(_, device):
    """With everything told, `purge` leaves nothing; the units are gone."""
    device.ok("systemctl restart muster-agent")
    until("no run is kept", lambda: not device.ok(f"ls {DATA}/runs"), 60)
    device.ok("dpkg --purge muster")
    assert device.run(f"test -e {DATA}")[0] != 0
    assert "muster" not in device.ok("systemctl list-unit-files --no-pager")


def during_a_run(site, device, name, act):
    """Does `act` while a program runs: it was executed once, and its one outcome is success."""
    script = f"note started {name}; sleep {PROGRAM_SECONDS}; note ended {name}"
    site.package(name, {"go.sh": NOTE + script}, {"commandLine": "sh go.sh", "rerun": "never"})
    site.advertise(name, device.name)
    until(f"{name} is started", lambda: device.has_noted(f"started {name}"), 120)
    act()
    row = site.await_state(name, "succeeded", "failed", "interrupted", "timed-out")
    assert (row["state"], row["reason"]) == ("succeeded", "exit-code"), row
    assert device.truth().count(f"started {name}") == 1
    assert device.truth().count(f"ended {name}") == 1
    site.verify(device)


def scenarios(_):
    """The scenarios of this track."""
    all_of_them = [install, stopped, killed, supervisor_killed, upgraded, upgraded_by_a_run, removed]
    all_of_them += [unit_removed, purged]
    return [(scenario.__name__.replace("_", "-"), scenario) for scenario in all_of_them]
