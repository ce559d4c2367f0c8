"""Cost of every way to undo a part of an update, and agreement with mergekit to the last bit.

    python benchmarks/undoing.py --base base/ --delta delta/ --others delta-of-seed-2/ [--mergekit FOLDER]
    python benchmarks/undoing.py --parts jobs --base base/ --delta delta/ --mastery mastery.parquet

cost       processor seconds to read a model and prepare four shares, and of each restored model; peak memory; a
           process for each way
jobs       a job that asks six restored models (three ways, two shares each) beside six jobs of one, few questions each;
           their tables are compared byte for byte
agreement  values that differ from mergekit's (0.1.5) for the same weights, densities and draws, over the tensors of
           the region: those that only differ as base + (tuned - base) is rounded, those whose |change| is that at the
           cut and equal to others', and all else; FOLDER is what
           `pip install --no-deps --target FOLDER mergekit==0.1.5` made
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import machine, show, timed_process

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from knowshift.allowed_values import STRATEGY_TRAITS  # noqa: E402
from knowshift.restoration.in_memory import RestoredModels  # noqa: E402
from knowshift.restoration.strategies import undo  # noqa: E402
from knowshift.weights.deltas import Delta  # noqa: E402
from knowshift.weights.torch_bits import as_tensor, bits_of  # noqa: E402
from knowshift.weights.versions import Versions  # noqa: E402

PERCENTS = [10.0, 30.0, 60.0, 85.0]
REGION = "transformer"
WAYS = {"top": [20.0, 60.0], "interpolate": [30.0, 60.0], "drop_rescale": [30.0, 60.0]}  # of the part `jobs`


def measure(arguments: argparse.Namespace, strategy: str) -> None:
    """Print the seconds and the memory of one way."""
    others = arguments.others if STRATEGY_TRAITS[strategy].other_seeds else []
    started = time.process_time()
    models = RestoredModels(arguments.base, arguments.delta)
    models.undo(strategy, REGION, PERCENTS, 1, others=others)
    prepared = time.process_time()
    for percent in PERCENTS:
        models.make(percent, "float32", "cpu")
    made = (time.process_time() - prepared) / len(PERCENTS)
    print(prepared - started, made, getrusage(RUSAGE_SELF).ru_maxrss / 1024)


def cost(arguments: argparse.Namespace) -> None:
    """Part 1."""
    rows = []
    for strategy in STRATEGY_TRAITS:
        command = [sys.executable, *sys.argv, "--only", strategy]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        prepared, made, memory = map(float, done.stdout.split())
        rows.append(
            {"way": strategy, "prepare, processor s": prepared, "each model, processor s": made, "memory MB": memory}
        )
    show("undoing-cost", rows, f"{machine('torch', 'numpy')}, 1 thread; four shares; reading the model included")


def jobs(arguments: argparse.Namespace) -> None:
    """Part 2."""

    def ask(folder: str, ways: dict[str, list[float]]) -> tuple[float, float, float]:
        """Seconds, processor seconds and memory (MB) of one job."""
        strategies = [{"strategy": name, "percents": percents} for name, percents in ways.items()]
        asked = {"per_level": {"test": arguments.questions}, "max_new_tokens": 4, "strategies": strategies}
        command = [sys.executable, str(REPOSITORY / "scripts/evaluate_restored.py"), "--spec", json.dumps(asked)]
        command += ["--model", arguments.base, "--delta", arguments.delta, "--mastery", arguments.mastery]
        command += ["--prompt", str(REPOSITORY / "resources/prompt.yaml"), "--threads", "1", "--output", folder]
        before = getrusage(RUSAGE_CHILDREN)
        seconds, memory = timed_process([str(word) for word in command])
        after = getrusage(RUSAGE_CHILDREN)
        return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, memory

    with TemporaryDirectory() as root:
        single = [(name, percent) for name, percents in WAYS.items() for percent in percents]
        alone = [ask(f"{root}/alone{number}", {name: [percent]}) for number, (name, percent) in enumerate(single)]
        together = ask(f"{root}/together", WAYS)
        made = [path for number in range(len(single)) for path in Path(root, f"alone{number}").glob("*.parquet")]
        equal = all(path.read_bytes() == Path(root, "together", path.name).read_bytes() for path in made)
    own = tuple(sum(column) / len(alone) for column in zip(*alone, strict=True))
    further = [(whole - mean) / (len(single) - 1) for whole, mean in zip(together[:2], own[:2], strict=True)]
    names = ("s", "processor s", "memory MB")
    rows = [
        {"what": "a job of one model", **dict(zip(names, own, strict=True))},
        {"what": f"a job of {len(single)} models", **dict(zip(names, together, strict=True))},
        {"what": "each further model in it", **dict(zip(names, [*further, together[2] - own[2]], strict=True))},
    ]
    about = f"{machine('torch', 'numpy')}, 1 thread; {len(made)} tables {'equal' if equal else 'DIFFERENT'}"
    show("undoing-jobs", rows, about)


def agreement(arguments: argparse.Namespace) -> None:
    """Part 3."""
    sys.path.append(str(arguments.mergekit))
    versions = Delta(arguments.delta, arguments.base).versions().within(REGION)
    rows = []
    for method, compare in {"linear": linear, "dare_linear": dare_linear, "ties": ties}.items():
        for percent in (20.0, 37.0, 60.0):
            row = dict.fromkeys(("parameters", "different", "base + (tuned - base)", "equal at the cut"), 0)
            for name, ours, theirs in compare(versions, percent):
                assert ours.dtype == theirs.dtype
                row["parameters"] += ours.numel()
                apart = torch.from_numpy(bits_of(ours) != bits_of(theirs)).reshape(ours.shape)
                if apart.any():
                    before, after = (side.float() for side in sides(versions, name))
                    change = after - before
                    # mergekit adds the change to the base again, which rounds; ours leaves what is kept as it is.
                    rounded = apart & (ours == after.to(ours.dtype)) & (theirs == (before + change).to(ours.dtype))
                    rest = change[apart & ~rounded].abs()
                    tied = int((rest == rest.max()).sum()) if len(rest) else 0
                    row["base + (tuned - base)"] += int(rounded.sum())
                    row["equal at the cut"] += tied
                    row["different"] += len(rest) - tied
            rows.append({"mergekit": method, "percent": percent, **row})
    show("undoing-agreement", rows, machine("torch", "numpy"))


Compared = Iterator[tuple[str, torch.Tensor, torch.Tensor]]  # name, ours, mergekit's


def sides(versions: Versions, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor before and after training."""
    pieces = list(versions.pieces(name, 0, versions.parameters(name)))
    bits = (np.concatenate([piece.base for piece in pieces]), np.concatenate([piece.tuned for piece in pieces]))
    before, after = (as_tensor(side, versions.dtypes[name]).reshape(versions.shapes[name]) for side in bits)
    return before, after


