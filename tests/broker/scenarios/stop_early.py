"""A stop that comes while the daemon starts, or is busy learning."""
import os
import signal
import time

import check
import lineage
from audience import Audience
from registry import scenario

LATEST_S = 0.7
JOIN_S = 0.25  # within so much after the daemon listens its lanes join their group


@scenario(timeout_s=150)
def stop_early(site):
    """SIGTERM at a dozen moments of the first 0.7 s of three lanes that start, join and restore, and at as many while they
    join: exit 0, and nothing left behind that would keep the next one."""
    site.create(3)
    stream = site.stream(64)
    backbone = site.backbone(stream)
    site.produce(stream.take(site.size(600)))
    daemon = site.daemon(backbone, workers=3)
    starts, slowest = site.size(12, 120), 0
    moments = [(False, LATEST_S * i / starts) for i in range(starts)] + [(True, JOIN_S * i / starts) for i in range(starts)]
    for listening, wait in moments:
        before = daemon.log()
        daemon.start()
        deadline = time.monotonic() + 10
        while listening and "listening" not in daemon.log()[len(before):] and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(wait)
        sent = time.monotonic()
        code, _ = daemon.stop(20)
        slowest = max(slowest, time.monotonic() - sent)
        said = daemon.log()[len(before):]
        if code == -signal.SIGTERM and not said:
            continue  # before main(): nothing has begun
        assert code == 0, f"stopped after {wait:.2f} s: exit {code}; its log ends:\n{said[-1500:]}"
        assert "bug" not in said and "Assertion" not in said, said[-1500:]
    assert slowest < 8, f"a stop took {slowest:.1f} s"
    left = [n for n in os.listdir(site.folder) if n.startswith("core")]
    assert not left, f"left behind: {left}"
    daemon.start()
    begun = time.monotonic()
    daemon.wait_ready(20)
    site.note(f"{len(moments)} starts, slowest stop {slowest:.1f} s, ready after them in {time.monotonic() - begun:.1f} s")
    inputs = site.settle(daemon=daemon)
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)


@scenario(timeout_s=240)
def stop_while_learning(site):
    """Patches inside the trunk take their time; a stop waits for no more than the cut that was begun, nor where the last minutes are done again."""
    site.create(3)
    site.audience = audience = Audience(site, 97)
    tasks = {f"task-{i}": "colour" for i in range(6)}
    backbone = site.backbone(audience, channels=64, dilations=[1, 4] * 4)
    daemon = site.daemon(backbone, sequences={"keep": 256}, shutdown={"deadline_ms": 60000})
    lineage.put_tasks(site, daemon, "tasks:\n" + "".join(
        f"- {{name: {task}, type: classification, insertion: serial, max_age_ms: 3000}}\n" for task in tasks))
    audience.send(audience.warm_up(100))
    daemon.start().wait_ready()
    slowest = 0.0
    for wait_s in (9, 4, 5, 6):  # after the first start there is much to do again
        if not slowest:
            audience.send(*audience.round(tasks, 900))
        time.sleep(wait_s)
        slowest = max(slowest, daemon.stopped_well(60))
        daemon.start()
    site.note(f"slowest stop {slowest:.1f} s")
    assert slowest < 9, f"a stop took {slowest:.1f} s"
