"""What a sequence is: order, limits, forgetting, people's own schemas, thinning."""
import json
import os
import time

import check
import codec
from registry import scenario
from stream import DAY_MS, Feeder


@scenario(timeout_s=90)
def sequences_order(site):
    """Heavily out of order, many equal timestamps, many late ones; keep is exactly the window."""
    site.create(3)
    stream = site.stream(61, users=30, jitter_ms=60_000, late=0.1, duplicates=0.1)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, sequences={"keep": backbone.window}).start()
    rng = stream.rng
    base = stream.clock
    site.produce(stream.take(site.size(2000)))
    site.produce([stream.interaction(timestamp=base + rng.choice([0, 1, 5, 1000, 1000, -1000, 10**8]))
                  for _ in range(site.size(2000))])
    site.produce([stream.interaction(timestamp=base - n * 1000) for n in range(200)])
    site.produce([stream.interaction(user="zero", timestamp=0), stream.interaction(user="zero", timestamp=0)])
    inputs = site.settle(daemon=daemon)
    time.sleep(0.5)
    late = daemon.metric("peterd_interactions_late_total")
    daemon.stopped_well()
    checker = check.verify(site, [backbone], inputs=inputs, keep=backbone.window)
    assert late == checker.oracle.late > 0, f"{late} late ones counted, {checker.oracle.late} by the oracle"


@scenario(timeout_s=90)
def sequences_tombstones(site):
    """Every tenth record a tombstone: of known users, of unknown ones, twice in a row, across restarts."""
    site.create(2)
    stream = site.stream(62, users=60, tombstones=0.1)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, transaction={"interval_ms": 20})
    for _ in range(4):
        daemon.start()
        for _ in range(5):
            site.produce(stream.take(site.size(120)) + [(b"never-seen", None, None), (b"never-seen", None, None)])
        site.settle(daemon=daemon)
        daemon.kill()
    site.produce([(user.encode(), None, None) for user in stream.users])
    daemon.start()
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    checker = check.verify(site, [backbone], inputs=inputs)
    assert not checker.oracle.users


@scenario(timeout_s=90)
def sequences_cache(site):
    """Many more users than the cache holds: evicted and read back, the end is the same."""
    site.create(2)
    stream = site.stream(63, users=3000)
    backbone = site.backbone(stream, channels=64, dilations=(1, 4, 1, 4))
    daemon = site.daemon(backbone, cache={"bytes": 1048576}, sequences={"keep": backbone.window}).start()
    site.produce(stream.take(site.size(8000)))
    inputs = site.settle(daemon=daemon)
    evicted, size = daemon.metric("peterd_cache_evictions_total"), daemon.metric("peterd_cache_bytes")
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs, keep=backbone.window)
    assert evicted, "nothing was evicted: the test tests nothing"
    assert size <= 2 * 1048576, f"the cache holds {size} bytes"
    site.note(f"{evicted:.0f} evictions")


@scenario(timeout_s=90)
def sequences_ttl(site):
    """Users whose newest event is days older than the stream's are forgotten, changelog and updates too; one who comes
    back begins anew, whenever the sweep came by."""
    site.create(1)
    stream = site.stream(64, users=40, late=0, duplicates=0, jitter_ms=0)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, sequences={"keep": 24, "ttl_days": 3}).start()
    gone, back, stays = "gone", "back", "stays"
    start = stream.clock
    site.produce([stream.interaction(user=u, timestamp=start + n) for u in (gone, back, stays) for n in range(3)])
    site.settle(daemon=daemon)
    site.produce([stream.interaction(user=stays, timestamp=start + 2 * DAY_MS),
                  stream.interaction(user="clock", timestamp=start + 4 * DAY_MS),
                  stream.interaction(user=back, timestamp=start + 4 * DAY_MS + 5)])
    site.settle(daemon=daemon)
    deadline = time.monotonic() + 30
    while True:
        final = check.Outputs(site).final_updates()
        if final.get(gone, 1) is None:
            break
        daemon.assert_alive()
        assert time.monotonic() < deadline, f"the expired user is not forgotten: {final[gone] and final[gone]['offset']}"
        time.sleep(0.3)
    lengths = {user: final[user] and final[user]["sequence_length"] for user in (gone, back, stays, "clock")}
    assert lengths == {gone: None, back: 1, stays: 4, "clock": 1}, f"sequence lengths {lengths}"
    kept = {key for _, key in check.Outputs(site).final_changelog()}
    assert kept == {b"back", b"stays", b"clock"}, f"the changelog keeps {kept}"
    daemon.stopped_well()


