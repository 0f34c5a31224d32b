#!/usr/bin/env python3
"""Learning from a stream beside learning offline, through a real broker.

    tools/kafka start DIR
    tools/measure_learning.py --bootstrap HOST:PORT --backbone B.safetensors --events events.csv --labels labels.csv

Interactions and labels of a file go to a daemon in the order of their times; every task of the labels file is learnt by a side
and by a serial patch at once. One user in five is set aside: none of their labels is sent. The final patches are scored on them
beside patches that `peterctl finetune` makes of the same labels. With --folds 5 all of it is done five times, with another fifth
aside. --plot writes curves of the first's prequential metrics (matplotlib)."""
import argparse
import csv
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time

INSERTIONS = ("side", "serial")
FIFTHS = 5
FIRST = 50
SERIAL_MS = 15000  # after 60 times that behind, a learner trains less on what comes


def is_aside(user, fold):
    return int(hashlib.sha256(user.encode()).hexdigest()[:8], 16) * FIFTHS >> 32 == fold


def say(text):
    print(text, file=sys.stderr, flush=True)


class Installation:
    """Topics of its own, a configuration and a daemon."""

    def __init__(self, options, folder, fold):
        self.options, self.folder, self.fold = options, folder, fold
        self.config = os.path.join(folder, "peterd.yaml")
        prefix = f"measure-{os.getpid()}-{fold}"
        topics = {kind: f"{prefix}.{kind}" for kind in ("examples", "patches", "tasks", "changelog", "deadletters")}
        with open(self.config, "w") as out:  # nobody reads the updates: serial scores of each would take most of the time
            json.dump({"group": prefix, "instance": "a", "backbone": os.path.abspath(options.backbone),
                       "state_dir": os.path.join(folder, "state"), "kafka": {"bootstrap.servers": options.bootstrap},
                       "interactions": {"topic": prefix + ".interactions"}, "labels": {"topic": prefix + ".labels"},
                       "updates": {"topic": prefix + ".updates", "min_interval_ms": 10000}, "topics": topics, "sequences": {"keep": options.keep},
                       "http": {"listen": ""}}, out)
        self.daemon = None

    def run(self, *words):
        done = subprocess.run([os.path.join(self.options.programs, "peterctl"), *words], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"peterctl {' '.join(words[:3])}: {done.returncode}")
        return done.stdout

    def ctl(self, *words):
        return self.run(*words, "--config", self.config)

    def start(self):
        log = open(os.path.join(self.folder, "peterd.log"), "w")
        self.daemon = subprocess.Popen([os.path.join(self.options.programs, "peterd"), "--config", self.config], stderr=log)

    def stop(self):
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait()

    def records(self, task):
        return [json.loads(line) for line in self.ctl("patch", "list", task, "--json").splitlines()]


