#!/usr/bin/env python3
"""Files from elsewhere: what tools/export_torch.py and tools/convert_tensorflow.py make of random models must give,
through peterctl, what the models themselves give; and Python's safetensors package must open what peterctl writes.

    tests/interop.py PETERCTL

The models are NumPy: a state_dict for tests/golden/nextitnet.py, and the authors' TensorFlow graph by its definition
(NHWC kernels, adapters that return their input, cardinality). Needs the packages of tests/requirements.txt.
"""
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import safetensors.numpy

TESTS = pathlib.Path(__file__).resolve().parent
TOOLS = TESTS.parent / "tools"
sys.path.insert(0, str(TESTS / "golden"))
import nextitnet  # noqa: E402

CHANNELS = 8
ROWS = 20  # of the authors' table; row 0 is padding, [CLS] and <UNK> at once
TARGETS = 6
SIDES = {True: [], False: ["--non-causal"]}
DILATIONS = (1, 4)
USERS = {"a": "3 4 5 6 7", "b": "9", "c": " ".join(str(1 + i % 19) for i in range(60)), "d": "5 nothing 7"}


def run(*command, code=0):
    """Its standard output; its last line of standard error where another exit code is expected."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != code:
        raise AssertionError(f"{command}: exit code {done.returncode}, expected {code}\n{done.stderr}")
    return done.stderr.strip().split("\n")[-1] if code else done.stdout


def write_events(path):
    rows = [f"{user},{item}\n" for user, items in USERS.items() for item in items.split()]
    path.write_text("user_id,item_id\n" + "".join(rows))


class TensorFlow:
    """The authors' NextItNet and PeterRec with random variables."""

    def __init__(self, rng, taps, causal, cardinality=1):
        self.rng, self.taps, self.causal, self.cardinality = rng, taps, causal, cardinality
        self.v = {"allitem_embeddings": self.draw(ROWS, CHANNELS), "beta1_power": np.float32(0.9)}
        for scope in self.scopes():
            for n in (1, 2):
                kernel = self.draw(1, taps, CHANNELS, CHANNELS) / np.sqrt(CHANNELS * taps)
                self.v[f"{scope}dilated_conv{n}/weight"] = kernel
                self.v[f"{scope}dilated_conv{n}/weight/Adam_1"] = self.draw(1, taps, CHANNELS, CHANNELS)
                self.v[f"{scope}dilated_conv{n}/bias"] = self.draw(CHANNELS)
                self.v[f"{scope}layer_norm{n}/gamma"] = 1 + 0.2 * self.draw(CHANNELS)
                self.v[f"{scope}layer_norm{n}/beta"] = 0.2 * self.draw(CHANNELS)

    def scopes(self):
        return [f"nextitnet_residual_blockdecoder_layer_{i}_{d}/" for i, d in enumerate(DILATIONS)]

    def draw(self, *shape):
        return self.rng.normal(0, 1, shape).astype(np.float32)

    def save(self, path):
        np.savez(path, **{name: np.asarray(value, np.float32) for name, value in self.v.items()})

    def finetune(self, norms):
        width = CHANNELS // (2 * self.cardinality)
        for scope in self.scopes():
            for n in (1, 2):
                for j in range(self.cardinality):
                    mp = f"{scope}mp_{n}/mp_conv1_"
                    self.v[f"{mp}down_{j}/weight"] = self.draw(1, 1, CHANNELS, width)
                    self.v[f"{mp}down_{j}/bias"] = self.draw(width)
                    self.v[f"{mp}up_{j}/weight"] = self.draw(1, 1, width, CHANNELS)
                    self.v[f"{mp}up_{j}/bias"] = self.draw(CHANNELS)
            if norms:
                self.v[f"{scope}layer_norm2/gamma"] = 1 + 0.2 * self.draw(CHANNELS)
        self.v["target-item/allitem_embeddings_target"] = self.draw(TARGETS, CHANNELS)

    def conv(self, x, name, dilation):
        weight = self.v[name + "/weight"][0].astype(np.float64)
        total = (len(weight) - 1) * dilation
        before = total if self.causal else total // 2
        padded = np.pad(x, ((before, total - before), (0, 0)))
        shifted = (padded[j * dilation : j * dilation + len(x)] for j in range(len(weight)))
        return sum(part @ w for part, w in zip(shifted, weight)) + self.v[name + "/bias"]

    def get_mp(self, x, name, inner):
        out = x if inner else 0
        for j in range(self.cardinality):
            z = self.conv(x, f"{name}/mp_conv1_down_{j}", 1)
            z = z * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
            out = out + self.conv(z, f"{name}/mp_conv1_up_{j}", 1)
        return out

    def embed(self, rows, insertion=None, inner=True):
        x = self.v["allitem_embeddings"][([] if self.causal else [0]) + rows + [0]].astype(np.float64)
        for scope, dilation in zip(self.scopes(), DILATIONS):
            y = x
            for n in (1, 2):
                c = self.conv(y, f"{scope}dilated_conv{n}", n * dilation)
                if insertion == "serial":
                    c = self.get_mp(c, f"{scope}mp_{n}", inner)
                elif insertion == "parallel":
                    c = c + self.get_mp(y, f"{scope}mp_{n}", inner)
                c = (c - c.mean(1, keepdims=True)) / np.sqrt(c.var(1, keepdims=True) + 1e-8)
                y = np.maximum(c * self.v[f"{scope}layer_norm{n}/gamma"] + self.v[f"{scope}layer_norm{n}/beta"], 0)
            x = x + y
        return x[-1] if self.causal else x[0] + x[-1]

    def users(self, *how):
        rows = [[int(item) if item.isdigit() else 0 for item in items.split()] for items in USERS.values()]
        return np.stack([self.embed(r, *how) for r in rows])


