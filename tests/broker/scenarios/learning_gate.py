"""What goes live: nothing that saw its answer, poison for a moment at most, and a new concept soon."""
import math
import time

import lineage
from audience import COLOURS, KEEP, Audience
from lineage import metric_between, put_tasks
from registry import scenario

COLOUR = "tasks: [{name: colour, type: classification, labels: [red, green, blue], mean_window: 4, max_age_ms: 300}]"
ONE = {"colour": "colour"}
WINDOW = 200  # labels of poison that may pass before drift is flagged


def accuracy(records, low, high, task="colour"):
    return metric_between(records.log, task, "accuracy", low, high)


@scenario(timeout_s=120)
def learning_leak(site):
    """Labels that nothing foretells, and an event right at and right after each that gives it away; all events are known before
    the first label comes. In the control the same event comes before the label."""
    site.create(2)
    audience = Audience(site, 60)
    backbone = site.backbone(audience, known=1.0)
    count, interactions, labels = site.size(1500, 8000), audience.warm_up(), []
    tell = {colour: audience.items[i] for i, colour in enumerate(COLOURS)}
    half = len(audience.users) // 2
    for turn in range(count):
        for task, users in (("after", audience.users[:half]), ("before", audience.users[half:])):
            user, colour = audience.rng.choice(users), audience.rng.choice(COLOURS)
            for _ in range(3):
                interactions.append(audience.event(user, audience.rng.choice(audience.items[3:])))
            if task == "before":
                interactions.append(audience.event(user, tell[colour]))
            labels.append(audience.label(task, colour, user))
            if task == "after":  # at the very moment, and a millisecond later
                interactions.append(audience.event(user, tell[colour], audience.clock))
                interactions.append(audience.event(user, tell[colour], audience.clock + 1))
    daemon = site.daemon(backbone, sequences={"keep": 4096})
    put_tasks(site, daemon, "tasks:\n" + "".join(
        f"- {{name: {n}, type: classification, labels: [red, green, blue], mean_window: 4, max_age_ms: 300}}\n"
        for n in ("after", "before")))
    audience.send(interactions)
    daemon.start().wait_ready()
    site.settle(daemon=daemon)
    for at in range(0, len(labels), 60):
        audience.send([], labels[at:at + 60])
        time.sleep(0.1)
    lineage.await_trained(site, daemon, {"after": count, "before": count})
    daemon.stopped_well()
    records = lineage.Records(site)
    late, early = (accuracy(records, 0, count, task) for task in ("after", "before"))
    bound = 1 / 3 + 4 * math.sqrt(2 / 9 / count)
    assert late <= bound, f"accuracy {late:.3f} of labels whose answer comes after them: above {bound:.3f}"
    assert early >= 0.5, f"accuracy {early:.3f} of labels whose answer comes before them: the test tests nothing"
    site.note(f"answer after the label: accuracy {late:.3f} (chance .333, bound {bound:.3f}); before it: {early:.3f}")


def begin(site, seed):
    site.create(2)
    audience = Audience(site, seed)
    daemon = site.daemon(site.backbone(audience), sequences=KEEP)
    put_tasks(site, daemon, COLOUR)
    audience.send(audience.warm_up())
    daemon.start().wait_ready()
    return audience, daemon


def flagged(records, low):
    """Labels from `low` on until a record says that drift is flagged, None: none does."""
    for record in records.log:
        if record["labels_trained"] > low and record["metrics"].get("drifting"):
            return record["labels_trained"] - low
    return None


@scenario(timeout_s=150)
def learning_poison(site):
    """Labels of the wrong people for a while. What they make goes live for the stated window at most, and is gone with the
    flag; when they are right again, the patch from before serves."""
    audience, daemon = begin(site, 61)
    good, bad, after = site.size(1200, 4000), site.size(800, 4000), site.size(600, 2000)
    audience.play(ONE, good, 200)
    lineage.await_trained(site, daemon, {"colour": good})
    audience.play(ONE, bad, 200, lie=True)
    lineage.await_trained(site, daemon, {"colour": good + bad})
    time.sleep(0.5)
    at_end = lineage.newest(site, daemon, "colour")
    audience.play(ONE, after, 200)
    lineage.await_trained(site, daemon, {"colour": good + bad + after})
    daemon.stopped_well()
    records = lineage.Records(site)
    window = flagged(records, good)
    assert window is not None and window <= WINDOW, f"drift was flagged after {window} labels"
    born = {r["version"]: r["labels_trained"] for r in reversed(records.of("colour"))
            if r["decision"] in ("created", "promoted")}
    poisoned = [v for v, labels in born.items() if good < labels <= good + bad]
    late = [v for v in poisoned if born[v] > good + window + 32]
    assert not late, f"versions {late} went live of poison after it was flagged"
    assert at_end["version"] not in poisoned, f"version {at_end['version']}, born of poison, is live at its end"
    before = accuracy(records, good - 300, good)
    again = accuracy(records, good + bad, good + bad + 300)
    assert again >= before - 0.15, f"accuracy {before:.3f} before the poison, {again:.3f} right after it"
    site.note(f"flagged after {window} labels of {bad}; {len(poisoned)} versions went live before that and were rolled back; "
              f"accuracy {before:.3f} before, {accuracy(records, good, good + bad):.3f} on the poison, {again:.3f} after it")


@scenario(timeout_s=150)
def learning_drift(site):
    """The same people mean other colours from a moment on: found, learnt anew, and live."""
    audience, daemon = begin(site, 62)
    first, second = site.size(1200, 4000), site.size(1800, 4000)
    audience.play(ONE, first, 200)
    lineage.await_trained(site, daemon, {"colour": first})
    audience.play(ONE, second, 200, shift=1)
    lineage.await_trained(site, daemon, {"colour": first + second})
    daemon.stopped_well()
    records = lineage.Records(site)
    window = flagged(records, first)
    assert window is not None and window <= WINDOW, f"drift was flagged after {window} labels"
    new = [r["labels_trained"] - first for r in records.of("colour")
           if r["decision"] == "promoted" and r["labels_trained"] > first + window]
    assert new, "nothing was promoted after the drift"
    before = accuracy(records, first - 300, first)
    fallen = accuracy(records, first, first + 100)
    end = accuracy(records, first + second - 300, first + second)
    assert end >= before - 0.15, f"accuracy {before:.3f} before the drift, {end:.3f} at the end"
    site.note(f"flagged after {window} labels, a patch of the new concept live after {new[0]}; accuracy {before:.3f} before, "
              f"{fallen:.3f} in the 100 labels behind it, {end:.3f} at the end")
