"""Bad data never stops a partition and is never lost."""
import json
import os
import signal
import subprocess
import time

import check
import topics
from daemon import die_with_parent, run
from registry import scenario
from stream import Poison

LETTER_BYTES = 10_000  # that the small topics take


@scenario(timeout_s=150)
def poison(site):
    """One record in a hundred damaged, in every way in turn (here one in twenty-five in the short form, so that each way
    comes several times)."""
    site.create(3)
    count = site.size(10000, 100000)
    stream = site.stream(21, poison=Poison(), poison_share=0.01 if site.long else 0.04)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone).start()
    site.produce(stream.take(count))
    inputs = site.settle(daemon=daemon)
    counted = daemon.metric("peterd_deadletters_total")
    daemon.stopped_well()
    checker = check.verify(site, [backbone], inputs=inputs)
    dead = len(checker.oracle.bad)
    kinds = {kind for kind, _ in checker.oracle.bad.values()}
    assert kinds == set(Poison.expected), f"ways not met: {set(Poison.expected) - kinds}"
    assert counted == dead, f"/metrics counts {counted} dead letters, there are {dead}"


@scenario(timeout_s=90)
def poison_large(site):
    """A bad record as large as the broker takes still finds room among the dead letters, cut if need be."""
    site.create(1)
    stream = site.stream(22)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone).start()
    own = [("test.kind", b"random")]
    records = [(b"large", b"\xff" * size, own) for size in (900_000, 999_000, 999_800)]
    site.produce(stream.take(200) + records + stream.take(200))
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    checker = check.verify(site, [backbone], inputs=inputs)
    cut = [m for m in checker.outputs.deadletters[0] if "peterd.truncated" in dict(m.headers())]
    assert cut, "the largest record came through uncut: it was not large enough to test anything"
    site.note(f"{len(cut)} cut")


def varint(number):
    """Bytes of a zig-zag varint."""
    size, rest = 1, number << 1
    while rest >= 0x80:
        size, rest = size + 1, rest >> 7
    return size


def batch_size(message):
    """Of a record batch with this record alone, as KIP-98 lays it out."""
    fields = [message.key() or b"", message.value() or b""]
    headers = message.headers() or []
    for name, value in headers:
        fields += [name.encode(), value]
    record = 3 + varint(len(headers)) + sum(varint(len(f)) + len(f) for f in fields)
    return 61 + varint(record) + record


@scenario(timeout_s=90)
def poison_limit(site):
    """Sizes byte by byte around what the topic of dead letters takes: no letter is too large for it, none is cut that is
    not, and what is cut fills it."""
    limit, count = 30_000, 400
    topics.create(site.bootstrap, {site.topic("deadletters"): (1, {"cleanup.policy": "delete", "max.message.bytes": str(limit)})})
    site.create(1)
    stream = site.stream(24)
    daemon = site.daemon(site.backbone(stream))
    daemon.config["kafka"]["message.max.bytes"] = limit
    daemon.start()
    own = [[("test.kind", b"random"), *[(f"h{i}", b"x" * i) for i in range(n % 7)]] for n in range(count)]
    site.produce([(b"limit", b"\xff" * (limit - 600 + n), own[n]) for n in range(count)])
    site.settle(daemon=daemon)
    aborted = daemon.metric("peterd_transactions_aborted_total")
    daemon.stopped_well()
    letters = topics.read_all(site.bootstrap, site.topic("deadletters"))[0]
    assert len(letters) == count and not aborted, f"{len(letters)} letters of {count}, {aborted} transactions aborted"
    whole, cut = [], []
    for message in letters:
        headers = dict(message.headers())
        (cut if "peterd.truncated" in headers else whole).append(batch_size(message))
        assert headers["test.kind"] == b"random"
    assert whole and max(whole) <= limit and max(whole) > limit - 8, f"the largest that is whole: {max(whole, default=0)}"
    assert cut and max(cut) == limit and min(cut) > limit - 4, f"those that are cut: {min(cut)} to {max(cut)}"
    site.note(f"{len(whole)} whole, {len(cut)} cut")


@scenario(timeout_s=90)
def poison_cut(site):
    """The topics take less than what comes: a letter that is too large alone is cut until it fits, many small ones, and
    updates, go in smaller batches and whole, and the partition goes on."""
    site.create(1)
    stream = site.stream(24, poison=Poison(), poison_share=0.3)
    backbone = site.backbone(stream)
    for kind in ("deadletters", "updates", "changelog"):
        topics.configure(site.bootstrap, site.topic(kind), max_message_bytes=LETTER_BYTES)
    daemon = site.daemon(backbone).start()
    own = [("test.kind", b"random")]
    records = [(b"large", b"\xff" * size, own) for size in (LETTER_BYTES - 1000, LETTER_BYTES + 1000, 100_000, 999_000)]
    site.produce(stream.take(500) + records + stream.take(500))
    site.settle(daemon=daemon, timeout=60)
    daemon.wait_ready(10)
    aborted = daemon.metric("peterd_transactions_aborted_total")
    # What was learnt of the topic holds: nothing is refused any more.
    site.produce(stream.take(500) + records)
    inputs = site.settle(daemon=daemon)
    assert daemon.metric("peterd_transactions_aborted_total") == aborted, "refused again after it was cut"
    daemon.stopped_well()
    checker = check.verify(site, [backbone], inputs=inputs)
    for message in checker.outputs.deadletters[0]:
        whole, cut = len(message.value() or b""), dict(message.headers()).get("peterd.truncated")
        if cut is None:
            continue
        assert int(cut) > LETTER_BYTES / 4, f"a letter of {int(cut)} bytes was cut to {whole}: it would have fitted"
        assert whole > LETTER_BYTES / 4, f"a letter of {int(cut)} bytes was cut to {whole}"
    site.note(f"{aborted:.0f} aborts")