def write_files(options, folder, fold):
    """train.csv and aside.csv, each label once for every insertion; returns (paths, {task: labels to be sent}, {task: classes})."""
    rows = list(csv.DictReader(open(options.labels, newline="")))
    rows.sort(key=lambda row: int(row["timestamp"]))
    if options.most:
        rows = rows[:options.most]
    paths, counts, classes = {}, {}, {}
    for name in ("train", "aside"):
        paths[name] = os.path.join(folder, name + ".csv")
        with open(paths[name], "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["task", "user_id", "label", "timestamp"])
            for row in rows:
                if is_aside(row["user_id"], fold) != (name == "aside"):
                    continue
                for insertion in INSERTIONS:
                    task = f"{row['task']}.{insertion}"
                    out.writerow([task, row["user_id"], row["label"], row["timestamp"]])
                    counts[task] = counts.get(task, 0) + (name == "train")
                    classes.setdefault(row["task"], set()).add(row["label"])
    return paths, counts, classes


def put_tasks(site, classes):
    path = os.path.join(site.folder, "tasks.yaml")
    with open(path, "w") as out:
        json.dump({"tasks": [{"name": f"{task}.{insertion}", "type": "classification", "labels": sorted(labels),
                              "insertion": insertion, **({} if insertion == "side" else {"max_age_ms": SERIAL_MS})}
                             for task, labels in sorted(classes.items()) for insertion in INSERTIONS]}, out)
    site.ctl("task", "put", path)


def await_learnt(site, counts):
    begun = time.monotonic()
    while True:
        newest = {task: site.records(task)[-1:] for task in counts}
        trained = {task: records[0]["labels_trained"] if records else 0 for task, records in newest.items()}
        say(f"{time.monotonic() - begun:6.0f} s  trained: " + ", ".join(f"{t} {n}" for t, n in sorted(trained.items())))
        if all(trained[task] >= count for task, count in counts.items()):
            return
        if site.daemon.poll() is not None:
            sys.exit(f"peterd ended with {site.daemon.returncode}: {site.folder}/peterd.log")
        time.sleep(2)


def curve(records, metric, width):
    """[(labels, mean of the metric over the labels of the last `width` or more)] of the live patch, from means over all labels;
    the first point is the mean of FIRST labels or more."""
    sums, points = [(0.0, 0.0)], []
    for record in records:
        metrics = record["metrics"]
        count = metrics.get("live.all.count", 0)
        if count > sums[-1][0]:
            sums.append((count, metrics[f"live.all.{metric}"] * count))
            before = next((s for s in reversed(sums[:-1]) if s[0] <= count - width), sums[0])
            if count >= FIRST:
                points.append((count, (sums[-1][1] - before[1]) / (count - before[0])))
    return points


def evaluate(site, options, patch, task, labels):
    return json.loads(site.run("evaluate", "--backbone", options.backbone, "--patch", patch, "--events", options.events,
                               "--labels", labels, "--task", task, "--json").splitlines()[-1])


def finetune(site, options, task, insertion, labels, classes, seed):
    out = os.path.join(options.patches or site.folder, f"{task}-{site.fold}-{seed}.safetensors")
    if os.path.exists(out):
        return out
    site.run("finetune", "--backbone", options.backbone, "--events", options.events, "--labels", labels, "--task", task,
             "--type", "classification", "--labels-list", ",".join(sorted(classes)), "--insertion", insertion, "--seed",
             str(seed), "--out", out, "--json")
    return out


def compare(site, options, paths, counts, classes):
    rows = []
    for task in sorted(classes):
        for insertion in INSERTIONS:
            name = f"{task}.{insertion}"
            patch = os.path.join(site.folder, name + ".safetensors")
            site.ctl("patch", "export", name, "--out", patch)
            online = evaluate(site, options, patch, name, paths["aside"])
            offline = [evaluate(site, options, finetune(site, options, name, insertion, paths["train"], classes[task], seed),
                                name, paths["aside"]) for seed in range(1, options.seeds + 1)]
            records = site.records(name)
            rows.append({"task": task, "insertion": insertion, "labels": counts[name], "users_aside": online["examples"],
                         "first": dict(zip(("accuracy", "log_loss"), (curve(records, m, options.width)[0][1]
                                                                      for m in ("accuracy", "log_loss")))),
                         "last": dict(zip(("accuracy", "log_loss"), (curve(records, m, options.width)[-1][1]
                                                                     for m in ("accuracy", "log_loss")))),
                         "online": {m: online[m] for m in ("accuracy", "log_loss")},
                         "offline": {m: sum(o[m] for o in offline) / len(offline) for m in ("accuracy", "log_loss")},
                         "versions": records[-1]["version"]})
            say(json.dumps(rows[-1]))
    return rows


def print_table(rows):
    print("| task | patch | labels | prequential, first → last | stream, users set aside | `finetune`, the same users |\n"
          "| --- | --- | ---: | --- | --- | --- |")
    for r in rows:
        print(f"| {r['task']} | {r['insertion']} | {r['labels']} | {r['first']['accuracy']:.3f} → {r['last']['accuracy']:.3f}, "
              f"{r['first']['log_loss']:.3f} → {r['last']['log_loss']:.3f} | {r['online']['accuracy']:.3f}, "
              f"{r['online']['log_loss']:.3f} | {r['offline']['accuracy']:.3f}, {r['offline']['log_loss']:.3f} |")


def plot(site, options, classes):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(2, len(classes), figsize=(3.4 * len(classes), 4.6), sharex=True, squeeze=False)
    for column, task in enumerate(sorted(classes)):
        for row, (metric, title) in enumerate((("accuracy", "accuracy"), ("log_loss", "log loss"))):
            for insertion in INSERTIONS:
                points = curve(site.records(f"{task}.{insertion}"), metric, options.width)
                axes[row][column].plot([p[0] for p in points], [p[1] for p in points], label=insertion, linewidth=1.2)
            axes[row][column].grid(alpha=0.3)
            axes[row][column].set_title(f"{task}: {title}", fontsize=9)
            axes[row][column].tick_params(labelsize=7)
    axes[1][0].set_xlabel("labels", fontsize=8)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(options.plot, dpi=90)


def mean(rows):
    """Numbers of equal rows of several folds, and of what is in them."""
    first = rows[0]
    if isinstance(first, dict):
        return {key: mean([row[key] for row in rows]) for key in first}
    return first if isinstance(first, str) else sum(rows) / len(rows)


def measure(options, fold):
    folder = tempfile.mkdtemp(prefix="peterd-measure-")
    site = Installation(options, folder, fold)
    try:
        paths, counts, classes = write_files(options, folder, fold)
        site.ctl("topics", "create", "--partitions", "6")
        put_tasks(site, classes)
        site.start()
        begun = time.monotonic()
        site.ctl("replay", "--events", options.events, "--labels", paths["train"], "--rate", str(options.rate))
        say(f"sent in {time.monotonic() - begun:.0f} s: {sum(counts.values())} labels, {math.ceil(options.rate)} records/s")
        await_learnt(site, counts)
        time.sleep(SERIAL_MS / 1000 + 5)  # the last cadence
        if options.plot and fold == 0:
            plot(site, options, classes)
        rows = compare(site, options, paths, counts, classes)
    finally:
        site.stop()
        if not options.keep_folder:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        with open(options.json, "a") as out:
            out.writelines(json.dumps({"fold": fold, **row}) + "\n" for row in rows)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--events", required=True, help="CSV with timestamps")
    parser.add_argument("--labels", required=True, help="CSV of task, user_id, label, timestamp")
    parser.add_argument("--rate", type=int, default=8000, help="records a second; default 8000")
    parser.add_argument("--keep", type=int, default=512, help="sequences.keep; default 512")
    parser.add_argument("--width", type=int, default=500, help="labels that a point of a curve is the mean of; default 500")
    parser.add_argument("--folds", type=int, default=1, choices=range(1, FIFTHS + 1), help="fifths that are set aside in turn; default 1")
    parser.add_argument("--seeds", type=int, default=3, help="of finetune; default 3")
    parser.add_argument("--patches", help="folder for what finetune makes; what is there is not made again")
    parser.add_argument("--most", type=int, help="rows of the labels file, the oldest first")
    parser.add_argument("--plot", help="PNG to write")
    parser.add_argument("--json", help="file to append the rows of each fold to, an object a line")
    parser.add_argument("--programs", default="build/release/bin")
    parser.add_argument("--keep-folder", action="store_true")
    options = parser.parse_args()
    folds = [measure(options, fold) for fold in range(options.folds)]
    print_table([mean(rows) for rows in zip(*folds)])


if __name__ == "__main__":
    main()
