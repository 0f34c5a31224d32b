"""Comparison of everything that went out with the oracle: every record of updates, changelog and dead letters."""
import numpy as np

import codec
import topics
from oracle import Oracle
from stream import Poison

TOLERANCE = 1e-5
UPDATE_FIELDS = {"user_id", "event_time", "sequence_length", "partition", "offset", "backbone", "embedding", "scores"}
ERROR_HEADERS = ("topic", "partition", "offset", "message", "exception")


class Faults(list):
    def add(self, text):
        if len(self) < 2000:
            self.append(text)

    def raise_if_any(self):
        if self:
            shown = "\n  ".join(str(f) for f in self[:12])
            raise AssertionError(f"{len(self)} differences from the oracle:\n  {shown}")


class Outputs:
    """The records of one set of output topics, decoded, in order."""

    def __init__(self, site, view=""):
        self.updates = topics.read_all(site.bootstrap, site.topic("updates", view))
        self.changelog = topics.read_all(site.bootstrap, site.topic("changelog", view))
        self.deadletters = topics.read_all(site.bootstrap, site.topic("deadletters", view))
        self.update_avro = site.update_avro

    def final_changelog(self):
        """{(partition, key): value} without position records and forgotten keys."""
        final = {}
        for partition, records in self.changelog.items():
            for message in records:
                if message.key() != codec.POSITION_KEY:
                    final[partition, message.key()] = message.value()
        return {k: v for k, v in final.items() if v is not None}

    def final_updates(self):
        """{user id: the last update's record, None for a tombstone}"""
        final = {}
        for records in self.updates.values():
            for message in records:
                value = message.value()
                final[message.key().decode()] = value and self.update_avro.decode(value)
        return final


