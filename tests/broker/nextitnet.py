"""The frozen backbone a second time, after the contract's text alone: a safetensors writer and a NumPy forward in float64.

Nothing here is shared with the program under test. A Backbone is random weights from a seed; `embed` takes sequences of
item ids of any lengths and returns the user embeddings, [users, d].
"""
import hashlib
import json
import struct

import numpy as np

TCL, OOV, FIRST_ITEM = 1, 2, 3


def write_safetensors(path, tensors, metadata):
    """tensors: name -> float32 array; metadata: str -> str. The format: u64 header length, JSON header, raw bytes."""
    header, blobs, at = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        blob = np.ascontiguousarray(tensor, dtype="<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


class Backbone:
    def __init__(self, path, items, seed, channels=16, kernel=3, dilations=(1, 2), eps=1e-8):
        self.path, self.channels, self.kernel, self.dilations, self.eps = path, channels, kernel, dilations, eps
        self.items = list(items)
        self.index = {item: FIRST_ITEM + i for i, item in enumerate(self.items)}
        self.window = sum((kernel - 1) * (d + 2 * d) for d in dilations)  # R - 1
        rng = np.random.default_rng(seed)
        scale = 1.0 / np.sqrt(channels * kernel)
        tensors = {"item_embedding.weight": rng.normal(0, 0.5, (FIRST_ITEM + len(self.items), channels))}
        for i in range(len(dilations)):
            for n in (1, 2):
                tensors[f"blocks.{i}.conv{n}.weight"] = rng.normal(0, scale, (channels, channels, kernel))
                tensors[f"blocks.{i}.conv{n}.bias"] = rng.normal(0, 0.1, channels)
                tensors[f"blocks.{i}.norm{n}.weight"] = rng.normal(0, 0.1, channels) + 0.5
                tensors[f"blocks.{i}.norm{n}.bias"] = rng.normal(0, 0.1, channels)
        write_safetensors(path, tensors, {
            "format": "peterd.backbone.v1", "arch": "nextitnet", "causal": "true", "channels": str(channels),
            "kernel_size": str(kernel), "dilations": ",".join(map(str, dilations)), "layer_norm_eps": repr(eps),
            "pad_index": "0", "tcl_index": "1", "oov_index": "2", "vocabulary": json.dumps(self.items)})
        self.hash = hashlib.sha256(open(path, "rb").read()).hexdigest()
        # What the file holds is float32; the reference computes with exactly those values, in double.
        self.tensors = {k: v.astype(np.float32).astype(np.float64) for k, v in tensors.items()}

    def index_of(self, item):
        return self.index.get(item, OOV)

    def _conv(self, x, mask, name, dilation):
        """x: [users, length, d]; zeros before a user's first event (mask) at every layer."""
        weight = self.tensors[name + ".weight"]
        out = np.broadcast_to(self.tensors[name + ".bias"], x.shape).copy()
        x = x * mask
        length = x.shape[1]
        for tap in range(self.kernel):
            back = (self.kernel - 1 - tap) * dilation
            if back < length:
                out[:, back:] += x[:, : length - back] @ weight[:, :, tap].T
        return out

    def _norm(self, x, name):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + self.eps) * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def embed(self, sequences, batch=512):
        """sequences: lists of vocabulary indices, oldest first. Returns [len(sequences), d] float64."""
        out = np.zeros((len(sequences), self.channels))
        for start in range(0, len(sequences), batch):
            part = [list(s[-self.window:]) + [TCL] for s in sequences[start:start + batch]]
            length = max(map(len, part))
            ids = np.zeros((len(part), length), dtype=np.int64)
            mask = np.zeros((len(part), length, 1))
            for row, sequence in enumerate(part):
                ids[row, length - len(sequence):] = sequence
                mask[row, length - len(sequence):] = 1.0
            x = self.tensors["item_embedding.weight"][ids]
            for i, dilation in enumerate(self.dilations):
                y = np.maximum(self._norm(self._conv(x, mask, f"blocks.{i}.conv1", dilation), f"blocks.{i}.norm1"), 0)
                y = np.maximum(self._norm(self._conv(y, mask, f"blocks.{i}.conv2", 2 * dilation), f"blocks.{i}.norm2"), 0)
                x = x + y
            out[start:start + len(part)] = x[:, -1]
        return out
