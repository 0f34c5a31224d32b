#!/usr/bin/env python3
"""An independent PeterRec in PyTorch, float64, written from the definitions and sharing nothing with model/: trunk,
task token, serial, parallel and side patches, heads, losses, and PyTorch's own gradients and optimizers.

As a program it writes training.safetensors, with which tests/unit/test_golden_training.c compares every step:

    tests/golden/peterrec.py tests/golden/training.safetensors

Only writing needs PyTorch and safetensors; the tests read the file.
"""
import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

TCL = 1
FIRST_ITEM = 3


class Block(nn.Module):
    """x + relu(norm2(conv2(relu(norm1(conv1(x)))))) over [positions, d]."""

    def __init__(self, channels, taps, dilation, causal, eps):
        super().__init__()
        self.causal = causal
        self.conv1 = nn.Conv1d(channels, channels, taps, dilation=dilation)
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.conv2 = nn.Conv1d(channels, channels, taps, dilation=2 * dilation)
        self.norm2 = nn.LayerNorm(channels, eps=eps)

    def convolve(self, conv, x):
        total = (conv.kernel_size[0] - 1) * conv.dilation[0]
        left = total if self.causal else total // 2
        if len(x) == 0:  # a user without events
            return x
        return conv(F.pad(x.T, (left, total - left))).T

    def forward(self, x, patched=lambda number, x, c: c, norm2=None):
        y = F.relu(self.norm1(patched(1, x, self.convolve(self.conv1, x))))
        c = patched(2, y, self.convolve(self.conv2, y))
        return x + F.relu((norm2 or self.norm2)(c))


class Trunk(nn.Module):
    """Its state_dict has the names of a backbone's file."""

    def __init__(self, channels, taps, dilations, items, causal, eps=1e-8, output=True):
        super().__init__()
        self.causal = causal
        self.item_embedding = nn.Embedding(items, channels)
        self.blocks = nn.ModuleList(Block(channels, taps, d, causal, eps) for d in dilations)
        if output:
            self.output = nn.Linear(channels, items)

    def levels(self, indices, patch=None):
        """The states after every block, the embeddings first: [positions, d] each."""
        x = self.item_embedding(torch.as_tensor(indices, dtype=torch.long))
        states = [x]
        for i, block in enumerate(self.blocks):
            if patch is None:
                x = block(x)
            else:
                x = block(x, lambda number, x, c, i=i: patch.convolution(i, number, x, c), patch.norm2(i))
            states.append(x)
        return states

    def user(self, items, cut=None, patch=None):
        """At the task token after `cut` events, and at all events: lists of [d] and [events, d], one a level."""
        items = list(items)
        if self.causal:
            before = items if cut is None else items[:cut]
            token = [x[-1] for x in self.levels(before + [TCL], patch)]
            return token, self.levels(items, patch)
        states = self.levels([TCL] + items + [TCL], patch)
        return [x[0] + x[-1] for x in states], [x[1:-1] for x in states]


class Adapter(nn.Module):
    def __init__(self, inputs, bottleneck, outputs):
        super().__init__()
        self.down = nn.Linear(inputs, bottleneck)
        self.up = nn.Linear(bottleneck, outputs)

    def forward(self, z):
        return self.up(F.gelu(self.down(z), approximate="tanh"))


class Patch(nn.Module):
    """Its state_dict has the names of a patch's file. insertion: none (a head alone), serial, parallel or side."""

    def __init__(self, trunk, insertion, bottleneck, classes, blocks=None, numbers=(1, 2), norms=False, mean_window=4):
        super().__init__()
        channels = trunk.item_embedding.embedding_dim
        self.insertion = insertion
        self.mean_window = mean_window
        self.head = nn.Linear(channels, classes)
        self.patches = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        self.side = nn.ModuleDict()
        for i, block in enumerate(trunk.blocks):
            if insertion not in ("serial", "parallel") or (blocks is not None and i not in blocks):
                continue
            self.patches[str(i)] = nn.ModuleDict({str(n): Adapter(channels, bottleneck, channels) for n in numbers})
            if norms:
                self.norms[str(i)] = nn.ModuleDict({"2": nn.LayerNorm(channels, eps=block.norm2.eps)})
        for level in range(len(trunk.blocks) + 1):
            if insertion == "side" and (blocks is None or level in blocks):
                self.side[str(level)] = Adapter(2 * channels, bottleneck, channels)

    def convolution(self, block, number, x, c):
        if str(block) not in self.patches or str(number) not in self.patches[str(block)]:
            return c
        adapter = self.patches[str(block)][str(number)]
        return c + adapter(c if self.insertion == "serial" else x)

    def norm2(self, block):
        return self.norms[str(block)]["2"] if str(block) in self.norms else None

    def beside(self, token, events):
        """The side network on frozen states: z <- z + up(gelu(down([h + z, m])))."""
        z = torch.zeros_like(token[0])
        for level, (h, states) in enumerate(zip(token, events)):
            if str(level) in self.side:
                newest = states[-self.mean_window :]
                mean = newest.mean(0) if len(newest) else torch.zeros_like(h)
                z = z + self.side[str(level)](torch.cat([h + z, mean]))
        return token[-1] + z


