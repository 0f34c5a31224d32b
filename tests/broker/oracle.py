"""What must come out, from what went in: an independent model of the sequences, fed with the input topic itself."""
import bisect

import codec


class User:
    __slots__ = ("events", "offset")

    def __init__(self):
        self.events, self.offset = [], -1  # [(time_ms, item hash)], oldest first; newest offset reflected


def place(events, event, keep):
    """Inserts by time, equal times in order of arrival, and drops the oldest beyond keep. False: late, no change."""
    at = bisect.bisect_right(events, event[0], key=lambda e: e[0])
    if at == 0 and len(events) >= keep:
        return False
    events.insert(at, event)
    if len(events) > keep:
        del events[0]
    return True


class Oracle:
    """users of one topic; `apply` takes one input record at a time, in offset order within its partition.

    decode(message) -> ("event", user, item, time_ms) | ("forget", user) | ("bad", kind) | ("skip",)"""

    def __init__(self, keep, decode, ttl_ms=0):
        self.keep, self.decode, self.ttl_ms = keep, decode, ttl_ms
        self.users = {}         # (partition, user id) -> User
        self.touched = set()    # users ever seen, forgotten ones too
        self.bad, self.late, self.events, self.forgotten = {}, 0, 0, 0
        self.stream_time = {}   # partition -> highest event time

    def apply(self, message):
        """Returns (user id, User) where a state changed; User is None where it was forgotten; None otherwise."""
        what = self.decode(message)
        place_of = (message.partition(), message.offset())
        if what[0] == "bad":
            self.bad[place_of] = (what[1], message)
            return None
        if what[0] == "skip":
            return None
        key = (message.partition(), what[1])
        self.touched.add(key)
        if what[0] == "forget":
            self.users.pop(key, None)
            self.forgotten += 1
            return what[1], None
        self.events += 1
        user = self.users.setdefault(key, User())
        self.stream_time[key[0]] = max(self.stream_time.get(key[0], -1), what[3])
        if not place(user.events, (what[3], codec.hash_item(what[2])), self.keep):
            self.late += 1
            return None
        user.offset = message.offset()
        return what[1], user


def decode_ours(avro, key_of=None):
    """A decoder of our own Interaction; damaged records are known by the header `test.kind` that their maker gave them,
    so that the oracle needs no second opinion on what is damaged."""

    def decode(message):
        for name, value in message.headers() or []:
            if name == "test.kind":
                return "bad", value.decode()
        if message.value() is None:
            return "forget", message.key().decode()
        record = avro.decode(message.value())
        return "event", record["user_id"], record["item_id"], record["timestamp"]

    return decode
