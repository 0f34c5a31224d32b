"""The local store is a shortcut: gone, damaged or stale, the end is the same. A new backbone is a restart."""
import os
import random
import shutil
import time

import check
import codec
import topics
from registry import scenario


def store_files(state_dir):
    """The files that hold data (logs for people and option files left out)."""
    found = []
    for folder, _, names in os.walk(state_dir):
        found += [os.path.join(folder, n) for n in names if n.endswith((".sst", ".log")) or n.startswith("MANIFEST")]
    return sorted(f for f in found if os.path.getsize(f) > 0)


def warnings(daemon, since):
    words = ("discard", "rebuil", "damaged", "corrupt", "remov", "missing", "begun anew", "restor")
    return [line for line in daemon.log()[since:].splitlines() if line.lstrip("<4>").startswith("warning") or line.startswith("<4>")
            if any(w in line.lower() for w in words)]


class Life:
    """One daemon through stops and starts over a growing stream."""

    def __init__(self, site, partitions=3, **sections):
        self.site, self.stream = site, site.stream(11, tombstones=0.01)
        self.backbone = site.backbone(self.stream)
        site.create(partitions)
        self.daemon = site.daemon(self.backbone, **sections)
        self.rng = random.Random(site.seed)

    @property
    def state_dir(self):
        return self.daemon.config["state_dir"]

    def feed(self, count=1500):
        self.site.produce(self.stream.take(self.site.size(count)))

    def settle(self):
        return self.site.settle(daemon=self.daemon)

    def start(self):
        self.mark = len(self.daemon.log())
        self.daemon.start()
        return self

    def stop(self, kill=False):
        self.daemon.kill() if kill else self.daemon.stopped_well()
        return self

    def warnings(self):
        return warnings(self.daemon, self.mark)

    def verify(self, backbones=None):
        check.verify(self.site, backbones or [self.backbone])


@scenario(timeout_s=120)
def restore_deleted(site):
    """The store is deleted; and, next, the whole state directory."""
    life = Life(site)
    life.feed()
    life.start().settle()
    for kill, victim in ((False, None), (True, None), (False, "store")):
        life.stop(kill)
        shutil.rmtree(os.path.join(life.state_dir, victim) if victim else life.state_dir)
        life.feed(500)
        life.start().settle()
        restored = life.daemon.metric("peterd_restore_records_total")
        assert restored, "nothing was restored from the changelog"
    life.stop()
    life.verify()


@scenario(timeout_s=240)
def restore_damaged(site):
    """A file of the store truncated, a bit flipped, a file gone, garbage written: never fatal, never believed."""
    life = Life(site)
    life.feed(3000)
    life.start().settle()
    said, trials = 0, site.size(6, 40)
    for n in range(trials):
        life.stop(kill=n % 2 == 1)
        files = store_files(life.state_dir)
        victim = life.rng.choice(files)
        size = os.path.getsize(victim)
        how = ("flip", "truncate", "remove", "overwrite")[n % 4]
        at = life.rng.randrange(size)
        if how == "truncate":
            os.truncate(victim, at)
        elif how == "remove":
            os.remove(victim)
        else:
            with open(victim, "r+b") as data:
                data.seek(at)
                byte = data.read(1)[0]
                data.seek(at)
                data.write(bytes([byte ^ (1 << life.rng.randrange(8))]) if how == "flip" else os.urandom(64))
        life.feed(300)
        life.start().settle()
        told = life.warnings()
        said += bool(told)
        check.verify(site, [life.backbone])
        site.notes.clear()
        if how in ("remove", "overwrite") and victim.endswith(".sst"):
            assert told, f"{how} of {os.path.basename(victim)} was not said in the log"
    life.stop()
    life.verify()
    assert said, "no damage was ever said in the log"
    site.note(f"{trials} damages, {said} of them said")


