#!/usr/bin/env python3
"""The peers of `peterctl bench trunk`: the same NextItNet in PyTorch and ONNX Runtime, one thread, whole windows of R - 1
events, one user at a time and 256. Prints rows like peterctl's; a peer that is not installed is a line on stderr.

    tools/bench_peers.py [--json] [--seconds S]
"""
import argparse
import io
import json
import os
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

DILATIONS = (1, 4, 1, 4, 1, 4, 1, 4)
KERNEL_SIZE = 3
ITEMS = 4003
WINDOW = sum(3 * (KERNEL_SIZE - 1) * d for d in DILATIONS)


def make_net(torch, channels):
    class Norm(torch.nn.LayerNorm):  # over the channels of [users, channels, positions]
        def forward(self, x):
            return super().forward(x.transpose(1, 2)).transpose(1, 2)

    class Block(torch.nn.Module):
        def __init__(self, dilation):
            super().__init__()
            self.layers = torch.nn.ModuleList()
            for d in (dilation, 2 * dilation):
                pad = torch.nn.ConstantPad1d(((KERNEL_SIZE - 1) * d, 0), 0.0)
                conv = torch.nn.Conv1d(channels, channels, KERNEL_SIZE, dilation=d)
                self.layers.append(torch.nn.Sequential(pad, conv, Norm(channels, eps=1e-8), torch.nn.ReLU()))

        def forward(self, x):
            return x + self.layers[1](self.layers[0](x))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.items = torch.nn.Embedding(ITEMS, channels)
            self.blocks = torch.nn.Sequential(*(Block(d) for d in DILATIONS))

        def forward(self, indices):  # [users, WINDOW + 1], the task token last
            return self.blocks(self.items(indices).transpose(1, 2))[:, :, -1]

    torch.manual_seed(1)
    return Net().eval()


def measure(run, users, seconds):
    """The best of five rounds, users a second of processor time."""
    run()
    best = 0.0
    for _ in range(5):
        done = 0
        start = time.process_time()
        while time.process_time() - start < seconds / 5:
            run()
            done += users
        best = max(best, done / (time.process_time() - start))
    return best


def report(args, name, channels, users, rate):
    if args.json:
        row = {"bench": "trunk", "peer": name, "what": "whole windows", "batch": users, "channels": channels}
        print(json.dumps(row | {"per_second": round(rate)}), flush=True)
    else:
        print(f"{name + ', whole windows (users)':<32} batch {users:3}  d {channels:3}  {rate:10.0f} /s", flush=True)


def bench_torch(args, torch, net, channels):
    for users in (1, 256):
        indices = torch.randint(3, ITEMS, (users, WINDOW + 1))
        indices[:, -1] = 1
        with torch.inference_mode():
            report(args, f"PyTorch {torch.__version__}", channels, users, measure(lambda: net(indices), users, args.seconds))


def bench_onnx(args, torch, ort, net, channels):
    model = io.BytesIO()
    example = torch.ones((2, WINDOW + 1), dtype=torch.int64)
    torch.onnx.export(net, (example,), model, input_names=["items"], dynamic_axes={"items": {0: "users"}}, dynamo=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.getvalue(), options, providers=["CPUExecutionProvider"])
    for users in (1, 256):
        indices = torch.randint(3, ITEMS, (users, WINDOW + 1)).numpy()
        rate = measure(lambda: session.run(None, {"items": indices}), users, args.seconds)
        report(args, f"ONNX Runtime {ort.__version__}", channels, users, rate)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0, help="a row [5]")
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("peers skipped: PyTorch is not installed (ONNX Runtime's model is exported from it)", file=sys.stderr)
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # the exporter's, about its own future
    try:
        import onnxruntime as ort
    except ImportError:
        ort = None
        print("ONNX Runtime skipped: not installed", file=sys.stderr)
    for channels in (64, 256):
        net = make_net(torch, channels)
        bench_torch(args, torch, net, channels)
        if ort is not None:
            try:
                bench_onnx(args, torch, ort, net, channels)
            except (ImportError, RuntimeError) as error:  # the exporter wants the package onnx
                print(f"ONNX Runtime skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
