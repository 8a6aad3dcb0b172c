"""Fifty hosts of which eleven are in trouble, each in its way: how long the others take beside them, and what is said of each."""

import json
import socket
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass

from .tools import TORIL, Host, Tools

GOOD, REFUSING, HANGING, CHANGED = 39, 5, 3, 2
# On one host QEMU is asked for longer than the host lives.
SLOW = TORIL + """
[[resource]]
name = "slow"
command = { command = ["true"], unless = ["sh", "-c", "{{ vars.look }}"], unless-is-read-only = true }
"""
SLOW = SLOW.replace("[[resource]]", '[vars]\nlook = "true"\n\n[[resource]]', 1)
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@dataclass
class Round:
    """Seconds until the last good host's answer, alone and beside the others, and what came of the check beside them."""

    alone: float
    beside: float
    status: int
    outcomes: dict[str, dict]


class Trouble:
    """The hosts: `good` are all that stay well, and one more dies in the middle of every check."""

    def __init__(self, tools: Tools, good: list[Host]):
        self.tools, self.good = tools, good
        self.listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(HANGING)]
        (tools.directory / "slow.toml").write_text(SLOW)
        for number, host in enumerate(good[:CHANGED]):
            (tools.directory / f"known-{number}").write_text(f"[{host.address}]:{host.port} {OTHER_KEY}\n")

    def round(self, client: str, dying: Host, dies) -> Round:
        """By that ssh client; `dies` ends the dying host."""
        self._inventory(dying)
        alone, _, _ = self._check(client, "good", None)
        beside, status, outcomes = self._check(client, "all", lambda: dies(dying))
        return Round(alone, beside, status, outcomes)

    def _inventory(self, dying: Host) -> None:
        def entry(name: str, host: Host, known: str, more: str = "") -> str:
            return (f'[hosts.{name}]\naddress = "{host.address}"\nport = {host.port}\nuser = "{host.user}"\n'
                    f'identity = "{host.identity}"\nknown-hosts = "{known}"\n{more}\n')

        lines = [f"[groups.good]\nhosts = {json.dumps([host.name for host in self.good])}\n"]
        lines += [entry(host.name, host, host.known_hosts) for host in self.good]
        lines.append(entry("dying", dying, dying.known_hosts, 'vars = { look = "sleep 60" }'))
        lines += [entry(f"changed-{number}", host, f"known-{number}") for number, host in enumerate(self.good[:CHANGED])]
        lines += [f'[hosts.hanging-{number}]\naddress = "127.0.0.1"\nport = {listener.getsockname()[1]}\n'
                  for number, listener in enumerate(self.listeners)]
        lines += [f'[hosts.refusing-{number}]\naddress = "127.0.0.1"\nport = 1\n' for number in range(REFUSING)]
        (self.tools.directory / "trouble.toml").write_text("\n".join(lines))

    def _check(self, client: str, hosts: str, dies) -> tuple[float, int, dict[str, dict]]:
        """With the program's own defaults: a host that does not answer is to delay nobody whatever `--parallel` is."""
        options = ["-o", f"KexAlgorithms={self.tools.exchange}"] if self.tools.exchange and client == "openssh" else []
        command = [self.tools.toril, "check", "--recipe", "slow.toml", "--inventory", "trouble.toml", "--json",
                   "--transport", client, *options, hosts]
        good = {host.name for host in self.good}
        start = time.monotonic()
        last, outcomes, death = 0.0, {}, None
        with subprocess.Popen(command, env=self.tools.environment(False), cwd=self.tools.directory, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "plan" and event["host"] in good:
                    last = time.monotonic() - start
                    good.discard(event["host"])
                if event["event"] == "connected" and event["host"] == "dying" and dies:
                    # In the middle: it is connected, and what it is asked takes longer.
                    death = threading.Thread(target=dies)
                    death.start()
                if event["event"] == "finished":
                    outcomes = {outcome["host"]: outcome for outcome in event["hosts"]}
        if death:
            death.join()
        if good:
            raise SystemExit(f"no answer of {sorted(good)}: {outcomes}")
        return last, process.returncode, outcomes

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


def said(client: str, rounds: list[Round]) -> str:
    """The medians, the ratio, and the reason of every host in trouble, in Markdown."""
    ratios = [round.beside / round.alone for round in rounds]
    alone, beside = (statistics.median(getattr(round, what) for round in rounds) for what in ("alone", "beside"))
    statuses = sorted({round.status for round in rounds})
    lines = [f"By {client}, {GOOD} hosts take {alone:.2f} s alone and {beside:.2f} s beside the {REFUSING + HANGING + CHANGED + 1}, ratio "
             f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(rounds)} rounds); exit status "
             f"{', '.join(map(str, statuses))}", ""]
    lines += ["| host | result | reason |", "| --- | --- | --- |"]
    outcomes = rounds[-1].outcomes
    fine = [name for name, outcome in outcomes.items() if outcome["result"] == "unchanged"]
    lines.append(f"| {len(fine)} hosts | unchanged | |")
    lines += [f"| {name} | {outcome['result']} | {(outcome.get('problem') or '').splitlines()[0]} |"
              for name, outcome in outcomes.items() if name not in fine]
    return "\n".join(lines)
