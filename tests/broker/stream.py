"""Seeded streams of records as an audience and its bad days would make them, and their producer."""
import random
import threading
import time

from confluent_kafka import KafkaException, Producer

DAY_MS = 86_400_000


class Zipf:
    def __init__(self, names, exponent):
        self.names, self.weights, total = names, [], 0.0
        for rank in range(len(names)):
            total += 1.0 / (rank + 1) ** exponent
            self.weights.append(total)

    def draw(self, rng, count):
        return rng.choices(self.names, cum_weights=self.weights, k=count)


class Stream:
    """Records (key, value, headers) without end, a function of the seed alone (but for the clock's start).

    tombstones, duplicates, late: shares of the records. Late ones lie far behind everything kept; the others are up to
    `jitter_ms` out of order, and about one in five shares its timestamp with the one before."""

    def __init__(self, avro, seed, users=120, items=300, tombstones=0.0, duplicates=0.02, late=0.005, jitter_ms=4000,
                 start_ms=None, poison=None, poison_share=0.0):
        self.avro, self.rng = avro, random.Random(seed)
        self.users = [f"user-{i:04d}" for i in range(users - 3)] + ["ü", "ユーザー-1", "u" * 256]
        self.items = [f"item-{i:04d}" for i in range(items - 1)] + ["日本語の品"]
        self.user_zipf, self.item_zipf = Zipf(self.users, 0.8), Zipf(self.items, 1.0)
        self.tombstones, self.duplicates, self.late, self.jitter_ms = tombstones, duplicates, late, jitter_ms
        self.clock = start_ms or int(time.time() * 1000) - 30 * DAY_MS
        self.last = None
        self.poison, self.poison_share = poison, poison_share

    def interaction(self, user=None, item=None, timestamp=None, event_type=None):
        user = user or self.user_zipf.draw(self.rng, 1)[0]
        item = item or self.item_zipf.draw(self.rng, 1)[0]
        if timestamp is None:
            if self.rng.random() > 0.2:
                self.clock += self.rng.randint(1, 400)
            timestamp = self.clock
            chance = self.rng.random()
            if chance < self.late:
                timestamp -= 20 * DAY_MS + self.rng.randint(0, DAY_MS)
            elif chance < 0.3:
                timestamp -= self.rng.randint(0, self.jitter_ms)
        record = {"user_id": user, "item_id": item, "timestamp": timestamp, "event_type": event_type}
        return user.encode(), self.avro.encode(record), None

    def __iter__(self):
        return self

    def __next__(self):
        chance = self.rng.random()
        if self.poison and self.rng.random() < self.poison_share:
            return self.poison.draw(self)
        if self.last and chance < self.duplicates:
            return self.last
        if chance < self.duplicates + self.tombstones:
            return self.user_zipf.draw(self.rng, 1)[0].encode(), None, None
        self.last = self.interaction()
        return self.last

    def take(self, count):
        return [next(self) for _ in range(count)]


def producer(bootstrap, **more):
    return Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True,
                     "linger.ms": 5, "message.timeout.ms": 300_000, "socket.nagle.disable": True, "log_level": 2,
                     "reconnect.backoff.max.ms": 1000, "queue.buffering.max.messages": 1_000_000, **more})


def produce(bootstrap, topic, records, **more):
    """Produces and waits for every acknowledgement."""
    with_errors = []

    def report(error, _message):
        if error:
            with_errors.append(error)

    handle = producer(bootstrap, **more)
    count = 0
    for key, value, headers in records:
        while True:
            try:
                handle.produce(topic, value=value, key=key, headers=headers, on_delivery=report)
                break
            except BufferError:
                handle.poll(0.1)
        count += 1
        if count % 1000 == 0:
            handle.poll(0)
    if handle.flush(300) or with_errors:
        raise KafkaException(f"produce to {topic}: {with_errors[:1] or 'not acknowledged'}")
    return count


