#!/usr/bin/env python3
"""The peer of `peterctl bench train`: PyTorch, eager and compiled, with the same shapes. It is driven through a pipe,
for peterctl to take turns with it: a line "WHAT MODE SECONDS" on standard input is answered by a line of JSON,

    {"per_second": RATE} or {"error": "why not"}

after a first line {"peer": "PyTorch 2.x", "modes": [...]}. WHAT is pretrain (items a second), serial or side (examples
a second; side on one thread). By wall clock; with one thread by processor time, since other programs share the machine.

    tools/bench_peers_train.py THREADS
"""
import json
import os
import sys
import time

THREADS = int(sys.argv[1]) if len(sys.argv) == 2 and sys.argv[1].isdigit() else sys.exit(__doc__)
os.environ["OMP_NUM_THREADS"] = str(THREADS)

try:
    import torch
except ImportError:
    sys.exit("peers skipped: PyTorch is not installed")

import torch.nn.functional as F
from torch import nn

# The same numbers are in tools/bench_train.c.
CHANNELS = 64
DILATIONS = (1, 4, 1, 4, 1, 4, 1, 4)
TAPS = 3
ITEMS = 3403
BATCH = 64
PRETRAIN_WINDOW = 100
FINETUNE_WINDOW = 120
BOTTLENECK = 16
CLASSES = 7
SIDE_BATCH = 256
DROPOUT = 0.2


class Convolution(nn.Module):
    """relu(norm(conv(x))), with an adapter after the convolution where there is one. [users, channels, 1, positions],
    channels last in memory: on CPUs faster than Conv1d (serial by 1.6, eager pretrain by 1.1) and than a Linear of
    shifted rows."""

    def __init__(self, dilation, adapter):
        super().__init__()
        self.left = (TAPS - 1) * dilation
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, (1, TAPS), dilation=(1, dilation))
        self.conv.to(memory_format=torch.channels_last)
        self.norm = nn.LayerNorm(CHANNELS, eps=1e-8)
        self.adapter = adapter

    def forward(self, x):
        c = self.conv(F.pad(x, (self.left, 0))).permute(0, 2, 3, 1)
        if self.adapter is not None:
            c = c + self.adapter(c)
        return F.relu(self.norm(c)).permute(0, 3, 1, 2)


def make_adapter(inputs):
    return nn.Sequential(nn.Linear(inputs, BOTTLENECK), nn.GELU(approximate="tanh"), nn.Linear(BOTTLENECK, CHANNELS))


class Trunk(nn.Module):
    def __init__(self, adapters):
        super().__init__()
        self.items = nn.Embedding(ITEMS, CHANNELS)
        self.layers = nn.ModuleList(Convolution(number * d, make_adapter(CHANNELS) if adapters else None)
                                    for d in DILATIONS for number in (1, 2))

    def forward(self, indices):
        x = self.items(indices)[:, None].permute(0, 3, 1, 2)
        for first, second in zip(self.layers[::2], self.layers[1::2]):
            x = x + second(first(x))
        return x[:, :, 0].transpose(1, 2)


class Pretrain(nn.Module):
    """Next-item cross-entropy at every position of windows. The task token, which peterctl trains too, is left out."""

    rows = BATCH * PRETRAIN_WINDOW

    def __init__(self):
        super().__init__()
        self.trunk = Trunk(False)
        self.output = nn.Linear(CHANNELS, ITEMS)
        self.windows = torch.randint(3, ITEMS, (BATCH, PRETRAIN_WINDOW + 1))

    def forward(self):
        states = F.dropout(self.trunk(self.windows[:, :-1]), DROPOUT)
        return F.cross_entropy(self.output(states.flatten(0, 1)), self.windows[:, 1:].flatten())


class Serial(nn.Module):
    """A serial patch on a frozen trunk: adapters after all convolutions, a head on the task token."""

    rows = BATCH

    def __init__(self):
        super().__init__()
        self.trunk = Trunk(True)
        for name, p in self.trunk.named_parameters():
            p.requires_grad = ".adapter." in name
        self.head = nn.Linear(CHANNELS, CLASSES)
        self.windows = torch.cat([torch.randint(3, ITEMS, (BATCH, FINETUNE_WINDOW)), torch.ones(BATCH, 1).long()], 1)
        self.labels = torch.randint(0, CLASSES, (BATCH,))

    def forward(self):
        return F.cross_entropy(self.head(self.trunk(self.windows)[:, -1]), self.labels)


class Side(nn.Module):
    """A side patch from cached states [users, levels, state and mean]."""

    rows = SIDE_BATCH

    def __init__(self):
        super().__init__()
        self.adapters = nn.ModuleList(make_adapter(2 * CHANNELS) for _ in range(len(DILATIONS) + 1))
        self.head = nn.Linear(CHANNELS, CLASSES)
        self.states = torch.randn(SIDE_BATCH, len(DILATIONS) + 1, 2 * CHANNELS)
        self.labels = torch.randint(0, CLASSES, (SIDE_BATCH,))

    def forward(self):
        z = torch.zeros(SIDE_BATCH, CHANNELS)
        for level, adapter in enumerate(self.adapters):
            h, mean = self.states[:, level].split(CHANNELS, 1)
            z = z + adapter(torch.cat([h + z, mean], 1))
        return F.cross_entropy(self.head(h + z), self.labels)


class Runner:
    """One model with its optimizer, ready to be timed again and again."""

    def __init__(self, what, mode):
        torch.manual_seed(1)
        self.model = {"pretrain": Pretrain, "serial": Serial, "side": Side}[what]()
        self.run = torch.compile(self.model) if mode == "compiled" else self.model
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=1e-3, fused=True)
        self.measure(0.1)  # compiles

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        self.run().backward()
        self.optimizer.step()

    def measure(self, seconds):
        threads = 1 if isinstance(self.model, Side) else THREADS
        torch.set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        done = 0
        start = clock()
        while clock() - start < seconds:
            self.step()
            done += self.model.rows
        return done / (clock() - start)


def main():
    torch.set_flush_denormal(True)
    runners = {}
    print(json.dumps({"peer": f"PyTorch {torch.__version__}", "modes": ["eager", "compiled"]}), flush=True)
    for line in sys.stdin:
        what, mode, seconds = line.split()
        try:
            if (what, mode) not in runners:
                runners[what, mode] = Runner(what, mode)
            answer = {"per_second": runners[what, mode].measure(float(seconds))}
        except Exception as error:  # the compiler's come in many kinds; without one there is no compiled mode
            answer = {"error": (str(error).strip() or type(error).__name__).split("\n")[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
