"""Five restarts of a real machine: asked for by a run, made by a run, and asked for by nobody.

After each, the outcome is at the site within OUTCOME_MOST of the network's coming up, it is the right one,
and the program was executed as often as its author allowed.
"""

from .device import NOTE
from .packages import install
from .site import until

# From the network's coming up in the boot that follows the restart to the outcome at the site.
OUTCOME_MOST = 60
GOAL = "/var/lib/goal"


def agent_restarts(site, device):
    """A package of Debian that wants a restart: the agent makes it, detection decides after it."""
    files = {"hello.deb": device.image / "hello.deb", "go.sh": NOTE + "note agent; dpkg -i hello.deb"}
    program = {"commandLine": "sh go.sh", "afterRunning": "agent-restarts", "rerun": "never"}
    # Removed, so that the package is there because of this run; what detection wants shows after a restart.
    device.ok("dpkg --purge hello")
    detection = f"dpkg-query -W hello && test $(cat /proc/sys/kernel/random/boot_id) != {device.boot_id()}"
    told = restart(site, device, "agent-restarts", files, program, detection)
    pending(site, "agent-restarts")
    ends(site, device, "agent-restarts", "succeeded", "detected-after-restart", ["agent"])
    return told


def restart_code(site, device):
    """An exit code that means: done, once the machine has restarted. No detection."""
    files = {"go.sh": NOTE + "note code; exit 102"}
    program = {"commandLine": "sh go.sh", "restartCodes": [102], "rerun": "never"}
    told = restart(site, device, "restart-code", files, program)
    pending(site, "restart-code")
    ends(site, device, "restart-code", "succeeded", "exit-code", ["code"])
    return told


def program_restarts(site, device):
    """An installer that restarts the machine itself, and is not over before that."""
    files = {"go.sh": NOTE + f"note program; touch {GOAL}; sync {GOAL}; systemctl reboot; sleep 300"}
    program = {"commandLine": "sh go.sh", "afterRunning": "program-restarts"}
    told = restart(site, device, "program-restarts", files, program, f"test -e {GOAL}")
    ends(site, device, "program-restarts", "succeeded", "detected-after-restart", ["program"])
    return told


def unasked_never(site, device):
    """A restart that nobody declared, under a program that must not run twice."""
    files = {"go.sh": NOTE + "note never; sleep 300; note over"}
    program = {"commandLine": "sh go.sh", "rerun": "never"}
    told = restart(site, device, "unasked-never", files, program, during="never")
    ends(site, device, "unasked-never", "interrupted", "restart", ["never"])
    return told


def unasked_rerun(site, device):
    """A restart that nobody declared, under a program that runs again until its goal is reached."""
    goal = f"{GOAL}.again"
    script = f"note again; test -e {goal}.1 && {{ touch {goal}; exit; }}; touch {goal}.1; sync; sleep 300"
    # The wait before the second attempt is the author's, and not what is timed here.
    program = {"commandLine": "sh go.sh", "rerun": "if-not-detected", "retryDelays": ["1s"]}
    files = {"go.sh": NOTE + script}
    told = restart(site, device, "unasked-rerun", files, program, f"test -e {goal}", during="again")
    ends(site, device, "unasked-rerun", "succeeded", "detected", ["again"] * 2)
    row = site.stands("unasked-rerun")
    assert row["attempt"] == 2, row
    return told


def restart(site, device, name, files, program, detection=None, during=None):
    """Runs a program through one restart, which this makes itself once `during` is noted; says how long
    after the network's coming up the outcome was at the site."""
    boot = device.boot_id()
    device.ok("rm -f /var/lib/truth")
    site.package(name, files, program, detection)
    site.advertise(name, device.name)
    if during:
        until(f"{during} is noted", lambda: device.has_noted(during), 120)
        device.restart()
    device.await_boot(after=boot)
    row = site.await_state(name, "succeeded", "failed", "interrupted", "timed-out")
    took = site.heard(name) - device.network_up()
    assert 0 < took <= OUTCOME_MOST, f"{took:.1f} s from network to outcome: {row}"
    return f"outcome {took:.1f} s after the network came up"


def pending(site, name):
    """That the restart was to come stood at the site, before the outcome."""
    told = [message["text"] for message in site.messages(name)]
    assert any("restart" in text for text in told[:-1]), told


def ends(site, device, name, state, reason, truth):
    """The outcome is this one, and what the program itself noted fits it."""
    row = site.stands(name)
    assert (row["state"], row["reason"].split(":")[0]) == (state, reason), row
    assert device.truth() == truth, device.truth()
    site.verify(device)


def scenarios(_):
    """The scenarios of this track."""
    all_of_them = [
        install, agent_restarts, restart_code, program_restarts, unasked_never, unasked_rerun
    ]
    return [(scenario.__name__.replace("_", "-"), scenario) for scenario in all_of_them]
