"""Exactly once under kill -9 of daemons and brokers, and with members coming and going."""
import random
import time

import check
from registry import scenario
from stream import Feeder, Poison


class Chaos:
    """Rounds of one mishap each, at random instants, over a stream that never stops."""

    def __init__(self, site, backbone, env=None, mishaps=None, **sections):
        self.site, self.rng, self.mishaps = site, random.Random(site.seed), mishaps or self.MISHAPS
        self.first = site.daemon(backbone, instance="a", env=env, **sections)
        self.second = site.daemon(backbone, instance="b", env=env, **sections)
        self.counts = {}

    def kill_daemon(self):
        self.first.kill()
        time.sleep(self.rng.choice([0, 0, 0.3, 1.5]))
        self.first.start()

    def kill_second(self):
        if self.second.alive():
            self.second.kill()
        else:
            self.second.start()

    def second_process(self):
        if self.second.alive():
            self.second.stopped_well()
        else:
            self.second.start()

    def restart_daemon(self):
        self.first.stopped_well()
        self.first.start()

    def kill_broker(self):
        self.site.cluster.kill()
        time.sleep(self.rng.choice([0, 0.5, 3]))
        self.site.cluster.start()

    def restart_broker(self):
        self.site.cluster.stop()
        self.site.cluster.start()

    def pause_broker(self):
        self.site.cluster.pause()
        time.sleep(self.rng.uniform(0.5, 4))
        self.site.cluster.resume()

    def both(self):
        """The daemon dies while the broker is away."""
        self.site.cluster.kill()
        self.first.kill()
        self.first.start()
        time.sleep(self.rng.uniform(0, 1))
        self.site.cluster.start()

    def kill_node(self):
        """One broker of three: leaders and coordinators move."""
        node = self.rng.randint(1, 3)
        self.site.cluster.kill(node)
        time.sleep(self.rng.uniform(0.5, 6))
        self.site.cluster.start(node)

    def pause_node(self):
        node = self.rng.randint(1, 3)
        self.site.cluster.pause(node)
        time.sleep(self.rng.uniform(0.5, 12))
        self.site.cluster.resume(node)

    MISHAPS = ("kill_daemon", "kill_broker", "second_process", "kill_daemon", "restart_broker", "kill_second", "both",
               "kill_daemon", "restart_daemon", "second_process", "pause_broker", "kill_daemon")

    def run(self, rounds):
        self.first.start()
        self.first.wait_ready(60)
        order = []
        while len(order) < rounds:
            deck = list(self.mishaps)
            self.rng.shuffle(deck)
            order += deck
        for what in order[:rounds]:
            if self.rng.random() < 0.6:  # else: in the middle of starting, joining, restoring
                self.first.wait_ready(60)
            time.sleep(self.rng.uniform(0.1, 2.5))
            self.counts[what] = self.counts.get(what, 0) + 1
            getattr(self, what)()
            for daemon in (self.first, self.second):
                if daemon.process and what not in ("kill_second", "second_process"):
                    assert daemon is self.second or daemon.alive(), f"{daemon.name} ended: {daemon.log()[-1500:]}"
        return self


def one_chaos(site, tombstones=0.01, poison_share=0.01, rate=700, settle_s=150, settled_after=0.0, env=None, rounds=None,
              **sections):
    site.create(4)
    stream = site.stream(7, tombstones=tombstones, poison=Poison(), poison_share=poison_share)
    backbone = site.backbone(stream)
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, rate)
    feeder.start()
    rounds = site.options.rounds or rounds or site.size(6, 36)
    chaos = Chaos(site, backbone, env, **sections)
    try:
        chaos.run(rounds)
    finally:
        count = feeder.stop()
    inputs = site.settle("", settle_s)
    time.sleep(settled_after)
    check.verify(site, [backbone], inputs=inputs)
    for daemon in (chaos.first, chaos.second):
        if daemon.alive():
            daemon.stopped_well()
    # The same topics through an undisturbed daemon end in the same bytes.
    site.create(4, "-calm")
    calm = site.daemon(backbone, "-calm").start()
    site.settle("-calm", 120, calm)
    calm.stopped_well()
    check.verify(site, [backbone], "-calm", inputs)
    assert check.Outputs(site, "-calm").final_changelog() == check.Outputs(site).final_changelog(), \
        "the undisturbed run ends in other sequences"
    site.note(f"{count} records; {rounds} rounds: " + ", ".join(f"{n} {k}" for k, n in sorted(chaos.counts.items())))


@scenario(own_broker=True, timeout_s=280)
def chaos(site):
    """At default time-outs, with tombstones and poison in the stream."""
    one_chaos(site)


@scenario(own_broker=True, timeout_s=280)
def chaos_interval(site):
    """With updates thinned to one in 500 ms."""
    one_chaos(site, settled_after=2.5, updates={"min_interval_ms": 500})


@scenario(own_broker=True, timeout_s=280)
def chaos_abort(site):
    """With every fifth commit aborted, two workers."""
    one_chaos(site, env={"PETERD_TEST_ABORT_EVERY": "5"}, workers=2)


@scenario(own_broker=True, timeout_s=200, long_only=True, nodes=3)
def chaos_three_brokers(site):
    """Three brokers, replicated topics; one of them dies or freezes at a time."""
    one_chaos(site, rate=300, mishaps=("kill_node", "kill_daemon", "pause_node", "second_process", "kill_node", "restart_daemon"))


@scenario(timeout_s=120)
def aborts(site):
    """Every fifth (and, in another run, every second) commit aborted, and nothing else: the end is the same."""
    site.create(3)
    stream = site.stream(8, tombstones=0.01, poison=Poison(), poison_share=0.01)
    backbone = site.backbone(stream)
    for view, every in (("-every5", "5"), ("-every2", "2")):
        site.create(3, view)
        daemon = site.daemon(backbone, view, env={"PETERD_TEST_ABORT_EVERY": every},
                             transaction={"interval_ms": 30, "max_records": 100}).start()
        site.produce(stream.take(site.size(3000, 30000)))
        inputs = site.settle(view, daemon=daemon)
        aborted = daemon.metric("peterd_transactions_aborted_total")
        daemon.stopped_well()
        assert aborted and aborted >= 3, f"{aborted} transactions were aborted: the test tests nothing"
        check.verify(site, [backbone], view, inputs)
        site.note(f"{aborted:.0f} aborts")
