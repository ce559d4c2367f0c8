"""The authors' procedure as it stands: both models in memory, one vector of relative changes, topk, a full checkpoint.

python benchmarks/restoring_in_memory.py --base base/ --tuned checkpoint/ --percent 20 [--output restored/]
"""

import argparse

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    """Read the command line, and restore in memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--tuned", required=True)
    parser.add_argument("--percent", type=float, required=True)
    parser.add_argument("--output", help="write the restored model here")
    arguments = parser.parse_args()
    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32).state_dict()
    model = AutoModelForCausalLM.from_pretrained(arguments.tuned, dtype=torch.float32)
    members = [(n, p.data) for n, p in sorted(model.named_parameters()) if ".layers." in n and "norm" not in n]
    r = torch.cat([((p - base[n]).abs() / (base[n].abs() + 1e-8)).flatten() for n, p in members])
    chosen = torch.topk(r, int(len(r) * arguments.percent / 100), sorted=False).indices
    mask = torch.zeros(len(r), dtype=torch.bool)
    mask[chosen] = True
    start = 0
    for name, parameter in members:
        part = mask[start : start + parameter.numel()].view_as(parameter)
        parameter[part] = base[name][part]
        start += parameter.numel()
        print(name, int(part.sum()))
    if arguments.output:
        model.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