class Feeder(threading.Thread):
    """Produces a stream at a rate in the background until stop(); survives broker restarts."""

    def __init__(self, bootstrap, topic, stream, per_second):
        super().__init__(daemon=True)
        self.handle, self.topic, self.stream, self.per_second = producer(bootstrap), topic, stream, per_second
        self.stopping, self.count, self.errors = threading.Event(), 0, []

    def run(self):
        def report(error, _message):
            if error:
                self.errors.append(error)

        begun = time.monotonic()
        while not self.stopping.is_set():
            due = int((time.monotonic() - begun) * self.per_second) - self.count
            for _ in range(max(0, min(due, 500))):
                key, value, headers = next(self.stream)
                self.handle.produce(self.topic, value=value, key=key, headers=headers, on_delivery=report)
                self.count += 1
            self.handle.poll(0)
            time.sleep(0.01)

    def stop(self):
        self.stopping.set()
        self.join()
        if self.handle.flush(300) or self.errors:
            raise KafkaException(f"feeder: {self.errors[:1] or 'not acknowledged'}")
        return self.count


class Poison:
    """Damaged records, every way in turn. Each carries the header `test.kind`; `expected` maps a kind to the reasons
    that are right for it."""

    expected = {
        "random": {"undecodable", "schema"}, "truncated": {"undecodable"}, "trailing": {"undecodable"},
        "empty": {"undecodable"}, "framed": {"schema"}, "huge_length": {"undecodable"}, "bad_branch": {"undecodable", "schema"},
        "no_user": {"missing_field"}, "no_item": {"missing_field"}, "big_user": {"oversize"}, "big_item": {"oversize"},
        "negative_time": {"timestamp"}, "future_time": {"timestamp"}, "utf8_user": {"undecodable"},
        "utf8_item": {"undecodable"}, "nul_user": {"undecodable"}, "nul_item": {"undecodable"},
        "tombstone_no_key": {"missing_field"}, "tombstone_big_key": {"oversize"}, "tombstone_bad_key": {"undecodable"},
    }

    def __init__(self, kinds=None):
        self.kinds, self.turn = list(kinds or self.expected), 0

    def draw(self, stream):
        kind = self.kinds[self.turn % len(self.kinds)]
        self.turn += 1
        return self.make(kind, stream)

    @staticmethod
    def make(kind, stream):
        rng = stream.rng
        user = stream.user_zipf.draw(rng, 1)[0]
        key, good, _ = stream.interaction(user=user)
        now = int(time.time() * 1000)

        def datum(user=user, item="item-0001", timestamp=stream.clock):
            return stream.avro.encode({"user_id": user, "item_id": item, "timestamp": timestamp, "event_type": None})

        value = {
            "random": lambda: bytes([0xFF] * rng.randint(11, 40)),
            "truncated": lambda: good[:rng.randint(1, len(good) - 1)],
            "trailing": lambda: good + bytes(rng.randint(1, 255) for _ in range(rng.randint(1, 9))),
            "empty": lambda: b"",
            "framed": lambda: b"\0\0\0\0\7" + good,
            "huge_length": lambda: b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" + good,
            "bad_branch": lambda: good[:-1] + b"\x08",
            "no_user": lambda: datum(user=""), "no_item": lambda: datum(item=""),
            "big_user": lambda: datum(user="b" * 257), "big_item": lambda: datum(item="b" * 1025),
            "negative_time": lambda: datum(timestamp=-rng.randint(1, 10**12)),
            "future_time": lambda: datum(timestamp=now + 3 * DAY_MS + rng.randint(0, 10**15)),
            "utf8_user": lambda: datum(user="xyz").replace(b"xyz", b"x\xc3("),
            "utf8_item": lambda: datum(item="xyz").replace(b"xyz", b"\xed\xa0\x80"),
            "nul_user": lambda: datum(user="a\0b"), "nul_item": lambda: datum(item="a\0b"),
        }.get(kind, lambda: None)()
        if kind == "tombstone_no_key":
            key = None
        elif kind == "tombstone_big_key":
            key = b"k" * 257
        elif kind == "tombstone_bad_key":
            key = b"\xff\xfe"
        return key, value, [("test.kind", kind.encode()), ("origin", b"\x00\xff")]