NESTED = {
    "type": "record", "name": "Click", "namespace": "shop", "fields": [
        {"name": "id", "type": {"type": "fixed", "name": "Uuid", "size": 16}},
        {"name": "actor", "type": {"type": "record", "name": "Actor", "fields": [
            {"name": "uid", "type": ["null", "string"]}, {"name": "tags", "type": {"type": "map", "values": "string"}}]}},
        {"name": "product", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ]}


@scenario(timeout_s=120)
def poison_requeue(site):
    """With the wrong interactions.schema everything is a dead letter; after the fix `peterctl deadletter requeue` brings
    every record to its effect, once."""
    site.create(2)
    stream = site.stream(23)
    backbone = site.backbone(stream)
    wrong = os.path.join(site.folder, "wrong.avsc")
    with open(wrong, "w") as out:
        json.dump(NESTED, out)
    daemon = site.daemon(backbone)
    right = daemon.config["interactions"]
    daemon.config["interactions"] = {**right, "schema": wrong,
                                     "fields": {"user_id": "actor.uid", "item_id": "product", "timestamp": "at"}}
    daemon.start()
    records = stream.take(site.size(300))
    site.produce(records)
    before = site.settle(daemon=daemon)
    daemon.stopped_well()
    letters = topics.read_all(site.bootstrap, site.topic("deadletters"))
    assert sum(map(len, letters.values())) == len(records), "not every record is a dead letter"
    daemon.config["interactions"] = right
    daemon.start()
    listed = run([site.peterctl, "deadletter", "list", "--config", daemon.path])
    assert listed.returncode == 0 and listed.stdout.count("\n") >= len(records), f"deadletter list: {listed.returncode} " \
        f"{listed.stdout.count(chr(10))} lines {listed.stderr}"
    done = run([site.peterctl, "deadletter", "requeue", "--config", daemon.path])
    assert done.returncode == 0, f"deadletter requeue: {done.returncode} {done.stderr}"
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    again = {p: records[len(before[p]):] for p, records in inputs.items()}
    for partition in before:
        found = [(m.key(), m.value()) for m in again[partition]]
        assert sorted(found) == sorted((m.key(), m.value()) for m in before[partition]), \
            f"requeue of partition {partition}: {len(found)} of {len(before[partition])} records, or others"
    # Requeued once: a second requeue finds nothing new to do.
    done = run([site.peterctl, "deadletter", "requeue", "--config", daemon.path])
    twice = topics.read_all(site.bootstrap, site.topic("interactions"))
    assert sum(map(len, twice.values())) == sum(map(len, inputs.values())), "a second requeue submits the records again"
    # Of the first copies nothing but dead letters came; of the second ones their effect.
    first = {(p, m.offset()) for p, ms in before.items() for m in ms}
    ours = site.decode()
    expected = {k: v | {"schema", "missing_field", "timestamp", "oversize"} for k, v in Poison.expected.items()}

    def decode(message):
        return ("bad", "random") if (message.partition(), message.offset()) in first else ours(message)

    checker = check.verify(site, [backbone], inputs=inputs, decode=decode, expected=expected)
    assert checker.oracle.events == len(records)


@scenario(timeout_s=90)
def poison_again(site):
    """A record that is rejected again is a letter again, which says how often; an interrupted requeue ends at once."""
    site.create(1)
    daemon = site.daemon(site.backbone(site.stream(24)))
    daemon.start()
    site.produce([(b"u", b"no Avro", [("origin", b"\x00\xff"), ("peterd.requeued", b"nonsense")])] * 3)
    requeue = [site.peterctl, "deadletter", "requeue", "--config", daemon.path]
    for attempts in (1, 2, 3):
        site.settle(daemon=daemon)
        listed = run([site.peterctl, "deadletter", "list", "--json", "--config", daemon.path])
        letters = [json.loads(line) for line in listed.stdout.splitlines()]
        found = [letter["attempts"] for letter in letters]
        assert found == [n for n in range(1, attempts + 1) for _ in range(3)], f"attempts {found}; {listed.stderr}"
        done = run(requeue)
        assert done.returncode == 0 and done.stdout.startswith("3 letters re-submitted"), f"{done.stdout} {done.stderr}"
    site.settle(daemon=daemon)
    text = run([site.peterctl, "deadletter", "list", "--config", daemon.path]).stdout.splitlines()
    assert sum("  attempt 4  " in line for line in text) == 3 and not any("attempt 1 " in line for line in text), text
    last = topics.read_all(site.bootstrap, site.topic("deadletters"))[0][-1]
    assert [v for k, v in last.headers() if k == "peterd.requeued"] == [b"3"] and ("origin", b"\x00\xff") in last.headers()
    site.produce([(b"u", b"no Avro", [])] * site.size(20000))
    site.settle(daemon=daemon)
    slowest = 0
    for wait in (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8):
        process = subprocess.Popen(requeue, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        time.sleep(wait)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 5, f"an interrupted requeue took {slowest:.1f} s to end"
    site.note(f"slowest end {slowest:.1f} s")
