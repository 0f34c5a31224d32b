#!/usr/bin/env python3
"""Makes a backbone, and a patch, for peterd of the variables that PeterRec's authors' TensorFlow code saves.

    tools/convert_tensorflow.py PRETRAINED --out B.safetensors [--items FILE]
    tools/convert_tensorflow.py PRETRAINED --out B.safetensors [--items FILE] --finetuned FINETUNED \\
        --patch-out P.safetensors --task NAME --insertion serial|parallel [--inner-residual | --no-inner-residual]

PRETRAINED and FINETUNED are checkpoints, where TensorFlow is installed, or .npz files of variable name -> array:

    reader = tf.train.load_checkpoint(PREFIX)
    np.savez("variables.npz", **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})

What becomes of the variables (the optimizer's own are passed over, any other is refused by name):

    allitem_embeddings                                       item_embedding.weight, rows moved: see --items
    nextitnet_residual_blockdecoder_layer_{i}_{dilation}/
      dilated_conv{1,2}/weight [1, k, in, out], bias         blocks.{i}.conv{1,2}.weight [out, in, k], bias
      layer_norm{1,2}/gamma, beta                            blocks.{i}.norm{1,2}.weight, bias; norms.{i}.2 of the patch
                                                             where FINETUNED's differ
      mp_{1,2}/mp_conv1_{down,up}_{j}/weight, bias           patches.{i}.{1,2}.{down,up}.weight, bias; an mp without
                                                             number is 2; cardinality makes one wider bottleneck
    softmax_w, softmax_b                                     output.weight, output.bias
    logits/weight, bias                                      left out: their input is relu(state), ours the state
    target-item/allitem_embeddings_target                    head.weight; head.bias is 0

The inner residual. The authors' adapter returns z + up(gelu(down(z))). That is our serial form; in the parallel form
it makes the convolution conv(x) + x + up(gelu(down(x))), where ours, and the paper's, has no second x; and a port of it
drops z in the serial form, where ours has it. So a parallel patch needs --inner-residual or --no-inner-residual to be
said, a serial one has it unless --no-inner-residual. A difference of +z or -z is made up for in one of two exact ways:

    --fold adapter  2 d units more in the bottleneck: gelu(z) - gelu(-z) = z, since gelu(z) = z Phi(z) and
                    Phi(z) + Phi(-z) = 1, of the tanh form too. The backbone stays what it was; all patches share it.
    --fold trunk    parallel only: conv(x) + x is a convolution, the identity added to the tap at the position itself.
                    The bottleneck stays small; the backbone written is another one, for this patch alone.

Exit codes: 0, 64 usage, 65 what is in the files does not fit, 66 no such file."""
import argparse
import re
import sys

from model_files import Refused, as_floats, expect, read_lines, read_npz, write_backbone, write_patch

import numpy as np  # after model_files, which says what is missing

BLOCK = re.compile(r"nextitnet_residual_blockdecoder_layer_(\d+)_(\d+)/(.+)")
LAYER = re.compile(r"(dilated_conv|layer_norm)([12])/(weight|bias|gamma|beta)")
ADAPTER = re.compile(r"mp(?:_([12]))?/mp_conv1_(down|up)_(\d+)/(weight|bias)")
OPTIMIZER = re.compile(r"(.*/)?(beta[12]_power(_\d+)?|global_step|(Adam|Momentum|RMSProp|Adagrad|Adadelta)(_\d+)?)")
REFUSED = {
    "dec_pos/": "positional embeddings are no part of this architecture",
    "nextitnet_residual_block_one": "blocks of one dilated convolution between two of size 1 are another architecture",
    "gatedCNN": "gated blocks are another architecture",
}
OURS = {"gamma": "weight", "beta": "bias", "dilated_conv": "conv", "layer_norm": "norm"}


def read_variables(path):
    if path.endswith(".npz"):
        variables = read_npz(path)
    else:
        try:
            import tensorflow as tf
        except ImportError as error:
            raise Refused(f"{path}: TensorFlow is not installed; make an .npz where it is (--help)") from error
        reader = tf.train.load_checkpoint(path)
        variables = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return {name.removesuffix(":0"): value for name, value in variables.items()}


