"""What the patches and the examples topics say of a lineage, read and checked without the program under test."""
import json
import os
import time

import codec
import topics
from daemon import run
from stream import produce


class Records:
    """The records of the patches topic: `log` in the order of the topic, `newest` {(task, number): record}."""

    def __init__(self, site, view=""):
        avro = codec.Avro.shipped(site.peterctl, "PatchRecord")
        self.log, self.newest = [], {}
        for messages in topics.read_all(site.bootstrap, site.topic("patches", view)).values():
            for message in messages:
                task, kind = message.key().decode().split("/")[:2]
                if kind != "decision" or message.value() is None:
                    continue
                record = avro.decode(message.value())
                assert record["task"] == task
                self.log.append(record)
                self.newest[task, record["number"]] = record

    def of(self, task):
        """The task's records of its newest lineage, oldest first."""
        found = [r for (name, _), r in sorted(self.newest.items()) if name == task]
        created = [i for i, r in enumerate(found) if r["decision"] == "created"]
        return found[created[-1]:] if created else found


def examples(site, view=""):
    """{task: [(partition, offset, record)]} in the order of the topic; requests of people are left out."""
    avro, found = codec.Avro.shipped(site.peterctl, "Example"), {}
    for partition, messages in topics.read_all(site.bootstrap, site.topic("examples", view)).items():
        for message in messages:
            record = avro.decode(message.value())
            assert message.key().decode() == record["task"]
            if record["partition"] >= 0:
                found.setdefault(record["task"], []).append((partition, message.offset(), record))
    return found


def check_coverage(records, found, task):
    """Every example of the task is in one cut, once and in order; ranges and numbers have no gap; labels_trained never falls and
    ends at the number of labels. Returns that number."""
    lineage = records.of(task)
    assert lineage, f"{task}: no records"
    assert lineage[0]["decision"] == "created" and lineage[0]["version"] == 1, lineage[0]
    places = [(offset, record["label"] is not None) for _, offset, record in found.get(task, [])]
    begin = lineage[0]["examples"]["first"]
    places = [p for p in places if p[0] >= begin]
    at = labels = 0
    before = None
    for record in lineage:
        name = f"{task}: record {record['number']}"
        if before:
            assert record["number"] == before["number"] + 1, f"{name}: after {before['number']}"
            assert record["examples"]["first"] == before["examples"]["next"], \
                f"{name}: begins at {record['examples']}, the one before ended at {before['examples']}"
        for cut in record["cuts"]:
            taken = places[at:at + cut["count"]]
            assert len(taken) == cut["count"] and taken[0][0] == cut["offset"], \
                f"{name}: a cut of {cut} where the next examples are {taken[:2]}"
            assert taken[-1][0] < record["examples"]["next"], f"{name}: a cut beyond {record['examples']}"
            at += cut["count"]
            labels += sum(is_label for _, is_label in taken)
        assert at == len(places) or places[at][0] >= record["examples"]["next"], \
            f"{name}: the example at {places[at][0]} is in no cut of what is said to be consumed"
        assert record["labels_trained"] == labels, f"{name}: {record['labels_trained']} labels, its cuts hold {labels}"
        before = record
    last = {}
    for record in records.log:
        key = (record["task"], record["definition"], record["backbone"])
        trained = last.get(key, 0)
        assert record["labels_trained"] >= trained or record["decision"] == "created", \
            f"{record['task']}: labels_trained falls from {trained} to {record['labels_trained']}"
        last[key] = record["labels_trained"]
    assert at == len(places), f"{task}: {len(places) - at} examples of {len(places)} were never taken"
    return labels


def command(site, daemon, *arguments, timeout=120):
    done = run([site.peterctl, *arguments, "--config", daemon.write_config()], timeout=timeout)
    assert done.returncode == 0, f"peterctl {' '.join(arguments)}: {done.returncode} {done.stderr[-600:]}"
    return done.stdout


def verify(site, daemon, task):
    """peterctl patch verify: the proof by recomputation."""
    return json.loads(command(site, daemon, "patch", "verify", task, "--json"))


def newest(site, daemon, task):
    """The newest record as `patch list` has it, None without one."""
    lines = command(site, daemon, "patch", "list", task, "--json").splitlines()
    return json.loads(lines[-1]) if lines else None


def await_trained(site, daemon, wanted, timeout=90, backbone=None):
    """Until labels_trained of each task (name -> count) is reached, in a lineage of the backbone; returns the newest records."""
    deadline = time.monotonic() + timeout
    while True:
        found = {task: newest(site, daemon, task) for task in wanted}
        counts = {task: record["labels_trained"] if record and backbone in (None, record["backbone"]) else 0
                  for task, record in found.items()}
        if all(counts[task] >= count for task, count in wanted.items()):
            assert counts == wanted, f"trained on {counts}, sent {wanted}"
            return found
        daemon.assert_alive()
        if time.monotonic() > deadline:
            raise AssertionError(f"trained on {counts} of {wanted} after {timeout} s; log:\n{daemon.log()[-1500:]}")
        time.sleep(0.2)


def put_tasks(site, daemon, text):
    path = os.path.join(site.folder, "tasks.yaml")
    with open(path, "w") as out:
        out.write(text)
    return command(site, daemon, "task", "put", path)


def produce_task(site, **definition):
    """A definition on the tasks topic as another program writes it, whatever peterctl would say of it."""
    avro = codec.Avro.shipped(site.peterctl, "Task")
    produce(site.bootstrap, site.topic("tasks"), [(definition["name"].encode(), avro.encode(definition), None)])


def metric_between(records, task, name, low, high):
    """A mean metric of the live patch over the labels `low` to `high` of a lineage, from its means over all labels so far."""
    def sums(most):
        best = (0.0, 0.0)
        for record in records:
            if record["task"] == task and record["labels_trained"] <= most and f"live.all.{name}" in record["metrics"]:
                count = record["metrics"]["live.all.count"]
                if count >= best[1]:
                    best = (record["metrics"][f"live.all.{name}"] * count, count)
        return best
    (low_sum, low_count), (high_sum, high_count) = sums(low), sums(high)
    return (high_sum - low_sum) / (high_count - low_count) if high_count > low_count else float("nan")
