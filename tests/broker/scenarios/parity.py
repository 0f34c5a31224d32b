"""Streaming equals batch: what the daemon publishes, `peterctl embed` and NumPy are one."""
import csv
import gzip
import os
import time

import check
import nextitnet
import numpy as np
import topics
from daemon import run
from registry import scenario
from stream import produce, producer


def embed(site, backbone, rows, name="events"):
    """`peterctl embed` over (user, item, timestamp) rows in order of arrival: {user: embedding}"""
    path, out = os.path.join(site.folder, name + ".csv"), os.path.join(site.folder, name + ".npy")
    users = {}
    with open(path, "w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user, item, timestamp in rows:
            users.setdefault(user, len(users))
            writer.writerow([user, item, timestamp])
    done = run([site.peterctl, "embed", "--backbone", backbone.path, "--events", path, "--out", out], timeout=900)
    assert done.returncode == 0, f"peterctl embed: {done.returncode} {done.stderr}"
    rows = np.load(out)
    assert rows.shape == (len(users), backbone.channels), f"embed's shape is {rows.shape}"
    return {user: rows[row] for user, row in users.items()}


def rows_of(site, inputs):
    decode = site.decode()
    for records in inputs.values():
        for message in records:
            what = decode(message)
            if what[0] == "event":
                yield what[1:]


def compare_with_embed(site, backbone, inputs, view=""):
    expected = embed(site, backbone, rows_of(site, inputs))
    final = check.Outputs(site, view).final_updates()
    assert set(final) == set(expected), f"{len(final)} users have an update, {len(expected)} were expected"
    worst = max(float(np.abs(np.array(final[u]["embedding"]) - e).max()) for u, e in expected.items())
    assert worst <= check.TOLERANCE, f"updates and peterctl embed differ by {worst}"
    site.note(f"embed {worst:.1e}")


def one_parity(site, partitions):
    """The same input through one worker and through three: final states byte for byte the same, all as the oracle's."""
    stream = site.stream(1)
    backbone = site.backbone(stream)
    site.create(partitions)
    site.create(partitions, "-w3")
    site.produce(stream.take(site.size(6000, 60000)))
    outputs = []
    for view, workers in (("", 1), ("-w3", 3)):
        daemon = site.daemon(backbone, view, workers=workers, transaction={"interval_ms": 20, "max_records": 150}).start()
        inputs = site.settle(view, daemon=daemon)
        daemon.stopped_well()
        check.verify(site, [backbone], view, inputs)
        compare_with_embed(site, backbone, inputs, view)
        outputs.append(check.Outputs(site, view).final_changelog())
    assert outputs[0] == outputs[1], "one worker and three end in different sequences"


@scenario(timeout_s=120)
def parity_1_partition(site):
    one_parity(site, 1)


@scenario(timeout_s=120)
def parity_6_partitions(site):
    one_parity(site, 6)


@scenario(timeout_s=90)
def parity_shapes(site):
    """Other shapes of the backbone, large dilations, long windows, keep just the window."""
    site.create(2)
    stream = site.stream(2, users=40)
    site.produce(stream.take(site.size(3000)))
    for n, shape in enumerate(({"channels": 8, "kernel": 2, "dilations": (3, 7)},
                               {"channels": 64, "kernel": 3, "dilations": (1, 4, 1, 4)},
                               {"channels": 33, "kernel": 5, "dilations": (2,)})):
        view = f"-{n}"
        backbone = site.backbone(stream, seed=n + 5, name=f"backbone{n}", **shape)
        site.create(2, view)
        keep = max(backbone.window, 10)
        daemon = site.daemon(backbone, view, sequences={"keep": keep}).start()
        inputs = site.settle(view, daemon=daemon)
        daemon.stopped_well()
        check.verify(site, [backbone], view, inputs, keep=keep)


@scenario(timeout_s=90)
def parity_transactional_input(site):
    """The input's producer uses transactions and aborts some: offsets have gaps, aborted records are not there."""
    site.create(2)
    stream = site.stream(3, tombstones=0.01)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone).start()
    handle = producer(site.bootstrap, **{"transactional.id": site.prefix + "-input", "message.timeout.ms": 60000})
    handle.init_transactions(30)
    for n in range(site.size(30)):
        handle.begin_transaction()
        for key, value, _ in stream.take(60):
            handle.produce(site.topic("interactions"), value=value, key=key)
        handle.flush(30)
        handle.abort_transaction(30) if n % 3 == 1 else handle.commit_transaction(30)
    inputs = site.settle(daemon=daemon)
    deadline = time.monotonic() + 30
    while daemon.metric("peterd_lag") != 0:
        assert time.monotonic() < deadline, f"lag {daemon.metrics().get('peterd_lag')}: marks of transactions are counted"
        time.sleep(0.2)
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)


