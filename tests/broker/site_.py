"""Where a scenario lives: a broker, topics of its own, a folder, and the daemons that it starts."""
import copy
import os
import time

import codec
import nextitnet
import topics
from daemon import Daemon
from oracle import decode_ours
from stream import Stream, produce

COMPACT, DELETE = {"cleanup.policy": "compact"}, {"cleanup.policy": "delete"}


class Site:
    def __init__(self, name, cluster, folder, programs, options):
        self.name, self.cluster, self.folder, self.options = name, cluster, folder, options
        self.peterd, self.peterctl = os.path.join(programs, "peterd"), os.path.join(programs, "peterctl")
        self.seed, self.long, self.scale = options.seed, options.long, options.scale
        self.prefix = f"{name}-{os.getpid()}"
        self.partitions, self.daemons = 0, []
        self.avro = codec.Avro.shipped(self.peterctl, "Interaction")
        self.update_avro = codec.Avro.shipped(self.peterctl, "UserUpdate")
        self.notes = []
        os.makedirs(folder, exist_ok=True)

    @property
    def bootstrap(self):
        return self.cluster.bootstrap

    def size(self, short, long=None):
        """How many records, rounds, ...: the short figure, the long one under --long, times --scale."""
        return max(1, int((long if self.long and long is not None else short) * self.scale))

    def note(self, text):
        self.notes.append(str(text))

    def topic(self, kind, view=""):
        """A topic of this scenario; `view` names another set of outputs over the same input."""
        return f"{self.prefix}.{kind}" if kind in ("interactions", "labels") else f"{self.prefix}{view}.{kind}"

    def create(self, partitions, view=""):
        self.partitions = partitions
        made = {self.topic("interactions"): (partitions, DELETE), self.topic("labels"): (partitions, DELETE)}
        made.update({self.topic(k, view): (partitions, c) for k, c in (
            ("updates", COMPACT), ("changelog", COMPACT), ("deadletters", DELETE), ("examples", DELETE),
            ("patches", COMPACT), ("tasks", COMPACT))})
        topics.create(self.bootstrap, made)

    def backbone(self, stream, seed=1, known=0.85, name="backbone", **shape):
        """A backbone that knows this share of the stream's items."""
        items = [item for i, item in enumerate(stream.items) if (i * 37 + seed) % 100 < known * 100]
        return nextitnet.Backbone(os.path.join(self.folder, name + ".safetensors"), items, seed, **shape)

    def group(self, view=""):
        return f"{self.prefix}{view}"

    def config(self, backbone, view="", instance="a", **sections):
        config = {
            "group": self.group(view), "instance": instance, "workers": 1, "backbone": backbone.path,
            "state_dir": os.path.join(self.folder, f"state{view}-{instance}"),
            "kafka": {"bootstrap.servers": self.bootstrap},
            "interactions": {"topic": self.topic("interactions")}, "labels": {"topic": self.topic("labels")},
            "sequences": {"keep": 24}, "updates": {"topic": self.topic("updates", view)},
            "topics": {k: self.topic(k, view) for k in ("examples", "patches", "tasks", "changelog", "deadletters")},
        }
        for key, value in copy.deepcopy(sections).items():
            if isinstance(value, dict) and isinstance(config.get(key), dict):
                config[key].update(value)
            else:
                config[key] = value
        return config

    def daemon(self, backbone, view="", instance="a", env=None, **sections):
        config = self.config(backbone, view, instance, **sections)
        daemon = Daemon(self.peterd, self.folder, f"peterd{view}-{instance}", config, env)
        self.daemons.append(daemon)
        return daemon

    def stream(self, seed=0, **more):
        return Stream(self.avro, self.seed * 1000 + seed, **more)

    def produce(self, records):
        return produce(self.bootstrap, self.topic("interactions"), records)

    def decode(self):
        return decode_ours(self.avro)

    def settle(self, view="", timeout=120, daemon=None):
        """Waits until the group has committed past every record of the interactions; returns the input records."""
        inputs = topics.read_all(self.bootstrap, self.topic("interactions"))
        ends = {p: records[-1].offset() + 1 if records else 0 for p, records in inputs.items()}
        deadline = time.monotonic() + timeout
        while True:
            now = topics.committed(self.bootstrap, self.group(view), self.topic("interactions"), len(ends))
            if now and all(now.get(p, -1) >= end for p, end in ends.items() if end):
                return inputs
            if daemon:
                daemon.assert_alive()
            if time.monotonic() > deadline:
                tails = "".join(f"\n{d.name} log:\n{d.log()[-800:]}" for d in self.daemons if d.log())
                raise AssertionError(f"not caught up within {timeout} s: ends {ends}, committed {now}{tails}")
            time.sleep(0.1)

    def check_logs(self):
        """After a scenario that passed: no producer was destroyed while librdkafka still held messages of it, which
        crashes some of the time (docs/architecture.md)."""
        for daemon in self.daemons:
            lines = [line for line in daemon.log().splitlines() if "still in queue or transit" in line]
            assert not lines, f"{daemon.log_path}: a producer was destroyed with messages in it: {lines[0]}"

    def close(self):
        for daemon in self.daemons:
            daemon.kill()
