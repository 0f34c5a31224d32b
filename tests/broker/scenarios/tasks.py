"""Task definitions on a real, compacted topic: put, list and remove, and what other people's producers write there."""
import hashlib
import json
import os
import time

from confluent_kafka import Producer

import codec
import topics
from daemon import run
from registry import scenario
from scenarios.ctl import fails

GENDER = "name: gender\ntype: classification\nlabels: [F, M]\n"


def write(site, name, text):
    path = os.path.join(site.folder, name)
    with open(path, "w") as out:
        out.write(text)
    return path


def does(command, *words):
    done = run(command, timeout=60)
    assert done.returncode == 0 and not done.stderr, f"{' '.join(command[1:])}: {done.returncode} {done.stderr!r}"
    for word in words:
        assert word in done.stdout, f"{' '.join(command[1:])}: {word!r} is not in {done.stdout!r}"
    return done.stdout


class Tasks:
    """peterctl task with a configuration, and the topic as an outsider sees it."""

    def __init__(self, site, **sections):
        self.site = site
        self.config = site.daemon(site.backbone(site.stream(71)), sequences={"keep": 256}, **sections).write_config()
        self.topic = site.topic("tasks")
        self.avro = codec.Avro.shipped(site.peterctl, "Task")
        self.producer = Producer({"bootstrap.servers": site.bootstrap, "partitioner": "murmur2_random", "log_level": 2})

    def command(self, *arguments):
        return [self.site.peterctl, "task", arguments[0], "--config", self.config, *arguments[1:]]

    def list(self):
        return {task["name"]: task for task in map(json.loads, does(self.command("list", "--json")).splitlines())}

    def records(self):
        """{key: [value, oldest first]}; None: a tombstone."""
        found = {}
        for partition in topics.read_all(self.site.bootstrap, self.topic).values():
            for record in partition:
                value = self.avro.decode(record.value()) if record.value() is not None else None
                found.setdefault(record.key().decode(), []).append(value)
        return found

    def produce(self, topic, key, value):
        """Returns the partition."""
        where = []
        self.producer.produce(topic, key=key, value=value, on_delivery=lambda error, m: where.append((error, m.partition())))
        assert self.producer.flush(30) == 0 and where[0][0] is None, f"{where}"
        return where[0][1]