class Checker:
    def __init__(self, site, inputs, outputs, backbones, keep=24, decode=None, expected=None, exact_final=True):
        self.site, self.inputs, self.outputs = site, inputs, outputs
        self.backbones = {b.hash: b for b in backbones}
        self.maps = {b.hash: {codec.hash_item(i): n for i, n in b.index.items()} for b in backbones}
        self.oracle = Oracle(keep, decode or site.decode())
        self.expected, self.exact_final = expected or Poison.expected, exact_final
        self.faults = Faults()
        self.embeddings = {h: ([], [], []) for h in self.backbones}  # windows, published, labels
        self.worst = 0.0

    def run(self):
        updates_at, states_at = self.index_updates(), self.index_changelog()
        forgets = {}
        for partition, records in self.inputs.items():
            for message in records:
                at = (partition, message.offset())
                changed = self.oracle.apply(message)
                if changed and changed[1] is None:
                    forgets.setdefault((partition, changed[0]), []).append(message.offset())
                for update in updates_at.pop(at, ()):
                    self.check_update(update, changed, at)
                for key, value in states_at.pop(at, ()):
                    if not changed or changed[1] is None or changed[0].encode() != key:
                        self.faults.add(f"changelog {key!r}: reflects {at}, which is no interaction of that user")
                    elif codec.encode_user(changed[1].events, message.offset()) != value:
                        self.faults.add(f"changelog {key!r} at {at}: {self.difference(value, changed[1].events)}")
        for at, left in [*updates_at.items(), *states_at.items()]:
            self.faults.add(f"{len(left)} records reflect {at}, which is not in the input")
        self.check_order(forgets)
        self.check_final(forgets)
        self.check_positions()
        self.check_deadletters()
        self.check_embeddings()
        self.faults.raise_if_any()
        return self

    @staticmethod
    def difference(value, events):
        found, offset = codec.decode_user(value)
        return f"{len(found)} events to offset {offset}, oracle {len(events)}; equal items " \
               f"{[i for _, i in found] == [i for _, i in events]}, equal times {[t for t, _ in found] == [t for t, _ in events]}"

    def index_updates(self):
        found = {}
        for partition, records in self.outputs.updates.items():
            for message in records:
                if message.value() is None:
                    continue
                update = self.outputs.update_avro.decode(message.value())
                if not UPDATE_FIELDS <= set(update):
                    self.faults.add(f"update's fields: {sorted(update)}")
                if update["partition"] != partition or message.key() != update["user_id"].encode():
                    self.faults.add(f"update of {update['user_id']}: key {message.key()!r}, topic partition {partition}, "
                                    f"says {update['partition']}")
                found.setdefault((update["partition"], update["offset"]), []).append(update)
        return found

    def index_changelog(self):
        found = {}
        for partition, records in self.outputs.changelog.items():
            for message in records:
                key, value = message.key(), message.value()
                if key == codec.POSITION_KEY or key.startswith((codec.OWED_PREFIX, codec.LABEL_PREFIX)) or value is None:
                    continue
                try:
                    offset = codec.decode_user(value)[1]
                except (ValueError, IndexError) as error:
                    self.faults.add(f"changelog {key!r}: {error}")
                    continue
                found.setdefault((partition, offset), []).append((key, value))
        return found

    def check_update(self, update, changed, at):
        name = update["user_id"]
        if not changed or changed[1] is None or changed[0] != name:
            self.faults.add(f"update of {name}: reflects {at}, which is no interaction of that user")
            return
        events = changed[1].events
        if update["sequence_length"] != len(events) or update["event_time"] != events[-1][0]:
            self.faults.add(f"update of {name} at {at}: length {update['sequence_length']}, time {update['event_time']}; "
                            f"oracle {len(events)}, {events[-1][0]}")
        backbone = self.backbones.get(update["backbone"])
        if not backbone:
            self.faults.add(f"update of {name} at {at}: unknown backbone {update['backbone']}")
            return
        known = self.maps[backbone.hash]
        windows, published, labels = self.embeddings[backbone.hash]
        windows.append([known.get(item, 2) for _, item in events[-backbone.window:]])
        published.append(update["embedding"])
        labels.append(f"{name} at {at}")

    def check_embeddings(self):
        for hash_, (windows, published, labels) in self.embeddings.items():
            if not windows:
                continue
            if any(len(p) != self.backbones[hash_].channels for p in published):
                self.faults.add("an embedding of another length")
                continue
            error = np.abs(self.backbones[hash_].embed(windows) - np.array(published, dtype=np.float64)).max(1)
            self.worst = max(self.worst, float(error.max()))
            for row in np.flatnonzero(~(error <= TOLERANCE))[:20]:
                self.faults.add(f"embedding of {labels[row]}: off by {error[row]:.3g} ({len(windows[row])} events)")

    def check_order(self, forgets):
        """Per user: offsets only grow, and a tombstone stands where the input has one."""
        for what, records_of, offset_of in (
                ("updates", self.outputs.updates, lambda v: self.outputs.update_avro.decode(v)["offset"]),
                ("changelog", self.outputs.changelog, lambda v: codec.decode_user(v)[1])):
            for partition, records in records_of.items():
                last, pending = {}, {}
                for message in records:
                    key, value = message.key(), message.value()
                    if key.startswith(b"\0"):
                        continue
                    if value is None:
                        pending[key] = True
                        continue
                    try:
                        offset = offset_of(value)
                    except (ValueError, IndexError):
                        continue
                    before = last.get(key, -1)
                    if offset <= before:
                        self.faults.add(f"{what} of {key!r}: offset {offset} after {before}")
                    if pending.pop(key, False) and not any(
                            before < at < offset for at in forgets.get((partition, key.decode()), ())):
                        self.faults.add(f"{what} of {key!r}: a tombstone between {before} and {offset} that the input has not")
                    last[key] = offset
                for key in pending:
                    if (partition, key.decode()) not in forgets:
                        self.faults.add(f"{what} of {key!r}: a tombstone that the input has not")

    def check_final(self, forgets):
        updates, states = {}, {}
        for partition, records in self.outputs.updates.items():
            for message in records:
                updates[partition, message.key().decode()] = message.value()
        for partition, records in self.outputs.changelog.items():
            for message in records:
                if message.key().startswith((codec.OWED_PREFIX, codec.LABEL_PREFIX)) or message.key() != codec.POSITION_KEY:
                    states[partition, message.key()] = message.value()
        for (partition, user), state in self.oracle.users.items():
            stored = states.pop((partition, user.encode()), None)
            if stored is None:
                self.faults.add(f"changelog: nothing of {user} in {partition}")
            elif stored != codec.encode_user(state.events, state.offset):
                self.faults.add(f"changelog, final of {user}: {self.difference(stored, state.events)}, offset {state.offset}")
            published = updates.pop((partition, user), None)
            if published is None:
                self.faults.add(f"updates: nothing of {user}, whose last interaction is {state.offset} in {partition}")
            elif self.outputs.update_avro.decode(published)["offset"] != state.offset:
                self.faults.add(f"updates, final of {user}: offset {self.outputs.update_avro.decode(published)['offset']}, "
                                f"oracle {state.offset} in {partition}")
        for (partition, user), value in updates.items():
            if value is not None:
                self.faults.add(f"updates: {user} lives, but should be forgotten or never was")
        for (partition, key), value in states.items():
            if value is not None:
                self.faults.add(f"changelog: {key!r} in {partition} lives, but should be forgotten, settled, or never was")
        for partition, user in forgets:
            if (partition, user) not in self.oracle.users and (partition, user) not in updates:
                if any(self.oracle.decode(m)[:2] == ("event", user) for m in self.inputs[partition]):
                    self.faults.add(f"updates: no tombstone for {user}")

    def check_positions(self):
        if not self.exact_final:
            return
        for partition, records in self.inputs.items():
            positions = [m for m in self.outputs.changelog[partition] if m.key() == codec.POSITION_KEY]
            if not positions:
                if records:
                    self.faults.add(f"changelog: no position in partition {partition}")
                continue
            nexts = [codec.decode_position(m.value())[0] for m in positions]
            if nexts != sorted(nexts):
                self.faults.add(f"positions of partition {partition} go back")
            if records and nexts[-1] < records[-1].offset() + 1:
                self.faults.add(f"last position of partition {partition} is {nexts[-1]}, input ends at {records[-1].offset()}")

    def check_deadletters(self):
        found = {}
        for records in self.outputs.deadletters.values():
            for message in records:
                headers = dict(message.headers() or [])
                try:
                    at = (int(headers["__streams.errors.partition"]), int(headers["__streams.errors.offset"]))
                    assert headers["__streams.errors.topic"].decode() == self.site.topic("interactions")
                except (KeyError, ValueError, AssertionError):
                    self.faults.add(f"dead letter with headers {headers}")
                    continue
                found.setdefault(at, []).append((message, headers))
        for at, (kind, original) in self.oracle.bad.items():
            letters = found.pop(at, [])
            if len(letters) != 1:
                self.faults.add(f"{len(letters)} dead letters of the {kind} record at {at}, expected 1")
            for message, headers in letters:
                self.check_letter(at, kind, original, message, headers)
        for at, letters in found.items():
            self.faults.add(f"{len(letters)} dead letters of the good record at {at}: {letters[0][1].get('peterd.reason')}")

    def check_letter(self, at, kind, original, message, headers):
        reason = headers.get("peterd.reason", b"").decode()
        if reason not in self.expected[kind]:
            self.faults.add(f"dead letter of the {kind} record at {at}: reason {reason!r}, expected {self.expected[kind]}")
        missing = [h for h in ERROR_HEADERS if not headers.get("__streams.errors." + h)]
        if missing:
            self.faults.add(f"dead letter of the {kind} record at {at}: without headers {missing}")
        own = original.headers() or []
        if (message.headers() or [])[:len(own)] != own:
            self.faults.add(f"dead letter of the {kind} record at {at}: its own headers are not first and whole")
        if "peterd.truncated" in headers:
            whole = original.value() or b""
            if int(headers["peterd.truncated"]) != len(whole) or not whole.startswith(message.value() or b"\0"):
                self.faults.add(f"dead letter of the {kind} record at {at}: cut badly")
        elif message.value() != original.value():
            self.faults.add(f"dead letter of the {kind} record at {at}: another value")
        if message.key() != original.key() or message.timestamp()[1] != original.timestamp()[1]:
            self.faults.add(f"dead letter of the {kind} record at {at}: another key or timestamp")


def verify(site, backbones, view="", inputs=None, **more):
    """Reads what went in and out and compares all of it; returns the checker, with its figures in the site's notes."""
    inputs = inputs if inputs is not None else topics.read_all(site.bootstrap, site.topic("interactions"))
    checker = Checker(site, inputs, Outputs(site, view), backbones, **more).run()
    oracle = checker.oracle
    site.note(f"{oracle.events} events, {len(oracle.users)} users, "
              f"{sum(map(len, checker.outputs.updates.values()))} updates, {oracle.late} late, {oracle.forgotten} tombstones, "
              f"{len(oracle.bad)} dead, worst {checker.worst:.1e}")
    return checker