def softmax_rows(logits, targets, rows):
    return rows * F.cross_entropy(logits, targets, reduction="none")


def sampled_rows(head, h, targets, rows, drawn, expected):
    """expected: of every class, how often it is in the draw; so e^score of the draws sums up to that of the others, on
    average. A drawn class that is the row's target is left out."""
    scores = h @ head.weight.T + head.bias
    others = (scores - torch.log(expected))[:, drawn]
    others = others.masked_fill(drawn[None, :] == targets[:, None], -math.inf)
    own = scores.gather(1, targets[:, None])
    return rows * (torch.logsumexp(torch.cat([own, others], 1), 1) - own[:, 0])


def pair_rows(loss, scores, targets, negatives, rows):
    good = scores.gather(1, targets[:, None])[:, 0]
    bad = scores.gather(1, negatives[:, None])[:, 0]
    if loss == "bpr":
        return -rows * F.logsigmoid(good - bad)
    return -rows * (F.logsigmoid(good) + F.logsigmoid(-bad))


class Random:
    """base/random.c, as far as draws for the sampled softmax need it."""

    MASK = 2**64 - 1

    @staticmethod
    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & Random.MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & Random.MASK
        return z ^ (z >> 31)

    def __init__(self, seed, number):
        self.state = self.mix(self.mix(seed + 0x9E3779B97F4A7C15 & self.MASK) + self.mix(number + 1) & self.MASK)

    def next(self):
        self.state = self.state + 0x9E3779B97F4A7C15 & self.MASK
        return self.mix(self.state)

    def below(self, n):
        while True:
            product = (self.next() >> 32) * n
            if product & 0xFFFFFFFF >= 2**32 % n:
                return product >> 32

    def uniform(self):
        return (self.next() >> 40) * 2.0**-24


def draw_classes(sampler, random, first, classes, count):
    """`count` classes with replacement, and of every class the expected number of its draws."""
    reach = classes - first
    if sampler == "uniform":
        chances = [1 / reach] * reach
        drawn = [random.below(reach) for _ in range(count)]
    else:
        chances = [math.log((i + 2) / (i + 1)) / math.log(reach + 1) for i in range(reach)]
        drawn = [min(int(math.exp(random.uniform() * math.log(reach + 1))) - 1, reach - 1) for _ in range(count)]
    expected = [chances[0] * count] * first + [chance * count for chance in chances]
    return torch.tensor(drawn) + first, torch.tensor(expected, dtype=torch.float64)


# ---- the golden file ----

ITEMS = 20
CHANNELS = 8
TRUNKS = {"causal": (3, (1, 2, 1), True), "noncausal": (4, (1, 3), False)}  # taps, dilations
LENGTHS = (5, 0, 12, 1, 9)
CUTS = (3, 0, 12, 1, 4)  # of pre-training; a task's token follows all events
NOTHING = 2**32 - 1  # a row without target
STEPS = 10
DRAWN = 6

