"""Processes that stand still for longer than anyone waits for them."""
import signal
import time

import check
from registry import scenario
from scenarios.rebalance import wait_assigned
from stream import Feeder

SESSION_MS = 6000
STANDSTILL_S = 12


@scenario(timeout_s=240)
def frozen_member(site):
    """A member is stopped for longer than its session, in the middle of its work; another one takes its partitions, and it
    goes on where it stood. Whatever it commits then is of partitions that it has been given anew: no effect comes twice,
    none is undone."""
    site.create(8)
    stream = site.stream(65, tombstones=0.01)
    backbone = site.backbone(stream)
    kafka = {"session.timeout.ms": 10_000 if site.long else SESSION_MS}
    # Lanes that join one after the other keep the group's rebalance open: for a while old and new owners are both members.
    daemons = [site.daemon(backbone, instance=i, workers=4, kafka=kafka) for i in "ab"]
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 600)
    feeder.start()
    for daemon in daemons:
        daemon.start()
    wait_assigned(site, daemons, [4, 4])
    outcast = 0
    for turn in range(site.size(2, 6)):
        frozen, other = daemons[turn % 2], daemons[1 - turn % 2]
        frozen.wait_ready()
        other.wait_ready()
        begun = time.monotonic()
        frozen.process.send_signal(signal.SIGSTOP)
        wait_assigned(site, [other], [8], 40)
        time.sleep(max(0, 30 - (time.monotonic() - begun)) if site.long else stream.rng.uniform(0.3, 2))
        before = frozen.log().count("the group gave our partitions away")
        frozen.process.send_signal(signal.SIGCONT)
        wait_assigned(site, daemons, [4, 4], 40)
        outcast += frozen.log().count("the group gave our partitions away") - before
        site.note(f"frozen for {time.monotonic() - begun:.1f} s")
    feeder.stop()
    inputs = site.settle(daemon=daemons[0], timeout=60)
    for daemon in daemons:
        daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)
    site.note(f"thrown out and said so {outcast} times")


@scenario(own_broker=True, timeout_s=240)
def frozen_broker(site):
    """The broker stands still for longer than sessions and transactions last, while the daemon starts and while it commits:
    alive, not ready, and back by itself in the same process."""
    site.create(3)
    stream = site.stream(67, tombstones=0.01)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, workers=2)

    def freeze(ready):
        site.cluster.pause()
        time.sleep(STANDSTILL_S)
        daemon.assert_alive()
        assert daemon.get("/livez")[0] == 200 and daemon.get("/readyz")[0] == 503, f"/readyz says {daemon.get('/readyz')}"
        site.cluster.resume()
        begun = time.monotonic()
        daemon.wait_ready(60)
        site.note(f"{'commits' if ready else 'start'}: back in {time.monotonic() - begun:.1f} s")

    for _ in range(site.size(2, 10)):
        site.produce(stream.take(300))
        daemon.start()
        time.sleep(stream.rng.uniform(0.1, 1.2))
        freeze(False)
        feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 600)
        feeder.start()
        time.sleep(stream.rng.uniform(1, 2))
        freeze(True)
        feeder.stop()
        inputs = site.settle(daemon=daemon)
        daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)
