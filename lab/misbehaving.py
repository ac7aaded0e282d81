"""Programs that do to a real machine what installers do: restart it five times, cut its power, stop the agent."""

from .device import NOTE
from .packages import install
from .restarts import ends
from .site import until

GOAL = "/var/lib/misbehaving"
RESTARTS = 5


def five_restarts(site, device):
    """An installer that restarts the machine five times before it is done, a step each time."""
    step = f"note step; test $(wc -l </var/lib/truth) -gt {RESTARTS} && {{ touch {GOAL}; exit; }}"
    files = {"go.sh": NOTE + f"{step}; systemctl reboot; sleep 300"}
    program = {"commandLine": "sh go.sh", "afterRunning": "program-restarts"}
    begin(site, device, "five-restarts", files, program, f"test -e {GOAL}")
    site.await_state("five-restarts", "succeeded", "failed", "interrupted", "timed-out", most=900)
    ends(site, device, "five-restarts", "succeeded", "detected", ["step"] * (RESTARTS + 1))


def pulls_the_power(site, device):
    """A program that resets the machine without a sync, and must not run twice."""
    boot = device.boot_id()
    files = {"go.sh": NOTE + "note pull; echo b >/proc/sysrq-trigger; sleep 300"}
    program = {"commandLine": "sh go.sh", "rerun": "never"}
    begin(site, device, "pulls-the-power", files, program)
    device.await_boot(after=boot)
    site.await_state("pulls-the-power", "succeeded", "failed", "interrupted", "timed-out")
    ends(site, device, "pulls-the-power", "interrupted", "restart", ["pull"])


def stops_the_agent(site, device):
    """A program that stops the service that runs it goes on; started again, the agent tells of it."""
    files = {"go.sh": NOTE + "note stop; systemctl stop muster-agent; note stopped"}
    begin(site, device, "stops-the-agent", files, {"commandLine": "sh go.sh", "rerun": "never"})
    until("the program's end", lambda: device.has_noted("stopped"), 120)
    assert device.agent_pid() == "0"
    device.ok("systemctl start muster-agent")
    site.await_state("stops-the-agent", "succeeded", "failed", "interrupted", "timed-out")
    ends(site, device, "stops-the-agent", "succeeded", "exit-code", ["stop", "stopped"])


def begin(site, device, name, files, program, detection=None):
    """Advertises the program to a machine whose programs have left nothing yet."""
    device.ok("rm -f /var/lib/truth")
    site.package(name, files, program, detection)
    site.advertise(name, device.name)


def scenarios(_):
    """The scenarios of this track."""
    all_of_them = [install, five_restarts, pulls_the_power, stops_the_agent]
    return [(scenario.__name__.replace("_", "-"), scenario) for scenario in all_of_them]