class Model:
    """A checkpoint taken apart: the trunk under our names, the adapters, and what stands before and behind."""

    def __init__(self, path, variables):
        self.path = path
        self.trunk = {}
        self.adapters = {}  # (block, 1 or 2) -> (down or up, j, weight or bias) -> array
        self.dilations = {}
        self.other = {}
        for name, value in variables.items():
            if not OPTIMIZER.fullmatch(name):
                self.place(name, as_floats(name, value))
        if sorted(self.dilations) != list(range(len(self.dilations))) or not self.dilations:
            raise Refused(f"{path}: blocks are missing: there are {sorted(self.dilations)}")

    def place(self, name, value):
        for start, why in REFUSED.items():
            if name.startswith(start) or f"/{start}" in name:
                raise Refused(f"{self.path}: {name}: {why}")
        block = BLOCK.fullmatch(name)
        layer = LAYER.fullmatch(block[3]) if block else None
        adapter = ADAPTER.fullmatch(block[3]) if block else None
        if block and self.dilations.setdefault(int(block[1]), int(block[2])) != int(block[2]):
            raise Refused(f"{self.path}: {name}: block {block[1]} has two dilations")
        if layer:
            kind, number, what = layer.groups()
            if kind == "dilated_conv" and what == "weight":
                value = self.kernel(name, value)
            self.trunk[f"blocks.{block[1]}.{OURS[kind]}{number}.{OURS.get(what, what)}"] = value
        elif adapter:
            number, side, j, what = adapter.groups()
            if what == "weight":
                value = self.kernel(name, value)[:, :, 0]  # [out, in]
            self.adapters.setdefault((int(block[1]), int(number or 2)), {})[side, int(j), what] = value
        elif name in ("allitem_embeddings", "softmax_w", "softmax_b", "logits/weight", "logits/bias",
                      "target-item/allitem_embeddings_target"):
            self.other[name] = value
        else:
            raise Refused(f"{self.path}: {name}: not a variable of the authors' NextItNet or PeterRec")

    def kernel(self, name, value):
        """[1, taps, in, out] to PyTorch's [out, in, taps]; both apply the last tap to the newest position."""
        if value.ndim != 4 or value.shape[0] != 1:
            raise Refused(f"{self.path}: {name}: has the shape {list(value.shape)}, expected [1, taps, in, out]")
        return np.ascontiguousarray(value[0].transpose(2, 1, 0))


def make_rows(model, args):
    """Ours of a table with the authors' rows, and the ids of its items."""
    if "allitem_embeddings" not in model.other:
        raise Refused(f"{model.path}: allitem_embeddings: is missing")
    rows = len(model.other["allitem_embeddings"])
    special = [args.pad_row, args.cls_row, args.unk_row]
    if max(special) >= rows or min(special) < 0:
        raise Refused(f"{model.path}: allitem_embeddings: has {rows} rows, none {max(special)}")
    ids = read_lines(args.items) if args.items else [str(row) for row in range(rows)]
    if len(ids) != rows:
        raise Refused(f"{args.items}: has {len(ids)} lines, allitem_embeddings {rows} rows")
    items = [row for row in range(rows) if row not in special]
    return (lambda table: table[special + items]), [ids[row] for row in items]


def backbone_tensors(model, rows):
    tensors = dict(model.trunk)
    tensors["item_embedding.weight"] = rows(model.other["allitem_embeddings"])
    if "logits/weight" in model.other:
        print("convert_tensorflow: logits: left out, it reads relu(state): the backbone has no next-item scores",
              file=sys.stderr)
    elif "softmax_w" in model.other:
        weight = model.other["softmax_w"]
        bias = model.other.get("softmax_b", np.zeros(len(weight), np.float32))
        expect(model.other, "softmax_w", *model.other["allitem_embeddings"].shape)
        tensors["output.weight"], tensors["output.bias"] = rows(weight), rows(bias)
    return tensors


def check_same_trunk(base, tuned):
    """A patch goes with a frozen trunk: everything but the second norms must be as it was."""
    if base.dilations != tuned.dilations:
        raise Refused(f"{tuned.path}: has the dilations {list(tuned.dilations.values())}, {base.path} others")
    pairs = [(name, value, tuned.trunk.get(name)) for name, value in base.trunk.items() if ".norm2." not in name]
    pairs.append(("allitem_embeddings", base.other["allitem_embeddings"], tuned.other.get("allitem_embeddings")))
    for name, before, after in pairs:
        if after is None or not np.array_equal(before, after):
            raise Refused(f"{tuned.path}: {name}: is not that of {base.path}: the trunk was trained too, which no "
                          "patch holds; convert this checkpoint itself as PRETRAINED")


