"""Servers and the generator as processes, each with a core of its own."""

import datetime
import json
import os
import platform
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

SERVER_CORE, GENERATOR_CORE = 0, 1
ROOT = Path(__file__).resolve().parent.parent.parent
RELEASE = ROOT / "target" / "release"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Seconds that a child may take until it is there.
PATIENCE = 60


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
    """What a child does before it starts: takes its core, if it has one, others from it, and open files as far as it may."""

    def prepare():
        if core is not None:
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


# Sockets that hold ports for servers which have to be told theirs.
HELD = []


def free_port():
    """A port that nobody else gets as long as this program runs: a bound socket that does not listen holds it (socket(7))."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("0.0.0.0", 0))
    HELD.append(held)
    return held.getsockname()[1]


def wait_until(what, is_up, child):
    deadline = time.monotonic() + PATIENCE
    while not is_up():
        if child.poll() is not None:
            raise Broken(f"{what} has ended")
        if time.monotonic() > deadline:
            raise Broken(f"{what}: not there within {PATIENCE} s")
        time.sleep(0.02)


def end(child):
    """Asks a child to stop, and waits until it has."""
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def started(stack, command, core, **more):
    """A child that ends with `stack`, and with this program however that ends."""
    if not shutil.which(command[0]):
        raise Broken(f"cannot start {command[0]}: there is no such program")
    command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    child = subprocess.Popen(command, preexec_fn=pinned(core), stderr=subprocess.DEVNULL, **more)
    stack.callback(end, child)
    return child


class Server:
    """A server, running: `with Server(...)` starts it and ends it."""

    def __init__(self, command, environment=None, core=SERVER_CORE):
        self.command, self.core = command, core
        self.environment = os.environ | (environment or {})
        # Whether it keeps what is said.
        self.keeps = "{data}" in command

    def __enter__(self):
        with ExitStack() as stack:
            # A fresh folder for each start, on the disk that holds the working folder rather than in memory.
            data = stack.enter_context(tempfile.TemporaryDirectory(prefix="data-", dir=".")) if self.keeps else ""
            command = [word.replace("{port}", "0").replace("{data}", data) for word in shlex.split(self.command)]
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
            self.process = started(stack, command, self.core, env=self.environment, **pipes)
            watchdog = threading.Timer(PATIENCE, self.process.kill)
            watchdog.start()
            try:
                lines = (re.search(r"listening on \w+://\S*?:(\d+)", line) for line in self.process.stdout)
                found = next(filter(None, lines), None)
            finally:
                watchdog.cancel()
            if not found:
                raise Broken(f"`{shlex.join(command)}` did not say `listening on http://…:PORT`")
            self.port = int(found[1])
            self.url = f"ws://127.0.0.1:{self.port}/"
            # What it goes on to say is thrown away, so that a full pipe does not stop it.
            threading.Thread(target=self.process.stdout.read, daemon=True).start()
            self.ending = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.ending.close()


def generated(loadtest, arguments, core=GENERATOR_CORE, seconds=120):
    """One run of the generator, which takes at most so many seconds; gives its report, and what it has said."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [loadtest, *(str(argument) for argument in arguments), "--json", report.name]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, preexec_fn=pinned(core), **pipes) as child:
            try:
                said, _ = child.communicate(timeout=seconds)
            except BaseException:
                # It may be several processes, in a session of their own.
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                raise
        text = Path(report.name).read_text()
    if not text:
        raise Broken(f"`{shlex.join(command)}` gave no report: {said.strip().splitlines()[-1:]}")
    return json.loads(text), said


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
        core = Core(server.process.pid)
        place = ("--url", server.url, "--pid", server.process.pid)
        report, _ = generated(self.options.loadtest, [*place, *arguments])
        # For a server that keeps what is said, threads of the kernel write on the same core. That is no disturbance.
        return report | {"taken_share": 0 if server.keeps else core.taken_share()}

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


def heading(*more):
    """What a table begins with: when and where it was measured, of which commit, and by which command."""
    checked_out = commit()
    parts = [str(datetime.date.today()), machine(), *more, *([f"commit {checked_out}"] if checked_out else [])]
    return [", ".join(parts), f"`{shlex.join(sys.argv)}`", ""]
