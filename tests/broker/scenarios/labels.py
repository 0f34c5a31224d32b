"""Labels become examples: point in time, each once, whatever order the topics deliver and whoever dies on the way."""
import random
import shutil
import struct
import time

import codec
import numpy as np
import topics
from daemon import run
from lineage import produce_task
from oracle import Oracle
from registry import scenario
from stream import Poison, produce

KEEP, MEAN_WINDOW = 24, 4
TASKS = """tasks:
- {name: colour, type: classification, labels: [red, green, blue], mean_window: 4}
- {name: age, type: regression, insertion: serial}
- {name: films, type: ranking, blocks: [], mean_window: 4}
"""
BAD = {"unknown_task", "unknown_label", "undecodable", "schema", "timestamp", "value", "oversize", "missing_field"}


class Labels:
    """A seeded stream of labels about a stream's users, some of them bad: (key, value, headers) with the header
    `test.reason` where it must become a dead letter whatever the user's past."""

    def __init__(self, avro, stream, seed):
        self.avro, self.stream, self.rng = avro, stream, random.Random(seed)

    def take(self, count, first_ms, last_ms, bad_share=0.06):
        return [self.one(first_ms + (last_ms - first_ms) * i // count, bad_share) for i in range(count)]

    def one(self, clock, bad_share):
        rng = self.rng
        user = rng.choice(self.stream.users)
        task, label = rng.choice([("colour", rng.choice(["red", "green", "blue"])), ("age", rng.uniform(10, 90)),
                                  ("films", rng.choice(self.stream.items))])
        record = {"task": task, "user_id": user, "label": label, "weight": 1.0,
                  "timestamp": clock - (rng.randint(0, 20000) if rng.random() < 0.3 else 0)}
        reason = rng.choice(sorted(BAD)) if rng.random() < bad_share else None
        record.update({"unknown_task": {"task": "sign"}, "unknown_label": {"task": "colour", "label": "pink"},
                       "schema": {"task": "age", "label": "old"}, "timestamp": {"timestamp": -1},
                       "value": {"weight": -1.0}, "oversize": {"user_id": "u" * 257},
                       "missing_field": {"user_id": ""}}.get(reason, {}))
        value = self.avro.encode(record)
        if reason == "undecodable":
            value = value[:-1]
        return user.encode(), value, [("test.reason", reason.encode())] if reason else None


def merge(oracle, avro, interactions, labels, window):
    """What one partition's two logs make: the examples {offset of the label: (task, user, time, label, events)} and the dead
    letters {offset: reason}; forgotten users as [(user, offset)]."""
    examples, letters, forgotten = {}, {}, []
    i = j = 0
    while i < len(interactions) or j < len(labels):
        interaction = interactions[i] if i < len(interactions) else None
        label = labels[j] if j < len(labels) else None
        what = oracle.decode(interaction) if interaction is not None else ("none",)  # a message of no bytes is false
        headers = dict(label.headers() or []) if label is not None else {}
        reason = headers.get("test.reason", b"").decode()
        record = None if label is None or reason == "undecodable" else avro.decode(label.value())
        timeless = reason in BAD - {"unknown_task", "unknown_label", "schema"}
        if label is not None and (timeless or interaction is None or (what[0] == "event" and record["timestamp"] < what[3])):
            j += 1
            if not reason:
                reason = join(oracle, label, record, window, examples)
            if reason:
                letters[label.offset()] = reason
            continue
        i += 1
        changed = oracle.apply(interaction)
        if changed and changed[1] is None:
            forgotten.append((changed[0], interaction.offset()))
    return examples, letters, forgotten


def join(oracle, message, record, window, examples):
    user = oracle.users.get((message.partition(), record["user_id"]))
    events = user.events if user else []
    before = [e for e in events if e[0] < record["timestamp"]]
    if len(events) >= KEEP and len(before) < window:
        return "late"
    if not before:
        return "unknown_user"
    wanted = window + (0 if record["task"] == "age" else MEAN_WINDOW)
    examples[message.offset()] = (record["task"], record["user_id"], record["timestamp"], record["label"], before[-wanted:])
    return None


def decode_events(value):
    count, at = codec.read_varint(value, 0)
    times = []
    for i in range(count):
        step, at = codec.read_varint(value, at)
        times.append(step if i == 0 else times[-1] + step)
    items = struct.unpack_from(f"<{count}Q", value, at)
    assert at + 8 * count == len(value)
    return list(zip(times, items))


def check_states(backbone, records):
    """The last level's state at the task token is the user embedding of the example's events."""
    index = {codec.hash_item(item): n for item, n in backbone.index.items()}
    wanted = [r for r in records if r["task"] != "age"]
    embedded = backbone.embed([[index.get(item, 2) for _, item in decode_events(r["events"])] for r in wanted])
    levels = {"colour": 2, "films": 1}
    for record, embedding in zip(wanted, embedded):
        states = np.frombuffer(record["states"], "<f4").reshape(levels[record["task"]], 2, backbone.channels)
        assert np.abs(states[-1, 0] - embedding).max() < 1e-4, f"states of {record['task']} for {record['user_id']}"
    assert all(r["states"] == b"" for r in records if r["task"] == "age"), "serial patches run the trunk themselves"


def read_examples(site, avro, view=""):
    found, forgets = {}, {}
    for messages in topics.read_all(site.bootstrap, site.topic("examples", view)).values():
        for message in messages:
            record = avro.decode(message.value())
            assert message.key().decode() == record["task"]
            at = (record["partition"], record["offset"])
            into = forgets if record["label"] is None else found
            key = (record["task"], *at) if record["label"] is None else at
            assert key not in into, f"{record['task']}: the label at {at} is in two examples"
            into[key] = record
    return found, forgets


def await_labels(site, timeout=120):
    ends = topics.end_offsets(site.bootstrap, site.topic("labels"))
    deadline = time.monotonic() + timeout
    while True:
        now = topics.committed(site.bootstrap, site.group(), site.topic("labels"), len(ends))
        if now and all(now[p] >= end for p, end in ends.items() if end):
            return
        assert time.monotonic() < deadline, f"labels are not taken: ends {ends}, committed {now}"
        time.sleep(0.1)


def verify(site, backbone, tombstones=True):
    example_avro, label_avro = (codec.Avro.shipped(site.peterctl, n) for n in ("Example", "Label"))
    interactions = topics.read_all(site.bootstrap, site.topic("interactions"))
    labels = topics.read_all(site.bootstrap, site.topic("labels"))
    found, forgets = read_examples(site, example_avro)
    counts, letters = {}, {}
    for partition in interactions:
        oracle = Oracle(KEEP, site.decode())
        examples, bad, forgotten = merge(oracle, label_avro, interactions[partition], labels[partition], backbone.window)
        letters.update({(partition, offset): reason for offset, reason in bad.items()})
        for offset, (task, user, at, label, events) in examples.items():
            record = found.pop((partition, offset), None)
            assert record, f"the label at {(partition, offset)} is in no example"
            got = (record["task"], record["user_id"], record["timestamp"], record["label"], decode_events(record["events"]))
            assert got == (task, user, at, label, events), f"{(partition, offset)}: {got} instead of {(task, user, at, label, events)}"
            assert record["backbone"] == backbone.hash and len(record["definition"]) == 64
            counts.setdefault(task, []).append(record)
        for user, offset in forgotten:
            for task in ("colour", "age", "films"):
                record = forgets.pop((task, partition, offset), None)
                assert record and record["user_id"] == user, f"{task} has not heard that {user} is forgotten"
    assert not found and not forgets, f"examples of nothing: {list(found)[:3]}, {list(forgets)[:3]}"
    for records in counts.values():
        check_states(backbone, records)
    reasons = {}
    for messages in topics.read_all(site.bootstrap, site.topic("deadletters")).values():
        for message in messages:
            headers = dict(message.headers())
            if headers["__streams.errors.topic"].decode() != site.topic("labels"):
                continue
            at = int(headers["__streams.errors.partition"]), int(headers["__streams.errors.offset"])
            reason = headers["peterd.reason"].decode()
            assert letters.pop(at, None) == reason, f"label at {at}: {reason}"
            reasons[reason] = reasons.get(reason, 0) + 1
    assert not letters, f"no dead letters of {list(letters.items())[:3]}"
    site.note(", ".join(f"{len(v)} {k}" for k, v in counts.items()) + "; dead: " + ", ".join(f"{n} {r}" for r, n in sorted(reasons.items())))
    return reasons


def prepare(site, tombstones):
    site.create(3)
    stream = site.stream(31, tombstones=tombstones, poison=Poison(), poison_share=0.01)
    backbone = site.backbone(stream)
    first_ms = stream.clock
    site.produce(stream.take(site.size(6000, 60000)))
    labels = Labels(codec.Avro.shipped(site.peterctl, "Label"), stream, site.seed)
    produce(site.bootstrap, site.topic("labels"), labels.take(site.size(1500, 15000), first_ms, stream.clock))
    return stream, backbone


def put_tasks(site, daemon, text=TASKS):
    daemon.write_config()
    path = daemon.path + ".tasks"
    with open(path, "w") as out:
        out.write(text)
    done = run([site.peterctl, "task", "put", path, "--config", daemon.path])
    assert done.returncode == 0, f"task put: {done.returncode} {done.stderr}"


@scenario(timeout_s=150)
def labels_backfill(site):
    """Both logs lie there when the daemon starts: every label sees what was known at its moment, no more and no less."""
    _, backbone = prepare(site, tombstones=0.01)
    daemon = site.daemon(backbone)
    put_tasks(site, daemon)
    daemon.start()
    site.settle(daemon=daemon)
    await_labels(site)
    counted = daemon.metric("peterd_examples_total")
    daemon.stopped_well()
    reasons = verify(site, backbone)
    assert counted and {"late", "unknown_user"} <= set(reasons)


@scenario(timeout_s=200)
def labels_chaos(site):
    """kill -9 of the daemon at random instants, every fourth commit aborted: every label still becomes one example."""
    _, backbone = prepare(site, tombstones=0.01)
    daemon = site.daemon(backbone, env={"PETERD_TEST_ABORT_EVERY": "4"}, workers=2, transaction={"interval_ms": 30})
    put_tasks(site, daemon)
    rng = random.Random(site.seed)
    for _ in range(site.size(8, 40)):
        daemon.start()
        time.sleep(rng.uniform(0.3, 2.0))
        daemon.kill()
    daemon.start()
    site.settle(daemon=daemon)
    await_labels(site)
    daemon.stopped_well()
    verify(site, backbone)


@scenario(timeout_s=120)
def labels_live(site):
    """Labels of a running installation: taken within the grace and a fetch, by a task of the configuration; a definition
    that does not fit the backbone disturbs nobody, nor the one before it of the same task."""
    site.create(2)
    stream = site.stream(33)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, tasks=[{"name": "colour", "type": "classification", "mean_window": MEAN_WINDOW}])
    daemon.start().wait_ready()
    produce_task(site, name="deep", type="classification", blocks=[7])
    produce_task(site, name="colour", type="classification", blocks=[7])
    deadline = time.monotonic() + 20
    while daemon.log().count(": refused") < 2:
        assert time.monotonic() < deadline, f"nobody refuses: {daemon.log()[-800:]}"
        time.sleep(0.05)
    avro = codec.Avro.shipped(site.peterctl, "Label")
    example_avro = codec.Avro.shipped(site.peterctl, "Example")
    for turn in range(5):
        site.produce([stream.interaction(user=f"live-{turn}") for _ in range(3)])
        label = {"task": "colour", "user_id": f"live-{turn}", "label": "any", "weight": 1.0, "timestamp": int(time.time() * 1000)}
        begun = time.monotonic()
        produce(site.bootstrap, site.topic("labels"), [(label["user_id"].encode(), avro.encode(label), None)])
        while len(read_examples(site, example_avro)[0]) <= turn:
            assert time.monotonic() < begun + 20, f"label {turn} is in no example; {daemon.log()[-800:]}"
    daemon.stopped_well()
    assert "task deep: refused: blocks: " in daemon.log(), daemon.log()[-800:]
    assert "task colour: refused, the definition before it stays in force: blocks: 7: " in daemon.log(), daemon.log()[-800:]
    found = read_examples(site, example_avro)[0].values()
    assert sorted(r["user_id"] for r in found) == [f"live-{t}" for t in range(5)]
    assert all(len(decode_events(r["events"])) == 3 for r in found)


def waiting_letters(site):
    """Dead letters of labels: {(partition, offset): (reason, key, value, own headers)}"""
    found = {}
    for messages in topics.read_all(site.bootstrap, site.topic("deadletters")).values():
        for message in messages:
            headers = message.headers()
            named = dict(headers)
            assert named["__streams.errors.topic"].decode() == site.topic("labels")
            at = int(named["__streams.errors.partition"]), int(named["__streams.errors.offset"])
            assert at not in found, f"two dead letters of the label at {at}"
            own = [(k, v) for k, v in headers if not k.startswith("__streams.") and k != "peterd.reason"]
            found[at] = named["peterd.reason"].decode(), message.key(), message.value(), own
    return found


def await_waiting(daemon, wanted, timeout=40):
    deadline = time.monotonic() + timeout
    while daemon.metric("peterd_labels_waiting") != wanted:
        daemon.assert_alive()
        assert time.monotonic() < deadline, f"{daemon.metric('peterd_labels_waiting')} labels wait, expected {wanted}"
        time.sleep(0.05)


@scenario(timeout_s=240)
def labels_waiting(site):
    """Labels of users whose first events come late are kept across kill -9, aborts and a lost store; each is joined once, or
    given up once: by the tombstone, by the time of the interactions, by the wall clock."""
    site.create(2)
    stream = site.stream(34)
    backbone = site.backbone(stream)
    task = {"type": "classification", "mean_window": MEAN_WINDOW}
    daemon = site.daemon(backbone, env={"PETERD_TEST_ABORT_EVERY": "3"}, learner={"enabled": False}, transaction={"interval_ms": 30},
                         tasks=[{"name": "slow", **task, "wait_ms": 3_600_000}, {"name": "hasty", **task, "wait_ms": 3000},
                                {"name": "at-once", **task}])
    avro, now = codec.Avro.shipped(site.peterctl, "Label"), int(time.time() * 1000)

    def label(task, users, at):
        records = [{"task": task, "user_id": u, "label": "any", "weight": 0.5, "timestamp": at} for u in users]
        produce(site.bootstrap, site.topic("labels"), [(r["user_id"].encode(), avro.encode(r), [("own", b"1"), ("null", None)])
                                                       for r in records])

    def restart(lose_store=False):
        daemon.kill()
        if lose_store:
            shutil.rmtree(daemon.config["state_dir"])
        daemon.start().wait_ready()

    users = [f"late-{i}" for i in range(40)]
    site.produce([stream.interaction(user="known", timestamp=now - 5000)])
    daemon.start().wait_ready()
    label("slow", users, now)
    label("at-once", ["nobody"], now)
    await_labels(site)
    await_waiting(daemon, 40)
    assert len(waiting_letters(site)) == 1
    restart()
    await_waiting(daemon, 40)
    site.produce([stream.interaction(user=u, timestamp=now) for u in users])  # not older: nobody is released
    restart(lose_store=True)
    await_waiting(daemon, 40)
    for n in range(4):  # five users at a time, and killed in between
        site.produce([stream.interaction(user=u, timestamp=now - 60000 + i) for u in users[5 * n:5 * n + 5] for i in range(2)])
        time.sleep(0.2 * n)
        restart(lose_store=n == 2)
    await_waiting(daemon, 20)
    site.produce([(u.encode(), None, None) for u in users[20:25]])
    await_waiting(daemon, 15)
    restart()
    await_waiting(daemon, 15)
    much_later = now + 3_700_000
    site.produce([stream.interaction(user=f"other-{i}", timestamp=much_later) for i in range(12)])  # on both partitions
    await_waiting(daemon, 0)
    begun = time.monotonic()
    label("hasty", [f"hasty-{i}" for i in range(5)], much_later)
    await_labels(site)
    await_waiting(daemon, 5)
    await_waiting(daemon, 0)
    took = time.monotonic() - begun
    site.settle(daemon=daemon)
    daemon.stopped_well()
    assert took >= 2.9, f"given up after {took:.1f} s of 3 s"

    found, _ = read_examples(site, codec.Avro.shipped(site.peterctl, "Example"))
    assert sorted(r["user_id"] for r in found.values()) == sorted(users[:20]), f"{sorted(r['user_id'] for r in found.values())}"
    for record in found.values():
        assert record["task"] == "slow" and record["weight"] == 0.5 and record["timestamp"] == now
        assert [at for at, _ in decode_events(record["events"])] == [now - 60000], f"{record['user_id']}"
    letters = waiting_letters(site)
    sent = {(m.partition(), m.offset()): m for messages in topics.read_all(site.bootstrap, site.topic("labels")).values()
            for m in messages}
    assert set(letters) == set(sent) - set(found), f"{len(letters)} letters, {len(sent)} labels, {len(found)} examples"
    for at, (reason, key, value, own) in letters.items():
        assert (reason, key, value) == ("unknown_user", sent[at].key(), sent[at].value()) and own == sent[at].headers(), f"{at}"
    site.note(f"{len(found)} joined, {len(letters)} given up, the hasty ones after {took:.1f} s")
