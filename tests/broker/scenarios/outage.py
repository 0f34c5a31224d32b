"""Bad infrastructure is waited out: alive, not ready with a reason, memory flat, back by itself, nothing lost."""
import time

import check
from registry import scenario
from stream import Feeder, Poison


def watch(daemon, seconds, grace_s=20):
    """For so long, with the broker away: alive, not ready after a grace, memory flat. Returns the growth in MB."""
    begun, sizes, unready = time.monotonic(), [], None
    while time.monotonic() - begun < seconds:
        daemon.assert_alive()
        assert daemon.get("/livez")[0] == 200, f"/livez says {daemon.get('/livez')}"
        status, body = daemon.get("/readyz")
        if status == 503 and unready is None:
            unready = time.monotonic() - begun
            assert body.strip(), "/readyz gives no reason"
        if unready is not None and status == 200:
            raise AssertionError("ready while the broker is away")
        sizes.append(daemon.rss_mb())
        time.sleep(0.5)
    assert unready is not None and unready <= grace_s, f"not ready only after {unready} s"
    late = sizes[len(sizes) // 4:]
    growth = max(late) - late[0]
    assert growth < 24, f"memory grew by {growth:.0f} MB while the broker was away"
    return unready, growth


@scenario(own_broker=True, timeout_s=240)
def outage(site):
    """Idle, and then in the middle of transactions; killed, stopped, and silent."""
    site.create(3)
    stream = site.stream(31, tombstones=0.01, poison=Poison(), poison_share=0.01)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, workers=2).start()
    site.produce(stream.take(site.size(2000)))
    site.settle(daemon=daemon)
    daemon.wait_ready()
    seconds = 120 if site.long else 16
    cluster = site.cluster
    for what, away, back, loaded in (("idle, stopped", cluster.stop, cluster.start, False),
                                     ("loaded, killed", cluster.kill, cluster.start, True),
                                     ("loaded, silent", cluster.pause, cluster.resume, True)):
        feeder = None
        if loaded:
            feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 800)
            feeder.start()
            time.sleep(2.5)
        away()
        unready, growth = watch(daemon, seconds)
        back()
        begun = time.monotonic()
        daemon.wait_ready(120)
        site.note(f"{what}: not ready after {unready:.1f} s, {growth:.0f} MB more, back in {time.monotonic() - begun:.1f} s")
        if feeder:
            feeder.stop()
        site.produce(stream.take(300))
        site.settle(daemon=daemon)
    inputs = site.settle(daemon=daemon)
    starts = daemon.starts
    daemon.stopped_well()
    assert starts == 1
    check.verify(site, [backbone], inputs=inputs)


@scenario(own_broker=True, timeout_s=480)
def outage_start_stop(site):
    """Started before the broker is there, it waits; stopped while the broker is away, it ends by its deadline."""
    site.create(2)
    stream = site.stream(32)
    backbone = site.backbone(stream)
    site.produce(stream.take(1000))
    site.cluster.stop()
    daemon = site.daemon(backbone, shutdown={"deadline_ms": 4000}).start()
    daemon.wait_ready(60, ready=False)
    time.sleep(4)
    daemon.assert_alive()
    assert daemon.get("/livez")[0] == 200 and daemon.get("/readyz")[0] == 503
    code, seconds = daemon.stop(60)
    assert code in (0, 69), f"stopped without a broker, it exits with {code}"
    daemon.start()
    time.sleep(2)
    site.cluster.start()
    daemon.wait_ready(120)
    site.settle(daemon=daemon)
    feeder = Feeder(site.bootstrap, site.topic("interactions"), stream, 1000)
    feeder.start()
    time.sleep(2)
    site.cluster.kill()
    time.sleep(1)
    code, seconds = daemon.stop(60)
    assert code in (0, 69) and seconds < 20, f"stopped in mid-transaction without a broker: {code} after {seconds:.1f} s"
    site.note(f"exit {code} after {seconds:.1f} s")
    site.cluster.start()
    feeder.stop()
    daemon.start()
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)


@scenario(own_broker=True, timeout_s=900)
def outage_starting(site):
    """The broker goes away at random moments of the daemon's start, and comes back."""
    site.create(2)
    stream = site.stream(33)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, workers=2)
    for _ in range(site.size(4, 20)):
        site.produce(stream.take(300))
        daemon.start()
        time.sleep(stream.rng.uniform(0.02, 0.6))
        site.cluster.kill()
        site.cluster.start()
        inputs = site.settle(timeout=240, daemon=daemon)
        daemon.wait_ready(120)
        daemon.kill()
    check.verify(site, [backbone], inputs=inputs)
