"""Many tasks at once, added and removed while it runs, one of them failing all the time: the others do not notice."""
import collections
import re
import time

import lineage
from audience import KEEP, Audience
from daemon import run
from lineage import produce_task, put_tasks
from registry import scenario
from scenarios.labels import await_labels

STAY = {"colour": "colour", "age": "age"}
PASSING = {f"passing-{i}": ("colour", "film", "age")[i % 3] for i in range(6)}
TYPES = {"colour": "classification", "film": "ranking", "age": "regression"}
FAILING = "failing"  # its labels are as large as numbers go, up and down: no step is finite


def definition(name, kind, **more):
    keys = {"name": name, "type": TYPES[kind], "mean_window": 4, "max_age_ms": 300, **more}
    return "- {" + ", ".join(f"{k}: {v}" for k, v in keys.items()) + "}\n"


def explode(audience, count):
    rng = audience.rng
    return [audience.label(FAILING, rng.choice([-1.7e308, 1.7e308]), rng.choice(audience.users), weight=3e38)
            for _ in range(count)]


def await_tasks(site, daemon, live, timeout=30):
    """Until the newest updates have scores of exactly these tasks."""
    from scenarios.learning_scores import newest_updates
    deadline = time.monotonic() + timeout
    while True:
        user = site.audience.rng.choice(site.audience.users)
        site.audience.send([site.audience.event(user)])
        time.sleep(0.3)
        update = newest_updates(site).get(user)
        found = sorted(s["task"] for s in update["scores"]) if update else None
        if found == sorted(live):
            return
        daemon.assert_alive()
        assert time.monotonic() < deadline, f"scores of {found}, wanted {sorted(live)}; log:\n{daemon.log()[-1500:]}"


@scenario(timeout_s=240)
def learning_tasks(site):
    site.create(3)
    site.audience = audience = Audience(site, 80)
    daemon = site.daemon(site.backbone(audience), sequences=KEEP)
    put_tasks(site, daemon, "tasks:\n" + "".join(definition(n, k) for n, k in STAY.items()))
    audience.send(audience.warm_up())
    daemon.start().wait_ready()
    audience.play(STAY, site.size(150, 1000), 150)
    put_tasks(site, daemon, "tasks:\n" + definition(FAILING, "age"))
    produce_task(site, name="deep", type="classification", blocks=[7])  # the backbone has no such level
    sizes, failed = [], 0
    for turn in range(site.size(3, 12)):
        put_tasks(site, daemon, "tasks:\n" + "".join(definition(n, k) for n, k in PASSING.items()))
        await_tasks(site, daemon, [*STAY, *PASSING, FAILING])
        for _ in range(4):
            audience.play({**STAY, **PASSING}, site.size(20, 100), 240)
            audience.send([], explode(audience, 20))
            failed += 20
        site.settle(daemon=daemon)
        await_labels(site)
        sent = collections.Counter(task for task, *_ in audience.labels if task != FAILING)
        found = lineage.await_trained(site, daemon, dict(sent))  # those that were away for a while go on where they were
        lineage.command(site, daemon, "task", "remove", *PASSING)
        await_tasks(site, daemon, [*STAY, FAILING])
        sizes.append(daemon.rss_mb())
    assert all(r["labels_dropped"] == 0 for r in found.values()), found
    broken = lineage.newest(site, daemon, FAILING)
    daemon.stopped_well()
    assert "task deep: refused: blocks: " in daemon.log(), daemon.log()[-800:]
    assert broken["version"] == 1 or broken["labels_dropped"] > 0, f"{FAILING}: {broken}"
    records, examples = lineage.Records(site), lineage.examples(site)
    for task in sent:
        lineage.check_coverage(records, examples, task)
    for task in STAY:
        lineage.verify(site, daemon, task)
    for name, kind in STAY.items():
        metric = "accuracy" if kind == "colour" else "rmse"
        site.note(f"{name}: {sent[name]} labels, {metric} {found[name]['metrics']['live.recent.' + metric]:.3f}")
    assert sizes[-1] - sizes[0] <= 24, f"resident after each turn: {[round(s) for s in sizes]} MB"
    site.note(f"{len(PASSING) + 4} tasks; {failed} labels that explode, {broken['labels_dropped']} dropped; resident "
              + " ".join(f"{s:.0f}" for s in sizes) + " MB after each turn")


@scenario(timeout_s=150)
def learning_demo(site):
    """The demonstration in short, elsewhere than on a terminal: every task goes live, and its scores come back."""
    seconds = site.size(24, 90)
    done = run([site.peterctl, "demo", "--bootstrap", site.bootstrap, "--seconds", str(seconds)], timeout=2 * seconds + 90)
    assert done.returncode == 0, f"{done.returncode} {done.stdout[-1500:]} {done.stderr[-500:]}"
    summary = done.stdout[done.stdout.index("\nSummary"):]
    for task, metric in (("segment", "accuracy"), ("offer", "MRR@5"), ("age", "RMSE")):
        text = summary[summary.index(f"\n  {task} "):]
        unasked, = re.search(r"of users who never answer: (\S+)", text).groups()
        sent, trained, version = map(int, re.search(r"(\d+) labels sent, (\d+) trained on; live: version (\d+)", text).groups())
        assert trained == sent > 50 and version > 1 and float(unasked) > 0, text
        site.note(f"{task}: {trained} labels, version {version}, {metric} {unasked} of users who never answer")
    assert " promoted v2 " in done.stdout and "planted drift" in done.stdout, done.stdout[-3000:]