@scenario(timeout_s=120)
def restore_stale(site):
    """An old copy is put back; a copy of another process's moment; a store torn between two moments."""
    life = Life(site)
    life.feed()
    life.start().settle()
    life.stop()
    old = life.state_dir + ".old"
    shutil.copytree(life.state_dir, old)
    life.feed()
    life.start().settle()
    life.stop()
    shutil.rmtree(life.state_dir)
    shutil.copytree(old, life.state_dir)
    life.feed(500)
    life.start().settle()
    life.stop(kill=True)
    # Half of the files from then, half from now.
    for name in store_files(old):
        if life.rng.random() < 0.5:
            now = name.replace(old, life.state_dir, 1)
            os.makedirs(os.path.dirname(now), exist_ok=True)
            shutil.copy(name, now)
    life.feed(500)
    life.start().settle()
    life.stop()
    life.verify()


@scenario(timeout_s=90)
def restore_other_group(site):
    """A store of another group in the same directory is not believed."""
    life = Life(site)
    life.feed()
    life.start().settle()
    life.stop()
    site.create(3, "-other")
    other = site.daemon(life.backbone, "-other", state_dir=life.state_dir).start()
    inputs = site.settle("-other", daemon=other)
    other.stopped_well()
    check.verify(site, [life.backbone], "-other", inputs)


@scenario(timeout_s=90)
def restore_lost_offsets(site):
    """The group's offsets are gone (expired, say): the position in the changelog stands for them; nothing twice."""
    life = Life(site)
    life.feed()
    life.start().settle()
    life.stop()
    delete_group(site)
    life.feed(500)
    life.start().settle()
    life.stop()
    life.verify()


def delete_group(site):
    """Deletes the group once its static members have timed out."""
    client = topics.admin(site.bootstrap)
    for _ in range(60):
        try:
            client.delete_consumer_groups([site.group()])[site.group()].result(10)
            return
        except Exception:
            time.sleep(0.5)
    raise AssertionError("the group could not be deleted")


@scenario(timeout_s=120)
def restore_backbone(site):
    """Another backbone (items known that were not, other shape): a restart and nothing more. Each user's next update is
    the new backbone's."""
    life = Life(site, sequences={"keep": 32})
    life.feed(3000)
    life.start().settle()
    life.stop()
    other = site.backbone(life.stream, seed=99, known=0.5, name="other", channels=24, kernel=2, dilations=(1, 3, 5))
    whole = site.backbone(life.stream, seed=100, known=1.0, name="whole", channels=16, kernel=3, dilations=(1, 2))
    marks = []
    for backbone in (other, whole):
        before = topics.end_offsets(site.bootstrap, site.topic("interactions"))
        marks.append((backbone, before))
        life.daemon.config["backbone"] = backbone.path
        site.produce([life.stream.interaction(user=user) for user in life.stream.users] + life.stream.take(200))
        life.start().settle()
        life.stop(kill=backbone is other)
    # Every update says the hash of the backbone that ran at its offset, and its embedding is that one's (in verify).
    checker = check.verify(site, [life.backbone, other, whole], keep=32)
    for records in checker.outputs.updates.values():
        for message in records:
            if message.value() is None:
                continue
            update = site.update_avro.decode(message.value())
            expected = life.backbone
            for backbone, before in marks:
                if update["offset"] >= before[update["partition"]]:
                    expected = backbone
            assert update["backbone"] == expected.hash, f"update at {update['offset']} is of another backbone"
    final = checker.outputs.final_updates()
    assert {u["backbone"] for u in final.values() if u} == {whole.hash}


@scenario(timeout_s=90)
def restore_position(site):
    """The changelog's position and the group's offset say the same after every stop."""
    life = Life(site)
    for _ in range(3):
        life.feed(400)
        life.start().settle()
        life.stop()
        committed = topics.committed(site.bootstrap, site.group(), site.topic("interactions"), 3)
        changelog = topics.read_all(site.bootstrap, site.topic("changelog"))
        for partition, records in changelog.items():
            positions = [codec.decode_position(m.value()) for m in records if m.key() == codec.POSITION_KEY]
            assert positions[-1][0] == committed[partition], f"{positions[-1]} but committed {committed[partition]}"
    life.verify()
