"""Servers and the generator as processes, each with a core of its own."""

import json
import os
import platform
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SERVER_CORE, GENERATOR_CORE = 0, 1
ROOT = Path(__file__).resolve().parent.parent.parent
RELEASE = ROOT / "target" / "release"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Broken(Exception):
    """A sentence that says why there is no result."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def program(name):
    """The command of a program of this workspace."""
    return shlex.quote(str(RELEASE / name))


def end_with_us():
    """Lets a signal to stop end the servers as well: they are in sessions of their own."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pinned(core):
    """What a child does before it starts: takes its core, others from it, and open files as far as it may."""

    def prepare():
        os.sched_setaffinity(0, {core})
        # Where the kernel groups processes by session, only the priority of the group counts against others.
        os.setsid()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            Path("/proc/self/autogroup").write_text("-20")
        except OSError:
            pass

    return prepare


class Server:
    """One side, running: `with Server(...)` starts it and ends it."""

    def __init__(self, command, environment=None):
        # A fresh folder for each start, on the disk that holds the working folder rather than in memory.
        self.data = tempfile.TemporaryDirectory(prefix="compare-", dir=".") if "{data}" in command else None
        folder = self.data.name if self.data else ""
        self.command = [word.replace("{port}", "0").replace("{data}", folder) for word in shlex.split(command)]
        self.environment = os.environ | (environment or {})

    def __enter__(self):
        try:
            self.process = subprocess.Popen(
                self.command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=self.environment,
                preexec_fn=pinned(SERVER_CORE),
            )
        except OSError as err:
            self.forget()
            raise Broken(f"cannot start {self.command[0]}: {err.strerror}") from err
        watchdog = threading.Timer(10, self.process.kill)
        watchdog.start()
        for line in self.process.stdout:
            if found := re.search(r"listening on \w+://\S*?:(\d+)", line):
                watchdog.cancel()
                self.url = f"ws://127.0.0.1:{found[1]}/"
                # What it goes on to say is thrown away, so that a full pipe does not stop it.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return self
        watchdog.cancel()
        self.__exit__()
        raise Broken(f"`{shlex.join(self.command)}` did not say `listening on http://…:PORT`")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.forget()

    def forget(self):
        if self.data:
            self.data.cleanup()


class Core:
    """Tells how much of the server's core others had, to some hundredths."""

    def __init__(self, pid):
        self.pid = pid
        self.began = self.now()

    def now(self):
        line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{SERVER_CORE} "))
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return time.monotonic(), user + nice + system + irq + softirq + steal - int(fields[11]) - int(fields[12])

    def taken_share(self):
        (since, before), (at, after) = self.began, self.now()
        return max(0, after - before) / TICKS_PER_SECOND / (at - since)


class Bench:
    """The sides by name, and the generator."""

    def __init__(self, options, sides):
        self.options = options
        # Commands, or pairs of a command and what it needs in its environment.
        self.sides = {name: (side, None) if isinstance(side, str) else side for name, side in sides.items()}

    def run(self, server, *arguments):
        """One run of the generator against a server that is running; gives its report."""
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            command = [self.options.loadtest, "--url", server.url, "--pid", str(server.process.pid), "--json", report.name]
            core = Core(server.process.pid)
            done = subprocess.run(
                command + [str(argument) for argument in arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                preexec_fn=pinned(GENERATOR_CORE),
            )
            taken = core.taken_share()
            text = Path(report.name).read_text()
        if not text:
            raise Broken(f"`{shlex.join(command)}` gave no report: {done.stdout.strip().splitlines()[-1:]}")
        # For a server that keeps what is said, threads of the kernel write on the same core. That is no disturbance.
        return json.loads(text) | {"taken_share": 0 if server.data else taken}

    def fresh(self, name, *arguments):
        """The same against one that is started for it."""
        with Server(*self.sides[name]) as server:
            return self.run(server, *arguments)

    def disturbance(self, report):
        """Whether another process had a core of ours."""
        # Threads of one server wait for each other as well, so what they waited counts only as far as others had the core.
        taken = min(report["server"]["waited_share"], report["taken_share"])
        for side, share in (("server", taken), ("generator", report["generator"]["waited_share"])):
            if share > self.options.tolerate:
                return f"the {side} waited for its core {share:.0%} of the time"
        return None


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def machine():
    return f"{cpu_model()}, {os.cpu_count()} cores, Linux {platform.release()}"


def commit():
    """The commit that is checked out, or None where there is no repository."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=ROOT)

    found = git("rev-parse", "--short", "HEAD")
    if found.returncode != 0:
        return None
    changed = git("status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock", "loadtest/src").stdout
    return found.stdout.strip() + (" with changes" if changed else "")