def undone(versions: Versions, strategy: str, percent: float, name: str | None = None) -> dict[str, torch.Tensor]:
    """Tensors with a part undone, of one tensor alone or of all."""
    if name is not None:
        versions = Versions({name: versions.shapes[name]}, versions.dtypes, versions.read)
    (undoing,) = undo(versions, strategy, "all", [percent], 1)
    found = {}
    for one in sorted(undoing.names):
        bits = np.concatenate([bits for _, bits in undoing.restored_pieces(versions, one)])
        found[one] = as_tensor(bits, versions.dtypes[one]).reshape(versions.shapes[one])
    return found


def merged(method: str, before: torch.Tensor, after: torch.Tensor, **parameters: Any) -> torch.Tensor:
    """What a method of mergekit's that works on changes makes of one tensor."""
    from mergekit.merge_methods import registry  # pyright: ignore[reportMissingImports]
    from mergekit.merge_methods.base import TensorGroup  # pyright: ignore[reportMissingImports]

    group = TensorGroup.from_tensors([before, after], base_index=0)
    every = {"int8_mask": False, "lambda": 1.0, "normalize": True, "rescale": False, **parameters}
    entry = next(entry for entry in group.entries if not entry.is_base).id
    by_entry = {key: {entry: every.pop(key)} for key in ("weight", "density")}
    return registry.get(method).merge_group(group, **every, **by_entry)


def linear(versions: Versions, percent: float) -> Compared:
    """`interpolate` beside mergekit's linear."""
    from mergekit.merge_methods.base import TensorBatch  # pyright: ignore[reportMissingImports]
    from mergekit.merge_methods.linear import linear_merge  # pyright: ignore[reportMissingImports]

    weights = torch.tensor([[percent / 100, 1 - percent / 100]])
    for name, ours in undone(versions, "interpolate", percent).items():
        before, after = sides(versions, name)
        yield name, ours, linear_merge.merge_batch(TensorBatch([before[None], after[None]]), weight=weights)[0]


def dare_linear(versions: Versions, percent: float) -> Compared:
    """`drop_rescale` beside mergekit's dare_linear, which is given our draw in place of its own."""
    kept = undone(versions, "random", percent)
    for name, ours in undone(versions, "drop_rescale", percent).items():
        before, after = sides(versions, name)
        mask = (kept[name] != before).float()  # where nothing changed, either value does
        with mock.patch("torch.bernoulli", lambda probabilities, mask=mask: mask):
            stays = 1 - percent / 100
            yield name, ours, merged("dare_linear", before, after, weight=1 / stays, density=stays, normalize=False)


def ties(versions: Versions, percent: float) -> Compared:
    """`smallest` within each tensor beside mergekit's ties with one model."""
    for name in versions.shapes:
        before, after = sides(versions, name)
        ours = undone(versions, "smallest", percent, name)[name]
        yield name, ours, merged("ties", before, after, weight=1.0, density=1 - percent / 100)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--delta", type=Path, required=True)
    parser.add_argument("--others", type=Path, nargs="+", default=[])
    parser.add_argument("--mergekit", type=Path, help="a folder that holds mergekit 0.1.5")
    parser.add_argument("--parts", nargs="+", choices=["cost", "jobs", "agreement"], default=["cost"])
    parser.add_argument("--mastery", type=Path, help="the mastery table, for the part jobs")
    parser.add_argument("--questions", type=int, default=2, help="questions per level, in the part jobs")
    parser.add_argument("--only", help="measure one way in this process")
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments, arguments.only)
        return
    if "cost" in arguments.parts:
        cost(arguments)
    if "jobs" in arguments.parts:
        jobs(arguments)
    if "agreement" in arguments.parts:
        agreement(arguments)


if __name__ == "__main__":
    main()
