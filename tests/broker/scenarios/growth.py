"""Partitions are added while the daemon runs."""
import time

import check
import topics
from registry import scenario

OUT = ("updates", "changelog", "deadletters")


def grow(site, kinds, partitions):
    topics.grow(site.bootstrap, [site.topic(k) for k in kinds], partitions)


@scenario(timeout_s=120)
def growth(site):
    """To inputs and outputs together, and to the inputs some seconds before the outputs: what lies in the new ones comes
    out, nothing of the old ones is lost, and the producer needs no new start to see them."""
    site.create(2)
    stream = site.stream(61, tombstones=0.01)
    backbone = site.backbone(stream)
    daemon = site.daemon(backbone, workers=2).start()
    site.produce(stream.take(site.size(600)))
    site.settle(daemon=daemon)
    daemon.wait_ready()
    for partitions, late in ((4, ()), (7, ("labels", *OUT))):
        begun, said = time.monotonic(), len(daemon.log())
        grow(site, [k for k in ("labels", *OUT, "interactions") if k not in late], partitions)
        site.produce(stream.take(site.size(600)))
        if late:
            while "nknown partition" not in daemon.get("/readyz")[1] + daemon.log()[said:]:  # shown until the next success
                assert time.monotonic() - begun < 30, f"without {late}, /readyz says {daemon.get('/readyz')}"
                time.sleep(0.05)
            grow(site, late, partitions)
            begun = time.monotonic()
        aborted = daemon.metric("peterd_transactions_aborted_total")
        site.settle(daemon=daemon, timeout=30)
        daemon.wait_ready(10)
        site.note(f"{partitions} partitions after {time.monotonic() - begun:.1f} s, "
                  f"{daemon.metric('peterd_transactions_aborted_total') - aborted:.0f} aborts")
    inputs = site.settle(daemon=daemon)
    assert len(inputs) == 7 and all(inputs.values()), "a partition without a record tests nothing"
    assert daemon.log().count("new producer") == 0, "the producer was made anew"
    daemon.stopped_well()
    check.verify(site, [backbone], inputs=inputs)
