#!/usr/bin/env python3
"""Makes a backbone for peterd of a PyTorch module of this architecture.

    tools/export_torch.py CHECKPOINT --items FILE --dilations 1,4,1,4 --out B.safetensors [--rename FROM=TO]...

CHECKPOINT is what torch.save wrote of a state_dict (bare, or under the key state_dict or model), or the same as .npz or
.safetensors, for which PyTorch is not needed. --items has one item id a line, in the order of the embedding's rows,
whose first three are padding, the task token and out of vocabulary. Names of the state_dict are made ours by --rename,
a regular expression and what to put in its place, tried in the order given; a name that becomes empty is left out:

    item_embedding.weight               [V, d]          nn.Embedding
    blocks.{i}.conv{1,2}.weight, .bias  [d, d, k], [d]  nn.Conv1d; dilation d_i, and 2 d_i the second
    blocks.{i}.norm{1,2}.weight, .bias  [d]             nn.LayerNorm(d, eps=1e-8)
    output.weight, .bias                [V, d], [V]     nn.Linear, optional: scores of the next item

for block(x) = x + relu(norm2(conv2(relu(norm1(conv1(x)))))), where a convolution sees zeros before the first event and
no padding token stands inside a sequence. From Python, with the module at hand:

    from model_files import write_backbone          # this folder on sys.path
    write_backbone("B.safetensors", module.state_dict(), items=["a", "b"], dilations=[1, 4, 1, 4])

Exit codes: 0, 64 usage, 65 what is in the files does not fit, 66 no such file."""
import argparse
import pickle
import re
import sys

from model_files import Refused, read_lines, read_npz, read_safetensors, write_backbone


def read_state(path):
    if path.endswith(".safetensors"):
        return read_safetensors(path)[1]
    if path.endswith(".npz"):
        return read_npz(path)
    try:
        import torch
    except ImportError as error:
        raise Refused(f"{path}: PyTorch is not installed; .npz and .safetensors are read without it") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise Refused(f"{path}: PyTorch does not load it: {str(error).splitlines()[0]}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(hasattr(value, "detach") for value in state.values()):
        raise Refused(f"{path}: holds no state_dict")
    return state


def rename(state, rules):
    out = {}
    for name, value in state.items():
        new = name.removeprefix("module.")  # DataParallel's
        for rule in rules:
            pattern, _, replacement = rule.partition("=")
            new = re.sub(pattern, replacement, new)
        if new in out:
            raise Refused(f"{new}: two tensors get this name")
        if new:
            out[new] = value
    return out


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a state_dict: PyTorch's, .npz or .safetensors")
    parser.add_argument("--items", required=True, metavar="FILE", help="one item id a line, in the order of the rows")
    parser.add_argument("--dilations", required=True, metavar="LIST", help="of the blocks, as 1,4,1,4")
    parser.add_argument("--out", required=True, metavar="FILE", help="the backbone")
    parser.add_argument("--rename", action="append", default=[], metavar="FROM=TO", help="regular expression and text")
    parser.add_argument("--non-causal", action="store_true", help="convolutions look to both sides")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="events read, non-causal only [512]")
    parser.add_argument("--eps", type=float, default=1e-8, metavar="E", help="of the layer norms [1e-8]")
    parser.add_argument("--next-item", choices=("last", "tcl"), default="last",
                        help="whose state the output layer reads: the newest event's, the task token's [last]")
    return parser.parse_args()


def main():
    args = parse_arguments()
    state = rename(read_state(args.checkpoint), args.rename)
    dilations = [int(d) for d in args.dilations.split(",")]
    digest = write_backbone(args.out, state, read_lines(args.items), dilations, not args.non_causal, args.window,
                            args.eps, args.next_item)
    print(f"{digest}  {args.out}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"export_torch: {error}", file=sys.stderr)
        sys.exit(66)
    except (Refused, ValueError, re.error) as error:
        print(f"export_torch: {error}", file=sys.stderr)
        sys.exit(65)
    except SystemExit as error:
        sys.exit(64 if error.code == 2 else error.code)
