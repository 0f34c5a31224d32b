"""Every label trains its task's patch exactly once, whoever dies on the way, and what came out can be made again."""
import collections
import time

import codec
import lineage
from audience import KEEP, Audience, Feeding
from daemon import run
from lineage import put_tasks
from registry import scenario
from scenarios.chaos import Chaos
from scenarios.labels import await_labels
from stream import producer

TASKS = """tasks:
- {name: colour, type: classification, labels: [red, green, blue], mean_window: 4, max_age_ms: 300}
- {name: shade, type: classification, insertion: serial, max_age_ms: 2000}
- {name: films, type: ranking, mean_window: 4, max_age_ms: 500}
"""
KINDS = {"colour": "colour", "shade": "colour", "films": "film"}


def counted(found):
    """The examples as a multiset of what was learnt from."""
    return collections.Counter((task, r["user_id"], r["timestamp"], r["label"], r["events"])
                               for task, entries in found.items() for _, _, r in entries)


def check_lineages(site, daemon, found):
    """Coverage of the ranges and the proof by recomputation, task by task."""
    records = lineage.Records(site)
    for task in KINDS:
        labels = lineage.check_coverage(records, found, task)
        assert labels == sum(name == task for name, *_ in site.audience.labels), f"{task}: {labels} labels"
        proof = lineage.verify(site, daemon, task)
        assert proof["labels_trained"] == labels and proof["versions"] >= 2 and proof["slots"] >= 1, proof
        decisions = collections.Counter(r["decision"] for r in records.of(task))
        site.note(f"{task}: {labels} labels, {proof['versions']} versions made again, "
                  + ", ".join(f"{n} {d}" for d, n in sorted(decisions.items())))


def check_forgery(site, daemon, task):
    """A record that says something else than what was done: the proof fails."""
    avro, records = codec.Avro.shipped(site.peterctl, "PatchRecord"), lineage.Records(site).of(task)
    forged = next(r for r in records[1:-1] if r["cuts"] and r["cuts"][-1]["steps"] > 1)
    forged["cuts"][-1]["steps"] -= 1
    handle = producer(site.bootstrap)
    handle.produce(site.topic("patches"), key=f"{task}/decision/{forged['number'] % 1000}".encode(),
                   value=avro.encode(forged), partition=forged["examples"]["partition"])
    assert handle.flush(60) == 0
    done = run([site.peterctl, "patch", "verify", task, "--config", daemon.write_config()])
    assert done.returncode == 65 and "record" in done.stderr, f"{done.returncode} {done.stdout} {done.stderr}"


def finish(site, daemon):
    """Until every label has been joined and trained on."""
    site.settle(daemon=daemon, timeout=150)
    await_labels(site)
    wanted = collections.Counter(task for task, *_ in site.audience.labels)
    lineage.await_trained(site, daemon, dict(wanted), 150)


def prepare(site, seed):
    site.create(4)
    site.audience = Audience(site, seed)
    backbone = site.backbone(site.audience)
    site.audience.send(site.audience.warm_up())
    return backbone


@scenario(timeout_s=150)
def learning_exactly_once(site):
    """A running daemon, and then kill -9 again and again in the middle of training; every third transaction of the lane is aborted,
    and every seventh of the learner, which then opens its lineages from the topics again."""
    backbone = prepare(site, 50)
    daemon = site.daemon(backbone, env={"PETERD_TEST_ABORT_EVERY": "3", "PETERD_TEST_LEARNER_ABORT_EVERY": "7"}, sequences=KEEP)
    put_tasks(site, daemon, TASKS)
    feeding = Feeding(site.audience, KINDS, 150)
    feeding.start()
    for turn in range(site.size(4, 30)):
        daemon.start()
        daemon.wait_ready()
        time.sleep(1.5 + turn % 3)
        daemon.kill()
    daemon.start().wait_ready()
    feeding.stop()
    finish(site, daemon)
    found = lineage.examples(site)
    assert max(counted(found).values()) == 1
    assert "learner: fault injection: back to what is committed" in daemon.log()
    daemon.stopped_well()
    check_lineages(site, daemon, found)
    check_forgery(site, daemon, "colour")


@scenario(own_broker=True, timeout_s=280)
def learning_chaos(site):
    """Brokers die too, and a second process comes and goes: learners move with the partitions of their examples."""
    backbone = prepare(site, 51)
    sections = {"join": {"grace_ms": 2000}, "sequences": KEEP}
    chaos = Chaos(site, backbone, **sections)
    put_tasks(site, chaos.first, TASKS)
    feeding = Feeding(site.audience, KINDS, 120)
    feeding.start()
    rounds = site.options.rounds or site.size(6, 36)
    try:
        chaos.run(rounds)
    finally:
        feeding.stop()
    if not chaos.first.alive():
        chaos.first.start()
    finish(site, chaos.first)
    for daemon in (chaos.first, chaos.second):
        if daemon.alive():
            daemon.stopped_well()
    found = lineage.examples(site)
    check_lineages(site, chaos.first, found)
    # The same topics through an undisturbed daemon make the same examples.
    site.create(4, "-calm")
    calm = site.daemon(backbone, "-calm", **sections)
    put_tasks(site, calm, TASKS)
    calm.start()
    site.settle("-calm", 150, calm)
    wanted = collections.Counter(task for task, *_ in site.audience.labels)
    lineage.await_trained(site, calm, dict(wanted), 150)
    calm.stopped_well()
    assert counted(lineage.examples(site, "-calm")) == counted(found), "the undisturbed run makes other examples"
    site.note(f"{rounds} rounds: " + ", ".join(f"{n} {k}" for k, n in sorted(chaos.counts.items())))
