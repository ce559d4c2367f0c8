"""Speed, memory and size of restoration and deltas, on real and synthetic weights.

    python benchmarks/restoration.py --base base/ --tuned checkpoint/ [more checkpoints/] --peers ENV/bin/python

sweep        seven shares of one model: our one process, and the authors' procedure run once per share
scale        seven shares of synthetic LLaMA pairs in bfloat16, against `cat` of the same files from the page cache
compression  size of the delta of every --tuned, against the checkpoint compressed by zstd, zipnn and z4ai
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measuring import machine, median, show, timed, timed_process

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = REPOSITORY / "scripts"
sys.path.insert(0, str(SCRIPTS))

from knowshift.restoration.change_statistics import measure_changes  # noqa: E402
from knowshift.weights.bit_patterns import cast  # noqa: E402
from knowshift.weights.deltas import Delta  # noqa: E402
from knowshift.weights.safetensors_files import INDEX, WeightFiles, write_safetensors  # noqa: E402
from knowshift.weights.torch_bits import bits_of  # noqa: E402
from knowshift.weights.versions import versions_in_directories  # noqa: E402

PERCENTS = [1, 3, 5, 10, 20, 40, 60]
METHODS = ["zstd", "zipnn", "zipnn-delta", "z4ai", "z4ai-delta"]


def our_sweep(base: Path, tuned: Path, folder: Path, threads: int) -> tuple[float, float]:
    """Seconds and MB of the whole process that makes seven selections with their statistics."""
    script, output = str(SCRIPTS / "select_updates.py"), str(folder / "selections.parquet")
    files = ["--base", str(base), "--tuned", str(tuned), "--output", output]
    return timed_process([sys.executable, script, *files, "--percents", str(PERCENTS), "--threads", str(threads)])


def sweep(base: Path, tuned: Path, arguments: argparse.Namespace) -> None:
    """Part (a)."""
    script = str(Path(__file__).with_name("restoring_in_memory.py"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = [our_sweep(base, tuned, folder, arguments.threads) for _ in range(arguments.repeats)]
        plain = {}
        for how, more in (("with checkpoints", ["--output", str(folder / "restored")]), ("selections only", [])):
            command = [sys.executable, script, "--base", str(base), "--tuned", str(tuned), *more]
            plain[how] = [timed_process([*command, "--percent", str(percent)]) for percent in PERCENTS]
    seconds, memory = median([s for s, _ in ours]), max(m for _, m in ours)
    rows = [{"what": "select_updates.py, seven shares", "seconds": seconds, "memory MB": memory}]
    for how, runs in plain.items():
        total, peak = sum(s for s, _ in runs), max(m for _, m in runs)
        rows.append(
            {
                "what": f"in memory, seven runs, {how}",
                "seconds": total,
                "memory MB": peak,
                "times slower": total / seconds,
                "times the memory": peak / memory,
            }
        )
    show("restoration-sweep", rows, f"{machine('torch', 'numpy')}, {arguments.threads} threads; whole processes")


def synthetic(folder: Path, layers: int, step: float) -> tuple[Path, Path]:
    """A LLaMA's weights in bfloat16, four shards, and the same after small steps in float32, rounded to bfloat16."""
    wide, inner, narrow = 2048, 5632, 256
    shapes = {"model.embed_tokens.weight": (8192, wide), "model.norm.weight": (wide,)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for part, shape in {"q": (wide, wide), "k": (narrow, wide), "v": (narrow, wide), "o": (wide, wide)}.items():
            shapes[f"{at}self_attn.{part}_proj.weight"] = shape
        for part, shape in {"gate": (inner, wide), "up": (inner, wide), "down": (wide, inner)}.items():
            shapes[f"{at}mlp.{part}_proj.weight"] = shape
        shapes |= {f"{at}{part}_layernorm.weight": (wide,) for part in ("input", "post_attention")}

    def values(name: str, tuned: bool) -> torch.Tensor:
        draw = torch.Generator().manual_seed(sum(map(ord, name)) * 1000 + len(name))
        base = (torch.randn(shapes[name], generator=draw) * 0.02).bfloat16()
        return (base.float() + step * torch.randn(shapes[name], generator=draw)).bfloat16() if tuned else base

    for side in ("base", "tuned"):
        directory = folder / side
        directory.mkdir()
        placed = {}
        for shard in range(4):
            file, names = f"model-{shard + 1:05d}-of-00004.safetensors", list(shapes)[shard::4]
            tensors = {name: ("bfloat16", shapes[name]) for name in names}
            write_safetensors(directory / file, tensors, lambda name, s=side: [bits_of(values(name, s == "tuned"))])
            placed |= dict.fromkeys(names, file)
        (directory / INDEX).write_text(json.dumps({"weight_map": placed}))
    return folder / "base", folder / "tuned"


def scale(arguments: argparse.Namespace) -> None:
    """Part (b)."""
    rows = []
    for change, step in (("as after fine-tuning", 2e-5), ("nearly all", 1e-2)):
        first = None
        for layers in arguments.layers:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
                base, tuned = synthetic(Path(name), layers, step)
                _, tensors = measure_changes(versions_in_directories(base, tuned), "transformer", arguments.threads)
                parameters = sum(tensors["parameters"].to_pylist())
                unchanged = sum(tensors["unchanged"].to_pylist()) / parameters
                files = [str(path) for path in sorted(Path(name).glob("*/*.safetensors"))]
                cat = ["sh", "-c", 'cat "$@" > /dev/null', "sh", *files]
                timed_process(cat)
                reading, ours = [], []
                for _ in range(arguments.repeats):
                    reading.append(timed_process(cat)[0])
                    ours.append(our_sweep(base, tuned, Path(name), arguments.threads))
            now = median(reading), median([s for s, _ in ours])
            first = first or now
            row = {
                "parameters, billions": parameters / 1e9,
                "changed": f"{change} ({1 - unchanged:.0%})",
                "seconds": now[1],
                "memory MB": max(m for _, m in ours),
                "cat, seconds": now[0],
                "share of cat": now[0] / now[1],
            }
            if now is not first:
                row["beyond the first size"] = (now[0] - first[0]) / (now[1] - first[1])
            rows.append(row)
    about = f"{machine('torch', 'numpy')}, {arguments.threads} threads; whole processes, medians of {arguments.repeats}"
    show("restoration-scale", rows, f"{about}. The last column leaves out what does not grow, as starting Python.")


def raw(weights: WeightFiles, dtype: str, path: Path) -> None:
    """The bytes of all tensors, in a type and in the order of names."""
    with path.open("wb") as file:
        for name, bits in weights:
            file.write(cast(bits, weights.tensors[name].dtype, dtype))


def compression(base: Path, tuned: list[Path], arguments: argparse.Namespace) -> None:
    """Part (c)."""
    rows = []
    for checkpoint in tuned:
        weights = WeightFiles(checkpoint)
        dtype = next(iter(weights.tensors.values())).dtype
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            delta, one, two = (Path(name) / file for file in ("delta", "base.bin", "tuned.bin"))
            raw(WeightFiles(base), dtype, one)
            raw(weights, dtype, two)
            size = two.stat().st_size
            head = {"checkpoint": checkpoint.name, "MB": size / 1e6}
            command = [
                sys.executable,
                str(SCRIPTS / "diff_weights.py"),
                "--base",
                str(base),
                "--tuned",
                str(checkpoint),
            ]
            encode, memory = timed_process([*command, "--output", str(delta), "--threads", str(arguments.threads)])
            opened = Delta(delta, base, arguments.threads)
            decode = timed(lambda opened=opened: [None for _ in opened])
            small = sum(path.stat().st_size for path in delta.iterdir())
            rows.append(
                {
                    **head,
                    "method": "diff_weights.py (whole process; reads hashed)",
                    "% of it": 100 * small / size,
                    "encode, s": encode,
                    "decode, s": decode,
                    "memory MB": memory,
                }
            )
            for method in METHODS if arguments.peers else METHODS[:1]:
                python = arguments.peers if arguments.peers else sys.executable
                command = [python, str(Path(__file__).with_name("compressing.py")), "--method", method]
                more = ["--base", str(one), "--tuned", str(two), "--dtype", dtype]
                done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
                if done.returncode:
                    rows.append({**head, "method": f"{method}: {done.stderr.strip().splitlines()[-1][:60]}"})
                    continue
                said = json.loads(done.stdout.splitlines()[-1])
                rows.append(
                    {
                        **head,
                        "method": method + ("" if said["lossless"] else ", NOT lossless"),
                        "% of it": 100 * said["bytes"] / size,
                        "encode, s": said["encode"],
                        "decode, s": said["decode"],
                    }
                )
    show(
        "restoration-compression",
        rows,
        f"{machine('torch', 'numpy', 'zstandard')}; ours with {arguments.threads} threads",
    )


def main() -> None:
    """Read the command line, and measure the parts that it names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="model directory before training (sweep, compression)")
    parser.add_argument("--tuned", type=Path, nargs="*", default=[], help="after it; the sweep takes the first")
    parser.add_argument("--parts", nargs="*", default=["sweep", "scale", "compression"])
    parser.add_argument("--layers", type=int, nargs="*", default=[2, 7, 13, 27], help="of the synthetic models")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, help="for temporary files (default: the system's)")
    parser.add_argument("--peers", help="Python of an environment with zipnn, z4ai and zstandard")
    arguments = parser.parse_args()
    if {"sweep", "compression"} & set(arguments.parts) and not (arguments.base and arguments.tuned):
        parser.error("sweep and compression need --base and --tuned")
    start = time.perf_counter()
    if "sweep" in arguments.parts:
        sweep(arguments.base, arguments.tuned[0], arguments)
    if "scale" in arguments.parts:
        scale(arguments)
    if "compression" in arguments.parts:
        compression(arguments.base, arguments.tuned, arguments)
    print(f"\n{time.perf_counter() - start:.0f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()
