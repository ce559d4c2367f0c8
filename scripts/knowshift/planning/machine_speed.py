"""Measures how fast this machine does what jobs without a GPU spend their time on, and keeps the figures.

As many processes measure at once, on one thread each, as jobs will run at once: they share memory and cores as jobs do.
It takes a few seconds, and once: figures are kept for each processor, instruction set and number of jobs.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from knowshift.runtime.artefacts import write_text

# What limits the instructions that torch uses, by hand.
LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")  # of a processor, that count
ROWS, WIDTH, INNER, LAYERS = 64, 576, 1536, 24  # a pass of 64 tokens; a small model's matrices, more than a cache holds
SECONDS_PER_FIGURE = 0.5
MEASURED_TYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class MachineSpeed:
    """What one of several jobs that run at once can do.

    Attributes:
        start: seconds until a process has imported torch and transformers.
        light_start: seconds until a process has imported pandas and pyarrow.
        products: operations per second in products of 64 rows with packed matrices, as generation does them, by type.
        plain_products: the same with matrices as they are, as training does them, by type.
        copied: bytes per second that are read and written again in memory.
        compressed: bytes per second through zstandard's fastest level.
        measured: whether these are figures of this machine.
    """

    start: float
    light_start: float
    products: Mapping[str, float]
    plain_products: Mapping[str, float]
    copied: float
    compressed: float
    measured: bool = True


# Two cores with AVX2, roughly: where nothing was measured, only the ratios between stages matter.
_TYPICAL_PRODUCTS = {"float32": 4e10, "bfloat16": 8e9, "float16": 8e9}
TYPICAL = MachineSpeed(5.0, 0.7, _TYPICAL_PRODUCTS, _TYPICAL_PRODUCTS, 8e9, 5e8, measured=False)


def machine_speed(jobs: int) -> MachineSpeed:
    """Return the speed of one of `jobs` jobs on this machine, measuring it if it is not known.

    Args:
        jobs: how many run at once, on one thread each.

    Raises:
        subprocess.CalledProcessError: torch or another package cannot be imported.
    """
    known, key = _read(), _key(jobs)
    if key not in known:
        known[key] = _measure_at_once(jobs)
        with suppress(OSError):  # measured again next time
            write_text(cache_path(), json.dumps(known, indent=1))
    return MachineSpeed(**known[key])


def stored_speed() -> MachineSpeed:
    """Return what was measured of this machine, with the most jobs at once; a typical machine's if nothing was."""
    fitting = {key: figures for key, figures in _read().items() if key.startswith(_key(None))}
    return MachineSpeed(**fitting[max(fitting)]) if fitting else TYPICAL


def cache_path() -> Path:
    """Return the file that keeps the figures."""
    return user_cache_path("knowshift") / "machine_speed.json"


def processor() -> str:
    """Name this machine's processor and the instruction sets that count, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    entries = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    name = entries.get("model name") or platform.processor() or platform.machine()
    flags = set(entries.get("flags", entries.get("Features", "")).split())
    return ", ".join([name, *(each for each in EXTENSIONS if each in flags)])


def measure() -> MachineSpeed:
    """Measure this process's speed, on the threads that the environment allows it. Nothing may be imported before.

    Processor time is taken, so that what else runs now does not count: a plan is for a machine that is otherwise idle.
    """
    began = time.process_time()
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    light = time.process_time()
    import torch
    import transformers
    import zstandard

    transformers.AutoModelForCausalLM, transformers.AutoTokenizer  # noqa: B018 (they are imported when they are read)
    loaded = time.process_time()
    products = {name: _products(torch, name, torch.backends.mkldnn.is_available()) for name in MEASURED_TYPES}
    plain_products = {name: _products(torch, name, False) for name in MEASURED_TYPES}
    block = torch.empty(1 << 24).normal_()
    target = torch.empty_like(block)
    copies = _per_second(lambda: target.copy_(block))
    data = block[: 1 << 20].numpy().tobytes()
    compressor = zstandard.ZstdCompressor(level=1)
    return MachineSpeed(
        start=loaded - began,
        light_start=light - began,
        products=products | {"float16": products["bfloat16"]},
        plain_products=plain_products | {"float16": plain_products["bfloat16"]},
        copied=copies * 2 * block.nbytes,
        compressed=_per_second(lambda: compressor.compress(data)) * len(data),
    )


def _products(torch, name: str, packed: bool) -> float:
    """Operations per second of products with the matrices of some layers, one after the other."""
    dtype, mkldnn = getattr(torch, name), torch.ops.mkldnn
    layers = [torch.empty(INNER, WIDTH).normal_().to(dtype) for _ in range(LAYERS)]
    tokens = torch.empty(ROWS, WIDTH).normal_().to(dtype)
    try:
        layers = [mkldnn._reorder_linear_weight(layer, ROWS) for layer in layers] if packed else layers
    except RuntimeError:  # this processor has no instructions for the type
        packed = False

    def run_layers() -> None:
        for layer in layers:
            if packed:
                mkldnn._linear_pointwise(tokens, layer, None, "none", [], "")
            else:
                torch.nn.functional.linear(tokens, layer)

    with torch.inference_mode():
        return _per_second(run_layers) * LAYERS * 2 * ROWS * WIDTH * INNER


def _per_second(work) -> float:
    """How often some work is done per second; the first time does not count."""
    work()
    done, began = 0, time.process_time()
    while time.process_time() - began < SECONDS_PER_FIGURE:
        work()
        done += 1
    return done / (time.process_time() - began)


def _measure_at_once(jobs: int) -> dict:
    """Measure in several processes at once, and average. A first process brings the packages into memory."""
    program = (
        "import dataclasses, json; from knowshift.planning.machine_speed import measure;"
        " print(json.dumps(dataclasses.asdict(measure())))"
    )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", "import torch, transformers"], env=environment, check=True)
    started = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(jobs)
    ]
    texts = [process.communicate()[0] for process in started]
    if failed := next((process for process in started if process.returncode), None):
        raise subprocess.CalledProcessError(failed.returncode, failed.args)
    found = [MachineSpeed(**json.loads(text)) for text in texts]
    mean: dict[str, Any] = {
        field.name: sum(getattr(each, field.name) for each in found) / jobs
        for field in dataclasses.fields(MachineSpeed)
        if field.name not in ("products", "plain_products", "measured")
    }
    for kind in ("products", "plain_products"):
        mean[kind] = {name: sum(getattr(each, kind)[name] for each in found) / jobs for name in found[0].products}
    return mean


def _key(jobs: int | None) -> str:
    """Name what figures hold for; without a number of jobs, the beginning that all numbers share."""
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    parts = [processor(), f"torch {importlib.metadata.version('torch')}", *limits]
    return "; ".join(parts) + ("; jobs " if jobs is None else f"; jobs {jobs:04}")


def _read() -> dict[str, dict]:
    """Read what was measured before, less what another version of this file has written."""
    try:
        known = json.loads(cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    names = {field.name for field in dataclasses.fields(MachineSpeed)}
    fits = {key: isinstance(figures, dict) and {"measured", *figures} == names for key, figures in known.items()}
    return {key: figures for key, figures in known.items() if fits[key]}
