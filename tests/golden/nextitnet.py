#!/usr/bin/env python3
"""An independent NextItNet in NumPy, float64, written from the definition and sharing nothing with model/.

As a program it writes golden.safetensors, the embeddings that tests/unit/test_nextitnet.c compares with:

    tests/golden/nextitnet.py tests/golden/golden.safetensors

The weights are not in that file: both sides draw them from one splitmix64 stream (model/random_backbone.c).
"""
import json
import struct
import sys

import numpy as np

TCL = 1
OOV = 2
FIRST_ITEM = 3
TYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8, "I64": np.int64}


def read_safetensors(path):
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
        data = f.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] == "BF16":
            bits = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16
            values = bits.view(np.float32)
        else:
            values = np.frombuffer(data[begin:end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return metadata, tensors


def write_safetensors(path, metadata, tensors):
    header = {"__metadata__": metadata}
    at = 0
    blobs = []
    for name in sorted(tensors, key=lambda n: (-tensors[n].itemsize, n)):
        array = np.ascontiguousarray(tensors[name])
        dtype = next(k for k, v in TYPES.items() if v == array.dtype)
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
        blobs.append(array.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def layer_norm(x, gamma, beta, eps):
    mean = x.mean(axis=1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * gamma + beta


def conv(x, weight, bias, dilation, causal):
    """x: [positions, in]; weight: [out, in, k], as torch.nn.Conv1d on a padded input."""
    taps = weight.shape[2]
    total = (taps - 1) * dilation
    left = total if causal else total // 2
    padded = np.concatenate([np.zeros((left, x.shape[1])), x, np.zeros((total - left, x.shape[1]))])
    out = np.tile(bias, (x.shape[0], 1))
    for j in range(taps):
        out = out + padded[j * dilation : j * dilation + x.shape[0]] @ weight[:, :, j].T
    return out


class NextItNet:
    def __init__(self, metadata, tensors):
        self.t = {name: value.astype(np.float64) for name, value in tensors.items() if value.dtype != np.uint8}
        self.causal = metadata["causal"] == "true"
        self.dilations = [int(x) for x in metadata["dilations"].split(",")]
        self.eps = float(metadata.get("layer_norm_eps", "1e-8"))
        self.taps = int(metadata["kernel_size"])
        self.field = 1 + sum((self.taps - 1) * 3 * d for d in self.dilations)
        self.window = int(metadata.get("window", "512"))
        if "vocabulary" in metadata:
            ids = [str(x) for x in json.loads(metadata["vocabulary"])]
        elif "vocabulary.bytes" in tensors:
            blob, ends = tensors["vocabulary.bytes"].tobytes(), tensors["vocabulary.offsets"]
            ids = [blob[a:b].decode() for a, b in zip(ends, ends[1:])]
        else:
            ids = []
        self.index = {item: i + FIRST_ITEM for i, item in enumerate(ids)}

    def states(self, indices):
        """The last block's output at every position, [positions, d]."""
        t = self.t
        x = t["item_embedding.weight"][np.asarray(indices, dtype=np.int64)]
        for i, dilation in enumerate(self.dilations):
            y = x
            for c in (1, 2):
                block = f"blocks.{i}."
                y = conv(y, t[block + f"conv{c}.weight"], t[block + f"conv{c}.bias"], c * dilation, self.causal)
                y = layer_norm(y, t[block + f"norm{c}.weight"], t[block + f"norm{c}.bias"], self.eps)
                y = np.maximum(y, 0)
            x = x + y
        return x

    def embed(self, indices, whole=False):
        """The user embedding, [d]. whole: feed the causal form all events, not only the last R - 1."""
        indices = list(indices)
        if self.causal:
            newest = indices if whole else indices[max(0, len(indices) - (self.field - 1)) :]
            return self.states(newest + [TCL])[-1]
        newest = indices[max(0, len(indices) - self.window) :]
        out = self.states([TCL] + newest + [TCL])
        return out[0] + out[-1]

    def embed_ids(self, ids):
        return self.embed([self.index.get(i, OOV) for i in ids])


class SplitMix:
    """model/random_backbone.c's stream."""

    def __init__(self, seed):
        self.state = seed

    def words(self, n):
        with np.errstate(over="ignore"):
            z = np.uint64(self.state) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            self.state = int(z[-1])
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return z ^ (z >> np.uint64(31))

    def floats(self, shape, centre, spread):
        n = int(np.prod(shape))
        unit = (self.words(n) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
        return (np.float32(centre) + np.float32(spread) * unit).reshape(shape)


def random_weights(channels, taps, dilations, items, seed):
    random = SplitMix(seed)
    root3 = np.float32(1.7320508)
    tensors = {"item_embedding.weight": random.floats((items + FIRST_ITEM, channels), 0, root3)}
    for i in range(len(dilations)):
        for c in (1, 2):
            scale = float(root3) / np.sqrt(channels * taps)
            tensors[f"blocks.{i}.conv{c}.weight"] = random.floats((channels, channels, taps), 0, scale)
            tensors[f"blocks.{i}.conv{c}.bias"] = random.floats((channels,), 0, 0.1)
            tensors[f"blocks.{i}.norm{c}.weight"] = random.floats((channels,), 1, 0.2)
            tensors[f"blocks.{i}.norm{c}.bias"] = random.floats((channels,), 0, 0.2)
    return tensors


# channels, kernel size, dilations, causal, window; the same table is in tests/unit/test_nextitnet.c
CASES = [
    (8, 3, "1,4,1,4", True, 0),
    (16, 2, "1,3,5", True, 0),
    (64, 3, "1,4,1,4,1,4,1,4", True, 0),
    (256, 5, "3,1", True, 0),
    (64, 4, "7,2", True, 0),
    (20, 3, "2,5", True, 0),
    (8, 1, "1", True, 0),
    (8, 3, "1,4,1,4", False, 40),
    (64, 2, "3,1,2", False, 30),
    (16, 4, "1,5", False, 25),
    (256, 5, "1,3", False, 20),
]
ITEMS = 50
SEED = 1


def golden(path):
    tensors = {}
    for number, (channels, taps, dilations, causal, window) in enumerate(CASES):
        metadata = {"causal": str(causal).lower(), "dilations": dilations, "kernel_size": str(taps)}
        metadata["window"] = str(window)
        blocks = [int(x) for x in dilations.split(",")]
        net = NextItNet(metadata, random_weights(channels, taps, blocks, ITEMS, SEED + number))
        longest = net.field if causal else window + 1
        stream = [int(w % (ITEMS + 1)) + OOV for w in SplitMix(1000 + number).words(longest + 50)]
        lengths = [0, 1, max(longest - 1, 0), longest, longest + 50]
        tensors[f"{number}"] = np.stack([net.embed(stream[:n]) for n in lengths]).astype(np.float32)
        if causal and longest > 1:  # the claim that R - 1 events are enough
            assert np.abs(net.embed(stream) - net.embed(stream, whole=True)).max() < 1e-12
    write_safetensors(path, {"made_by": "tests/golden/nextitnet.py"}, tensors)


if __name__ == "__main__":
    golden(sys.argv[1])
