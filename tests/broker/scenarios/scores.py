"""Scores in updates: every kind of patch, by the version that the update names, as `peterctl score` has them with its file."""
import csv
import hashlib
import os
import random
import time

import check
import codec
import numpy as np
from daemon import run
from scenarios.parity import rows_of
from registry import scenario
from stream import producer

TASKS = {
    "bare": {"type": "classification", "labels": ["yes", "no"], "blocks": [], "mean_window": 4},
    "colour": {"type": "classification", "labels": ["red", "green", "blue"], "mean_window": 4, "bottleneck": 5},
    "films": {"type": "ranking", "insertion": "serial", "bottleneck": 4, "scores_k": 3},
    "mood": {"type": "classification", "insertion": "parallel", "adapters": 1, "bottleneck": 3},
    "next": {"type": "ranking", "mean_window": 6, "blocks": [1, 2], "scores_k": 500},
    "spend": {"type": "regression", "insertion": "serial", "norms": True, "bottleneck": 2},
}


class Versions:
    """Patches of finetune, put on the topic as a learner puts them there."""

    def __init__(self, site, daemon, backbone, stream):
        self.site, self.daemon, self.backbone = site, daemon, backbone
        self.avro = codec.Avro.shipped(site.peterctl, "PatchRecord")
        self.files, self.live, self.numbers = {}, {}, {}
        self.rng = random.Random(site.seed)
        self.events = os.path.join(site.folder, "train.csv")
        self.users = stream.users
        with open(self.events, "w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(["user_id", "item_id", "timestamp"])
            for user in self.users:
                for n in range(12):
                    writer.writerow([user, self.rng.choice(stream.items), n])

    def label(self, task):
        if TASKS[task]["type"] == "regression":
            return self.rng.uniform(-5, 50)
        return self.rng.choice(TASKS[task].get("labels") or [f"label {i}" for i in range(3 + 2 * len(self.files) % 17)])

    def train(self, task, seed):
        labels, out = os.path.join(self.site.folder, "labels.csv"), os.path.join(self.site.folder, f"{task}-{seed}.safetensors")
        with open(labels, "w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(["user_id", "label"])
            writer.writerows([user, self.label(task)] for user in self.users)
        d = TASKS[task]
        command = [self.site.peterctl, "finetune", "--backbone", self.backbone.path, "--events", self.events, "--labels", labels,
                   "--task", task, "--type", d["type"], "--out", out, "--seed", str(seed), "--epochs", "2", "--validation", "0",
                   "--rate", "0.05", "--insertion", d.get("insertion", "side"), "--bottleneck", str(d.get("bottleneck", 16))]
        command += ["--blocks", ",".join(map(str, d["blocks"]))] if "blocks" in d else []
        command += ["--labels-list", ",".join(d["labels"])] if "labels" in d else []
        command += ["--mean-window", str(d["mean_window"])] if "mean_window" in d else []
        command += ["--adapters", str(d["adapters"])] if "adapters" in d else []
        command += ["--norms"] if d.get("norms") else []
        done = run(command)
        assert done.returncode == 0, f"finetune {task}: {done.returncode} {done.stderr}"
        with open(out, "rb") as data:
            return out, data.read()

    def definitions(self):
        done = run([self.site.peterctl, "task", "list", "--json", "--config", self.daemon.path])
        assert done.returncode == 0, done.stderr
        return {t["name"]: t["definition"] for t in map(codec.json.loads, done.stdout.splitlines())}

    def put(self, task, version):
        path, data = self.train(task, version)
        sha = hashlib.sha256(data).hexdigest()
        number = self.numbers[task] = self.numbers.get(task, 0) + 1
        slot, size = number % 4, 10000
        chunks = [data[i:i + size] for i in range(0, len(data), size)]
        record = {"task": task, "number": number, "version": version, "patch": sha, "parent": "", "predecessor": "",
                  "backbone": self.backbone.hash, "definition": self.definitions()[task], "decision": "promoted",
                  "labels_trained": 120 * number, "labels_dropped": 0, "metrics": {}, "timestamp": int(time.time() * 1000),
                  "examples": {"partition": 0, "first": 0, "next": 0}, "cuts": [], "gate": None,
                  "weights": {"slot": slot, "chunks": len(chunks), "bytes": len(data), "sha256": sha}}
        value = self.avro.encode(record)
        records = [(f"{task}/{slot}/{n}", chunk) for n, chunk in enumerate(chunks)]
        records += [(f"{task}/{slot}/manifest", value), (f"{task}/decision/{number % 1000}", value)]
        handle = producer(self.site.bootstrap, **{"transactional.id": self.site.prefix + "-versions",
                                                   "message.timeout.ms": 60000})
        handle.init_transactions(30)
        handle.begin_transaction()
        for key, value in records:
            handle.produce(self.site.topic("patches"), key=key.encode(), value=value, partition=0)
        handle.commit_transaction(30)
        self.files[sha] = path
        self.live[task] = (version, sha)

    def await_live(self, task, timeout=20):
        deadline = time.monotonic() + timeout
        while self.daemon.metric("peterd_patch_version", task=task) != self.live[task][0]:
            self.daemon.assert_alive()
            assert time.monotonic() < deadline, f"{task}: version {self.live[task][0]} does not serve: {self.daemon.log()[-500:]}"
            time.sleep(0.05)


class Scores:
    """What `peterctl score` says of everybody after all that came in."""

    def __init__(self, site, backbone, inputs):
        self.site, self.backbone, self.found = site, backbone, {}
        self.events = os.path.join(site.folder, "events.csv")
        with open(self.events, "w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(["user_id", "item_id", "timestamp"])
            writer.writerows(rows_of(site, inputs))

    def of(self, path, user):
        if path not in self.found:
            out, names = os.path.join(self.site.folder, "s.npy"), os.path.join(self.site.folder, "users.txt")
            done = run([self.site.peterctl, "score", "--backbone", self.backbone.path, "--patch", path, "--events", self.events,
                        "--out", out, "--users-out", names], timeout=300)
            assert done.returncode == 0, f"score: {done.stderr}"
            shown = run([self.site.peterctl, "inspect", path, "--json"])
            labels = codec.json.loads(codec.json.loads(shown.stdout)["metadata"].get("labels", "[]"))
            with open(names, encoding="utf-8") as text:
                rows = {name: n for n, name in enumerate(text.read().split("\n"))}
            self.found[path] = rows, np.load(out), labels
        rows, scores, labels = self.found[path]
        return scores[rows[user]], labels


def compare(task, score, expected, labels):
    """Errors of what the update says against the row of `peterctl score`."""
    values, names = np.array([v["score"] for v in score["values"]]), [v["label"] for v in score["values"]]
    kind, scale = TASKS[task]["type"], 1 + np.abs(expected).max()
    if kind == "regression":
        assert names == [""], f"{task}: labels {names}"
        return abs(values[0] - expected[0]) / scale
    if kind == "classification":
        assert names == labels and abs(values.sum() - 1) < 1e-5, f"{task}: {names}, sum {values.sum()}"
        return np.abs(values - expected).max()
    k = min(TASKS[task]["scores_k"], len(labels))
    assert len(names) == k == len(set(names)) and list(values) == sorted(values, reverse=True), f"{task}: {names} {values}"
    own = expected[[labels.index(n) for n in names]]
    left = np.sort(expected)[::-1][k - 1]
    return max(np.abs(values - own).max(), left - values[-1], 0) / scale


def verify(site, backbone, versions, inputs, least=0):
    """Every user's newest update against `peterctl score` with the version's file; {task: {version: users}}"""
    scores, counts, worst = Scores(site, backbone, inputs), {}, 0.0
    for user, update in check.Outputs(site).final_updates().items():
        said = {s["task"]: s for s in update["scores"]}
        assert list(said) == sorted(TASKS), f"{user}: scores of {list(said)}"
        for task, score in said.items():
            versions_of = counts.setdefault(task, {})
            versions_of[score["patch_version"]] = versions_of.get(score["patch_version"], 0) + 1
            if score["patch_version"] == 1:  # the identity patch, of no file
                assert len(score["patch"]) == 64 and all(np.isfinite(v["score"]) for v in score["values"])
                continue
            error = compare(task, score, *scores.of(versions.files[score["patch"]], user))
            worst = max(worst, float(error))
            assert error <= check.TOLERANCE, f"{task} version {score['patch_version']} of {user}: off by {error:.3g}"
            assert score["patch_version"] >= least, f"{task} of {user}: version {score['patch_version']}"
    site.note(f"worst {worst:.1e}, " + ", ".join(f"{t} {dict(sorted(c.items()))}" for t, c in sorted(counts.items())))
    return counts


def prepare(site, **sections):
    site.create(3)
    stream = site.stream(71, start_ms=int(time.time() * 1000) - 600_000)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, learner={"enabled": False}, tasks=[{"name": n, **d} for n, d in TASKS.items()], **sections)
    return stream, backbone, daemon


@scenario(timeout_s=240)
def scores_serve(site):
    """Versions go live while events stream, the daemon dies and comes back; each update's scores are its version's."""
    stream, backbone, daemon = prepare(site, workers=2, transaction={"interval_ms": 30})
    site.produce(stream.take(site.size(1500, 15000)))
    daemon.start()
    site.settle(daemon=daemon)
    counts = verify(site, backbone, None, {p: [] for p in range(3)})
    assert all(set(c) == {1} for c in counts.values()), f"before any version: {counts}"
    versions = Versions(site, daemon, backbone, stream)
    for n in range(site.size(9, 60)):
        task = sorted(TASKS)[n % len(TASKS)]
        versions.put(task, 2 + n // len(TASKS))
        site.produce(stream.take(150))
        if n % 4 == 3:
            daemon.kill()
            daemon.start()
    for task in TASKS:
        versions.await_live(task)
    site.produce([stream.interaction(user=user) for user in stream.users])
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    counts = verify(site, backbone, versions, inputs)
    for task, found in counts.items():
        assert set(found) == {versions.live[task][0]}, f"{task}: {found}, live is {versions.live[task][0]}"


@scenario(timeout_s=150)
def scores_refresh(site):
    """scores.refresh: on_patch: who does nothing hears of a new patch too; a task that goes takes its scores along."""
    stream, backbone, daemon = prepare(site, scores={"refresh": "on_patch", "refresh_ms": 86_400_000})
    site.produce(stream.take(site.size(1500)))
    daemon.start()
    inputs = site.settle(daemon=daemon)
    versions = Versions(site, daemon, backbone, stream)
    for task in TASKS:
        versions.put(task, 2)
    deadline = time.monotonic() + 30
    while True:
        counts = verify(site, backbone, versions, inputs)
        if all(set(c) == {2} for c in counts.values()):
            break
        assert time.monotonic() < deadline, f"not everybody was refreshed: {counts}"
        time.sleep(0.5)
    refreshed, swaps = daemon.metric("peterd_users_refreshed_total"), daemon.metric("peterd_patch_swaps_total")
    assert refreshed >= len(check.Outputs(site).final_updates()) and swaps == len(TASKS), f"{refreshed} refreshed, {swaps} swaps"
    removed = TASKS.pop("mood")
    try:
        done = run([site.peterctl, "task", "remove", "mood", "--config", daemon.path])
        assert done.returncode == 0, done.stderr
        while daemon.metric("peterd_patch_version", task="mood"):
            assert time.monotonic() < deadline + 30, "a removed task serves on"
            time.sleep(0.1)
        site.produce([stream.interaction(user=user) for user in stream.users])
        inputs = site.settle(daemon=daemon)
        daemon.stopped_well()
        verify(site, backbone, versions, inputs, least=2)
    finally:
        TASKS["mood"] = removed
