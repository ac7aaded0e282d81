"""Power cuts at random moments of the agent's own upgrade: afterwards one version or the other runs, whole.

A good release stands in the end, a broken one is returned from, and the machine does its work under the version
that stands. Every third release is broken. The seed is printed; MUSTER_LAB_SEED repeats the moments.
"""

from .power import cut_after, drawn

# From the advertisement to a release that stands takes some ten seconds on an emulated processor.
CUT_MOST = 14
# The program that the package brought is every release, as far as it works.
GOOD = 'exec /usr/bin/muster "$@"'
BROKEN = "exit 1"


def cut(number, dice):
    """One power cut during the upgrade to a release of its own."""
    broken = number % 3 == 0

    def scenario(site, device):
        name, version = f"agent-{number}", f"0.2.{number}"
        before = running(device)
        site.release(name, version, BROKEN if broken else GOOD)
        site.advertise(name, device.name, "upgrade")
        moment = dice.uniform(0, CUT_MOST)
        told = cut_after(moment, site, device, name)
        row = site.await_state(name, "succeeded", "failed", "interrupted")
        outcome = (row["state"], row["reason"])
        if broken:
            assert outcome[0] == "failed" and outcome[1].startswith("returned"), outcome
        else:
            assert outcome == ("succeeded", "reached-site"), outcome
        works(site, device, f"after-{number}")
        stands = running(device)
        assert stands == (before if broken else (version, "current")), (before, stands)
        site.verify(device)
        return f"cut {moment:.1f} s after the advertisement ({told}): {outcome[0]}({outcome[1]}), runs {stands[0]}"

    return scenario


def running(device):
    """The version that runs, and where it stands."""
    agent = device.status()["agent"]
    return agent["version"], agent["state"]


def works(site, device, name):
    """The machine does what it is told, once."""
    site.package(name, {}, {"commandLine": f"mkdir /var/lib/{name}"})
    site.advertise(name, device.name)
    row = site.await_state(name, "succeeded", "failed")
    assert row["state"] == "succeeded", row


def scenarios(count):
    """`count` cuts, at the same moments for the same seed."""
    return drawn("upgrades", cut, count)