@scenario(timeout_s=120)
def tasks_put_list_remove(site):
    """A definition is checked before it is written, its hash is that of what trains, and a tombstone removes it."""
    tasks = Tasks(site)
    does([site.peterctl, "topics", "create", "--config", tasks.config, "--partitions", "3"], tasks.topic)
    assert topics.setting(site.bootstrap, tasks.topic, "delete.retention.ms") == "3153600000000"
    gender = write(site, "gender.yaml", GENDER)
    assert tasks.list() == {}

    # nothing of a bad file is written
    bad = write(site, "bad.yaml", "tasks:\n- {name: a, type: ranking}\n- name: b\n  type: rank\n")
    fails(tasks.command("put", gender, bad), 65, f"{bad}:4: tasks[1].type: must be classification, ranking or regression")
    deep = write(site, "deep.yaml", "tasks:\n- {name: a, type: ranking}\n- {name: b, type: regression, blocks: [0, 7]}\n")
    fails(tasks.command("put", gender, deep), 65, f"{deep}:3: task b: blocks: 7: the backbone's levels are 0 to ")
    wide = write(site, "wide.yaml", GENDER + "mean_window: 250\n")
    fails(tasks.command("put", wide), 65, f"{wide}:1: task gender: mean_window: 250 events and the ", "more than sequences.keep, 256")
    fails(tasks.command("put", os.path.join(site.folder, "none.yaml")), 66, "none.yaml")
    fails(tasks.command("put", gender, gender), 65, "the task gender stands in another file too")
    fails(tasks.command("put"), 64, "a file of definitions is missing")
    fails(tasks.command("remove"), 64, "a task's name is missing")
    assert tasks.records() == {} and tasks.list() == {}

    canonical = ("peterd.task.v1\ntype=classification\nlabels=1:F1:M\ninsertion=side\nblocks\nbottleneck=16\nmean_window=128\n"
                 "loss=softmax\nrate=0.001\nreplay=8192\n")
    hashed = hashlib.sha256(canonical.replace("rate=0.001", f"rate={0.001:.17g}").encode()).hexdigest()
    does(tasks.command("put", gender), f"gender: new, definition {hashed}\n")
    does(tasks.command("put", gender), f"gender: unchanged, definition {hashed}\n")
    assert len(tasks.records()["gender"]) == 1, "an unchanged definition was written again"
    slower = write(site, "slower.yaml", GENDER + "max_age_ms: 5000\nbottleneck: 16\n")
    does(tasks.command("put", slower), f"gender: changed, definition {hashed} as before\n")
    wider = write(site, "wider.yaml", GENDER + "bottleneck: 32\n")
    said = does(tasks.command("put", wider), "gender: changed, definition ")
    assert hashed not in said and "as before" not in said, said
    more = write(site, "more.yaml", "tasks:\n- {name: films, type: ranking, scores_k: 5}\n- {name: score, type: regression}\n")
    does(tasks.command("put", more), "films: new", "score: new")

    found = tasks.list()
    assert sorted(found) == ["films", "gender", "score"], f"{found}"
    assert found["gender"]["state"] == "valid" and found["gender"]["source"] == "topic", f"{found}"
    assert found["gender"]["bottleneck"] == 32 and found["gender"]["labels"] == ["F", "M"] and found["gender"]["adapters"] is None
    assert found["films"]["labels"] is None and found["films"]["scores_k"] == 5 and found["films"]["loss"] is None
    assert found["score"]["loss"] == "squared" and found["score"]["scores_k"] is None
    records = tasks.records()
    assert [r["bottleneck"] for r in records["gender"]] == [16, 16, 32] and records["films"][0]["max_age_ms"] is None
    for name, task in found.items():  # as a Java client's partitioner has it
        assert task["partition"] == tasks.produce(site.topic("interactions"), name, b"")
    text = does(tasks.command("list"), "gender  valid  side classification  definition ", "2 labels  from topic", "films  valid")
    assert len(text.splitlines()) == 3, text

    fails(tasks.command("remove", "score", "gendre"), 66, "task gendre: not on the topic", "did you mean gender?")
    does(tasks.command("remove", "gender"), "gender: removed\n")
    fails(tasks.command("remove", "gender"), 66, "task gender: not on the topic")
    assert tasks.records()["gender"][-1] is None
    assert sorted(tasks.list()) == ["films", "score"]
    does(tasks.command("put", gender), f"gender: new, definition {hashed}\n")
    site.note(f"{sum(map(len, tasks.records().values()))} records")


