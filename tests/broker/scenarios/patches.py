"""Patch versions as people meet them: listed, shown, exported and taken back, while a learner makes more of them."""
import hashlib
import json
import os
import random
import signal
import subprocess
import time

from confluent_kafka import Producer

import codec
import topics
from daemon import die_with_parent
from registry import scenario
from scenarios.ctl import fails
from scenarios.tasks import does
from stream import produce

COLOURS = ["red", "green", "blue"]


class Patches:
    def __init__(self, site, daemon):
        self.site, self.daemon = site, daemon

    def command(self, what, *arguments):
        return [self.site.peterctl, "patch", what, *arguments, "--config", self.daemon.path]

    def list(self, *task):
        return [json.loads(line) for line in does(self.command("list", *task, "--json")).splitlines()]

    def live(self, task):
        """The newest record of the task, and the last one that decided something."""
        records = self.list(task)
        decided = [r for r in records if r["decision"] != "checkpoint"]
        return records[-1], decided[-1]

    def export(self, task, *version):
        path = os.path.join(self.site.folder, "exported.safetensors")
        does(self.command("export", task, "--out", path, *version), f"{task}: version ")
        with open(path, "rb") as data:
            return path, hashlib.sha256(data.read()).hexdigest()


def tamper(site, patches):
    """verify finds bytes that are others, and examples that are gone."""
    handle, topic = Producer({"bootstrap.servers": site.bootstrap, "log_level": 2}), site.topic("patches")
    verify = patches.command("verify", "colour")
    shown = json.loads(does(patches.command("show", "colour", "--json")))
    slot, = (v["slot"] for v in shown["versions"] if v["role"] == "live")
    written = {m.key().decode(): m for messages in topics.read_all(site.bootstrap, topic).values() for m in messages}
    chunk, manifest = written[f"colour/{slot}/0"], written[f"colour/{slot}/manifest"]

    def write(message, value):
        handle.produce(topic, key=message.key(), value=value, partition=message.partition())
        assert handle.flush(30) == 0

    write(chunk, chunk.value()[:-1] + bytes([chunk.value()[-1] ^ 1]))
    fails(verify, 65, f"task colour: slot {slot} is not whole: chunk 0 is newer than the manifest")
    write(manifest, manifest.value())
    fails(verify, 65, f"task colour: slot {slot} is not whole: ")
    write(chunk, chunk.value())
    write(manifest, manifest.value())
    does(verify, "the same bytes come out")
    first, second = sorted(m.offset() for m in topics.read_all(site.bootstrap, site.topic("examples"))[shown["examples"]["partition"]]
                           if m.key() == b"colour")[:2]
    topics.delete_before(site.bootstrap, site.topic("examples"), shown["examples"]["partition"], first)
    does(verify, "from the beginning on")
    topics.delete_before(site.bootstrap, site.topic("examples"), shown["examples"]["partition"], second)
    fails(verify, 65, "task colour: neither its beginning nor a checkpoint is there any more with all of its examples")