def read_events(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as text:
        for row in csv.DictReader(text):
            yield row["user_id"], row["item_id"], int(row["timestamp"])


@scenario(timeout_s=90, long_only=True)
def parity_file(site):
    """--events FILE: every user's last update equals `peterctl embed` and NumPy over the file; 1 and 3 workers, 1 and 6
    partitions. The default shape of a backbone."""
    assert site.options.events, "needs --events FILE"
    rows = list(read_events(site.options.events))
    items = sorted({item for _, item, _ in rows})
    backbone = nextitnet.Backbone(os.path.join(site.folder, "backbone.safetensors"), items, site.seed, channels=64,
                                  dilations=(1, 4, 1, 4, 1, 4, 1, 4))
    keep = 256
    expected = embed(site, backbone, rows)
    sequences = {}
    for user, item, timestamp in rows:
        sequences.setdefault(user, []).append((timestamp, backbone.index_of(item)))
    users = list(sequences)
    exact = backbone.embed([[i for _, i in sorted(sequences[u], key=lambda e: e[0])] for u in users], 64)
    error = max(float(np.abs(exact[n] - expected[u]).max()) for n, u in enumerate(users))
    assert error <= check.TOLERANCE, f"peterctl embed and NumPy differ by {error}"
    site.note(f"{len(rows)} events, {len(users)} users; embed against NumPy {error:.1e}")
    prefix = site.prefix
    for partitions in (1, 6):
        site.prefix = f"{prefix}-p{partitions}"
        site.create(partitions)
        site.create(partitions, "-w3")
        produce(site.bootstrap, site.topic("interactions"),
                ((u.encode(), site.avro.encode({"user_id": u, "item_id": i, "timestamp": t, "event_type": None}), None)
                 for u, i, t in rows))
        finals = []
        for view, workers in (("", 1), ("-w3", 3)):
            daemon = site.daemon(backbone, view, instance=f"p{partitions}", workers=workers, sequences={"keep": keep})
            begun = time.monotonic()
            daemon.start()
            site.settle(view, 900, daemon)
            seconds = time.monotonic() - begun
            cpu = sum(int(x) for x in open(f"/proc/{daemon.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])
            rss = daemon.rss_mb()
            daemon.stopped_well()
            outputs = check.Outputs(site, view)
            final = outputs.final_updates()
            finals.append(outputs.final_changelog())
            assert set(final) == set(expected), f"{len(final)} users have an update, not {len(expected)}"
            worst = max(float(np.abs(np.array(final[u]["embedding"]) - expected[u]).max()) for u in expected)
            assert worst <= check.TOLERANCE, f"updates and peterctl embed differ by {worst}"
            lengths = {u: min(keep, len(s)) for u, s in sequences.items()}
            assert {u: r["sequence_length"] for u, r in final.items()} == lengths, "sequence_length"
            site.note(f"{partitions} partitions, {workers} workers: {worst:.1e}, {seconds:.0f} s, "
                      f"{cpu * 10_000 / len(rows):.1f} us CPU an event, {rss:.0f} MB")
        assert finals[0] == finals[1], "one worker and three end in different sequences"
        topics.admin(site.bootstrap).delete_topics([site.topic("interactions")])
