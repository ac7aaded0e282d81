"""A machine of the laboratory with Muster from its package, enrolled at a site.

Programs of the scenarios leave what they really did in TRUTH, line by line and flushed to the disk: what
the accounting says is held against that, never against the agent's own files.
"""

import json
import socket
import tarfile
import time

from .machine import ANSWER_SOON, Gone, Machine
from .site import HOST

DATA = "/var/lib/muster/agent"
TRUTH = "/var/lib/truth"
# Where the packages lie in the machine.
PAYLOAD = "/var/lib/payload"
# How the package is installed, and once more with a higher version.
INSTALL = f"DEBIAN_FRONTEND=noninteractive dpkg -i {PAYLOAD}/muster_*[0-9]_*.deb"
UPGRADE = f"dpkg -i {PAYLOAD}/muster_*+next_*.deb"
# Appends a line to TRUTH and flushes it; what each program does first and last.
NOTE = f'note() {{ echo "$*" >>{TRUTH}; sync {TRUTH} /var/lib; }}\n'
# Shorter than by default, so that the laboratory waits for the agent and not for its patience.
SETTINGS = ["backoffMost=5s", "pollWait=20s"]


class Device(Machine):
    """A machine with an enrolled agent, by the name of its folder."""

    def __init__(self, image, folder, packages):
        payload = folder.parent / f"{folder.name}.tar"
        with tarfile.open(payload, "w") as tar:
            for path, name in packages.items():
                tar.add(path, arcname=name)
        super().__init__(image, folder, payload)
        self.name = folder.name

    def install(self, site, install=INSTALL):
        """Boots, installs the package, enrols, and starts the service."""
        self.power_on()
        self.await_boot()
        self.ok(f"mkdir -p {PAYLOAD} && tar -xf /dev/vdb -C {PAYLOAD}")
        self.ok(install)
        # Without an identity the unit waits, and its failure is not the package's.
        assert self.run("systemctl is-active muster-agent")[0] != 0
        self.ok(f"echo {HOST} {socket.gethostname()} >>/etc/hosts")
        token = site("token", "create").strip()
        settings = " ".join(f"--set {setting}" for setting in SETTINGS)
        enrol = f"muster agent enroll --data {DATA} --site {site.url} --token - --name {self.name} {settings}"
        self.ok(enrol, stdin=token)
        self.ok("systemctl start muster-agent")

    def restart(self):
        """Restarts the machine as a person does; nobody told the agent."""
        try:
            self.run("systemctl reboot", answer=ANSWER_SOON)
        except Gone:
            pass  # it went down before it could say so

    def status(self):
        """What the device says of itself."""
        return json.loads(self.ok(f"muster agent status --data {DATA} -o json"))

    def agent_pid(self):
        """The agent's process, `0` without one."""
        return self.ok("systemctl show -P MainPID muster-agent").strip()

    def truth(self):
        """The lines that programs left."""
        return self.ok(f"cat {TRUTH} 2>/dev/null || true").splitlines()

    def has_noted(self, line):
        """Whether a program has left `line`, as far as the machine answers."""
        try:
            return line in self.truth()
        except Gone:
            return False

    def network_up(self):
        """When this boot's network came up, in seconds since 1970 on this computer's clock."""
        log = self.ok("journalctl -b -u systemd-networkd -o short-monotonic")
        line = next(line for line in log.splitlines() if "eth0: Gained carrier" in line)
        # The machine's wall clock is its own affair: what counts is how long ago it was.
        since_boot = float(line.partition("]")[0].strip("[ "))
        uptime = float(self.ok("cat /proc/uptime").split()[0])
        return time.time() - (uptime - since_boot)

    def last_words(self):
        """What the machine itself says of its agent, for whoever looks into a failure."""
        try:
            return self.run(f"journalctl -b -n 60 --no-pager -u 'muster*'; cat {TRUTH}")[1]
        except (Gone, TimeoutError):
            console = (self.folder / "console").read_text(errors="replace")
            return f"it does not answer; its console ends:\n{console[-2000:]}"
