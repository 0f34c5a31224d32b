"""`peterctl embed`, whole windows and --incremental, against NumPy over shapes; needs no daemon."""
import csv
import os
import random

import nextitnet
import numpy as np
from daemon import run
from registry import scenario

SHAPES = ((8, 2, (1,)), (8, 5, (3, 7)), (16, 3, (1, 2, 4)), (33, 4, (5,)), (64, 3, (1, 4, 1, 4, 1, 4, 1, 4)),
          (100, 2, (9, 1)), (128, 5, (1, 3)), (256, 3, (1, 2, 1, 2)))


@scenario(timeout_s=90)
def forward(site):
    worst = 0.0
    for n, (channels, kernel, dilations) in enumerate(SHAPES):
        rng = random.Random(site.seed * 100 + n)
        items = [f"i{k}" for k in range(200)]
        backbone = nextitnet.Backbone(os.path.join(site.folder, f"{n}.safetensors"), items[:170], site.seed + n, channels,
                                      kernel, dilations)
        window = backbone.window
        lengths = [1, 2, kernel, max(1, window - 1), window, window + 1, window + 50] + [rng.randint(1, 40) for _ in range(60)]
        sequences = [[rng.choice(items) for _ in range(length)] for length in lengths]
        path, out = os.path.join(site.folder, f"{n}.csv"), os.path.join(site.folder, f"{n}.npy")
        with open(path, "w", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(["user_id", "item_id", "timestamp"])
            writer.writerows((f"u{u}", item, t) for u, sequence in enumerate(sequences) for t, item in enumerate(sequence))
        exact = backbone.embed([[backbone.index_of(i) for i in s] for s in sequences])
        for more in ([], ["--incremental"]):
            done = run([site.peterctl, "embed", "--backbone", backbone.path, "--events", path, "--out", out, *more])
            assert done.returncode == 0, f"embed {more}: {done.returncode} {done.stderr}"
            found = np.load(out)
            assert found.shape == exact.shape and found.dtype == np.float32, f"{found.shape} {found.dtype}"
            error = float((np.abs(found - exact).max(1) / np.abs(exact).max(1)).max())
            assert error < 1e-4, f"channels {channels}, kernel {kernel}, dilations {dilations} {more}: relative error {error}"
            worst = max(worst, error)
    site.note(f"{len(SHAPES)} shapes, worst relative error {worst:.1e}")
