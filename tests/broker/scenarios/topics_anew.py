"""The topics of learning, deleted and made anew under a running daemon: what is not on them any more is dropped, and learning goes on from
what is."""
import os
import time

import lineage
import topics
from audience import KEEP, Audience
from daemon import run
from lineage import put_tasks
from registry import scenario
from scenarios.learning_tasks import await_tasks, definition
from site_ import COMPACT
from stream import producer

AGAIN = ": it is read again from its beginning, and the "


def delete(site, name):
    topics.admin(site.bootstrap).delete_topics([name])[name].result(30)
    deadline = time.monotonic() + 20
    while name in topics.admin(site.bootstrap).list_topics(timeout=10).topics:
        assert time.monotonic() < deadline, f"{name} is still there"
        time.sleep(0.05)


def make_anew(site, kind):
    delete(site, site.topic(kind))
    topics.create(site.bootstrap, {site.topic(kind): (site.partitions, COMPACT)})


def await_version(daemon, task, good, timeout=30):
    """Until the version that serves is as wanted."""
    deadline = time.monotonic() + timeout
    while not good(daemon.metric("peterd_patch_version", task=task)):
        daemon.assert_alive()
        assert time.monotonic() < deadline, \
            f"{task}: version {daemon.metric('peterd_patch_version', task=task)} serves; log:\n{daemon.log()[-1500:]}"
        time.sleep(0.05)


def await_begun_anew(site, daemon, tasks, sent, timeout=45):
    """Until lineages that begin with their creation have trained on every example there is; what serves is theirs."""
    deadline = time.monotonic() + timeout
    while True:
        records = lineage.Records(site)
        begun = [records.of(task) for task in tasks]
        if all(r and r[0]["decision"] == "created" and r[-1]["labels_trained"] >= sent for r in begun):
            break
        daemon.assert_alive()
        assert time.monotonic() < deadline, f"{[r[:1] + r[-1:] for r in begun]}; log:\n{daemon.log()[-1500:]}"
        time.sleep(0.2)
    for task in tasks:
        assert lineage.check_coverage(records, lineage.examples(site), task) == sent
        lineage.verify(site, daemon, task)
        await_version(daemon, task, lambda v: v == lineage.newest(site, daemon, task)["version"])


@scenario(timeout_s=200)
def topics_anew(site):
    site.create(3)
    site.audience = audience = Audience(site, 90)
    tasks = {"colour": "colour", "age": "age"}
    daemon = site.daemon(site.backbone(audience), sequences=KEEP)
    put_tasks(site, daemon, "tasks:\n" + "".join(definition(n, k) for n, k in tasks.items()))
    audience.send(audience.warm_up())
    daemon.start().wait_ready()
    audience.play(tasks, 150, 150)
    lineage.await_trained(site, daemon, dict.fromkeys(tasks, 150))
    await_version(daemon, "colour", lambda v: v >= 3)

    begun = time.monotonic()  # at once, while nothing is learnt
    make_anew(site, "patches")
    await_begun_anew(site, daemon, tasks, 150)
    site.note(f"patches made anew: learnt again after {time.monotonic() - begun:.1f} s")
    assert f"topic {site.topic('patches')}: " in daemon.log() and daemon.log().count(AGAIN + "patches") == 1, daemon.log()

    audience.play(tasks, 50, 150)  # away for a while, and labels come
    delete(site, site.topic("patches"))
    audience.play(tasks, 50, 150)
    why = daemon.wait_ready(30, ready=False)
    assert site.topic("patches") in why, why
    audience.send([audience.event() for _ in range(100)])
    site.settle(daemon=daemon)
    topics.create(site.bootstrap, {site.topic("patches"): (site.partitions, COMPACT)})
    begun = time.monotonic()
    daemon.wait_ready(30)
    audience.play(tasks, 50, 150)
    await_begun_anew(site, daemon, tasks, 300, 90)
    site.note(f"after it was away for a while: after {time.monotonic() - begun:.1f} s")

    make_anew(site, "tasks")
    await_tasks(site, daemon, [])
    put_tasks(site, daemon, "tasks:\n" + definition("colour", "colour") + definition("new", "film"))
    await_tasks(site, daemon, ["colour", "new"])
    audience.play({"colour": "colour", "new": "film"}, 50, 150)
    found = lineage.await_trained(site, daemon, {"colour": 350, "new": 50})  # it goes on where it was
    assert found["colour"]["version"] > 1, found
    delete(site, site.topic("patches"))
    daemon.wait_ready(30, ready=False)
    daemon.stopped_well()


def version_bytes(site, daemon, task):
    path = os.path.join(site.folder, "exported.safetensors")
    lineage.command(site, daemon, "patch", "export", task, "--out", path)
    return os.path.getsize(path)


@scenario(timeout_s=200)
def topics_of_small_messages(site):
    """max.message.bytes is lowered to less than a version has, and then to less than a record of one."""
    site.create(3)
    site.audience = audience = Audience(site, 91)
    tasks = {"colour": "colour", "age": "age"}
    daemon = site.daemon(site.backbone(audience), sequences=KEEP)
    put_tasks(site, daemon, "tasks:\n" + "".join(definition(n, k, bottleneck=32) for n, k in tasks.items()))
    audience.send(audience.warm_up())
    daemon.start().wait_ready()
    audience.play(tasks, 30, 150)
    lineage.await_trained(site, daemon, dict.fromkeys(tasks, 30))
    size = version_bytes(site, daemon, "colour")
    topics.configure(site.bootstrap, site.topic("patches"), max_message_bytes=4000)
    assert size > 8000, size
    begun = time.monotonic()
    audience.play(tasks, 120, 150)
    found = lineage.await_trained(site, daemon, dict.fromkeys(tasks, 150))
    site.note(f"{size} bytes a version in messages of 4000 at most, after {time.monotonic() - begun:.1f} s")
    await_version(daemon, "colour", lambda v: v >= found["colour"]["version"] > 2)
    for task in tasks:
        lineage.verify(site, daemon, task)
    daemon.wait_ready()

    check = [site.peterd, "--config", daemon.path, "--check=broker"]
    done = run(check)
    assert done.returncode == 78 and f"topic {site.topic('patches')}: max.message.bytes is 4000" in done.stderr, done

    topics.configure(site.bootstrap, site.topic("patches"), max_message_bytes=600)
    audience.play(tasks, 20, 150)
    why = daemon.wait_ready(60, ready=False)
    assert f"learner: topic {site.topic('patches')}: " in why and "max.message.bytes" in why, why
    topics.configure(site.bootstrap, site.topic("patches"), max_message_bytes=100000)
    lineage.await_trained(site, daemon, dict.fromkeys(tasks, 170))
    daemon.wait_ready()
    done = run(check)
    assert done.returncode == 0, done

    handle = producer(site.bootstrap)  # what nobody can learn from is counted
    for value in (b"rubbish", None, b"\x02"):
        handle.produce(site.topic("examples"), key=b"colour", value=value, partition=0)
    assert handle.flush(60) == 0
    deadline = time.monotonic() + 30
    while daemon.metric("peterd_examples_passed_over_total") != 3:
        assert time.monotonic() < deadline, f"{daemon.metric('peterd_examples_passed_over_total')}; {daemon.log()[-500:]}"
        time.sleep(0.1)
    assert daemon.log().count(": passed over (") == 1, daemon.log()[-800:]
    daemon.stopped_well()
