"""Scores in updates are those of the exported version, for every way to insert a patch, whatever happened in between."""
import collections
import csv
import hashlib
import json
import os
import struct
import time

import lineage
import numpy as np
import topics
from audience import KEEP, Audience
from lineage import put_tasks
from registry import scenario
from scenarios.labels import await_labels
from scenarios.rebalance import wait_assigned

TOLERANCE = 1e-5
KINDS = {"side": "colour", "serial": "colour", "parallel": "colour", "head": "colour", "films": "film", "age": "age"}
TASKS = """tasks:
- {name: side, type: classification, labels: [red, green, blue], mean_window: 4, max_age_ms: 300}
- {name: serial, type: classification, labels: [red, green, blue], insertion: serial, max_age_ms: 1500}
- {name: parallel, type: classification, insertion: parallel, norms: true, max_age_ms: 1500}
- {name: head, type: classification, blocks: [], mean_window: 4, max_age_ms: 300}
- {name: films, type: ranking, mean_window: 4, max_age_ms: 300, scores_k: 5}
- {name: age, type: regression, mean_window: 4, max_age_ms: 300}
"""


class Scores:
    """The audience's events as a file, and `peterctl score` on it with a version from the topic."""

    def __init__(self, site, audience, backbone, daemon):
        self.site, self.audience, self.backbone, self.daemon = site, audience, backbone, daemon
        self.folder = os.path.join(site.folder, "scores")
        os.makedirs(self.folder, exist_ok=True)
        self.events = os.path.join(self.folder, "events.csv")

    def write_events(self):
        with open(self.events, "w", newline="") as out:
            rows = csv.writer(out)
            rows.writerow(["user_id", "item_id", "timestamp"])
            rows.writerows(self.audience.events)
        return list(dict.fromkeys(user for user, _, _ in self.audience.events))

    def of(self, task):
        """(hash, version, labels of the head's rows, {user: scores}) of the live version."""
        patch, out = os.path.join(self.folder, task + ".safetensors"), os.path.join(self.folder, task + ".npy")
        lineage.command(self.site, self.daemon, "patch", "export", task, "--out", patch)
        users = self.write_events()
        done = lineage.run([self.site.peterctl, "score", "--backbone", self.backbone.path, "--patch", patch, "--events",
                            self.events, "--out", out], timeout=120)
        assert done.returncode == 0, f"score: {done.returncode} {done.stderr}"
        about = metadata(patch)
        return (hashlib.sha256(open(patch, "rb").read()).hexdigest(), int(about["version"]),
                json.loads(about.get("labels", "[]")), dict(zip(users, np.load(out))))


def metadata(path):
    """Of a safetensors file."""
    with open(path, "rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))["__metadata__"]


def newest_updates(site):
    found = {}
    for messages in topics.read_all(site.bootstrap, site.topic("updates")).values():
        for message in messages:
            value = message.value()
            found[message.key().decode()] = value and site.update_avro.decode(value)
    return found


def compare(values, labels, scores, k):
    """The largest difference of one update's entry from the whole row of scores."""
    if not labels and len(scores) == 1:  # a regression
        assert len(values) == 1, values
        return abs(values[0]["score"] - scores[0]) / max(1.0, abs(scores[0]))
    index = {label: row for row, label in enumerate(labels)}
    got = [(index[v["label"]], v["score"]) for v in values]
    if k:
        assert len(got) == min(k, len(labels)), f"{len(got)} of {k} items"
        assert [s for _, s in got] == sorted((s for _, s in got), reverse=True), "not best first"
        worst_of_best = min((scores[row] for row, _ in got), default=0.0)
        assert all(scores[r] <= worst_of_best + TOLERANCE for r in range(len(labels)) if r not in dict(got)), "a better item"
    else:
        assert [row for row, _ in got] == list(range(len(labels))), f"classes {[v['label'] for v in values]}"
    return max((abs(score - scores[row]) / max(1.0, abs(scores[row])) for row, score in got), default=0.0)


def check(site, audience, backbone, daemon, when):
    """Nothing is learnt any more: an event of everybody, and the newest update of each against a whole recomputation."""
    audience.send([audience.event(user) for user in audience.users])
    inputs = site.settle(daemon=daemon)
    updates, scorer = newest_updates(site), Scores(site, audience, backbone, daemon)
    newest = {m.key().decode(): m.offset() for messages in inputs.values() for m in messages}
    worst = {}
    for task in KINDS:
        hash_, version, labels, scores = scorer.of(task)
        for user in audience.users:
            update = updates[user]
            assert update["offset"] == newest[user], f"{user}: the newest update is of {update['offset']}, not {newest[user]}"
            entries = {s["task"]: s for s in update["scores"]}
            assert sorted(entries) == sorted(KINDS), f"{when}: scores of {sorted(entries)}"
            entry = entries[task]
            assert (entry["patch"], entry["patch_version"]) == (hash_, version), \
                f"{when}: {user}, {task}: version {entry['patch_version']} {entry['patch'][:12]}, live is {version} {hash_[:12]}"
            difference = compare(entry["values"], labels, scores[user], 5 if task == "films" else 0)
            worst[task] = max(worst.get(task, 0.0), difference)
            assert difference <= TOLERANCE, f"{when}: {user}, {task}, version {version}: off by {difference:.3g}"
    site.note(f"{when}: versions " + " ".join(f"{t} {e['patch_version']}" for t, e in sorted(entries.items()))
              + f", worst {max(worst.values()):.1e}")


def learn(site, audience, daemon, count):
    audience.play(KINDS, count, 240)
    site.settle(daemon=daemon)
    await_labels(site)
    wanted = collections.Counter(task for task, *_ in audience.labels)
    lineage.await_trained(site, daemon, dict(wanted))
    time.sleep(2.5)  # the last versions go live


@scenario(timeout_s=240)
def learning_scores(site):
    """After swaps, a kill -9, a rebalance, and with another backbone, whose lineages begin anew from the retained examples."""
    site.create(4)
    audience = Audience(site, 70, users=40)
    backbone = site.backbone(audience)
    first, second = (site.daemon(backbone, instance=i, sequences=KEEP) for i in "ab")
    put_tasks(site, first, TASKS)
    audience.send(audience.warm_up())
    first.start().wait_ready()
    count = site.size(60, 400)
    check(site, audience, backbone, first, "identity")
    learn(site, audience, first, count)
    check(site, audience, backbone, first, "after swaps")
    first.kill()
    first.start().wait_ready()
    check(site, audience, backbone, first, "after kill -9")
    second.start()
    wait_assigned(site, [first, second], [2, 2])
    second.wait_ready()
    learn(site, audience, first, count)
    check(site, audience, backbone, first, "two processes")
    for daemon in (first, second):
        daemon.stopped_well()
    other = site.backbone(audience, seed=2, name="other")
    third = site.daemon(other, instance="a", sequences=KEEP)
    third.start().wait_ready()
    wanted = collections.Counter(task for task, *_ in audience.labels)
    lineage.await_trained(site, third, dict(wanted), backbone=other.hash)
    time.sleep(2.5)
    check(site, audience, other, third, "another backbone")
    third.stopped_well()

