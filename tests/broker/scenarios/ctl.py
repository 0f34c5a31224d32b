"""peterctl as people meet it: exit codes, one line that says what is wrong, Ctrl-C."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import topics
from cluster import ROOT
from daemon import die_with_parent, run
from registry import scenario


def fails(command, code, *words, seconds=30, **more):
    """The command ends with this code, within so many seconds, and one line on stderr that holds the words."""
    begun = time.monotonic()
    done = run(command, timeout=60, **more)
    took = time.monotonic() - begun
    said = done.stderr.splitlines()
    what = " ".join(command[1:])
    assert done.returncode == code, f"{what}: exit {done.returncode}, expected {code}: {done.stderr!r}"
    assert len(said) == 1, f"{what}: {len(said)} lines on stderr: {done.stderr!r}"
    for word in words:
        assert word in said[0], f"{what}: the line does not name {word!r}: {said[0]!r}"
    assert took < seconds, f"{what}: took {took:.1f} s"


@scenario(timeout_s=60)
def ctl_tools(site):
    """The scripts' --help comes at once, sets nothing up and builds nothing."""
    clone = os.path.join(site.folder, "clone")
    for name in ("tools", "docs"):
        shutil.copytree(os.path.join(ROOT, name), os.path.join(clone, name))
    before = sorted(os.listdir(clone))
    for command, word in (("demo --help", "--rate R"), ("demo --kafka --help", "--kafka"), ("test --help", "broker"),
                          ("test unit --help", "broker"), ("setup --tests --help", "--kafka"), ("kafka --help", "--nodes"),
                          ("kafka start --help", "--nodes")):
        tool, *arguments = command.split()
        done = run([os.path.join(clone, "tools", tool), *arguments], timeout=10, cwd=clone)
        assert done.returncode == 0 and word in done.stdout, f"tools/{command}: {done.returncode} {done.stdout} {done.stderr}"
    assert sorted(os.listdir(clone)) == before, f"--help left {os.listdir(clone)}"