class Interop(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="peterd-interop-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.rng = np.random.default_rng(1)
        write_events(self.folder / "events.csv")

    def compare(self, expected, command, *options):
        out = self.folder / "out.npy"
        run(PETERCTL, command, "--events", self.folder / "events.csv", "--out", out, *options)
        difference = np.abs(np.load(out) - expected).max()
        self.assertTrue(difference <= 1e-4 * np.abs(expected).max(), f"{command}: off by {difference}")

    def state_dict(self, causal=True):
        metadata = {"causal": str(causal).lower(), "dilations": "1,4", "kernel_size": "3"}
        tensors = nextitnet.random_weights(CHANNELS, 3, list(DILATIONS), ROWS, 1)
        items = [str(i) for i in range(ROWS)]
        (self.folder / "items.txt").write_text("\n".join(items) + "\n")
        return nextitnet.NextItNet(metadata | {"vocabulary": json.dumps(items)}, tensors), tensors

    def test_export_torch(self):
        for causal in (True, False):
            net, tensors = self.state_dict(causal)
            np.savez(self.folder / "state.npz", **{"module.net." + name: value for name, value in tensors.items()})
            backbone = self.folder / "b.safetensors"
            run(sys.executable, TOOLS / "export_torch.py", self.folder / "state.npz", "--rename", r"^net\.=", "--items",
                self.folder / "items.txt", "--dilations", "1,4", "--out", backbone, *SIDES[causal])
            expected = np.stack([net.embed_ids(items.split()) for items in USERS.values()])
            self.compare(expected, "embed", "--backbone", backbone)
            for name, value in safetensors.numpy.load_file(backbone).items():
                np.testing.assert_array_equal(value, tensors[name])

    def test_export_torch_refuses(self):
        _, tensors = self.state_dict()
        for spoil, word in (
            (lambda t: t.pop("blocks.1.norm2.bias"), "blocks.1.norm2.bias"),
            (lambda t: t.update({"blocks.0.conv1.weight": t["blocks.0.conv1.weight"][:, :4]}), "blocks.0.conv1.weight"),
            (lambda t: t.update({"positions.weight": t["item_embedding.weight"]}), "positions.weight"),
            (lambda t: t.update({"blocks.0.conv1.bias": np.full(CHANNELS, np.nan, np.float32)}), "not finite"),
            (lambda t: t.update({"item_embedding.weight": t["item_embedding.weight"][1:]}), "item_embedding.weight"),
        ):
            spoiled = dict(tensors)
            spoil(spoiled)
            np.savez(self.folder / "state.npz", **spoiled)
            said = run(sys.executable, TOOLS / "export_torch.py", self.folder / "state.npz", "--items",
                       self.folder / "items.txt", "--dilations", "1,4", "--out", self.folder / "b.safetensors", code=65)
            self.assertIn(word, said)
            self.assertFalse((self.folder / "b.safetensors").exists())

    def convert(self, *options, code=0):
        return run(sys.executable, TOOLS / "convert_tensorflow.py", self.folder / "base.npz", "--out",
                   self.folder / "b.safetensors", *options, code=code)

    def convert_patch(self, insertion, *options, code=0):
        return self.convert("--finetuned", self.folder / "tuned.npz", "--patch-out", self.folder / "p.safetensors",
                            "--task", "likes", "--insertion", insertion, *options, code=code)

    def test_convert_tensorflow(self):
        parallel = ("parallel", True, ["--inner-residual"])
        for taps, causal, cardinality, norms, (insertion, inner, options) in (
            (3, True, 1, False, ("serial", True, [])),
            (3, True, 2, True, ("serial", False, ["--no-inner-residual"])),
            (3, True, 1, True, parallel),
            (2, True, 1, False, ("parallel", True, ["--inner-residual", "--fold", "trunk"])),
            (3, True, 1, False, ("parallel", False, ["--no-inner-residual"])),
            (4, False, 2, True, parallel),
            (3, False, 1, True, ("parallel", True, ["--inner-residual", "--fold", "trunk"])),
        ):
            with self.subTest(taps=taps, causal=causal, insertion=insertion, options=options):
                model = TensorFlow(self.rng, taps, causal, cardinality)
                model.save(self.folder / "base.npz")
                expected = model.users()
                self.convert(*SIDES[causal])
                self.compare(expected, "embed", "--backbone", self.folder / "b.safetensors")
                model.finetune(norms)
                model.save(self.folder / "tuned.npz")
                self.convert_patch(insertion, *options, *SIDES[causal])
                if "trunk" not in options:
                    self.compare(expected, "embed", "--backbone", self.folder / "b.safetensors")
                head = model.v["target-item/allitem_embeddings_target"][1:]
                scores = model.users(insertion, inner) @ head.T.astype(np.float64)
                self.compare(scores, "score", "--backbone", self.folder / "b.safetensors", "--patch",
                             self.folder / "p.safetensors")
                safetensors.numpy.load_file(self.folder / "p.safetensors")

    def test_convert_tensorflow_output_layer(self):
        model = TensorFlow(self.rng, 3, True)
        model.v["softmax_w"], model.v["softmax_b"] = model.draw(ROWS, CHANNELS), model.draw(ROWS)
        model.save(self.folder / "base.npz")
        self.convert()
        tensors = safetensors.numpy.load_file(self.folder / "b.safetensors")
        np.testing.assert_array_equal(tensors["output.weight"][3:], model.v["softmax_w"][1:])
        np.testing.assert_array_equal(tensors["output.bias"][3:], model.v["softmax_b"][1:])
        model.v["logits/weight"], model.v["logits/bias"] = model.draw(1, 1, CHANNELS, ROWS), model.draw(ROWS)
        model.save(self.folder / "base.npz")
        self.convert()
        self.assertNotIn("output.weight", safetensors.numpy.load_file(self.folder / "b.safetensors"))

    def test_convert_tensorflow_refuses(self):
        model = TensorFlow(self.rng, 4, False)
        model.save(self.folder / "base.npz")
        model.finetune(False)
        model.save(self.folder / "tuned.npz")
        self.assertIn("--inner-residual", self.convert_patch("parallel", "--non-causal", code=65))
        fold = ["--fold", "trunk", "--non-causal"]
        self.assertIn("cannot be done", self.convert_patch("parallel", "--inner-residual", *fold, code=65))
        self.assertIn("--fold trunk", self.convert_patch("serial", "--no-inner-residual", *fold, code=65))
        model.v["nextitnet_residual_blockdecoder_layer_0_1/dilated_conv1/bias"] += 1
        model.save(self.folder / "tuned.npz")
        self.assertIn("blocks.0.conv1.bias", self.convert_patch("serial", "--non-causal", code=65))
        model.v["dec_pos/lookup_table_position"] = model.draw(5, CHANNELS)
        model.save(self.folder / "base.npz")
        self.assertIn("positional", self.convert(code=65))
        self.assertFalse((self.folder / "b.safetensors").exists())

    def test_limits_of_the_system(self):
        backbone = self.folder / "b.safetensors"
        pretrain = [PETERCTL, "pretrain", "--events", self.folder / "events.csv", "--out", backbone, "--channels", "8",
                    "--dilations", "1,2", "--epochs", "1", "--validation-users", "0"]
        for kind, most, code, word in ((resource.RLIMIT_AS, 150 << 20, 71, "out of memory"),
                                       (resource.RLIMIT_FSIZE, 1024, 74, "File too large")):
            limit = lambda: (resource.setrlimit(kind, (most, most)), resource.setrlimit(resource.RLIMIT_CPU, (20, 20)))
            done = subprocess.run([str(c) for c in pretrain], capture_output=True, text=True, preexec_fn=limit)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (code, 1), done.stderr)
            self.assertIn(word, done.stderr)
            self.assertEqual([p.name for p in self.folder.glob("b.*")], [])
        run(*pretrain)

    def test_safetensors_opens_what_peterctl_writes(self):
        events = "".join(f"u{u},{(u * 7 + t * 3) % 11},{t}\n" for u in range(8) for t in range(12))
        (self.folder / "events.csv").write_text("user_id,item_id,timestamp\n" + events)
        (self.folder / "labels.csv").write_text("user_id,label\n" + "".join(f"u{u},{'xy'[u % 2]}\n" for u in range(8)))
        backbone = self.folder / "b.safetensors"
        given = ["--events", self.folder / "events.csv", "--seed", "1"]
        run(PETERCTL, "pretrain", *given, "--out", backbone, "--channels", "8", "--dilations", "1,2", "--epochs", "1")
        tensors = safetensors.numpy.load_file(backbone)
        self.assertEqual(tensors["item_embedding.weight"].shape, (3 + 11, 8))
        self.assertEqual(tensors["blocks.1.conv2.weight"].shape, (8, 8, 3))
        self.assertEqual(tensors["output.weight"].shape, (3 + 11, 8))
        for insertion, name in (("serial", "patches.0.1.down.weight"), ("side", "side.0.down.weight")):
            patch = self.folder / "p.safetensors"
            task = ["--labels", self.folder / "labels.csv", "--task", "xy", "--type", "classification"]
            run(PETERCTL, "finetune", *given, *task, "--backbone", backbone, "--insertion", insertion, "--bottleneck",
                "2", "--epochs", "1", "--out", patch)
            with safetensors.safe_open(patch, "numpy") as file:
                self.assertIn(name, file.keys())
                self.assertEqual(json.loads(file.metadata()["labels"]), ["x", "y"])
                self.assertEqual(file.get_tensor("head.weight").shape, (2, 8))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    sys.dont_write_bytecode = True
    PETERCTL = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
