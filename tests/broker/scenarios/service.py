"""The process as an operator meets it: stopping, systemd, --check, exit codes, HTTP, a full disk."""
import ctypes
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import check
import topics
import yaml
from daemon import die_with_parent, run
from registry import scenario
from stream import Feeder


@scenario(timeout_s=120)
def service_stop(site):
    """SIGTERM and SIGINT under load: exit 0 within seconds, what was processed is committed."""
    site.create(3)
    stream = site.stream(51)
    backbone = site.backbone(stream)
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 1500)
    feeder.start()
    daemon = site.daemon(backbone, workers=2)
    slowest = 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        daemon.start()
        daemon.wait_ready()
        time.sleep(1.5)
        begun = time.monotonic()
        daemon.process.send_signal(number)
        code = daemon.wait_exit(20)
        slowest = max(slowest, time.monotonic() - begun)
        assert code == 0, f"signal {number}: exit {code}; its log ends:\n{daemon.log()[-1500:]}"
        assert slowest < 8, f"stopped after {slowest:.1f} s"
        outputs = check.Outputs(site)
        committed = topics.committed(site.bootstrap, site.group(), site.topic("interactions"), 3)
        newest = {}
        for partition, records in outputs.updates.items():
            for message in records:
                newest[partition] = max(newest.get(partition, -1), site.update_avro.decode(message.value())["offset"])
        for partition, offset in newest.items():
            # Records after the newest update may be late ones, which have none.
            assert committed[partition] > offset, f"update of {offset} out, committed {committed[partition]}"
    # Stopped at once after the start, before it is ready.
    for wait in (0.0, 0.05, 0.3, 1.0):
        said = daemon.log().count("info: peterd")
        daemon.start()
        time.sleep(wait)
        begun = daemon.log().count("info: peterd") > said
        daemon.process.send_signal(signal.SIGTERM)
        code = daemon.wait_exit(25)
        assert code == 0 or (code == -signal.SIGTERM and not begun), f"stopped after {wait} s: exit {code}"
    feeder.stop()
    daemon.start()
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)
    site.note(f"slowest stop {slowest:.1f} s")


