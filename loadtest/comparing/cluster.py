"""Several instances of the server that are one chat, and the brokers between them."""

import http.client
import os
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from .measures import fault
from .sides import GENERATOR_CORE, SERVER_CORE, Broken, Server, free_port, generated, heading, say, started, wait_until

# Descriptors of a process that are no client sockets.
SPARE_DESCRIPTORS = 512
# Those who talk in `sockets`.
SENDERS = 10
# Where the Debian package has the script that does not change the user.
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
WANTED_ADDED_MS = {"Redis": 3, "RabbitMQ": 10}


def answers(port, question, answer):
    """Whether who listens at `port` answers `question` with something that begins with `answer`."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as stream:
            stream.sendall(question)
            return stream.recv(64).startswith(answer)
    except OSError:
        return False


class Broker:
    """One with a folder of its own, which answers at `url` when the `with` begins."""

    def __init__(self, core=None):
        self.core = core

    def __enter__(self):
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="broker-", dir="."))
            self.url = self.start(stack, Path(folder).resolve())
            self.ending = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.ending.close()


class Redis(Broker):
    """A server that keeps its data in memory alone, or as it does by default."""

    NAME = "Redis"

    def __init__(self, core=None, as_installed=False):
        super().__init__(core)
        self.as_installed = as_installed

    @staticmethod
    def is_there():
        return shutil.which("redis-server")

    def start(self, stack, folder):
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        command += [] if self.as_installed else ["--save", "", "--appendonly", "no"]
        child = started(stack, command, self.core, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until("redis-server", lambda: answers(port, b"PING\r\n", b"+PONG"), child)
        return f"redis://127.0.0.1:{port}"


class RabbitMq(Broker):
    """A node with a register of nodes of its own, which would otherwise be one for the whole machine."""

    NAME = "RabbitMQ"

    @staticmethod
    def is_there():
        return RABBITMQ.exists()

    def start(self, stack, folder):
        port, register_port = free_port(), free_port()
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{port}\ndisk_free_limit.absolute = 1MB\n")
        (folder / "plugins").write_text("[].")
        settings = {
            "HOME": folder, "RABBITMQ_HOME_DIR": folder, "RABBITMQ_NODENAME": f"cluster-{port}@localhost",
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf", "RABBITMQ_CONF_ENV_FILE": folder / "none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins", "RABBITMQ_MNESIA_BASE": folder / "mnesia",
            "RABBITMQ_LOG_BASE": folder / "log", "RABBITMQ_PID_FILE": folder / "pid", "RABBITMQ_DIST_PORT": free_port(),
            "ERL_EPMD_PORT": register_port, "ERL_EPMD_ADDRESS": "127.0.0.1",
            # The cores are shared: schedulers that have nothing to do sleep.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
            # With it the script becomes the node, so that the node has the id that we know.
            "RABBITMQ_ALLOW_INPUT": "1",
        }  # fmt: skip
        settings = os.environ | {name: str(value) for name, value in settings.items()}
        command = ["epmd", "-address", "127.0.0.1", "-port", str(register_port)]
        register = started(stack, command, self.core, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until("epmd", lambda: answers(register_port, b"\0\1n", b""), register)
        # Its input stays open, and says nothing: Erlang would take its end for a wish.
        node = started(stack, [str(RABBITMQ)], self.core, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=settings)
        # It listens only when it has read what it keeps. It greets whoever says which protocol it speaks.
        wait_until("rabbitmq-server", lambda: answers(port, b"AMQP\0\0\x09\x01", b"\x01"), node)
        return f"amqp://127.0.0.1:{port}"


class Instance(Server):
    """A server that has reached its bus when the `with` begins."""

    def __enter__(self):
        super().__enter__()
        with ExitStack() as stack:
            stack.push(self.__exit__)
            wait_until("an instance", self.is_ready, self.process)
            stack.pop_all()
        return self

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as response:
                return response.status == 200
        # Another status, or none yet.
        except (OSError, http.client.HTTPException):
            return False


class Measurement:
    """What is started, and what was found."""

    def __init__(self, options):
        self.options = options
        self.chats = 0
        self.rows, self.notes = [], []

    def row(self, scenario, setup, measure, found, wanted=""):
        say(f"{scenario}, {setup}: {measure}: {found}")
        self.rows.append([scenario, setup, measure, found, wanted])

    def note(self, text):
        say(text)
        self.notes.append(text)

    def run(self, count, bus, server, arguments, core=(None, None)):
        """Starts `count` instances on `bus`, if there is one, and the generator beside them; gives its report."""
        self.chats += 1
        # A chat of its own on the broker: what others have said there is not read.
        joined = f"--bus {bus.url} --bus-prefix cluster-{self.chats}" if bus else ""
        command = f"{self.options.server} {server} {joined}"
        with ExitStack() as stack:
            instances = [stack.enter_context(Instance(command, core=core[0])) for _ in range(count)]
            words = ["cluster" if count > 1 else "fanout"]
            for instance in instances:
                words += ["--url", instance.url, "--pid", instance.process.pid]
            report, said = generated(self.options.loadtest, [*words, *arguments], core[1], seconds=300)
        if self.options.verbose:
            say(said)
        return report

    # The scenarios.

    def latency(self):
        arguments = ["--dialect", "v1", "--clients", 20, "--senders", 10, "--rate", 100, "--warmup", 0.5, "--seconds", self.options.seconds]
        core = (SERVER_CORE, GENERATOR_CORE)
        with ExitStack() as stack:
            buses = [stack.enter_context(bus(SERVER_CORE)) for bus in (Redis, RabbitMq) if self.has(bus)]
            for name, server in (("with --memory", "--memory"), ("with stores", "--data {data}")):
                rounds = []
                for number in range(self.options.rounds):
                    reports = {}
                    setups = [("alone", 1, None)] + [(bus.NAME, 2, bus) for bus in buses]
                    for setup, count, bus in setups if number % 2 == 0 else setups[::-1]:
                        reports[setup] = self.run(count, bus, server, arguments, core)
                    shown = ", ".join(f"{setup} p50 {p(report, 50):.2f} ms" for setup, report in reports.items())
                    say(f"latency {name} {number + 1}: {shown}")
                    if faults := [f"{setup}: {fault(report)}" for setup, report in reports.items() if fault(report)]:
                        self.note(f"latency {name}: round {number + 1} left out ({'; '.join(faults)}).")
                    else:
                        rounds.append(reports)
                self.add_latency(name, buses, rounds)

    def add_latency(self, name, buses, rounds):
        if not rounds:
            return self.row("latency", name, "p50 added", "-")
        alone = [statistics.median(p(reports["alone"], share) for reports in rounds) for share in (50, 99)]
        self.row("latency", f"one server {name}", "p50, p99", f"{alone[0]:.2f}, {alone[1]:.2f} ms")
        for bus in buses:
            both = [statistics.median(p(reports[bus.NAME], share) for reports in rounds) for share in (50, 99)]
            self.row("latency", f"two on {bus.NAME} {name}", "p50, p99", f"{both[0]:.2f}, {both[1]:.2f} ms")
            added = sorted(p(reports[bus.NAME], 50) - p(reports["alone"], 50) for reports in rounds)
            found = f"**{statistics.median(added):.2f} ms** ({added[0]:.2f} to {added[-1]:.2f}, {len(added)} rounds)"
            self.row("latency", f"two on {bus.NAME} {name}", "p50 added", found, f"at most {WANTED_ADDED_MS[bus.NAME]} ms")

    def throughput(self):
        if not self.has(Redis):
            return
        arguments = ["--clients", 30, "--senders", 10, "--warmup", 1, "--seconds", self.options.seconds, "--drain", 10]
        setups = [
            ("--memory", 20_000, "--memory --say-rate 0", "v1", False),
            ("stores", 5_000, "--data {data} --say-rate 0", "v1", False),
            ("as installed, raw", 5_000, "--data {data}", "raw", True),
        ]
        for name, rate, server, dialect, as_installed in setups:
            with Redis(as_installed=as_installed) as bus:
                rounds = [
                    self.run(3, bus, server, [*arguments, "--rate", rate, "--dialect", dialect])
                    for _ in range(self.options.rounds)
                ]
            setup = f"three on Redis, {name}"
            sent = sum(report["messages"]["sent"] for report in rounds)
            due = sent + sum(report["messages"]["unsent"] for report in rounds)
            self.row("throughput", setup, f"sent of what was due at {rate:,}/s, {len(rounds)} rounds", f"{sent:,} of {due:,}", "all")
            wrong = [fault(report) for report in rounds if fault(report)]
            delivered = sum(report["messages"]["delivered"] for report in rounds)
            expected = sum(report["messages"]["expected"] for report in rounds)
            order = "all in one order" if dialect == "v1" else "each sender's in order"
            found = f"{delivered:,} of {expected:,}" + (f"; {'; '.join(wrong)}" if wrong else f", {order}")
            self.row("throughput", setup, "delivered", found, "all, in order")
            shown = [f"{statistics.median(p(report, share) for report in rounds):.1f} ms" for share in (50, 99)]
            self.row("throughput", setup, "p50, p99", ", ".join(shown))
            self.tell_limits(f"throughput, {name}", rounds)

    def sockets(self):
        if not self.has(Redis):
            return
        clients, count = self.options.sockets, self.options.instances
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        room = clients if most == resource.RLIM_INFINITY else most - SPARE_DESCRIPTORS
        if clients > room * count:
            raise Broken(f"{count} instances with {most} open files each hold no {clients:,} sockets: raise `ulimit -Hn`")
        processes = max(self.options.processes, -(-clients // room))
        arguments = [
            "--clients", clients, "--senders", SENDERS, "--rate", 0.5, "--seconds", 20, "--settle", 3, "--drain", 20,
            "--processes", processes,
        ]  # fmt: skip
        for dialect in self.options.dialects:
            with Redis() as bus:
                report = self.run(count, bus, "--memory", [*arguments, "--dialect", dialect])
            setup = f"{count} on Redis, {dialect}"
            connect, server, generator, last = (report[name] for name in ("connect", "server", "generator", "latency_last"))
            found = f"**{connect['connected']:,}** in {connect['seconds']:.0f} s"
            self.row("sockets", setup, "connected", found, f"{clients:,}")
            found = f"**{last['p50_us'] / 1e6:.2f} s**, at most {last['max_us'] / 1e6:.2f} s, {last['count']} messages"
            self.row("sockets", setup, "until the last one had a message, p50", found)
            wrong = fault(report)
            messages = report["messages"]
            found = f"{messages['delivered']:,} of {messages['expected']:,}" + (f"; {wrong}" if wrong else "")
            self.row("sockets", setup, "delivered", found, "all, in order")
            self.row("sockets", setup, "resident bytes of all instances for each socket", f"**{server['bytes_per_connection']:,.0f}**")
            found = f"{server['resident_bytes_connected'] / 2**20:,.0f} MiB, {(generator['resident_bytes'] or 0) / 2**20:,.0f} MiB"
            self.row("sockets", setup, f"memory of the instances, of the {processes} generators", found)
            sent = max(report["measured"]["sent"], 1)
            found = f"{server['cpu_seconds'] / sent:.2f} s, {generator['cpu_seconds'] / sent:.2f} s"
            self.row("sockets", setup, "CPU for a message: all instances, all generators", found)
            self.tell_limits(f"sockets, {dialect}", [report])

    def highest(self):
        for bus in (Redis, RabbitMq):
            if not self.has(bus):
                continue
            arguments = ["--clients", 20, "--senders", 10, "--seconds", self.options.seconds, "--hold", "p99<50ms", "--rate", 4_000]
            for name, server in (("--memory", "--memory --say-rate 0"), ("stores", "--data {data} --say-rate 0")):
                with bus() as broker:
                    search = self.run(2, broker, server, arguments)["search"]
                rate = "none" if search["rate"] is None else f"**{search['rate']:,.0f}**"
                why = f"; {search['failed_at']:,.0f} do not: {search['because']}" if search["because"] else ""
                limited = ", the generator being the limit" if search["limited_by_generator"] else ""
                self.row("highest", f"two on {bus.NAME}, {name}", "messages/s with p99 < 50 ms", rate + why + limited)

    def has(self, bus):
        if bus.is_there():
            return True
        if (text := f"There is no {bus.NAME} here: it was left out.") not in self.notes:
            self.note(text)
        return False

    def tell_limits(self, name, reports):
        for verdict in dict.fromkeys(report["generator"].get("verdict") for report in reports):
            if verdict:
                self.note(f"{name}: {verdict}.")

    def table(self):
        lines = [
            *heading(),
            "| scenario | setup | measure | found | wanted |",
            "| --- | --- | --- | ---: | ---: |",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines + [""] + [f"- {note}" for note in self.notes])


def p(report, share):
    """A percentile of the time to each member, in milliseconds."""
    return report["latency_each"][f"p{share}_us"] / 1e3
