"""A Postfix for tests: found or installed, with a folder of its own, and ended.

It leaves the machine's own Postfix alone: configuration, queue, data and log are in the folder, and
each of its SMTP services listens on a free port of loopback. Only root can run it, because its
``master`` gives its processes to the user ``postfix``. What it accepts goes to one next server.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.servers.debian import Missing, found_or_installed
from tools.servers.port import free_port

START_SECONDS = 30.0
_STARTS = 3
KNOWN_DOMAIN = "known.example"
_DAEMONS = Path("/usr/lib/postfix/sbin")
_OWN = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming")
_OWN_TOO = ("private", "saved", "trace")
_PARTS = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def need_program() -> Path:
    """Return Postfix's ``master``, installed where that is possible; raise ``Missing``."""
    if os.geteuid() != 0:
        raise Missing("Only root can run a Postfix of its own.")
    if not (_DAEMONS / "master").exists() and shutil.which("debconf-set-selections"):
        # Debian's package would start a server for the whole machine.
        subprocess.run(
            ["debconf-set-selections"],
            input="postfix postfix/main_mailer_type select No configuration\n",
            text=True,
            check=True,
        )
    return found_or_installed("postfix", lambda: _existing(_DAEMONS / "master"))


def need_postgrey() -> str:
    """Return the greylisting server, installed where that is possible; raise ``Missing``."""
    return found_or_installed("postgrey", lambda: shutil.which("postgrey"))


def _existing(file: Path) -> Path | None:
    return file if file.exists() else None


@dataclass
class Postfix:
    """A Postfix that runs, with one SMTP service for each name in ``services``."""

    folder: Path
    services: dict[str, Mapping[str, str]]
    """The parameters of each service, beside those of all."""
    next_port: int
    """The port of the server that gets what Postfix has accepted."""
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the folder, start Postfix and wait until every service answers."""
        program = need_program()
        self._make_folders()
        for _ in range(_STARTS):  # another process may take a port between its choice and its use
            self.ports = {name: free_port() for name in self.services}
            self._write_configuration()
            if self._run(program):
                return
        raise RuntimeError(f"Postfix did not start: {self.log()[-2_000:]}")

    def _run(self, program: Path) -> bool:
        """Run ``master``; return whether every service answers."""
        words = ["setpriv", "--pdeathsig", "TERM", str(program)]
        words += ["-c", str(self.folder / "etc"), "-d"]
        with (self.folder / "master.log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + START_SECONDS
        while not all(_answers(port) for port in self.ports.values()):
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                self.stop()
                return False
            time.sleep(0.05)
        return True

    def change(self, name: str, parameters: Mapping[str, str]) -> None:
        """Give a service other parameters, as its operator does, and wait until they hold."""
        self.services[name] = parameters
        self._write_configuration()
        reloads = self.log().count("reload -- version")
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + START_SECONDS
        while self.log().count("reload -- version") == reloads or not _answers(self.ports[name]):
            if time.monotonic() > deadline:
                raise RuntimeError(f"Postfix did not reload: {self.log()[-2_000:]}")
            time.sleep(0.02)

    def log(self) -> str:
        """Return what Postfix has written."""
        files = (self.folder / "spool" / "mail.log", self.folder / "master.log")
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def is_queue_empty(self) -> bool:
        """Return whether every mail that was accepted has left."""
        names = ("maildrop", "incoming", "active", "deferred")
        files = (each for name in names for each in (self.folder / "spool" / name).rglob("*"))
        return not any(each.is_file() for each in files)

    def stop(self) -> None:
        """Stop it and its processes."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_SECONDS)
            self.process = None

    def _make_folders(self) -> None:
        postfix, postdrop = pwd.getpwnam("postfix"), grp.getgrnam("postdrop").gr_gid
        self.folder.chmod(0o755)
        spool = self.folder / "spool"
        for folder in (self.folder / "etc", spool, spool / "pid"):
            folder.mkdir()
        for name in (*_OWN, *_OWN_TOO, "public", "maildrop"):
            (spool / name).mkdir(mode=0o700)
            os.chown(spool / name, postfix.pw_uid, -1)
        for name, mode in (("public", 0o2710), ("maildrop", 0o1730)):
            os.chown(spool / name, postfix.pw_uid, postdrop)
            (spool / name).chmod(mode)
        (self.folder / "data").mkdir(mode=0o700)
        os.chown(self.folder / "data", postfix.pw_uid, postfix.pw_gid)

    def _write_configuration(self) -> None:
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.folder / "spool"),
            "data_directory": str(self.folder / "data"),
            "daemon_directory": str(_DAEMONS),
            "maillog_file": str(self.folder / "spool" / "mail.log"),
            "maillog_file_prefixes": str(self.folder),
            "myhostname": "relay.example.net",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "relayhost": f"[127.0.0.1]:{self.next_port}",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no",
            "smtpd_recipient_restrictions": "permit",
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "smtpd_error_sleep_time": "0",
            # A domain whose addresses it knows: there is but one.
            "relay_domains": KNOWN_DOMAIN,
            "relay_recipient_maps": f"inline:{{known@{KNOWN_DOMAIN}=OK}}",
            "notify_classes": "",  # no mail to the postmaster about a full disk
            "queue_run_delay": "1s",
            "minimal_backoff_time": "1s",
            "maximal_backoff_time": "1s",
        }
        lines = [f"{name} = {value}\n" for name, value in main.items()]
        (self.folder / "etc" / "main.cf").write_text("".join(lines))
        services = []
        for name, port in self.ports.items():
            # A process serves one connection, so that no idle one has the parameters of before.
            parameters = {**self.services[name], "max_use": "1"}
            options = [f"  -o {{{key} = {value}}}\n" for key, value in parameters.items()]
            services.append(f"127.0.0.1:{port} inet n - n - - smtpd\n" + "".join(options))
        (self.folder / "etc" / "master.cf").write_text(_PARTS + "".join(services))


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


@dataclass
class Postgrey:
    """A greylisting server, which Postfix asks about each recipient."""

    folder: Path
    delay_seconds: int = 1
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = need_postgrey()
        self.folder.mkdir(exist_ok=True)
        shutil.chown(self.folder, "postgrey", "postgrey")
        words = ["setpriv", "--pdeathsig", "TERM", program, f"--inet=127.0.0.1:{self.port}"]
        words += [f"--dbdir={self.folder}", f"--delay={self.delay_seconds}"]
        self.process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder
        )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("postgrey did not start")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_SECONDS)
            self.process = None
