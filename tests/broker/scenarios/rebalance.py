"""Members that come and go: co-partitioned, exactly once, and one process for one name."""
import time

import check
from registry import scenario
from stream import Feeder


def assigned(daemon, topic):
    found = set()
    for labels, value in daemon.metrics().get("peterd_assigned_partitions", {}).items():
        labels = dict(labels)
        if labels["topic"] == topic and value:
            found.add(int(labels["partition"]))
    return found


def wait_assigned(site, daemons, sizes, timeout=60):
    """Until these daemons own so many partitions each; labels' partitions follow by number, none is owned twice."""
    deadline = time.monotonic() + timeout
    while True:
        for daemon in daemons:
            daemon.assert_alive()
        interactions = [assigned(d, site.topic("interactions")) for d in daemons]
        labels = [assigned(d, site.topic("labels")) for d in daemons]
        if [len(i) for i in interactions] == sizes and interactions == labels and \
                set().union(*interactions) == set(range(site.partitions)):
            return interactions
        if time.monotonic() > deadline:
            raise AssertionError(f"assigned: interactions {interactions}, labels {labels}, wanted {sizes}")
        time.sleep(0.2)


@scenario(timeout_s=150)
def rebalance(site):
    """Two members share; one restarts within its session and gets the same partitions; one leaves for good."""
    site.create(6)
    stream = site.stream(41, tombstones=0.01)
    backbone = site.backbone(stream)
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 400)
    feeder.start()
    first, second = site.daemon(backbone, instance="a").start(), site.daemon(backbone, instance="b")
    wait_assigned(site, [first], [6])
    second.start()
    before = wait_assigned(site, [first, second], [3, 3])
    first.wait_ready()
    second.wait_ready()
    rebalances = first.metric("peterd_rebalances_total")
    for kill in (False, True):
        second.kill() if kill else second.stopped_well()
        second.start()
        second.wait_ready(30)
        after = wait_assigned(site, [first, second], [3, 3])
        assert after == before, f"a restart of a static member moved partitions: {before}, then {after}"
    assert first.metric("peterd_rebalances_total") == rebalances, "a restart of the other member was a rebalance here"
    second.stopped_well()
    begun = time.monotonic()
    wait_assigned(site, [first], [6], 45)
    site.note(f"taken over after {time.monotonic() - begun:.1f} s")
    second.start()
    wait_assigned(site, [first, second], [3, 3])
    feeder.stop()
    inputs = site.settle(daemon=second)
    for daemon in (first, second):
        daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)


@scenario(timeout_s=240)
def rebalance_interrupted(site):
    """A member dies between giving partitions up and joining again: no partition is left without an owner. (A broker hands
    a known static member its old assignment back and makes no rebalance.)"""
    site.create(6)
    stream = site.stream(44)
    backbone = site.backbone(stream)
    first, second = site.daemon(backbone, instance="a"), site.daemon(backbone, instance="b")
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 1500)
    feeder.start()
    for _ in range(site.size(2, 8)):
        first.start()
        wait_assigned(site, [first], [6])
        first.wait_ready()
        with open(first.log_path, "rb") as log:
            log.seek(0, 2)
            second.start()
            deadline = time.monotonic() + 30
            while b"revoked" not in log.read():  # now it commits what it has, gives up, and joins again
                assert time.monotonic() < deadline, "the first member is not asked for partitions"
        first.process.kill()
        first.kill()
        first.start()
        wait_assigned(site, [first, second], [3, 3], 60)
        second.stopped_well()
        first.stopped_well()
        time.sleep(11)  # both sessions end
    feeder.stop()
    first.start()
    inputs = site.settle(daemon=first)
    first.stopped_well()
    check.verify(site, [backbone], inputs=inputs)


@scenario(timeout_s=120)
def rebalance_lanes(site):
    """Three lanes in one process, two in another, seven partitions: every lane's shards are its own."""
    site.create(7)
    stream = site.stream(42)
    backbone = site.backbone(stream)
    first = site.daemon(backbone, instance="a", workers=3).start()
    site.produce(stream.take(site.size(2000)))
    wait_assigned(site, [first], [7])
    second = site.daemon(backbone, instance="b", workers=2).start()
    deadline = time.monotonic() + 40
    while len(assigned(second, site.topic("interactions"))) < 2:
        assert time.monotonic() < deadline, "the second process gets no partitions"
        time.sleep(0.2)
    site.produce(stream.take(site.size(2000)))
    site.settle()
    wait_assigned(site, [first, second], [7 - len(assigned(second, site.topic("interactions"))),
                                          len(assigned(second, site.topic("interactions")))])
    second.kill()
    site.produce(stream.take(site.size(2000)))
    inputs = site.settle(daemon=first)
    first.stopped_well()
    check.verify(site, [backbone], inputs=inputs)


@scenario(timeout_s=150)
def rebalance_twin(site):
    """A second process with the same identity: the older one exits with 78, the newer one serves. With a state directory
    of its own, and with the same one."""
    site.create(3)
    stream = site.stream(43)
    backbone = site.backbone(stream)
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 300)
    feeder.start()
    older = site.daemon(backbone).start()
    older.wait_ready()
    for turn, same_directory in enumerate((False, True)):
        newer = site.daemon(backbone)
        newer.name = f"twin{turn}"
        newer.path, newer.log_path = newer.path.replace(".yaml", f"-{turn}.yaml"), newer.log_path + f"-{turn}"
        newer.config["state_dir"] = older.config["state_dir"] + ("" if same_directory else "-twin")
        begun = time.monotonic()
        newer.start()
        try:
            code = older.wait_exit(40)
        except Exception:
            raise AssertionError(f"the older twin lives; its log ends:\n{older.log()[-1500:]}\nthe newer's:\n{newer.log()[-800:]}")
        assert code == 78, f"the older twin exits with {code}; its log ends:\n{older.log()[-1500:]}"
        site.note(f"older gone after {time.monotonic() - begun:.1f} s")
        newer.wait_ready(40)
        time.sleep(2)
        older = newer
    feeder.stop()
    inputs = site.settle(daemon=older)
    older.stopped_well()
    check.verify(site, [backbone], inputs=inputs)
