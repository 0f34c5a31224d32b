"""Backbones and patches as files, for the scripts beside it: NumPy alone, no safetensors package.

Tensors are name -> array in the layout of PyTorch's state_dict; what the names and the metadata mean is in peterctl(1).
"""
import hashlib
import json
import re
import struct
import sys
import zipfile

try:
    import numpy as np
except ImportError:
    sys.exit("this needs NumPy: Debian's python3-numpy, or pip install numpy")

SPECIAL = 3  # rows of the embedding before the items: padding, task token, out of vocabulary
JSON_ITEMS = 10000  # more ids than these go into tensors
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


class Refused(Exception):
    """What is wrong with the input, in one line."""


def read_safetensors(path):
    """(metadata, tensors) of a file; bfloat16 becomes float32."""
    with open(path, "rb") as file:
        blob = file.read()
    try:
        (length,) = struct.unpack("<Q", blob[:8])
        header = json.loads(blob[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(blob[begin:end], "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                values = np.frombuffer(blob[begin:end], TYPES[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path}: not a safetensors file of types that we read ({error})") from error
    return metadata, tensors


def read_npz(path):
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise Refused(f"{path}: not an .npz file of numbers") from error


def write_safetensors(path, tensors, metadata):
    """The bytes depend on the arguments only. Returns the file's SHA-256 in hex."""
    header = {"__metadata__": metadata}
    blobs = []
    at = 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].itemsize, n)):  # wide types first: each is aligned
        dtype = next(key for key, value in TYPES.items() if np.dtype(value) == tensors[name].dtype)
        blob = np.ascontiguousarray(tensors[name], dtype=TYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    whole = struct.pack("<Q", len(text)) + text + b"".join(blobs)
    with open(path, "wb") as file:
        file.write(whole)
    return hashlib.sha256(whole).hexdigest()


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().removesuffix("\n").split("\n")


def as_floats(name, value):
    """A float32 array of a NumPy array or a PyTorch tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    value = np.asarray(value, dtype=np.float32)
    if not np.isfinite(value).all():
        raise Refused(f"{name}: has values that are not finite")
    return value


def expect(tensors, name, *shape):
    if name not in tensors:
        raise Refused(f"{name}: is missing")
    if tensors[name].shape != shape:
        raise Refused(f"{name}: has the shape {list(tensors[name].shape)}, expected {list(shape)}")


def check_backbone(tensors, items, dilations):
    """Channels and kernel size of a complete backbone."""
    if "item_embedding.weight" not in tensors or tensors["item_embedding.weight"].ndim != 2:
        raise Refused("item_embedding.weight: is missing, or no matrix")
    rows, channels = tensors["item_embedding.weight"].shape
    if rows != SPECIAL + len(items):
        raise Refused(f"item_embedding.weight: has {rows} rows, expected {SPECIAL + len(items)}: padding, task token, "
                      f"out of vocabulary and {len(items)} items")
    if len(set(items)) != len(items):
        raise Refused("items: one stands twice")
    first = tensors.get("blocks.0.conv1.weight")
    if first is None or first.ndim != 3:
        raise Refused("blocks.0.conv1.weight: is missing, or not [out, in, taps]")
    taps = first.shape[2]
    for i in range(len(dilations)):
        for n in (1, 2):
            expect(tensors, f"blocks.{i}.conv{n}.weight", channels, channels, taps)
            for name in (f"conv{n}.bias", f"norm{n}.weight", f"norm{n}.bias"):
                expect(tensors, f"blocks.{i}.{name}", channels)
    if "output.weight" in tensors or "output.bias" in tensors:
        expect(tensors, "output.weight", rows, channels)
        expect(tensors, "output.bias", rows)
    known = re.compile(r"item_embedding\.weight|output\.(weight|bias)|blocks\.(\d+)\.(conv|norm)[12]\.(weight|bias)")
    for name in tensors:
        match = known.fullmatch(name)
        if not match or (match[2] and int(match[2]) >= len(dilations)):
            raise Refused(f"{name}: is no tensor of this architecture with {len(dilations)} blocks")
    return channels, taps


def write_backbone(path, tensors, items, dilations, causal=True, window=512, eps=1e-8, next_item="last"):
    """A backbone's file of `tensors` (NumPy or PyTorch): the rows of the embedding are padding, task token, out of
    vocabulary, then `items` in this order. Returns its hash; raises Refused."""
    tensors = {name: as_floats(name, value) for name, value in tensors.items()}
    channels, taps = check_backbone(tensors, items, dilations)
    metadata = {
        "format": "peterd.backbone.v1",
        "arch": "nextitnet",
        "causal": "true" if causal else "false",
        "channels": str(channels),
        "kernel_size": str(taps),
        "dilations": ",".join(map(str, dilations)),
        "layer_norm_eps": repr(eps),
        "pad_index": "0",
        "tcl_index": "1",
        "oov_index": "2",
    }
    if not causal:
        metadata["window"] = str(window)
    if "output.weight" in tensors:
        metadata["next_item"] = next_item
    if len(items) <= JSON_ITEMS:
        metadata["vocabulary"] = json.dumps(items, ensure_ascii=False)
    else:
        ids = [item.encode() for item in items]
        tensors["vocabulary.bytes"] = np.frombuffer(b"".join(ids), np.uint8)
        tensors["vocabulary.offsets"] = np.cumsum([0] + [len(i) for i in ids]).astype(np.int64)
    return write_safetensors(path, tensors, metadata)


def write_patch(path, tensors, task, kind, insertion, bottleneck, blocks, labels, backbone):
    """A patch's file. `backbone`: the hash of the backbone that it is for. Returns its own hash; raises Refused."""
    tensors = {name: as_floats(name, value) for name, value in tensors.items()}
    metadata = {
        "format": "peterd.patch.v1",
        "task": task,
        "type": kind,
        "insertion": insertion,
        "bottleneck": str(bottleneck),
        "blocks": ",".join(map(str, blocks)),
        "labels": json.dumps(labels, ensure_ascii=False),
        "backbone": backbone,
        "version": "0",
    }
    return write_safetensors(path, tensors, metadata)