def join_adapter(path, owner, parts, channels):
    """Cardinality C, a sum of C adapters, is one with all their units and the sum of their last biases."""
    count = 1 + max(j for _, j, _ in parts)
    try:
        down = np.concatenate([parts["down", j, "weight"] for j in range(count)])
        bias = np.concatenate([parts["down", j, "bias"] for j in range(count)])
        up = np.concatenate([parts["up", j, "weight"] for j in range(count)], axis=1)
        last = np.sum([parts["up", j, "bias"] for j in range(count)], axis=0, dtype=np.float32)
    except KeyError as error:
        raise Refused(f"{path}: block {owner[0]}, adapter {owner[1]}: {error} is missing") from error
    if down.shape != (len(bias), channels) or up.shape != (channels, len(bias)) or last.shape != (channels,):
        raise Refused(f"{path}: block {owner[0]}, adapter {owner[1]}: shapes do not fit {channels} channels")
    return down, bias, up, last


def with_identity(adapter, sign, channels):
    """The adapter's output and sign x its input: two units a channel more, gelu(z) - gelu(-z) = z."""
    down, bias, up, last = adapter
    one = np.eye(channels, dtype=np.float32)
    return (np.concatenate([down, one, -one]), np.concatenate([bias, np.zeros(2 * channels, np.float32)]),
            np.concatenate([up, sign * one, -sign * one], axis=1), last)


