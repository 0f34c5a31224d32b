"""The checker itself: it accepts what the oracle would publish, and refuses each single fault put into it."""
import check
import codec
from oracle import Oracle
from registry import scenario
from stream import Poison, producer


class Published:
    """Right outputs, made by the oracle, one record each interaction; a fault's hook may spoil any of them."""

    def __init__(self, site, backbone, inputs):
        self.site, self.records = site, []  # (topic kind, partition, key, value, headers, timestamp)
        oracle = Oracle(24, site.decode())
        known = {codec.hash_item(i): n for i, n in backbone.index.items()}
        for partition, messages in inputs.items():
            for message in messages:
                changed = oracle.apply(message)
                if (partition, message.offset()) in oracle.bad:
                    self.letter(message, oracle.bad[partition, message.offset()][0])
                elif changed and changed[1] is None:
                    for kind in ("changelog", "updates"):
                        self.records.append([kind, partition, changed[0].encode(), None, None, 0])
                elif changed:
                    name, user = changed
                    self.records.append(["changelog", partition, name.encode(),
                                         codec.encode_user(user.events, user.offset), None, 0])
                    window = [known.get(item, 2) for _, item in user.events]
                    self.records.append(["updates", partition, name.encode(), {
                        "user_id": name, "event_time": user.events[-1][0], "sequence_length": len(user.events),
                        "partition": partition, "offset": user.offset, "backbone": backbone.hash,
                        "embedding": window, "scores": []}, None, 0])
            end = messages[-1].offset() + 1
            value = b"\x01" + b"".join(map(codec.varint, (end, -1, 0, -1)))
            self.records.append(["changelog", partition, codec.POSITION_KEY, value + codec.checksum(value), None, 0])
        updates = [r[3] for r in self.records if r[0] == "updates" and r[3]]
        for update, row in zip(updates, backbone.embed([u["embedding"] for u in updates])):
            update["embedding"] = row.tolist()

    def letter(self, message, kind):
        headers = (message.headers() or []) + [
            ("__streams.errors.topic", message.topic().encode()), ("__streams.errors.partition", b"%d" % message.partition()),
            ("__streams.errors.offset", b"%d" % message.offset()), ("__streams.errors.message", b"m"),
            ("__streams.errors.exception", b"e"), ("peterd.reason", sorted(Poison.expected[kind])[0].encode())]
        self.records.append(["deadletters", message.partition(), message.key(), message.value(), headers,
                             message.timestamp()[1]])

    def publish(self, view, spoil):
        records = [list(r) for r in self.records]
        for record in records:
            if isinstance(record[3], dict):
                record[3] = dict(record[3])
        spoil(records)
        handle = producer(self.site.bootstrap)
        for kind, partition, key, value, headers, timestamp in records:
            value = self.site.update_avro.encode(value) if isinstance(value, dict) else value
            handle.produce(self.site.topic(kind, view), value=value, key=key, partition=partition, headers=headers,
                           timestamp=timestamp)
        assert handle.flush(60) == 0


def nth(records, kind, n=40, live=True):
    """The index of the n-th record of a kind (of those with a value)."""
    return [i for i, r in enumerate(records) if r[0] == kind and (not live or r[3]) and r[2] != codec.POSITION_KEY][n]


def change(kind, **fields):
    def spoil(records):
        update = records[nth(records, kind)][3]
        for name, change_of in fields.items():
            update[name] = change_of(update[name])
    return spoil


def twice(kind, n=40):
    return lambda records: records.insert(nth(records, kind, n), records[nth(records, kind, n)])


def spoil_header(records):
    record = records[nth(records, "deadletters", 3)]
    record[4] = [(k, b"other" if k == "peterd.reason" else v) for k, v in record[4]]


def spoil_value(records):
    records[nth(records, "deadletters", 3)][3] += b"x"


def drop(kind, n=40, live=True):
    return lambda records: records.pop(nth(records, kind, n, live))


def double_event(records):
    """A state in which the newest interaction counts twice."""
    record = records[nth(records, "changelog")]
    events, offset = codec.decode_user(record[3])
    record[3] = codec.encode_user(events + events[-1:], offset)


def swap_final(records):
    """The last two updates of a user in the wrong order."""
    seen = {}
    for i, r in enumerate(records):
        if r[0] == "updates" and r[3]:
            seen.setdefault(r[2], []).append(i)
    a, b = next(v for v in seen.values() if len(v) > 3)[-2:]
    records[a], records[b] = records[b], records[a]


def lose_last(records):
    """The last update of a user does not come."""
    records.pop(max(i for i, r in enumerate(records) if r[0] == "updates" and r[3]))


def resurrect(records):
    """A tombstone goes missing on updates, of a user who does not come back."""
    last = {}
    for i, r in enumerate(records):
        if r[0] == "updates":
            last[r[2]] = i
    records.pop(next(i for i in last.values() if records[i][3] is None))


FAULTS = {
    "length": change("updates", sequence_length=lambda n: n + 1), "time": change("updates", event_time=lambda n: n - 1),
    "offset": change("updates", offset=lambda n: n + 1), "hash": change("updates", backbone=lambda h: h[::-1]),
    "embedding": change("updates", embedding=lambda e: e[:-1] + [e[-1] + 2e-5]),
    "nan": change("updates", embedding=lambda e: e[:-1] + [float("nan")]),
    "update_twice": twice("updates"), "letter_twice": twice("deadletters", 3), "letter_lost": drop("deadletters", 3),
    "letter_reason": spoil_header, "letter_value": spoil_value, "state_twice_counted": double_event,
    "order": swap_final, "last_lost": lose_last, "tombstone_lost": resurrect,
    "position_lost": lambda records: records.pop(next(i for i, r in enumerate(records) if r[2] == codec.POSITION_KEY)),
}


@scenario(timeout_s=90)
def checker(site):
    site.create(2, "-right")
    stream = site.stream(99, users=40, tombstones=0.03, poison=Poison(), poison_share=0.05)
    backbone = site.backbone(stream)
    site.produce(stream.take(600) + [(b"user-0001", None, None)])
    inputs = {p: m for p, m in check.topics.read_all(site.bootstrap, site.topic("interactions")).items()}
    published = Published(site, backbone, inputs)
    published.publish("-right", lambda records: None)
    check.verify(site, [backbone], "-right", inputs)
    for name, spoil in FAULTS.items():
        view = "-" + name.replace("_", "")
        site.create(2, view)
        published.publish(view, spoil)
        try:
            check.verify(site, [backbone], view, inputs)
        except AssertionError:
            continue
        raise AssertionError(f"the checker does not see the fault {name!r}")
    site.note(f"{len(FAULTS)} faults seen")