@scenario(timeout_s=240)
def patches_by_people(site):
    """A learner promotes; its versions are listed, exported byte by byte, and one is taken back."""
    site.create(3)
    stream = site.stream(81, start_ms=int(time.time() * 1000) - 600_000)
    backbone = site.backbone(stream)
    colour = {"name": "colour", "type": "classification", "labels": COLOURS, "mean_window": 4, "max_age_ms": 300}
    daemon = site.daemon(backbone, tasks=[colour, {"name": "idle", "type": "ranking", "mean_window": 4}])
    patches, rng = Patches(site, daemon), random.Random(site.seed)
    avro = codec.Avro.shipped(site.peterctl, "Label")
    daemon.write_config()
    fails(patches.command("export", "colour", "--out", "/nonexistent/p"), 74, "/nonexistent/p")
    fails(patches.command("export", "colour", "--out", os.path.join(site.folder, "p")), 66, "task colour: no version has been written yet")
    fails(patches.command("rollback", "colour"), 66, "task colour: no version has been written yet")
    fails(patches.command("show", "colr"), 66, "task colr: there is no such task")
    fails(patches.command("show"), 64, "a task's name is missing")
    fails(patches.command("shew", "colour"), 64, "list, show, rollback, export")
    assert patches.list() == [] == patches.list("colour")

    site.produce(stream.take(2000))
    daemon.start()
    site.settle(daemon=daemon)
    with open(os.path.join(site.folder, "watched"), "w") as out:
        watch = subprocess.Popen([site.peterctl, "watch", "--config", daemon.path], stdout=out, preexec_fn=die_with_parent)
    time.sleep(2)  # it starts at the end
    deadline, sent = time.monotonic() + 90, 0
    while not any(r["decision"] == "promoted" and r["version"] >= 4 for r in patches.list("colour")):
        assert time.monotonic() < deadline, f"nothing is promoted: {patches.list('colour')[-1:]} {daemon.log()[-1000:]}"
        labels = [{"task": "colour", "user_id": u, "label": COLOURS[len(u) % 2] if rng.random() < 0.8 else rng.choice(COLOURS),
                   "weight": 1.0, "timestamp": int(time.time() * 1000)} for u in rng.choices(stream.users[:100], k=60)]
        produce(site.bootstrap, site.topic("labels"), [(r["user_id"].encode(), avro.encode(r), None) for r in labels])
        sent += len(labels)
        time.sleep(0.2)
    deadline = time.monotonic() + 30  # until every label is consumed
    while patches.live("colour")[0]["labels_trained"] < sent:
        assert time.monotonic() < deadline, f"{sent} labels were sent, the newest record: {patches.live('colour')[0]}"
        time.sleep(0.2)
    time.sleep(1.5)

    records = patches.list("colour")
    newest, decided = patches.live("colour")
    assert records[0]["decision"] == "created" and records[0]["version"] == 1 and records[0]["parent"] is None
    assert [r["number"] for r in records] == sorted(r["number"] for r in records)
    counts = [r["labels_trained"] for r in records]
    assert counts == sorted(counts), f"labels_trained falls: {counts}"
    for r in records:
        assert len(r["patch"]) == 64 and r["backbone"] == backbone.hash and len(r["definition"]) == 64 and r["task"] == "colour"
        assert r["examples"]["first"] <= r["examples"]["next"] and isinstance(r["timestamp"], int)
        assert r["decision"] in ("created", "promoted", "rejected", "rolled_back", "checkpoint")
    assert all(a["examples"]["next"] == b["examples"]["first"] for a, b in zip(records, records[1:]))
    promoted = [r for r in records if r["decision"] == "promoted"]
    assert all(r["gate"]["reason"] in ("better", "not_worse") and r["gate"]["count"] > 0 for r in promoted)
    assert 0 <= newest["metrics"]["live.recent.accuracy"] <= 1
    assert patches.list("idle") == [r for r in patches.list() if r["task"] == "idle"]
    text = does(patches.command("list", "colour"), "promoted", "accuracy")
    assert len(text.splitlines()) == 1 + sum(r["decision"] != "checkpoint" for r in records[:-1]) + 1, text
    assert patches.export("colour")[1] == newest["patch"], "export without a version is not what is live"
    path, of_predecessor = patches.export("colour", "--version", str(decided["gate"]["parent"]))
    assert of_predecessor == promoted[-2]["patch"]
    does([site.peterctl, "inspect", path], "task colour, classification, 3 rows")
    fails(patches.command("export", "colour", "--version", "9999", "--out", path), 66, "version 9999 is not on the topic", "(live)")
    shown = json.loads(does(patches.command("show", "colour", "--json")))
    assert shown["version"] == newest["version"] and {v["role"] for v in shown["versions"]} >= {"live", "predecessor"}
    does(patches.command("show", "colour"), f"colour: version {newest['version']}, live\n", "accuracy", "(predecessor)")

    said = json.loads(does(patches.command("rollback", "colour", "--json")))
    assert said["decision"] == "rolled_back" and said["gate"]["reason"] == "asked", f"{said}"
    assert said["patch"] == newest["predecessor"] and said["gate"]["parent"] == newest["version"]
    assert said["labels_trained"] == newest["labels_trained"]
    assert patches.live("colour")[1] == said and patches.export("colour")[1] == newest["predecessor"]
    does(patches.command("verify", "colour"))
    deadline = time.monotonic() + 10
    while daemon.metric("peterd_patch_version", task="colour") != said["version"]:
        assert time.monotonic() < deadline, f"version {daemon.metric('peterd_patch_version', task='colour')} serves on"
        time.sleep(0.05)
    if not said["predecessor"]:
        fails(patches.command("rollback", "colour"), 66, f"version {said['version']} has no predecessor to go back to")
    watched = does([site.peterctl, "watch", "--config", daemon.path, "--from-beginning", "--exit-at-end", "--json"])
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == 0
    with open(out.name) as text:
        lines = text.read().splitlines()
    for r in (*promoted, said):
        wanted = f"  colour  version {r['version']} {r['decision']}, {r['gate']['reason']}  {r['labels_trained']} labels"
        assert any(wanted in line for line in lines), f"watch says nothing of {wanted!r}: {[x for x in lines if ' colour ' in x]}"
    scores = [u["scores"] for u in map(json.loads, watched.splitlines()) if u.get("scores")]
    assert scores and {s["task"] for s in scores[-1]} == {"colour", "idle"}, f"{scores[-1:]}"
    assert [v["label"] for s in scores[-1] for v in s["values"] if s["task"] == "colour"] == COLOURS
    daemon.stopped_well()
    tamper(site, patches)

    fails([*patches.command("rollback", "colour"), "--timeout-ms", "1500"], 66 if not said["predecessor"] else 69, "task colour")
    wider = os.path.join(site.folder, "wider.yaml")
    with open(wider, "w") as out:
        json.dump({**colour, "bottleneck": 3}, out)
    does([site.peterctl, "task", "put", wider, "--config", daemon.path], "colour: changed")
    fails(patches.command("export", "colour", "--out", path), 66, "no version of its new definition", "there are versions")
    patches.export("colour", "--version", str(said["version"]))
    away = Patches(site, site.daemon(backbone, kafka={"bootstrap.servers": "127.0.0.1:1"}, view="-away"))
    away.daemon.write_config()
    fails([*away.command("list"), "--timeout-ms", "1000"], 69)
    nowhere = Patches(site, site.daemon(backbone, topics={"patches": site.topic("nowhere")}, view="-nowhere"))
    nowhere.daemon.write_config()
    fails(nowhere.command("list"), 78, site.topic("nowhere"), "peterctl topics create --config")
    site.note(f"{len(promoted)} promotions of {sent} labels, version {newest['version']} taken back")