def add_identity(trunk, owner, dilation, causal):
    """conv(x) + x as a convolution. The position itself is the last tap of the causal form; of the other the one that
    half of the zeros, rounded down, put there, where there is one."""
    block, number = owner
    name = f"blocks.{block}.conv{number}.weight"
    taps, step = trunk[name].shape[2], number * dilation
    tap, rest = divmod((taps - 1) * step if causal else (taps - 1) * step // 2, step)
    if rest:
        raise Refused(f"{name}: none of its {taps} taps is at the position itself with dilation {step}: --fold trunk "
                      "cannot be done, --fold adapter can")
    trunk[name] = trunk[name].copy()
    trunk[name][:, :, tap] += np.eye(len(trunk[name]), dtype=np.float32)


def residual_sign(args):
    """What our form of an adapter lacks of the authors': +1, -1 or 0 times its input."""
    if args.insertion == "parallel":
        if args.inner_residual is None:
            raise Refused("--insertion parallel: say whether the adapter returns its input too (the authors' released "
                          "code does): --inner-residual or --no-inner-residual")
        return 1 if args.inner_residual else 0
    return -1 if args.inner_residual is False else 0


def patch_tensors(base, tuned, tensors, args):
    """The patch's tensors and its bottleneck. --fold trunk changes the backbone's `tensors`."""
    channels = tensors["item_embedding.weight"].shape[1]
    sign = residual_sign(args)
    if args.fold == "trunk" and sign < 0:
        raise Refused("--fold trunk: up(gelu(down(conv(x)))) without conv(x) is no convolution plus an adapter; --fold "
                      "adapter can")
    if not tuned.adapters:
        raise Refused(f"{tuned.path}: has no adapters (mp_1, mp_2, mp)")
    out = {}
    widths = set()
    for owner, parts in sorted(tuned.adapters.items()):
        adapter = join_adapter(tuned.path, owner, parts, channels)
        if sign and args.fold == "adapter":
            adapter = with_identity(adapter, sign, channels)
        elif sign:
            add_identity(tensors, owner, base.dilations[owner[0]], not args.non_causal)
        for what, value in zip(("down.weight", "down.bias", "up.weight", "up.bias"), adapter):
            out["patches.{}.{}.".format(*owner) + what] = value
        widths.add(len(adapter[1]))
    blocks = sorted({block for block, _ in tuned.adapters})
    numbers = {number for _, number in tuned.adapters}
    if len(widths) != 1 or len(tuned.adapters) != len(blocks) * len(numbers):
        raise Refused(f"{tuned.path}: adapters of different widths, or not the same in every block")
    norms = [name for name in base.trunk if ".norm2." in name]
    if any(not np.array_equal(base.trunk[name], tuned.trunk[name]) for name in norms):
        for name in norms:
            _, block, _, what = name.split(".")
            if int(block) in blocks:
                out[f"norms.{block}.2.{what}"] = tuned.trunk[name]
            elif not np.array_equal(base.trunk[name], tuned.trunk[name]):
                raise Refused(f"{tuned.path}: {name}: trained in a block without adapters")
    return out, widths.pop(), blocks


def add_head(tuned, out, args, channels):
    """The target table without its row 0, <UNK>, unless there is a label for that too. Returns the labels."""
    name = "target-item/allitem_embeddings_target"
    if name not in tuned.other:
        raise Refused(f"{tuned.path}: {name}: is missing")
    table = tuned.other[name]
    expect(tuned.other, name, len(table), channels)
    labels = read_lines(args.labels) if args.labels else [str(row) for row in range(1, len(table))]
    if len(labels) not in (len(table), len(table) - 1):
        raise Refused(f"{args.labels}: has {len(labels)} lines, {name} {len(table)} rows, the first of them <UNK>")
    out["head.weight"] = table[len(table) - len(labels) :]
    out["head.bias"] = np.zeros(len(labels), np.float32)
    return labels


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pretrained", metavar="PRETRAINED", help="a checkpoint's prefix, or .npz of its variables")
    parser.add_argument("--out", required=True, metavar="FILE", help="the backbone")
    parser.add_argument("--items", metavar="FILE", help="one item id a line, line by row of allitem_embeddings; those "
                        "of the special rows count nothing [the row's number is its item's id]")
    parser.add_argument("--pad-row", type=int, default=0, metavar="R", help="the padding's row [0]")
    parser.add_argument("--cls-row", type=int, default=0, metavar="R", help="the row of [CLS], our task token [0]")
    parser.add_argument("--unk-row", type=int, default=0, metavar="R", help="the row of <UNK> [0]")
    parser.add_argument("--non-causal", action="store_true", help="made by the code with causal=False")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="events read, non-causal only [512]")
    parser.add_argument("--finetuned", metavar="FINETUNED", help="a checkpoint with adapters")
    parser.add_argument("--patch-out", metavar="FILE", help="the patch")
    parser.add_argument("--task", metavar="NAME", help="what the patch is for")
    parser.add_argument("--type", choices=("ranking", "classification"), default="ranking",
                        help="of the task [ranking]")
    parser.add_argument("--labels", metavar="FILE", help="one target a line, line by row of the target table, its "
                        "row 0 (<UNK>) left out or not [the row's number]")
    parser.add_argument("--insertion", choices=("serial", "parallel"), help="peter_2mp_serial, or peter_2mp_parallel")
    parser.add_argument("--inner-residual", action=argparse.BooleanOptionalAction, default=None,
                        help="the adapter returns its input too, as the authors' get_mp [serial: it does]")
    parser.add_argument("--fold", choices=("adapter", "trunk"), default="adapter",
                        help="where a difference in that goes [adapter]")
    args = parser.parse_args()
    wanted = [args.patch_out, args.task, args.insertion]
    if (args.finetuned and None in wanted) or (not args.finetuned and any(wanted)):
        parser.error("--finetuned, --patch-out, --task and --insertion go together")
    return args


def main():
    args = parse_arguments()
    base = Model(args.pretrained, read_variables(args.pretrained))
    rows, items = make_rows(base, args)
    tensors = backbone_tensors(base, rows)
    patch = None
    if args.finetuned:
        tuned = Model(args.finetuned, read_variables(args.finetuned))
        check_same_trunk(base, tuned)
        patch, bottleneck, blocks = patch_tensors(base, tuned, tensors, args)
        labels = add_head(tuned, patch, args, tensors["item_embedding.weight"].shape[1])
    dilations = [base.dilations[i] for i in range(len(base.dilations))]
    digest = write_backbone(args.out, tensors, items, dilations, not args.non_causal, args.window)
    print(f"{digest}  {args.out}")
    if patch is not None:
        digest = write_patch(args.patch_out, patch, args.task, args.type, args.insertion, bottleneck, blocks, labels,
                             digest)
        print(f"{digest}  {args.patch_out}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"convert_tensorflow: {error}", file=sys.stderr)
        sys.exit(66)
    except (Refused, ValueError) as error:
        print(f"convert_tensorflow: {error}", file=sys.stderr)
        sys.exit(65)
    except SystemExit as error:
        sys.exit(64 if error.code == 2 else error.code)