@scenario(timeout_s=60)
def ctl_outputs(site):
    """What cannot be written is an I/O error, and what is no file is not removed."""
    backbone = site.backbone(site.stream(61))
    events = os.path.join(site.folder, "events.csv")
    with open(events, "w") as out:
        out.write("user_id,item_id,timestamp\nu,a,1\n")
    embed = [site.peterctl, "embed", "--backbone", backbone.path, "--events", events, "--out"]
    fails([*embed, "/nonexistent/x.npy"], 74, "/nonexistent/x.npy: cannot be written")
    fails([*embed, "/dev/full"], 74, "/dev/full: cannot be written")
    fails([*embed, os.path.join(site.folder, "x.npy"), "--users-out", events + "/u"], 74, events + "/u")
    fails([site.peterctl, "broker", "--bootstrap-file", "/dev/full"], 74, "/dev/full")
    assert os.path.exists("/dev/full"), "the device is gone"
    with open("/dev/full", "w") as full:
        done = subprocess.run([site.peterctl, "schema"], stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 74, f"a full standard output: {done.returncode}"


@scenario(timeout_s=90)
def ctl_pipe(site):
    """A reader of standard output that goes away ends a command by SIGPIPE, without a word, and what it made is removed."""
    site.create(1)
    stream = site.stream(66)
    backbone = site.backbone(stream, channels=64)
    daemon = site.daemon(backbone).start()
    daemon.wait_ready()
    site.produce(stream.take(500) + [(b"u", b"no Avro", [])])
    site.settle(daemon=daemon)
    events = os.path.join(site.folder, "events.csv")
    with open(events, "w") as out:
        out.write("user_id,item_id,timestamp\nu,a,1\n")
    for command in (["inspect", backbone.path], ["inspect", "--json", backbone.path], ["schema"], ["--help"],
                    ["embed", "--backbone", backbone.path, "--events", events, "--out", "/dev/stdout"],
                    ["watch", "--config", daemon.path, "--from-beginning"],
                    ["watch", "--config", daemon.path, "--from-beginning", "--json"],
                    ["deadletter", "list", "--config", daemon.path], ["demo", "--seconds", "20"]):
        temporary = os.path.join(site.folder, "tmp")
        os.makedirs(temporary, exist_ok=True)
        piped = subprocess.Popen([site.peterctl, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**os.environ, "TMPDIR": temporary}, preexec_fn=die_with_parent)
        piped.stdout.close()
        said = "".join(line for line in piped.stderr.read().decode().splitlines(True)
                       if not line.startswith("items: "))  # how far pre-training is
        code = piped.wait(30)
        assert (code, said) == (-signal.SIGPIPE, ""), f"peterctl {' '.join(command)}: {code}, {said!r}"
        assert not os.listdir(temporary), f"{command} left {os.listdir(temporary)}"
    printed = subprocess.Popen([site.peterd, "--print-config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed.stdout.close()
    assert (printed.stderr.read(), printed.wait(30)) == (b"", -signal.SIGPIPE)


@scenario(timeout_s=60)
def ctl_inspect(site):
    """inspect --json sums a backbone up, and does so for none that would be refused."""
    backbone = site.backbone(site.stream(65), channels=24, kernel=2, dilations=(1, 3, 5))
    done = run([site.peterctl, "inspect", "--json", backbone.path])
    assert done.returncode == 0, f"inspect: {done.returncode} {done.stderr}"
    found = json.loads(done.stdout)
    summary = found["backbone"]
    assert summary.pop("state_bytes") > 0
    assert summary == {"arch": "nextitnet", "causal": True, "channels": 24, "kernel_size": 2, "dilations": [1, 3, 5],
                       "receptive_field": backbone.window + 1, "window": backbone.window, "vocabulary": len(backbone.items),
                       "next_item": "last", "sha256": backbone.hash}, f"the summary is {summary}"
    assert found["sha256"] == backbone.hash and len(found["tensors"]) == 1 + 3 * 8
    text = run([site.peterctl, "inspect", backbone.path]).stdout
    assert f"receptive field {backbone.window + 1}" in text and "dilations 1,3,5" in text, text[-400:]
    data = open(backbone.path, "rb").read()
    with open(backbone.path, "wb") as out:
        out.write(data.replace(b'"causal": "true"', b'"causal": "what"'))
    done = run([site.peterctl, "inspect", "--json", backbone.path])
    assert done.returncode == 65 and "backbone" not in json.loads(done.stdout), f"{done.returncode}, {done.stderr}"


@scenario(timeout_s=60)
def ctl_usage(site):
    """A command line that is wrong: exit 64 and what would be right."""
    path = site.daemon(site.backbone(site.stream(64))).write_config()
    for command in ("list", "requeue"):
        fails([site.peterctl, "deadletter", command, "--config", path, "--reason", "nosuch"], 64, "nosuch",
              "undecodable, schema, missing_field, timestamp, oversize")
        fails([site.peterctl, "deadletter", command, "--config", path, "--reason", "oversized"], 64, "did you mean oversize?")


@scenario(timeout_s=60)
def ctl_away(site):
    """No broker there: exit 69 within ten seconds or so, one line with the reason."""
    site.create(1)
    config = site.daemon(site.backbone(site.stream(62)))
    config.config["kafka"]["bootstrap.servers"] = "127.0.0.1:9"
    path = config.write_config()
    events = os.path.join(site.folder, "events.csv")
    with open(events, "w") as out:
        out.write("user_id,item_id,timestamp\nu,a,1\n")
    commands = [(*command, "--config", path) for command in (
        ("topics", "create"), ("watch",), ("deadletter", "list"), ("deadletter", "requeue"), ("replay", "--events", events))]
    commands.append(("demo", "--bootstrap", "127.0.0.1:9"))
    with ThreadPoolExecutor(len(commands)) as pool:
        for future in [pool.submit(fails, [site.peterctl, *c], 69, "Connection refused", seconds=18) for c in commands]:
            future.result()


@scenario(own_broker=True, timeout_s=240)
def ctl_watch_away(site):
    """A watch that loses its broker says so in one line, and goes on when it comes back."""
    site.create(1)
    stream = site.stream(63)
    daemon = site.daemon(site.backbone(stream)).start()
    daemon.wait_ready()
    out, err = (os.path.join(site.folder, name) for name in ("watch.out", "watch.err"))
    with open(out, "w") as stdout, open(err, "w") as stderr:
        watch = subprocess.Popen([site.peterctl, "watch", "--config", daemon.path], stdout=stdout, stderr=stderr,
                                 preexec_fn=die_with_parent)

    def await_size(path, least, seconds=30):
        deadline = time.monotonic() + seconds
        while os.path.getsize(path) <= least:
            assert watch.poll() is None, f"watch ended with {watch.returncode}: {open(err).read()}"
            assert time.monotonic() < deadline, f"{os.path.basename(path)} does not grow: {open(err).read()!r}"
            time.sleep(0.1)

    try:
        time.sleep(2)  # it starts at the end
        site.produce(stream.take(50))
        await_size(out, 0)
        site.cluster.kill()
        await_size(err, 0)
        time.sleep(3)
        said = open(err).read().splitlines()
        assert len(said) == 1 and "waiting for brokers" in said[0], f"it says {said}"
        site.cluster.start()
        before = os.path.getsize(out)
        site.produce(stream.take(50))
        await_size(out, before, 60)
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0
    finally:
        watch.kill()
        watch.wait()


def processes_in(folder):
    """Processes whose command line names the folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = open(f"/proc/{pid}/cmdline", "rb").read()
        except OSError:
            continue
        if folder.encode() in command:
            found.append(int(pid))
    return found


@scenario(timeout_s=120)
def ctl_demo_stopped(site):
    """Ctrl-C at any moment of the demo: exit 0, nothing left running, no file left, no topic left."""
    ours = []
    for number, wait in ((signal.SIGINT, 0), (signal.SIGINT, 0.3), (signal.SIGTERM, 0.8), (signal.SIGINT, 1.5),
                         (signal.SIGINT, 5)):
        for arguments in ((), ("--bootstrap", site.bootstrap)):  # another scenario may run a demo on the same broker
            folder = tempfile.mkdtemp(dir=site.folder)
            demo = subprocess.Popen([site.peterctl, "demo", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    text=True, env={**os.environ, "TMPDIR": folder}, preexec_fn=die_with_parent)
            ours.append(f"peterd-demo-{demo.pid}-")
            try:
                while not os.listdir(folder):  # before that there is nothing to leave behind
                    time.sleep(0.01)
                time.sleep(wait)
                demo.send_signal(number)
                said = demo.communicate(timeout=60)[0]
            finally:
                demo.kill()
            assert demo.returncode == 0, f"stopped after {wait} s: exit {demo.returncode}: {said}"
            assert not os.listdir(folder), f"stopped after {wait} s, left: {os.listdir(folder)}"
            assert not processes_in(folder), f"stopped after {wait} s, still running: {processes_in(folder)}"
    left = [t for t in topics.admin(site.bootstrap).list_topics(timeout=10).topics if t.startswith(tuple(ours))]
    assert not left, f"topics left: {left}"
