"""People with a hidden trait that shows in what they take, and labels that follow it or do not: something to learn."""
import random
import threading
import time

import codec
from stream import producer

DAY_MS = 86_400_000
COLOURS = ["red", "green", "blue"]
KEEP = {"keep": 96}  # room for what a label that comes late would still see: interactions do not wait for labels


class Audience:
    """Records of both inputs in the order of their times, a function of the seed alone but for where the clock starts."""

    def __init__(self, site, seed, users=60, items=60, start_ms=None):
        self.site, self.rng = site, random.Random(site.seed * 1000 + seed)
        self.items = [f"item-{i:04d}" for i in range(items)]
        self.users = [f"user-{i:04d}" for i in range(users)]
        self.trait = {user: self.rng.randrange(len(COLOURS)) for user in self.users}
        self.clock = start_ms or int(time.time() * 1000) - 30 * DAY_MS
        self.avro, self.label_avro = site.avro, codec.Avro.shipped(site.peterctl, "Label")
        self.handle, self.faults = None, []
        self.events = []  # (user, item, time_ms), as produced
        self.labels = []  # (task, user, time_ms, label), likewise

    def item_of(self, trait):
        """Nine in ten items of these people are of their third of the catalogue."""
        third = len(self.items) // len(COLOURS)
        if self.rng.random() < 0.1:
            return self.rng.choice(self.items)
        return self.items[trait * third + self.rng.randrange(third)]

    def event(self, user=None, item=None, time_ms=None):
        user = user or self.rng.choice(self.users)
        if time_ms is None:
            self.clock += self.rng.randint(1, 20)
            time_ms = self.clock
        item = item or self.item_of(self.trait[user])
        self.events.append((user, item, time_ms))
        record = {"user_id": user, "item_id": item, "timestamp": time_ms, "event_type": None}
        return user.encode(), self.avro.encode(record), None

    def label(self, task, label, user, time_ms=None, weight=1.0):
        if time_ms is None:
            self.clock += 1
            time_ms = self.clock
        self.labels.append((task, user, time_ms, label))
        record = {"task": task, "user_id": user, "timestamp": time_ms, "label": label, "weight": weight}
        return user.encode(), self.label_avro.encode(record), None

    def truth(self, kind, user, shift=0):
        """What a user's label is: colour, film (one of eight of the trait's, the first ones mostly) or age."""
        trait = (self.trait[user] + shift) % len(COLOURS)
        if kind == "colour":
            return COLOURS[trait]
        if kind == "film":
            return f"film-{trait * 8 + min(int(self.rng.expovariate(0.7)), 7):02d}"
        return 20.0 + 20.0 * trait + self.rng.gauss(0, 1)

    def seen(self):
        return {user for user, _, _ in self.events}

    def warm_up(self, each=6):
        """A few events of everybody."""
        return [self.event(user) for user in self.users for _ in range(each)]

    def round(self, tasks, count, events_a_label=2, shift=0, lie=False):
        """(interactions, labels): `count` labels of each task (name -> kind) with events in between. lie: labels are those of
        anybody."""
        interactions, labels = [], []
        for _ in range(count):
            for name, kind in tasks.items():
                interactions += [self.event() for _ in range(events_a_label)]
                user = self.rng.choice(self.users)
                other = self.rng.choice(self.users) if lie else user
                labels.append(self.label(name, self.truth(kind, other, shift), user))
        return interactions, labels

    def send(self, interactions, labels=()):
        """Produces, interactions first, so that what is older than a label stands before it; waits for acknowledgements, as long
        as brokers are away."""
        self.handle = self.handle or producer(self.site.bootstrap)
        for kind, records in (("interactions", interactions), ("labels", labels)):
            for key, value, _ in records:
                self.handle.produce(self.site.topic(kind), key=key, value=value, on_delivery=self.note)
                self.handle.poll(0)
            assert self.handle.flush(300) == 0 and not self.faults, f"not acknowledged: {self.faults[:1]}"

    def note(self, error, _message):
        if error:
            self.faults.append(error)

    def play(self, tasks, count, per_second, **more):
        """A round in small steps at a rate of labels a second of all tasks."""
        begun, done = time.monotonic(), 0
        while done < count:
            step = max(1, min(count - done, per_second // (10 * len(tasks))))
            self.send(*self.round(tasks, step, **more))
            done += step
            time.sleep(max(0.0, begun + done * len(tasks) / per_second - time.monotonic()))


class Feeding(threading.Thread):
    """An audience that goes on in the background until stop()."""

    def __init__(self, audience, tasks, per_second):
        super().__init__(daemon=True)
        self.audience, self.tasks, self.per_second = audience, tasks, per_second
        self.stopping, self.error = threading.Event(), None

    def run(self):
        try:
            while not self.stopping.is_set():
                self.audience.play(self.tasks, 10, self.per_second)
        except Exception as error:
            self.error = error

    def stop(self):
        self.stopping.set()
        self.join()
        if self.error:
            raise self.error
