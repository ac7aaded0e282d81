"""A site on this computer that the laboratory's machines reach, and the words to ask it.

It runs the same program as the package in the machines. Its certificate bears this computer's name; a
machine finds that name in its /etc/hosts, at the address that qemu's user network gives to its host. The
commands here reach it on the loopback.
"""

import json
import os
import socket
import subprocess
import time
from datetime import datetime
from pathlib import Path

# This computer as a machine sees it.
HOST = "10.0.2.2"
# Between a change on a machine and its word at the site, network included.
SETTLE_MOST = 300


class Site:
    """A running site in `folder`."""

    def __init__(self, muster, folder):
        self.muster, self.folder = str(muster), Path(folder)
        self.folder.mkdir(parents=True)
        self.env = dict(os.environ, MUSTER_CONFIG=str(self.folder / "config.yaml"))
        data = str(self.folder / "data")
        self("site", "init", "--data", data, "--code", "LAB")
        log = open(self.folder / "site.log", "ab")
        command = ["setpriv", "--pdeathsig", "TERM", "--", self.muster, "site", "run", "--data", data]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        shown = self.folder / "data/run/site.json"
        until("the site answers", shown.exists, 60)
        port = json.loads(shown.read_text())["url"].rpartition(":")[2]
        self.url = f"https://{socket.gethostname()}:{port}"
        self("login", "--data", data)
        self("publisher", "init", "--name", "lab")

    def __call__(self, *words):
        """Runs a muster command that must succeed; returns what it printed."""
        done = subprocess.run([self.muster, *words], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"muster {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words):
        """Runs a reading command; returns its answer."""
        return json.loads(self(*words, "-o", "json"))

    def end(self):
        """Ends the site."""
        self.process.terminate()
        self.process.wait()

    def package(self, name, scripts, program, detection=None):
        """Publishes version 1 of a package of files {name: text, or the path of a file}."""
        spec = {"version": "1", "programs": [{"name": "go", **program}]}
        if detection:
            spec["detection"] = {"command": ["sh", "-c", detection]}
        self.publish(name, scripts, spec)

    def release(self, name, version, script):
        """Publishes a release of the agent: its program is a shell script."""
        spec = {"version": version, "agentRelease": {}}
        self.publish(name, {"muster": f"#!/bin/sh\n{script}\n"}, spec)

    def publish(self, name, scripts, spec):
        """Publishes what `spec` says, with these executable files as its content."""
        content = self.folder / name
        content.mkdir()
        for script, text in scripts.items():
            data = text.read_bytes() if isinstance(text, Path) else text.encode()
            (content / script).write_bytes(data)
            (content / script).chmod(0o755)
        spec = {**spec, "content": str(content)}
        document = {"apiVersion": "muster/v1", "kind": "Package", "metadata": {"name": name}, "spec": spec}
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(document))
        self("package", "publish", str(file))

    def advertise(self, name, device, program="go"):
        """Advertises a program of package `name` to one device, as soon as possible."""
        meta = {"apiVersion": "muster/v1", "metadata": {"name": name}}
        collection = {**meta, "kind": "Collection", "spec": {"members": [device]}}
        spec = {"package": name, "program": program, "collection": name, "assignments": [{"at": "now"}]}
        advertisement = {**meta, "kind": "Advertisement", "spec": spec}
        file = self.folder / f"{name}-ad.yaml"
        file.write_text(json.dumps(collection) + "\n---\n" + json.dumps(advertisement) + "\n")
        self("apply", "-f", str(file))

    def stands(self, name):
        """The only device's row in the accounting of an advertisement."""
        return self.json("accounting", name)["devices"][0]

    def await_state(self, name, *states, most=SETTLE_MOST):
        """Waits until the device stands in one of `states`; returns its row."""
        row = {}

        def there():
            row.update(self.stands(name))
            return row["state"] in states

        until(f"{name} is {' or '.join(states)}", there, most, lambda: row)
        return row

    def heard(self, name):
        """When the device's newest word on an advertisement came, in seconds since 1970 on the site's clock."""
        question = f"select updated from obligation where advertisement_name = '{name}'"
        updated = self.json("query", question)["rows"][0][0]
        return datetime.fromisoformat(updated).timestamp()

    def messages(self, name):
        """All messages about an advertisement, oldest first."""
        return self.json("messages", "--advertisement", name)["items"]

    def verify(self, device=None):
        """Every invariant of the accounting holds, nothing is set aside, nothing is missing.

        With a device, of its own messages: other tracks use the site meanwhile.
        """
        self("accounting", "verify")
        found = [*self.json("set-aside", "list")["items"], *self.json("query", "select * from gap")["rows"]]
        if device:
            devices = self.json("device", "list")["items"]
            ids = [one["id"] for one in devices if one["name"] == device.name]
            found = [one for one in found if any(id in str(one) for id in ids)]
        assert found == [], found


def until(what, true, most, told=lambda: ""):
    """Waits until `true()`; fails after `most` seconds with what is `told()`."""
    deadline = time.monotonic() + most
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {most} s: {told()}"
        time.sleep(0.25)