# The same table is in tests/unit/test_golden_training.c. rate, decay, clip and pull are the optimizer's.
ADAM = {"rate": 0.01}
CASES = {
    "causal_pretrain": {"loss": "softmax", "optimizer": ADAM},
    "causal_uniform": {"loss": "uniform", "optimizer": ADAM},
    "causal_everything": {"insertion": "none", "trunk": True, "loss": "softmax", "classes": 5, "optimizer": ADAM},
    "causal_head": {"insertion": "none", "loss": "log_uniform", "classes": 9, "optimizer": {"rate": 0.02, "clip": 0.1}},
    "causal_serial": {"insertion": "serial", "norms": True, "loss": "softmax", "classes": 5, "optimizer": ADAM},
    "causal_serial_one": {"insertion": "serial", "numbers": (2,), "blocks": (1,), "loss": "bpr", "classes": 9,
                          "optimizer": {"rate": 0.01, "decay": 0.1}},
    "causal_parallel": {"insertion": "parallel", "norms": True, "loss": "bce", "classes": 9, "optimizer": ADAM},
    "causal_parallel_all": {"insertion": "parallel", "numbers": (1,), "trunk": True, "loss": "uniform", "classes": 9,
                            "optimizer": {"rate": 0.01, "decay": 0.05}},
    "causal_side": {"insertion": "side", "loss": "softmax", "classes": 5, "optimizer": {"rate": 0.01, "pull": 0.1}},
    "noncausal_gaps": {"loss": "softmax", "optimizer": {"rate": 0.01, "decay": 0.1, "clip": 0.5}},
    "noncausal_log_uniform": {"loss": "log_uniform", "optimizer": ADAM},
    "noncausal_serial": {"insertion": "serial", "numbers": (1,), "loss": "squared", "classes": 1, "optimizer": ADAM},
    "noncausal_parallel": {"insertion": "parallel", "numbers": (2,), "blocks": (0,), "loss": "softmax", "classes": 5,
                           "optimizer": ADAM},
    "noncausal_side": {"insertion": "side", "blocks": (0, 2), "loss": "bpr", "classes": 9, "optimizer": ADAM},
}


def randomise(module, generator):
    """Every tensor away from the values at which a mistake would not show: no zero `up`, no norm of ones."""
    for name, p in module.named_parameters():
        normal = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        if "norm" in name:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.2 * normal
        elif p.dim() == 1:
            value = 0.2 * normal
        else:
            value = normal if "embedding" in name else normal / math.sqrt(p[0].numel())
        p.data = value.float().double()  # what the file holds is where both start


