"""A transaction that cannot be committed for some time is tried again more and more slowly, said, and done in the end."""
import time

import check
import topics
from registry import scenario

BOUND_S = 1.0  # of the pause between two tries


def watch_aborts(daemon, at_least, seconds):
    """The moments at which the counter of aborts was seen to grow, and what /readyz said of it at last."""
    begun, moments, reason = time.monotonic(), [], ""
    seen = daemon.metric("peterd_transactions_aborted_total")
    while len(moments) < at_least or "in a row" not in reason:
        daemon.assert_alive()
        now, (status, body) = daemon.metric("peterd_transactions_aborted_total"), daemon.get("/readyz")
        if now > seen:
            moments += [time.monotonic()] * int(now - seen)
            seen = now
        if status == 503:
            reason = body
        assert time.monotonic() - begun < seconds, f"{len(moments)} aborts in {seconds} s, /readyz says {status} {body!r}"
        time.sleep(0.01)
    return moments, reason


@scenario(timeout_s=90)
def aborts_in_a_row(site):
    """The changelog takes no record for a while: not ready with the reason, a pause that grows to its bound, few lines on
    the log; then it takes them again, and nothing is lost."""
    site.create(2)
    stream = site.stream(62, tombstones=0.01)
    backbone = site.backbone(stream)
    # batches as small as can be: they do not shrink meanwhile
    daemon = site.daemon(backbone, transaction={"interval_ms": 50}, kafka={"batch.size": 1024}).start()
    site.produce(stream.take(site.size(500)))
    site.settle(daemon=daemon)
    daemon.wait_ready()
    topics.configure(site.bootstrap, site.topic("changelog"), max_message_bytes=100)
    site.produce(stream.take(site.size(500)))
    moments, reason = watch_aborts(daemon, 10, 60)
    why = reason.partition("transactions in a row were aborted: ")[2]
    assert "ProduceRequest" in why or "sequence numbers" in why, f"the reason is {reason!r}"
    assert daemon.get("/livez")[0] == 200
    pauses = [after - before for before, after in zip(moments, moments[1:])]
    assert pauses[0] < BOUND_S and sorted(pauses)[-3] < BOUND_S + 1.5, f"the pauses are {pauses}"
    assert min(pauses[-3:]) > BOUND_S - 0.1, f"no more than {min(pauses[-3:]):.2f} s between two tries, after {len(moments)}"
    lines = daemon.log().count("back to the last commit") + daemon.log().count("in a row aborted, now")
    assert lines <= 3, f"{len(moments)} aborts are {lines} lines on the log"
    topics.configure(site.bootstrap, site.topic("changelog"), max_message_bytes=None)
    begun = time.monotonic()
    daemon.wait_ready(10)
    inputs = site.settle(daemon=daemon, timeout=10)
    site.note(f"{len(moments)} aborts, {pauses[-1]:.2f} s apart in the end, back in {time.monotonic() - begun:.1f} s")
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)
