"""Runs a command and says what it cost: wall time, and the CPU of all processes that belong to it."""

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """Seconds, and of memory MiB where that was asked for."""

    wall: float
    cpu: float
    status: int
    output: str
    memory: float = 0.0
    processes: int = 0


def _used() -> float:
    """CPU seconds of all children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _stat(pid: int) -> tuple[int, float] | None:
    """The parent and the CPU seconds of a process, with those of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / TICK


def _descendants(root: int) -> dict[int, float]:
    """CPU seconds by process, of all below this one."""
    stats = {int(name): _stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found: dict[int, float] = {}
    grew = True
    while grew:
        grew = False
        for pid, stat in stats.items():
            if stat and pid not in found and (stat[0] == root or stat[0] in found):
                found[pid] = stat[1]
                grew = True
    return found


def _memory(pids: list[int]) -> float:
    """Their share of memory in MiB: what several have in common counts once."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib / 1024


def mux_processes(directory: Path) -> dict[int, float]:
    """The ssh processes that hold connections open by sockets in this directory, and their CPU seconds."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if line.startswith("ssh: ") and str(directory) in line and (stat := _stat(int(name))):
                found[int(name)] = stat[1]
    return found


def memory_below(root: int) -> float:
    """What a process and all below it take, in MiB."""
    return _memory([root, *_descendants(root)])


def end(pids) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def run(command: list[str], environment: dict[str, str], directory: Path, sockets: Path, *,
        stdin: str | None = None, memory: bool = False) -> Cost:
    """Runs it. `sockets` is where it leaves connections open: the processes that hold them belong to it for as long as it
    runs. Looking at memory takes CPU itself, so such a run is not one whose time counts."""
    before = mux_processes(sockets)
    used = _used()
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd=directory, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL)
    peak, most, over = [0.0], [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            pids = [process.pid, *_descendants(process.pid), *(set(mux_processes(sockets)) - set(before))]
            peak[0], most[0] = max(peak[0], _memory(pids)), max(most[0], len(pids))

    watcher = threading.Thread(target=watch) if memory else None
    if watcher:
        watcher.start()
    try:
        output, _ = process.communicate(stdin)
        wall = time.monotonic() - start
    finally:
        over.set()
    if watcher:
        watcher.join()
    cpu = _used() - used
    cpu += sum(seconds - before.get(pid, 0.0) for pid, seconds in mux_processes(sockets).items())
    return Cost(wall, cpu, process.returncode, output, peak[0], most[0])
