"""A real Debian machine in qemu, and a hand in it.

The machine boots Debian's own kernel and systemd from a disk of its own over the laboratory's image.
It may restart itself, be cut from power, and be started again on the same disk. Always emulated
(`-accel tcg`): where a KVM device exists it cannot be relied on. The hand is Debian's qemu-guest-agent on a
virtio port, so it needs no network, no log-on and no shell on a console.
"""

import base64
import json
import os
import socket
import subprocess
import time
from pathlib import Path

# Emulated and beside another machine on two cores, a boot takes 15 to 40 s; on a busy computer, minutes.
BOOT_MOST = 600
# How long the hand has to answer in a machine that is up, and in one that may be on its way down or up.
ANSWER_MOST = 60
ANSWER_SOON = 5
# The longest that one command in the machine may take.
COMMAND_MOST = 180
MEMORY = "512"
KERNEL = "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=1 quiet"


class Gone(Exception):
    """The machine does not answer: it is off, on its way down, or not up yet."""


def host_khz():
    """This computer's clock rate, which is that of the emulated one. A guest that measures it itself while
    the computer is busy may be sixteen times wrong, and all its waiting with it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(int(float(line.split(":")[1]) * 1000) for line in lines if line.startswith("cpu MHz"))


class Machine:
    """One machine. `folder` gets its disk, its console's text and its sockets."""

    def __init__(self, image, folder, payload=None):
        self.image, self.folder = Path(image), Path(folder)
        self.payload = payload
        self.qemu = None
        self.hand = None
        self.folder.mkdir(parents=True, exist_ok=True)
        base = self.image / "root.ext4"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, self.folder / "disk"],
            check=True,
        )

    # Power

    def power_on(self):
        """Starts the machine; returns at once."""
        assert self.qemu is None, "the machine is on"
        self._hang_up()
        port = self.folder / "hand"
        port.unlink(missing_ok=True)
        # writeback: what the guest did not flush dies with the guest's own cache, and of what it wrote to new
        # places qemu holds the map in memory until the guest flushes.
        disk = f"file={self.folder}/disk,if=virtio,format=qcow2,cache=writeback"
        # The machine does not outlive the laboratory, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", "--", "qemu-system-x86_64"]
        command += ["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", MEMORY]
        command += ["-nodefaults", "-display", "none", "-no-user-config"]
        command += ["-kernel", self.image / "vmlinuz", "-initrd", self.image / "initrd"]
        command += ["-append", KERNEL + f" tsc_early_khz={host_khz()}"]
        command += ["-drive", disk]
        command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,id=card"]
        command += ["-device", "virtio-rng-pci", "-serial", f"file:{self.folder}/console"]
        command += ["-device", "virtio-serial", "-chardev", f"socket,id=hand,path={port},server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=hand,name=org.qemu.guest_agent.0"]
        if self.payload:
            command += ["-drive", f"file={self.payload},if=virtio,format=raw,readonly=on"]
        log = open(self.folder / "qemu.log", "ab")
        self.qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def cut_power(self):
        """Ends the machine as a power cut does: nothing is flushed, nobody is told."""
        self.qemu.kill()
        self.qemu.wait()
        self.qemu = None
        self._hang_up()

    def end(self):
        """Ends the machine if it is on."""
        if self.qemu is not None:
            self.cut_power()

    # The hand

    def run(self, command, most=COMMAND_MOST, stdin=None, answer=ANSWER_MOST):
        """Runs a shell command as root; returns (exit code, output)."""
        arguments = {"path": "/bin/sh", "arg": ["-c", command], "capture-output": True}
        if stdin is not None:
            arguments["input-data"] = base64.b64encode(stdin.encode()).decode()
        pid = self._ask("guest-exec", arguments, answer)["pid"]
        deadline = time.monotonic() + most
        while time.monotonic() < deadline:
            status = self._ask("guest-exec-status", {"pid": pid}, answer)
            if status["exited"]:
                said = status.get("out-data", "") , status.get("err-data", "")
                text = b"".join(base64.b64decode(part) for part in said).decode(errors="replace")
                return status.get("exitcode", -1), text
            time.sleep(0.1)
        raise TimeoutError(f"not done within {most} s: {command}")

    def ok(self, command, **options):
        """Runs a shell command that must succeed; returns its output."""
        code, text = self.run(command, **options)
        assert code == 0, f"exit code {code} of: {command}\n{text}"
        return text

    def boot_id(self, **options):
        """Which boot this is."""
        return self.ok("cat /proc/sys/kernel/random/boot_id", **options).strip()

    def await_boot(self, after=None, most=BOOT_MOST):
        """Waits until the machine answers in another boot than `after`; returns the boot's id."""
        deadline = time.monotonic() + most
        while time.monotonic() < deadline:
            assert self.qemu.poll() is None, f"qemu ended; see {self.folder}/qemu.log"
            try:
                boot = self.boot_id(answer=ANSWER_SOON)
                if boot != after:
                    return boot
            except Gone:
                pass
            time.sleep(0.3)
        raise TimeoutError(f"no boot within {most} s; see {self.folder}/console")

    def _ask(self, word, arguments, most):
        try:
            if self.hand is None:
                self._take_hand(most)
            self.hand.settimeout(most)
            return self._exchange({"execute": word, "arguments": arguments})
        except (OSError, ValueError, KeyError) as error:
            self._hang_up()
            raise Gone(str(error)) from error

    def _take_hand(self, most):
        self.hand = socket.socket(socket.AF_UNIX)
        self.hand.settimeout(most)
        self.hand.connect(str(self.folder / "hand"))
        self.rest = b""
        # What an earlier boot left in the pipe ends at the byte that the sync answer begins with.
        number = int.from_bytes(os.urandom(4)) % 2**31
        question = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self.hand.sendall(b"\xff" + json.dumps(question).encode() + b"\n")
        while True:
            answer = json.loads(self._line().rpartition(b"\xff")[2])
            if answer.get("return") == number:
                return

    def _exchange(self, question):
        self.hand.sendall(json.dumps(question).encode() + b"\n")
        return json.loads(self._line())["return"]

    def _line(self):
        while b"\n" not in self.rest:
            more = self.hand.recv(65536)
            if not more:
                raise OSError("the port was closed")
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def _hang_up(self):
        if self.hand is not None:
            self.hand.close()
            self.hand = None
