"""What each tool says of a host that is not as it should be. Each state is made on a sandbox of its own."""

import re
from dataclasses import dataclass

# A recipe says nothing of that; toril boots some.
GUESTS = ("check", "--prove")
# Guests run as this user, whom toril's own recipe makes.
USER = "useradd --system --groups kvm toril; test ! -e /dev/kvm || chgrp kvm /dev/kvm && chmod 0660 /dev/kvm\n"
QEMU = "/usr/bin/qemu-system-x86_64"


@dataclass(frozen=True)
class State:
    name: str
    breaks: str
    # What of toril is asked; the others have one way to check.
    asks: tuple[str, ...] = ("check", "--strict")


STATES = [
    State("as it should be", ":"),
    State("three drifts: a file changed, the user not in the group, a link gone", """
        echo other >> /etc/udev/rules.d/65-benchmark.rules
        gpasswd --delete debian kvm >/dev/null
        rm /srv/benchmark/current"""),
    State("the programs of QEMU and of socat deleted", f"rm {QEMU} /usr/bin/socat"),
    State("socat's program deleted", "rm /usr/bin/socat"),
    State("one byte of QEMU is another, with the same size and time", f"""
        cp --archive {QEMU} /root/qemu
        byte=$(od --address-radix n --format u1 --skip-bytes 9000000 --read-bytes 1 /root/qemu)
        printf "\\\\$(printf %o $((byte ^ 1)))" | dd of={QEMU} bs=1 seek=9000000 conv=notrunc status=none
        touch --reference /root/qemu {QEMU}; rm /root/qemu"""),
    State("git made setuid root", "chmod u+s /usr/bin/git"),
    State("socat held at its version", "apt-mark hold socat >/dev/null"),
    State("another QEMU first on the path", f"""
        printf '#!/bin/sh\\nexec {QEMU} "$@"\\n' > /usr/local/bin/qemu-system-x86_64
        chmod 755 /usr/local/bin/qemu-system-x86_64"""),
    State("QEMU without microvm", f"""
        mv {QEMU} {QEMU}.real
        printf '#!/bin/sh\\n{QEMU}.real "$@" | grep -v microvm\\n' > {QEMU}; chmod 755 {QEMU}"""),
    State("no /dev/kvm", "umount /dev/kvm; rm -f /dev/kvm", GUESTS),
    State("/dev/kvm that the tests' user may not open", "gpasswd --delete toril kvm >/dev/null", GUESTS),
    State("as it should be; can guests run? (see below)", ":", GUESTS),
]


def said(tool: str, status: int, output: str) -> str:
    """An exit status and what was said, in a few words."""
    if tool == "Ansible":
        recap = re.findall(r"changed=(\d+).*?failed=(\d+)", output)
        changed, failed = (sum(int(pair[part]) for pair in recap) for part in (0, 1))
        failure = ", 1 task failed" if failed else ""
        return f"exit {status}, {changed} to change{failure}"
    if tool == "pyinfra":
        rows = re.findall(r"^ +\w+\.\w+ \(.*\) +\d+ \(", output, re.MULTILINE)
        return f"exit {status}, {len(rows)} to change"
    plan = re.search(r"(\d+) of \d+ resources have to change", output)
    found = re.search(r"(\d+) findings? beyond the recipe", output)
    named = [f"{plan.group(1)} to change"] if plan else []
    named += [f"{found.group(1)} found"] if found else []
    named += [f"{probe} does not work" for probe in re.findall(r"✗ ([a-z-]+): ", output)]
    return ", ".join([f"exit {status}", *named])
