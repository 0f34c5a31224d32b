#!/usr/bin/env python3
"""Forward parity: `peterctl embed` on random backbones and events against tests/golden/nextitnet.py.

    tests/parity.py PETERCTL [ROUNDS] [SEED]

Every round draws a shape, a vocabulary in one of its two forms, a number format and an audience with users of length 0
(not in a file), 1, R - 1, R, R + 50 and unknown items; the batched and, where causal, the incremental embeddings must be
within 1e-4 of the largest value. Needs NumPy.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "golden"))
import nextitnet  # noqa: E402

BOUND = 1e-4


def make_backbone(rng, path):
    channels = rng.choice([8, 12, 16, 20, 32, 64, 96, 256])
    taps = rng.randint(2, 5)
    blocks = [rng.choice([1, 2, 3, 4, 5, 7]) for _ in range(rng.randint(1, 2 if channels > 64 else 5))]
    items = [f"i{n}" for n in rng.sample(range(1000), rng.randint(1, 60))]
    tensors = nextitnet.random_weights(channels, taps, blocks, len(items), rng.getrandbits(60))
    if rng.random() < 0.3:
        tensors = {name: value.astype(np.float16) for name, value in tensors.items()}
    metadata = {
        "format": "peterd.backbone.v1",
        "arch": "nextitnet",
        "causal": rng.choice(["true", "true", "false"]),
        "channels": str(channels),
        "kernel_size": str(taps),
        "dilations": ",".join(map(str, blocks)),
        "layer_norm_eps": rng.choice(["1e-8", "1e-5"]),
        "window": str(rng.randint(1, 80)),
    }
    if rng.random() < 0.5:
        metadata["vocabulary"] = json.dumps(items)
    else:
        ends = np.cumsum([0] + [len(i) for i in items])
        tensors["vocabulary.bytes"] = np.frombuffer("".join(items).encode(), np.uint8)
        tensors["vocabulary.offsets"] = ends.astype(np.int64)
    nextitnet.write_safetensors(path, metadata, tensors)
    return metadata, items


def make_audience(rng, window, items):
    lengths = sorted({1, 2, max(window, 1), window + 1, window + 51, rng.randint(1, 2 * window + 2)})
    return {f"u{n}": [rng.choice(items + ["unknown"]) for _ in range(n)] for n in lengths}


def write_events(rng, path, audience):
    """Users interleaved at random, each one's events in order; rows are users in order of first appearance."""
    left = {user: list(events) for user, events in audience.items()}
    order = []
    with open(path, "w") as f:
        f.write("user_id,item_id,timestamp\n")
        at = 0
        while left:
            user = rng.choice(list(left))
            if user not in order:
                order.append(user)
            at += 1
            f.write(f"{user},{left[user].pop(0)},{at}\n")
            if not left[user]:
                del left[user]
    return order


def check(peterctl, rng, folder):
    backbone, events, out = (str(folder / name) for name in ("b.safetensors", "e.csv", "o.npy"))
    metadata, items = make_backbone(rng, backbone)
    net = nextitnet.NextItNet(*nextitnet.read_safetensors(backbone))
    window = net.field - 1 if net.causal else net.window
    audience = make_audience(rng, window, items)
    order = write_events(rng, events, audience)
    expected = np.stack([net.embed_ids(audience[user]) for user in order])
    worst = 0.0
    for extra in [[], ["--incremental"]] if net.causal else [[]]:
        command = [peterctl, "embed", "--backbone", backbone, "--events", events, "--out", out, *extra]
        subprocess.run(command, check=True)
        got = np.load(out)
        assert got.shape == expected.shape, (got.shape, expected.shape)
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert error <= BOUND, f"{error}: {metadata} {extra}"
        worst = max(worst, error)
    return worst


def main():
    peterctl = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.getrandbits(32)
    worst = 0.0
    for number in range(rounds):
        print(f"round {number} of seed {seed}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            worst = max(worst, check(peterctl, random.Random(seed + number), pathlib.Path(folder)))
    print(f"{rounds} rounds, largest relative error {worst:.2g}")


if __name__ == "__main__":
    main()