class Case:
    def __init__(self, name, spec, trunk, generator):
        self.name = name
        self.trunk = trunk
        self.loss = spec["loss"]
        self.patch = None
        if "insertion" in spec:
            options = {key: spec[key] for key in ("blocks", "numbers", "norms") if key in spec}
            self.patch = Patch(trunk, spec["insertion"], 3, spec["classes"], **options).double()
            randomise(self.patch, generator)
        self.side = spec.get("insertion") == "side"
        self.trained = [] if self.patch is None else list(self.patch.named_parameters())
        if self.patch is None or spec.get("trunk"):
            self.trained += list(trunk.named_parameters())
        self.options = spec["optimizer"]
        self.random = Random(7, 0)
        self.draw_inputs(generator, spec.get("classes", ITEMS))

    def draw_inputs(self, generator, classes):
        def whole(low, high, n):
            return torch.randint(low, high, (n,), generator=generator)

        self.sequences = [whole(FIRST_ITEM - 1, ITEMS, n).tolist() for n in LENGTHS]
        users, events = len(LENGTHS), sum(LENGTHS)
        first = FIRST_ITEM if self.patch is None else 0
        self.inputs = {
            "items": torch.tensor(sum(self.sequences, [])),
            "targets": whole(first, classes, users),
            "weights": (torch.rand(users, generator=generator) + 0.5).double(),
        }
        if self.loss in ("bpr", "bce"):
            shift = whole(1, classes, users)
            self.inputs["negatives"] = (self.inputs["targets"] + shift) % classes
        if self.loss == "squared":
            self.inputs["values"] = torch.randn(users, generator=generator).double()
        if self.patch is None:
            self.inputs["event_targets"] = whole(first, classes, events)
            if self.loss == "softmax":
                self.inputs["event_targets"][whole(0, 2, events) == 0] = NOTHING

    def forward(self):
        """The states that the head reads, one row a user and one an event, and all levels of both."""
        cuts = CUTS if self.patch is None and self.trunk.causal else [None] * len(LENGTHS)
        inner = None if self.side else self.patch
        users = [self.trunk.user(items, cut, inner) for items, cut in zip(self.sequences, cuts)]
        levels = range(len(self.trunk.blocks) + 1)
        token_levels = [torch.stack([token[l] for token, _ in users]) for l in levels]
        event_levels = [torch.cat([events[l] for _, events in users]) for l in levels]
        task = token_levels[-1]
        if self.side:
            task = torch.stack([self.patch.beside(token, events) for token, events in users])
        return task, event_levels[-1], token_levels, event_levels

    def sum_rows(self, head, h, targets, rows):
        """The sum of weight x loss over the rows that have a target."""
        there = targets != NOTHING
        h, targets, rows = h[there], targets[there], rows[there]
        if self.loss == "softmax":
            return softmax_rows(head(h), targets, rows).sum()
        if self.loss in ("uniform", "log_uniform"):
            first = FIRST_ITEM if self.patch is None else 0
            drawn, expected = draw_classes(self.loss, self.random, first, head.out_features, DRAWN)
            return sampled_rows(head, h, targets, rows, drawn, expected).sum()
        if self.loss == "squared":
            return (rows * (head(h)[:, 0] - self.inputs["values"]) ** 2 / 2).sum()
        return pair_rows(self.loss, head(h), targets, self.inputs["negatives"], rows).sum()

    def total(self, task, every):
        """A task: the mean over users. Pre-training: over events with a target, and 0.05 of that over the tokens."""
        users = self.sum_rows(self.patch.head if self.patch else self.trunk.output, task, self.inputs["targets"],
                              self.inputs["weights"]) / len(LENGTHS)
        if self.patch is not None:
            return users
        targets = self.inputs["event_targets"]
        counted = (targets != NOTHING).sum()
        return self.sum_rows(self.trunk.output, every, targets, torch.ones(len(targets))) / counted + 0.05 * users

    def optimizer(self):
        decay = self.options.get("decay", 0.0)
        groups = [{"params": [p for _, p in self.trained if p.dim() > 1], "weight_decay": decay},
                  {"params": [p for _, p in self.trained if p.dim() == 1], "weight_decay": 0.0}]
        return (torch.optim.AdamW if decay else torch.optim.Adam)(groups, lr=self.options["rate"], eps=1e-8)

    def step(self, optimizer, anchor):
        optimizer.zero_grad()
        loss = self.total(*self.forward()[:2])
        pull = sum(((p - a) ** 2).sum() for (_, p), a in zip(self.trained, anchor)) * self.options.get("pull", 0.0) / 2
        (loss + pull).backward()
        for _, p in self.trained:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        if "clip" in self.options:
            nn.utils.clip_grad_norm_([p for _, p in self.trained], self.options["clip"])
        optimizer.step()
        return loss.detach()

    def record(self, out):
        for key, value in self.inputs.items():
            out[f"{self.name}/{key}"] = value
        for name, p in self.patch.named_parameters() if self.patch else ():
            out[f"{self.name}/weights/{name}"] = p.detach().clone()
        task, every, token_levels, event_levels = self.forward()
        out[f"{self.name}/task"] = task.detach()
        if self.loss == "softmax":  # once a kind of forward is enough
            out[f"{self.name}/token_levels"] = torch.stack(token_levels).detach()
            out[f"{self.name}/event_levels"] = torch.stack(event_levels).detach()
        loss = self.total(task, every)
        gradients = torch.autograd.grad(loss, [p for _, p in self.trained], allow_unused=True)
        for (name, p), gradient in zip(self.trained, gradients):
            out[f"{self.name}/gradients/{name}"] = torch.zeros_like(p) if gradient is None else gradient
        self.random = Random(7, 0)
        optimizer = self.optimizer()
        anchor = [p.detach().clone() for _, p in self.trained]
        out[f"{self.name}/losses"] = torch.stack([self.step(optimizer, anchor) for _ in range(STEPS)])
        for name, p in self.trained:
            out[f"{self.name}/after/{name}"] = p.detach().clone()


def golden(path):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(1)
    out = {}
    trunks = {}
    for kind, (taps, dilations, causal) in TRUNKS.items():
        trunks[kind] = Trunk(CHANNELS, taps, dilations, ITEMS, causal).double()
        randomise(trunks[kind], generator)
        out |= {f"{kind}/weights/{name}": p.detach().clone() for name, p in trunks[kind].named_parameters()}
    for name, spec in CASES.items():
        trunk = trunks[name.split("_")[0]]
        trunk.load_state_dict({key: out[f"{name.split('_')[0]}/weights/{key}"] for key in trunk.state_dict()})
        trunk.zero_grad()
        Case(name, spec, trunk, generator).record(out)
    out = {name: (t.float() if t.is_floating_point() else t).contiguous() for name, t in out.items()}
    save_file(out, path, {"made_by": "tests/golden/peterrec.py"})


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    golden(sys.argv[1])
