"""A peterd under test: its configuration, its process, its HTTP, its log."""
import ctypes
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import yaml

LIVE = []  # every process started here, for the last clean-up


def die_with_parent():
    if os.environ.get("PETERD_CORES"):  # for a person who looks into a crash
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port():
    """A free loopback port below the ephemeral range, so that no retrying client sits on it."""
    while True:
        port = 10000 + int.from_bytes(os.urandom(2), "little") % 20000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Daemon:
    """`config` is the configuration as nested dicts; written anew at every start, so that tests may change it."""

    def __init__(self, binary, folder, name, config, env=None):
        self.binary, self.folder, self.name, self.config = binary, folder, name, config
        self.path, self.log_path = os.path.join(folder, name + ".yaml"), os.path.join(folder, name + ".log")
        self.port, self.process, self.starts = free_port(), None, 0
        self.env = dict(env or {})

    def write_config(self):
        self.config["http"] = {"listen": f"127.0.0.1:{self.port}"}
        with open(self.path, "w") as out:
            yaml.safe_dump(self.config, out, allow_unicode=True, sort_keys=False)
        return self.path

    def start(self, wrapper=()):
        assert self.process is None or self.process.poll() is not None, "already runs"
        self.write_config()
        log = open(self.log_path, "ab")
        self.starts += 1
        self.process = subprocess.Popen([*wrapper, self.binary, "--config", self.path], stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL, env={**os.environ, **self.env}, cwd=self.folder,
                                        preexec_fn=die_with_parent)
        log.close()
        LIVE.append(self.process)
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def assert_alive(self):
        if not self.alive():
            code = self.process.returncode if self.process else None
            raise AssertionError(f"{self.name} ended by itself with {code}; its log ends:\n{self.log()[-1500:]}")

    def kill(self):
        if self.alive():
            self.process.kill()
        if self.process:
            self.process.wait()

    def stop(self, timeout=25):
        """SIGTERM; returns (exit code, seconds)."""
        begun = time.monotonic()
        if self.alive():
            self.process.terminate()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} does not stop within {timeout} s; its log ends:\n{self.log()[-1500:]}")
        return code, time.monotonic() - begun

    def stopped_well(self, timeout=25):
        self.assert_alive()
        code, seconds = self.stop(timeout)
        assert code == 0, f"{self.name} stopped with {code}; its log ends:\n{self.log()[-1500:]}"
        return seconds

    def wait_exit(self, timeout):
        return self.process.wait(timeout)

    def log(self):
        try:
            with open(self.log_path, errors="replace") as text:
                return text.read()
        except FileNotFoundError:
            return ""

    def get(self, path):
        """(status, body); (0, reason) where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self):
        """{name: {labels as sorted tuple: value}}"""
        status, text = self.get("/metrics")
        if status != 200:
            return {}
        found = {}
        for line in text.splitlines():
            match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", line)
            if match and not line.startswith("#"):
                labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")))
                found.setdefault(match[1], {})[labels] = float(match[3])
        return found

    def metric(self, name, **labels):
        """The sum over the series whose labels include these; None where there is no such metric."""
        series = self.metrics().get(name)
        if series is None:
            return None
        return sum(v for k, v in series.items() if labels.items() <= dict(k).items())

    def wait_ready(self, timeout=60, ready=True):
        deadline = time.monotonic() + timeout
        while True:
            self.assert_alive()
            status, body = self.get("/readyz")
            if (status == 200) == ready and status:
                return body
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: /readyz says {status} {body!r} for {timeout} s, wanted "
                                     f"{'ready' if ready else 'not ready'}; its log ends:\n{self.log()[-1500:]}")
            time.sleep(0.05)

    def rss_mb(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0


def kill_all():
    for process in LIVE:
        if process.poll() is None:
            process.kill()
            process.wait()


def run(command, timeout=60, **more):
    """A command to its end: CompletedProcess with text output."""
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, preexec_fn=die_with_parent, **more)


def dump(value):
    return json.dumps(value, ensure_ascii=False)