@scenario(timeout_s=300, long_only=True)
def patches_from_checkpoint(site):
    """Retention takes the examples of a lineage's beginning: it is made again from a checkpoint, which comes after a minute."""
    site.create(3)
    stream = site.stream(82, start_ms=int(time.time() * 1000) - 600_000)
    colour = {"name": "colour", "type": "classification", "labels": COLOURS, "mean_window": 4, "max_age_ms": 1000, "replay": 16}
    daemon = site.daemon(site.backbone(stream), tasks=[colour])
    patches, rng = Patches(site, daemon), random.Random(site.seed)
    avro, label_topic = codec.Avro.shipped(site.peterctl, "Label"), site.topic("labels")
    site.produce(stream.take(2000))
    daemon.start()
    site.settle(daemon=daemon)
    deadline, after = time.monotonic() + 150, 0
    while after < 20:  # some more behind the checkpoint
        assert time.monotonic() < deadline, f"no checkpoint: {patches.list('colour')[-1:]} {daemon.log()[-1000:]}"
        labels = [{"task": "colour", "user_id": u, "label": rng.choice(COLOURS), "weight": 1.0, "timestamp": int(time.time() * 1000)}
                  for u in rng.choices(stream.users[:100], k=5)]
        produce(site.bootstrap, label_topic, [(r["user_id"].encode(), avro.encode(r), None) for r in labels])
        time.sleep(0.5)
        saved = [r for r in patches.list("colour") if r["decision"] == "checkpoint" and r["slot"]]
        after += bool(saved)
    time.sleep(2)
    daemon.stopped_well()
    whole, checkpoint = json.loads(does(patches.command("verify", "colour", "--json"))), saved[0]
    assert whole["from"] == "created" and whole["live"] == patches.live("colour")[0]["version"], f"{whole}"
    at = checkpoint["examples"]
    offsets = sorted(m.offset() for m in topics.read_all(site.bootstrap, site.topic("examples"))[at["partition"]]
                     if m.key() == b"colour" and m.offset() < at["next"])
    topics.delete_before(site.bootstrap, site.topic("examples"), at["partition"], offsets[-150])
    rest = json.loads(does(patches.command("verify", "colour", "--json")))
    assert rest["from"] == "checkpoint" and rest["live"] == whole["live"] and 0 < rest["examples"] < whole["examples"], f"{rest}"
    topics.delete_before(site.bootstrap, site.topic("examples"), at["partition"], at["next"])
    fails(patches.command("verify", "colour"), 65, "task colour: neither its beginning nor a checkpoint is there any more")
    site.note(f"{whole['examples']} examples, {rest['examples']} of them behind the checkpoint")