class Notify:
    """systemd's side of sd_notify(3)."""

    def __init__(self, folder):
        self.path = os.path.join(tempfile.mkdtemp(dir="/tmp", prefix="notify-"), "socket")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.seen = []  # (seconds, line)
        self.begun = time.monotonic()

    def until(self, line, seconds):
        """Reads until a message has this line; None when it does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                for found in self.socket.recv(4096).decode().splitlines():
                    self.seen.append((time.monotonic() - self.begun, found))
                    if found.startswith(line):
                        return found
            except TimeoutError:
                return None
        return None

    def close(self):
        self.socket.close()
        shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)


@scenario(own_broker=True, timeout_s=120)
def service_notify(site):
    """READY=1 comes only when assigned and restored, with EXTEND_TIMEOUT_USEC until then; the watchdog is fed; STOPPING=1."""
    site.create(3)
    stream = site.stream(52)
    backbone = site.backbone(stream)
    site.produce(stream.take(site.size(4000)))
    notify = Notify(site.folder)
    daemon = site.daemon(backbone, env={"NOTIFY_SOCKET": notify.path, "WATCHDOG_USEC": "2000000"})
    try:
        site.cluster.stop()
        daemon.start()
        assert notify.until("READY=1", 5) is None, "READY=1 without a broker"
        assert any(l.startswith("EXTEND_TIMEOUT_USEC=") for _, l in notify.seen), f"no EXTEND_TIMEOUT_USEC: {notify.seen}"
        assert daemon.get("/readyz")[0] == 503
        site.cluster.start()
        assert notify.until("READY=1", 40), f"no READY=1: {notify.seen[-5:]}; log:\n{daemon.log()[-1500:]}"
        assert daemon.get("/readyz")[0] == 200, f"READY=1, but /readyz says {daemon.get('/readyz')}"
        fed = sum(l == "WATCHDOG=1" for _, l in notify.seen)
        notify.until("never", 5)
        more = sum(l == "WATCHDOG=1" for _, l in notify.seen) - fed
        assert more >= 3, f"the watchdog of 2 s was fed {more} times in 5 s"
        site.settle(daemon=daemon)
        # Again with an empty store: READY=1 waits for the restore.
        daemon.kill()
        shutil.rmtree(daemon.config["state_dir"])
        notify.seen.clear()
        daemon.start()
        assert notify.until("READY=1", 40), f"no READY=1 after a restore; log:\n{daemon.log()[-1500:]}"
        restored = daemon.metric("peterd_restore_records_total")
        assert restored and restored >= len(stream.users) / 2, f"READY=1 with {restored} records restored"
        daemon.process.terminate()
        assert notify.until("STOPPING=1", 10), "no STOPPING=1"
        assert daemon.wait_exit(20) == 0
    finally:
        notify.close()


def forbid_sockets():
    """A seccomp filter for the next program: socket(2) kills it."""
    number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    code = b"".join(struct.pack("<HBBI", *line) for line in (
        (0x20, 0, 0, 0),            # load the system call's number
        (0x15, 0, 1, number),       # socket?
        (0x06, 0, 0, 0x80000000),   # kill the process
        (0x06, 0, 0, 0x7FFF0000)))  # allow
    memory = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("<HxxxxxxQ", 4, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    die_with_parent()
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        os._exit(99)


def without_sockets(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=30, preexec_fn=forbid_sockets)


@scenario(timeout_s=90)
def service_check(site):
    """--check opens no socket; wrong configurations are told by file, line and key, each with its exit code."""
    site.create(2)
    stream = site.stream(53)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone)
    path = daemon.write_config()
    probe = without_sockets(["/usr/bin/env", "python3", "-c", "import socket; socket.socket()"])
    assert probe.returncode not in (0, 99), "the filter that forbids sockets does not work"
    done = without_sockets([site.peterd, "--config", path, "--check"])
    assert done.returncode == 0, f"--check: {done.returncode} {done.stderr}"
    done = run([site.peterd, "--config", path, "--check=broker"])
    assert done.returncode == 0, f"--check=broker: {done.returncode} {done.stderr}"
    sample = run([site.peterd, "--print-config"])
    assert sample.returncode == 0 and yaml.safe_load(sample.stdout)["group"] == "peterd", "--print-config"

    def broken(name, change, code, *words, option="--check"):
        config = yaml.safe_load(open(path))
        text = change(config)
        broken_path = os.path.join(site.folder, f"broken-{name}.yaml")
        with open(broken_path, "w") as out:
            out.write(text if isinstance(text, str) else yaml.safe_dump(config, sort_keys=False))
        done = run([site.peterd, "--config", broken_path, *([option] if option else [])], timeout=40)
        said = done.stderr.strip().splitlines()
        codes = code if isinstance(code, tuple) else (code,)
        assert done.returncode in codes, f"{name}: exit {done.returncode}, expected {code}: {done.stderr}"
        assert not option or len(said) == 1, f"{name}: {len(said)} lines: {said}"
        for word in words:
            assert said and word in said[-1], f"{name}: the message does not name {word!r}: {said}"

    garbage = os.path.join(site.folder, "garbage.safetensors")
    with open(garbage, "wb") as out:
        out.write(b"\x10\0\0\0\0\0\0\0{}              ")
    cut = os.path.join(site.folder, "cut.safetensors")
    shutil.copy(backbone.path, cut)
    os.truncate(cut, os.path.getsize(cut) - 100)
    broken("unknown", lambda c: c.update(wrokers=3), 78, "wrokers", "workers", "broken-unknown.yaml:")
    broken("nested", lambda c: c["updates"].update(min_intervall_ms=3), 78, "min_intervall_ms", "min_interval_ms")
    broken("type", lambda c: c.update(workers="many"), 78, "workers")
    broken("range", lambda c: c.update(workers=0), 78, "workers")
    broken("missing", lambda c: c.pop("backbone") and None, 78, "backbone")
    broken("property", lambda c: c["kafka"].update({"no.such.property": "1"}), 78, "no.such.property")
    broken("value", lambda c: c["kafka"].update({"session.timeout.ms": "soon"}), 78, "session.timeout.ms")
    broken("yaml", lambda c: "group: [a\nworkers: 1\n", 78, "broken-yaml.yaml")
    broken("twice", lambda c: open(path).read() + "\nworkers: 2\n", 78, "workers")
    broken("no-file", lambda c: c.update(backbone="/nonexistent/b.safetensors"), (66, 78, 65), "/nonexistent/b.safetensors")
    broken("garbage", lambda c: c.update(backbone=garbage), 65, "garbage.safetensors")
    broken("cut", lambda c: c.update(backbone=cut), 65, "cut.safetensors")
    broken("task", lambda c: c.update(tasks=[{"name": "a", "type": "ranking", "mean_window": 4, "blocks": [99]}]), 78,
           "tasks[0]", "blocks", "broken-task.yaml:")
    broken("schema", lambda c: c["interactions"].update(schema=path), 78)
    broken("field", lambda c: c["interactions"].update(fields={"user_id": "who.uid"}), 78, "who.uid")
    # A daemon that runs meets the same errors before it does anything.
    broken("run", lambda c: c.update(wrokers=3), 78, "wrokers", option=None)
    broken("away", lambda c: c["kafka"].update({"bootstrap.servers": "127.0.0.1:9"}), 69, "127.0.0.1:9", "refused",
           option="--check=broker")
    topics.create(site.bootstrap, {site.topic("odd"): (5, {})})
    broken("labels", lambda c: c["labels"].update(topic=site.topic("odd")), 78, "partitions", option="--check=broker")
    broken("labels", lambda c: c["labels"].update(topic=site.topic("odd")), 78, "partitions", option=None)
    for arguments, code in ((["--config"], 64), (["--nonsense"], 64), ([], 64), (["--config", "/nonexistent.yaml"], 66),
                            (["--config", "/", "--check"], 78), (["--config", "/"], 78),
                            (["--help"], 0), (["--version"], 0)):
        done = run([site.peterd, *arguments])
        assert done.returncode == code, f"peterd {arguments}: exit {done.returncode}, expected {code}: {done.stderr}"
        assert code == 0 or len(done.stderr.strip().splitlines()) <= 3, f"peterd {arguments} says {done.stderr!r}"


@scenario(timeout_s=60)
def service_http(site):
    """/livez, /readyz, /metrics; what they say of a settled daemon is true."""
    site.create(3)
    stream = site.stream(54, late=0.05)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone).start()
    daemon.wait_ready()
    site.produce(stream.take(site.size(3000)))
    inputs = site.settle(daemon=daemon)
    time.sleep(1)
    assert daemon.get("/livez")[0] == 200 and daemon.get("/nothing")[0] == 404
    oracle = check.verify(site, [backbone], inputs=inputs).oracle
    updates = sum(map(len, check.Outputs(site).updates.values()))
    for name, expected in (("peterd_interactions_total", oracle.events - oracle.late),
                           ("peterd_interactions_late_total", oracle.late), ("peterd_updates_total", updates)):
        found = daemon.metric(name)
        assert found == expected, f"{name} is {found}, the topics say {expected}"
    text = daemon.get("/metrics")[1]
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    helps = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert names == helps and len(names) > 15, f"{len(names)} types, {len(helps)} helps"
    lag = daemon.metrics().get("peterd_lag") or daemon.metrics().get("peterd_interactions_lag")
    assert lag is None or sum(lag.values()) == 0, f"lag {lag} of a settled daemon"
    daemon.stopped_well()


@scenario(timeout_s=150)
def service_disk_full(site):
    """The state directory's disk fills up: alive, going on, not ready with the reason; room again: ready by itself."""
    assert os.geteuid() == 0, "needs root, for a small file system of its own"
    site.create(2)
    stream = site.stream(55, users=400)
    backbone = site.backbone(stream)
    mount = os.path.join(site.folder, "small")
    os.makedirs(mount)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", mount], check=True)
    try:
        daemon = site.daemon(backbone, state_dir=os.path.join(mount, "state"), sequences={"keep": 1000}).start()
        daemon.wait_ready()
        site.produce(stream.take(500))
        site.settle(daemon=daemon)
        filler = os.path.join(mount, "filler")
        with open(filler, "wb") as out:
            try:
                while True:
                    out.write(bytes(65536))
                    out.flush()
            except OSError:
                pass
        deadline = time.monotonic() + 60
        while daemon.get("/readyz")[0] != 503:
            daemon.assert_alive()
            assert time.monotonic() < deadline, f"the disk is full and it stays ready: {os.statvfs(mount).f_bfree} blocks free"
            site.produce(stream.take(3000))
            site.settle(daemon=daemon)
        status, reason = daemon.get("/readyz")
        site.note(reason.strip())
        assert "No space" in reason or "disk" in reason or "store" in reason, f"the reason is {reason!r}"
        assert daemon.get("/livez")[0] == 200
        site.produce(stream.take(1000))
        site.settle(daemon=daemon)
        os.remove(filler)
        begun = time.monotonic()
        while daemon.get("/readyz")[0] != 200:
            daemon.assert_alive()
            assert time.monotonic() - begun < 60, f"room again, still {daemon.get('/readyz')}"
            site.produce(stream.take(50))
            time.sleep(0.5)
        site.settle(daemon=daemon)
        daemon.kill()
        site.produce(stream.take(300))
        daemon.start()
        inputs = site.settle(daemon=daemon)
        daemon.stopped_well()
        check.verify(site, [backbone], inputs=inputs, keep=1000)
    finally:
        site.close()
        subprocess.run(["umount", "-l", mount], check=False)