CLICK = {
    "type": "record", "name": "Click", "namespace": "shop", "fields": [
        {"name": "id", "type": {"type": "fixed", "name": "Uuid", "size": 16}},
        {"name": "actor", "type": {"type": "record", "name": "Actor", "fields": [
            {"name": "tags", "type": {"type": "map", "values": "string"}},
            {"name": "uid", "type": ["null", "long"]}]}},
        {"name": "products", "type": {"type": "array", "items": "string"}},
        {"name": "product", "type": {"type": "record", "name": "Product", "fields": [
            {"name": "price", "type": "double"}, {"name": "sku", "type": "int"}]}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["view", "click", "buy"]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "note", "type": ["null", "string", "bytes"]},
    ]}


@scenario(timeout_s=90)
def sequences_mapping(site):
    """People's own schema: nested fields, integer ids, microseconds, an enum of event types of which two count."""
    site.create(3)
    path = os.path.join(site.folder, "click.avsc")
    with open(path, "w") as out:
        json.dump(CLICK, out)
    avro = codec.Avro(CLICK)
    stream = site.stream(65)
    rng = stream.rng
    stream.items = [str(n - 100) for n in range(300)]
    backbone = site.backbone(stream)
    fields = {"user_id": "actor.uid", "item_id": "product.sku", "timestamp": "at", "event_type": "kind"}
    daemon = site.daemon(backbone, interactions={"topic": site.topic("interactions"), "schema": path, "fields": fields,
                                                 "event_types": ["click", "buy"]}).start()
    records, now = [], int(time.time() * 10**6)
    for n in range(site.size(3000)):
        user = rng.choice([rng.randint(-5, 60), 2**62 + rng.randint(0, 3)])
        datum = {"id": rng.randbytes(16), "actor": {"uid": user, "tags": {"a": "b" * rng.randint(0, 9)} if n % 3 else {}},
                 "products": ["x"] * rng.randint(0, 3), "product": {"price": 1.5, "sku": int(rng.choice(stream.items))},
                 "kind": rng.choice(["view", "click", "buy"]), "at": now - 10**10 + n * 1000 + rng.randint(0, 999),
                 "note": rng.choice([None, "n", b"\0"])}
        headers = None
        if n % 50 == 7:
            datum["actor"]["uid"], headers = None, [("test.kind", b"null_user")]
        records.append((str(user).encode(), avro.encode(datum), headers))
        if n % 97 == 0:
            records.append((str(user).encode(), None, None))
    site.produce(records)

    def decode(message):
        if message.headers():
            return "bad", message.headers()[0][1].decode()
        if message.value() is None:
            return "forget", message.key().decode()
        datum = avro.decode(message.value())
        if datum["kind"] == "view":
            return ("skip",)
        return "event", str(datum["actor"]["uid"]), str(datum["product"]["sku"]), datum["at"] // 1000

    inputs = site.settle(daemon=daemon)
    filtered = daemon.metric("peterd_interactions_filtered_total")
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs, decode=decode, expected={"null_user": {"missing_field"}})
    assert filtered, "nothing was filtered"


@scenario(timeout_s=90)
def sequences_record_time(site):
    """timestamp: $record takes Kafka's own; the field in the record is not looked at."""
    site.create(2)
    stream = site.stream(66)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, interactions={"topic": site.topic("interactions"), "fields": {"timestamp": "$record"}})
    daemon.start()
    site.produce(stream.take(site.size(1000)))
    ours = site.decode()

    def decode(message):
        what = ours(message)
        return (*what[:3], message.timestamp()[1]) if what[0] == "event" else what

    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs, decode=decode)


def check_gaps(checker, least):
    """No user's updates follow each other sooner than this, but after a tombstone; returns the time of the newest update."""
    newest = 0
    for records in checker.outputs.updates.values():
        before = {}
        for message in records:
            at, key = message.timestamp()[1], message.key()
            newest = max(newest, at)
            if message.value() is not None and before.get(key) is not None:
                assert at - before[key] > least, f"{key}: two updates within {at - before[key]} ms"
            before[key] = at if message.value() is not None else None
    return newest