@scenario(timeout_s=120)
def tasks_of_others(site):
    """Other producers' definitions: null is the default; a bad one is refused with its reason, alone; the configuration's show too."""
    site.create(3)
    tasks = Tasks(site, tasks=[{"name": "local", "type": "regression"}, {"name": "gone", "type": "regression"}])
    does(tasks.command("put", write(site, "gender.yaml", GENDER)), "gender: new")
    definition = tasks.list()["gender"]["definition"]
    tasks.produce(tasks.topic, "age", tasks.avro.encode({"name": "age", "type": "classification"}))
    tasks.produce(tasks.topic, "kind", tasks.avro.encode({"name": "kind", "type": "clustering"}))
    tasks.produce(tasks.topic, "deep", tasks.avro.encode({"name": "deep", "type": "ranking", "blocks": [7]}))
    tasks.produce(tasks.topic, "other", tasks.avro.encode({"name": "age", "type": "ranking"}))
    tasks.produce(tasks.topic, "gender", b"\x01garbage")
    tasks.produce(tasks.topic, b"\xff\x00", b"")
    tasks.produce(tasks.topic, "gone", None)
    lines = [json.loads(line) for line in does(tasks.command("list", "--json")).splitlines()]
    found = {task["name"]: task for task in lines}
    assert set(found) == {"age", "kind", "deep", "other", "gender", "local", "gone", None}, f"{sorted(map(str, found))}"
    assert found["age"]["state"] == "valid" and found["age"]["insertion"] == "side" and found["age"]["bottleneck"] == 16
    assert found["kind"]["state"] == "refused" and found["kind"]["reason"].startswith("type: must be classification, ranking or")
    assert found["deep"]["state"] == "refused" and found["deep"]["reason"].startswith("blocks: 7: the backbone's levels are 0 to ")
    assert found["other"]["reason"] == "name: age is not the record's key", f"{found['other']}"
    assert found["gender"]["state"] == "refused" and found["gender"]["definition"] == definition, f"{found['gender']}"
    assert found["local"]["source"] == "configuration" and found["local"]["state"] == "valid"
    assert found["gone"]["state"] == "removed" and f"it stands in {tasks.config}:" in found["gone"]["reason"]
    does(tasks.command("list"), "kind  refused  from topic  type: must be classification", "local  valid", "..  refused")
    fails(tasks.command("remove", "local"), 66, "task local: not on the topic", f"it stands in {tasks.config}:")
    does(tasks.command("remove", "kind", "other"), "kind: removed\nother: removed\n")
    does(tasks.command("put", os.path.join(site.folder, "gender.yaml")), f"gender: changed, definition {definition} as before\n")
    assert tasks.list()["gender"]["state"] == "valid"

    os.unlink(site.backbone(site.stream(71)).path)  # elsewhere than on the daemon's machine
    done = run(tasks.command("list"), timeout=60)
    assert done.returncode == 0 and "deep  valid" in done.stdout, f"{done}"
    assert done.stderr.endswith("No such file or directory; whether a definition fits the backbone is for the daemon to say\n"), done.stderr

    nowhere = Tasks(site, topics={"tasks": site.topic("nowhere")})
    for command in (("list",), ("remove", "gender"), ("put", os.path.join(site.folder, "gender.yaml"))):
        fails(nowhere.command(*command), 78, site.topic("nowhere"), "peterctl topics create --config")
    away = Tasks(site, kafka={"bootstrap.servers": "127.0.0.1:1"})
    fails([*away.command("list"), "--timeout-ms", "1000"], 69)


@scenario(timeout_s=240)
def tasks_compacted(site):
    """After compaction the newest record of a task is what counts, tombstones too; and a topic that has grown has no two."""
    topics.create(site.bootstrap, {site.topic("tasks"): (1, {
        "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001"})})
    tasks = Tasks(site)
    for width in (1, 2, 3):
        for name in ("a", "b"):
            does(tasks.command("put", write(site, "t.yaml", f"name: {name}\ntype: ranking\nbottleneck: {width}\n")), f"{name}: ")
    does(tasks.command("remove", "b"), "b: removed")
    before, deadline, more = tasks.list(), time.monotonic() + 120, 0
    while sum(map(len, tasks.records().values())) > 2 + min(more, 2):
        assert time.monotonic() < deadline, f"the brokers do not compact: {tasks.records()}"
        more += 1  # the last segment is not compacted: a record moves the others out of it
        does(tasks.command("put", write(site, "t.yaml", f"name: c\ntype: ranking\nbottleneck: {1 + more % 2}\n")), "c: ")
        time.sleep(2)
    records = tasks.records()
    assert records["b"] == [None] and [r["bottleneck"] for r in records["a"]] == [3], f"{records}"
    found = tasks.list()
    assert sorted(found) == ["a", "c"] and found["a"]["definition"] == before["a"]["definition"], f"{found}"
    fails(tasks.command("remove", "b"), 66, "task b: not on the topic")

    topics.grow(site.bootstrap, [tasks.topic], 7)
    names = [f"n{i}" for i in range(8)] + ["a"]
    text = "tasks:\n" + "".join(f"- {{name: {name}, type: ranking, bottleneck: 9}}\n" for name in names)
    does(tasks.command("put", write(site, "many.yaml", text)), "a: changed", "n0: new")
    found = tasks.list()
    assert found["a"]["partition"] == 0 and len({found[n]["partition"] for n in names}) > 2, f"{found}"
    assert all(found[n]["bottleneck"] == 9 for n in names), f"{found}"
    does(tasks.command("remove", *names), "a: removed")
    assert sorted(tasks.list()) == ["c"]
    site.note(f"compacted after {more} more records")
