#!/usr/bin/env python3
"""Tables of what re-learned patches are worth beside the baselines of the PeterRec paper.

    tools/measure_patches.py --backbone B.safetensors --events events.csv --labels labels.csv
    tools/measure_patches.py --events events.csv --items items.csv --genres "Animation,Children's"

First form: every task of the labels file, a classification each; a user's labels are all for training or, for about 27 %
of the users, all for the test. Second form: the films of the genres are the targets, at most three a user; everything else is
what a backbone is pre-trained on (--backbone, or one is made) and what a user's films are told from. Each cell is the mean
over the seeds and, behind +-, their largest distance from it."""
import argparse
import concurrent.futures
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile

METHODS = {
    "head only": ["--train", "head"],
    "side": ["--insertion", "side"],
    "serial": ["--insertion", "serial"],
    "parallel": ["--insertion", "parallel"],
    "last block": ["--train", "last:1"],
    "everything": ["--train", "everything"],
    "everything, from scratch": ["--train", "scratch"],
}
TEST_SHARE = 0.27
TARGETS_A_USER = 3


def in_test(user):
    return int(hashlib.sha256(user.encode()).hexdigest()[:8], 16) / 2**32 < TEST_SHARE


def read_rows(path):
    with open(path, newline="") as file:
        yield from csv.DictReader(file)


def write_labels(folder, rows):
    """train.csv and test.csv; returns their paths."""
    columns = [name for name in ("task", "user_id", "label", "timestamp") if name in rows[0]]
    paths = [os.path.join(folder, name) for name in ("train.csv", "test.csv")]
    with open(paths[0], "w", newline="") as train, open(paths[1], "w", newline="") as test:
        writers = [csv.writer(train), csv.writer(test)]
        for writer in writers:
            writer.writerow(columns)
        for row in rows:
            writers[in_test(row["user_id"])].writerow([row[name] for name in columns])
    return paths


def peterctl(options, *words):
    done = subprocess.run([options.peterctl, *words, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def run_cell(options, folder, backbone, events, paths, task, kind, method, seed):
    name = os.path.join(folder, f"{task}-{method}-{seed}".replace(" ", "-").replace(",", ""))
    own = [name + "-trunk.safetensors"] if "--train" in METHODS[method] and "head" not in METHODS[method] else []
    tuned = peterctl(options, "finetune", "--backbone", backbone, "--events", events, "--labels", paths[0], "--task",
                     task, "--type", kind, "--threads", "1", "--seed", str(seed), "--out", name + ".safetensors",
                     *METHODS[method], *(["--backbone-out", own[0]] if own else []))
    scored = peterctl(options, "evaluate", "--backbone", own[0] if own else backbone, "--patch", name + ".safetensors",
                      "--events", events, "--labels", paths[1], "--task", task, *(["--k", "5"] if kind == "ranking" else []))
    print(f"{task}, {method}, seed {seed}: {json.dumps(scored)}", file=sys.stderr, flush=True)
    return (task, method), {**scored, "percent": tuned["percent"]}


def run_table(options, folder, backbone, events, paths, tasks, kind):
    """(task, method) -> one result a seed."""
    results = {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        cells = [pool.submit(run_cell, options, folder, backbone, events, paths, task, kind, method, seed)
                 for method in METHODS for task in tasks for seed in range(1, options.seeds + 1)]
        for cell in concurrent.futures.as_completed(cells):
            key, result = cell.result()
            results.setdefault(key, []).append(result)
    return results


def spread(results, metric, digits=3):
    values = [result[metric] for result in results]
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f} ± {max(abs(value - mean) for value in values):.{digits}f}"


def print_table(results, tasks, metrics, examples):
    head = [f"{task}: {', '.join(metrics)} ({examples[task]} in test)" for task in tasks]
    print("| trained | parameters |", " | ".join(head), "|")
    print("| --- | ---: |", " | ".join(["---"] * len(tasks)), "|")
    for method in METHODS:
        cells = [", ".join(spread(results[task, method], metric) for metric in metrics) for task in tasks]
        print(f"| {method} | {results[tasks[0], method][0]['percent']:.1f} % |", " | ".join(cells), "|")


def classify(options, folder):
    rows = list(read_rows(options.labels))
    tasks = sorted({row["task"] for row in rows})
    paths = write_labels(folder, rows)
    results = run_table(options, folder, options.backbone, options.events, paths, tasks, "classification")
    examples = {task: results[task, "side"][0]["examples"] for task in tasks}
    print_table(results, tasks, ["accuracy", "log_loss"], examples)


def split_events(options, folder):
    """The source's events as a file, and labels: a few of each user's targets, chosen by a hash. They have no timestamp: all
    that a user did in the source tells of what the same user likes of the targets."""
    genres = set(options.genres.split(","))
    targets = {row["item_id"] for row in read_rows(options.items) if genres & set(row["genres"].split("|"))}
    source = os.path.join(folder, "source.csv")
    liked = {}
    with open(source, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for row in read_rows(options.events):
            if row["item_id"] in targets:
                liked.setdefault(row["user_id"], set()).add(row["item_id"])
            else:
                writer.writerow([row[k] for k in ("user_id", "item_id", "timestamp")])
    labels = []
    for user, items in liked.items():
        order = sorted(items, key=lambda item: hashlib.sha256(f"{user} {item}".encode()).digest())
        labels += [{"task": "films", "user_id": user, "label": item} for item in order[:TARGETS_A_USER]]
    return source, labels


def rank(options, folder):
    source, labels = split_events(options, folder)
    paths = write_labels(folder, labels)
    backbone = options.backbone or os.path.join(folder, "source.safetensors")
    if not options.backbone:
        peterctl(options, "pretrain", "--events", source, "--out", backbone)
    results = run_table(options, folder, backbone, source, paths, ["films"], "ranking")
    print_table(results, ["films"], ["mrr@5", "hr@5"], {"films": results["films", "side"][0]["examples"]})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone")
    parser.add_argument("--events", required=True, help="CSV, not compressed")
    parser.add_argument("--labels", help="CSV of task, user_id, label, timestamp")
    parser.add_argument("--items", help="CSV of item_id, genres")
    parser.add_argument("--genres", help="a comma list: the targets of the ranking")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--peterctl", default="build/release/bin/peterctl")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.items and options.genres:
            rank(options, folder)
        elif options.labels and options.backbone:
            classify(options, folder)
        else:
            parser.error("give --labels and --backbone, or --items and --genres")


if __name__ == "__main__":
    main()