def nobody_is_owed(daemon, timeout=30):
    deadline = time.monotonic() + timeout
    while daemon.metric("peterd_updates_owed") != 0:
        daemon.assert_alive()
        assert time.monotonic() < deadline, f"{daemon.metric('peterd_updates_owed')} users are owed an update"
        time.sleep(0.1)
    time.sleep(1)  # the last transaction


@scenario(timeout_s=180)
def sequences_interval_cache(site):
    """min_interval_ms holds for many more users than the cache has room for, and so does the cache's budget, also after a
    kill -9 that leaves all of them owed an update."""
    interval, budget = 4000, 1048576
    site.create(2)
    stream = site.stream(68, users=400, tombstones=0.002)
    backbone = site.backbone(stream, channels=32, dilations=(1, 4, 1, 4))
    daemon = site.daemon(backbone, updates={"min_interval_ms": interval}, cache={"bytes": budget},
                         sequences={"keep": backbone.window}).start()
    daemon.wait_ready()
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 100)
    feeder.start()
    largest = most_owed = 0
    for _ in range(60 if site.long else 30):
        time.sleep(0.4)
        metrics = daemon.metrics()
        largest = max(largest, sum(metrics["peterd_cache_bytes"].values()))
        most_owed = max(most_owed, sum(metrics["peterd_updates_owed"].values()))
    feeder.stop()
    inputs = site.settle(daemon=daemon)
    settled = time.time() * 1000
    nobody_is_owed(daemon)
    checker = check.verify(site, [backbone], inputs=inputs, keep=backbone.window)
    newest = check_gaps(checker, interval / 2)  # a busy machine stalls between the decision and the record
    late = newest - settled
    assert late < 2 * interval, f"the last update came {late:.0f} ms after all events were taken in"
    evicted = daemon.metric("peterd_cache_evictions_total")
    assert evicted and most_owed > 50, f"{evicted} evictions, {most_owed} owed: the test tests nothing"
    assert largest < 3 * budget, f"the cache grew to {largest} bytes"
    site.produce([stream.interaction(user=user) for user in stream.users for _ in range(2)])
    site.settle(daemon=daemon)
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    nobody_is_owed(daemon)
    check.verify(site, [backbone], keep=backbone.window)
    daemon.stopped_well()
    site.note(f"{evicted:.0f} evictions, {most_owed:.0f} owed at once, cache {largest / budget:.2f} of its budget")


@scenario(timeout_s=120)
def sequences_interval(site):
    """min_interval_ms: no user more often than that, the last state within one interval of it, also across kill -9."""
    interval = 1500
    site.create(2)
    stream = site.stream(67, users=25, tombstones=0.005)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, updates={"min_interval_ms": interval}).start()
    daemon.wait_ready()
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 200)
    feeder.start()
    time.sleep(8 if site.long else 5)
    feeder.stop()
    last = time.time() * 1000
    inputs = site.settle(daemon=daemon)
    time.sleep((interval + 1500) / 1000)
    checker = check.verify(site, [backbone], inputs=inputs)
    updates = sum(map(len, checker.outputs.updates.values()))
    assert updates < checker.oracle.events / 2, f"{updates} updates of {checker.oracle.events} events are not thinned"
    newest = check_gaps(checker, interval - 250)
    assert newest - last < interval + 1200, f"the last update came {newest - last:.0f} ms after the last event"
    # Killed while updates are owed: they come after the restart, without any further event. Twice, once with the store gone.
    for turn in range(2):
        site.produce(stream.take(200))
        site.produce([stream.interaction(user=user) for user in stream.users for _ in range(2)])
        site.settle(daemon=daemon)
        daemon.kill()
        if turn:
            os.rename(daemon.config["state_dir"], daemon.config["state_dir"] + ".gone")
        daemon.start()
        daemon.wait_ready()
        time.sleep((interval + 1500) / 1000)
        check.verify(site, [backbone])
    # Another instance takes over what is owed.
    second = site.daemon(backbone, instance="b", updates={"min_interval_ms": interval})
    site.produce([stream.interaction(user=user) for user in stream.users for _ in range(3)])
    site.settle(daemon=daemon)
    daemon.kill()
    second.start()
    deadline = time.monotonic() + 60
    while True:
        second.assert_alive()
        try:
            check.verify(site, [backbone])
            break
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
    assert second.metric("peterd_updates_owed") == 0
    second.stopped_well()
