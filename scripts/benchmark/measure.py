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


def _stat(pid: int) -> tuple[int, float, str] | None:
    """The parent and the CPU seconds of a process, with those of its children that have ended, and its program's name."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, fields = file.read().split("(", 1)[1].rsplit(")", 1)
        fields = fields.split()
    except (OSError, IndexError):
        return None
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / TICK, name


def _stats() -> dict[int, tuple[int, float, str]]:
    """The same of all processes."""
    found = {int(name): _stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: stat for pid, stat in found.items() if stat}


def _descendants(root: int, stats: dict[int, tuple[int, float, str]]) -> dict[int, float]:
    """CPU seconds by process, of all below this one."""
    found: dict[int, float] = {}
    grew = True
    while grew:
        grew = False
        for pid, stat in stats.items():
            if pid not in found and (stat[0] == root or stat[0] in found):
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


def mux_processes(directory: Path, stats: dict[int, tuple[int, float, str]] | None = None) -> dict[int, float]:
    """The ssh processes that hold connections open by sockets in this directory, and their CPU seconds."""
    found = {}
    for pid, stat in (stats or _stats()).items():
        if stat[2] != "ssh":
            continue
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if line.startswith("ssh: ") and str(directory) in line:
                found[pid] = stat[1]
    return found


def memory_below(root: int) -> float:
    """What a process and all below it take, in MiB."""
    return _memory([root, *_descendants(root, _stats())])


def end(pids) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def run(command: list[str], environment: dict[str, str], directory: Path, sockets: Path, *,
        stdin: str | None = None, memory: float | None = None) -> Cost:
    """Runs it. `sockets` is where it leaves connections open: the processes that hold them belong to it for as long as it
    runs. `memory` is the pause between looks at memory, in seconds. Looking takes CPU itself: where it is done without
    much of a pause, the run is not one whose time counts."""
    before = mux_processes(sockets)
    used = _used()
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd=directory, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL)
    peak, most, over = [0.0], [0], threading.Event()

    def watch() -> None:
        while not over.wait(memory):
            stats = _stats()
            pids = [process.pid, *_descendants(process.pid, stats), *(set(mux_processes(sockets, stats)) - set(before))]
            # One that has ended meanwhile is left as a zombie, and has none.
            if used := _memory(pids):
                peak[0], most[0] = max(peak[0], used), max(most[0], len(pids))

    watcher = threading.Thread(target=watch) if memory is not None else None
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
