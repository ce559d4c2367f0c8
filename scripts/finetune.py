"""Fine-tune a model on the first facts of an order.

    python scripts/finetune.py --model base/ --order order.parquet --prompt resources/prompt.yaml \
        --size 240 --name s1 --output checkpoint/ --steps steps.parquet
    torchrun --nproc-per-node 8 scripts/finetune.py …        the same over several processes, sharded

Weights are trained and saved in float32 (the parameter analysis needs it); `--compute bfloat16` autocasts the arithmetic.
Told to end (SIGTERM), it saves and exits with status 75; started again, it goes on from there, to the same weights.
"""

import argparse
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from cli.command_line import CommandLine, option, run

import pyarrow as pa
import torch
import torch.distributed as dist

from knowshift.allowed_values import Dtype
from knowshift.facts.templates import read_prompt_template
from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.finetuning.loop import Example, adamw, agree, train
from knowshift.finetuning.lora import Lora, add_adapters, initialise_adapters
from knowshift.finetuning.recipe import Recipe
from knowshift.finetuning.saved_state import TrainingState
from knowshift.finetuning.schemas import ORDERS, SPEED, STEPS
from knowshift.finetuning.sharding import load_sharded
from knowshift.models.loading import DTYPES, check_model, load_model, load_tokenizer
from knowshift.models.tokenizing import encode_examples
from knowshift.randomness import derive_seed
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.device_lease import lease_device
from knowshift.runtime.errors import Interrupted, KnowshiftError
from knowshift.runtime.parquet import read_table, write_table
from knowshift.runtime.progress import progress, start_logging
from knowshift.runtime.resumption import input_digests, resumable
from knowshift.runtime.tensorboard import tensorboard

SAVE, END = 1, 2  # what a process wishes after a step


@dataclass(frozen=True)
class Options:
    size: int | None = option("training facts; null takes all of the order", None)
    name: str = option("names the order of the examples", "s1")
    seed: int = option("the experiment's seed", 1)
    method: Literal["full", "lora"] = option(
        "full: all parameters are trained; lora: adapters, merged afterwards", "full"
    )
    learning_rate: float = option("peak learning rate", 1e-5)
    schedule: Literal["cosine", "linear", "constant"] = option("of the learning rate", "cosine")
    warmup: float = option("share of the steps over which the rate rises", 0.0)
    batch_size: int = option("examples per optimizer step, over all processes", 8)
    epochs: int = option("passes over the training set", 1)
    optimizer: Literal["adamw", "adamw_8bit"] = option("adamw_8bit keeps its moments in 8 bits", "adamw")
    weight_decay: float = option("AdamW's weight decay", 0.0)
    beta1: float = option("AdamW's beta1", 0.9)
    beta2: float = option("AdamW's beta2", 0.999)
    max_gradient_norm: float = option("clip gradients to this norm; 0 never", 1.0)
    loss_on: Literal["answer", "all"] = option("tokens the loss is taken over", "answer")
    dtype: Dtype = option("type of the weights", "float32")
    compute: Literal["bfloat16", "float16"] | None = option(
        "autocast the arithmetic to this type; null: the weights' own", None
    )
    lora: dict = option("of lora: rank, alpha, dropout, targets, as JSON", {"rank": 16, "alpha": 32, "dropout": 0.0, "targets": "all-linear"})  # fmt: skip


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "model directory")
    parser.path("--order", "order of training facts")
    parser.path("--prompt", "prompt template (YAML)")
    parser.path("--output", "checkpoint directory to write")
    parser.path("--steps", "table of losses to write (Parquet)")
    parser.path("--speed", "table of times to write (Parquet)", required=False)
    parser.execution()
    parser.add_argument("--save-every", type=float, default=600, metavar="SECONDS", help="what SIGKILL loses at most (default: 600)")  # fmt: skip
    parser.add_argument("--gradient-checkpointing", type=int, default=0, choices=(0, 1), help="1: less memory, more time, the same result")  # fmt: skip
    parser.add_argument("--tensorboard", type=int, default=0, choices=(0, 1), help="1: events in tensorboard/ beside --steps (needs the package tensorboard)")  # fmt: skip
    arguments, options = parser.read()

    with computing(arguments) as device:
        first = not dist.is_initialized() or dist.get_rank() == 0
        with claimed(arguments, options, first) as folder:
            if folder:
                ending: list[int] = []
                signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
                finetune(arguments, options, device, folder, first, ending)


@contextmanager
def computing(arguments: argparse.Namespace) -> Iterator[torch.device]:
    """The device of this process; under torchrun, one of a group."""
    # Ask for the same sums every time; these are read when CUDA starts and change nothing on a CPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    if "RANK" not in os.environ:
        with lease_device(arguments.device, arguments.threads) as device:
            yield device
        return
    threads = arguments.threads and max(1, arguments.threads // int(os.environ["LOCAL_WORLD_SIZE"]))
    with lease_device("cpu" if arguments.device == "cpu" else "auto", threads) as device:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # The timeout is long: all wait while the first waits for another copy of the job.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=7))
        try:
            yield device
        finally:
            dist.destroy_process_group()


@contextmanager
def claimed(arguments: argparse.Namespace, options: Options, first: bool) -> Iterator[Path | None]:
    """The folder of the training's saved state, the same in all processes; None where there is nothing left to do."""
    if not first:
        found: list[Path | None] = [None]
        dist.broadcast_object_list(found)
        yield found[0]
        return
    world = dist.get_world_size() if dist.is_initialized() else 1
    key = {"options": asdict(options), "code": arguments.code, "processes": world,
           "inputs": input_digests(arguments.model, arguments.order, arguments.prompt)}  # fmt: skip
    with resumable(arguments.output, key) as folder:
        if dist.is_initialized():
            dist.broadcast_object_list([folder])
        yield folder


def finetune(
    arguments: argparse.Namespace, options: Options, device: torch.device, folder: Path, first: bool, ending: list[int]
) -> None:
    """Train from where an earlier start ended, and write the checkpoint and the tables.

    Raises:
        Interrupted: `ending` is no longer empty; everything done is saved.
    """
    examples = training_examples(arguments, options)
    if first:  # every file is read for it
        check_model(arguments.model)
    lora = Lora(**options.lora) if options.method == "lora" else None
    if dist.is_initialized():
        model = load_sharded(arguments.model, options.dtype, device, lora)
    else:
        model = load_model(arguments.model, options.dtype, device)
        if lora:
            add_adapters(model, lora)
    seed = derive_seed(options.seed, "train", options.name)
    if lora:
        initialise_adapters(model, seed)
    if arguments.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    checkpoint = Checkpoint(model, arguments.model)
    recipe = Recipe(**{name: getattr(options, name) for name in Recipe.__dataclass_fields__})
    optimizer = adamw(model, recipe)

    state = TrainingState(folder)
    rows = state.load(model, optimizer)
    if rows and first:
        start_logging().info("going on after step %d", len(rows))
    total = -(-len(examples) // options.batch_size) * options.epochs
    training = train(model, optimizer, examples, recipe, seed, DTYPES.get(options.compute), len(rows))
    events = arguments.steps.parent / "tensorboard" if first and arguments.tensorboard else None
    saved = started = time.monotonic()
    with (
        progress(what="training", unit="steps", total=total, initial=len(rows), show=first) as bar,
        tensorboard(events, len(rows) + 1) as record,
    ):
        for row in training:
            now = time.monotonic()
            rows.append({**row, "seconds": now - started})
            started = now
            record(row)
            wish = END if ending else SAVE if first and now - saved >= arguments.save_every else 0
            if (agreed := agree(wish, device)) and len(rows) < total:
                state.save(model, optimizer, rows)
                saved = time.monotonic()
                if agreed == END:
                    raise Interrupted(f"saved after step {len(rows)} of {total}; start the job again to go on")
            bar.update()

    if not first:
        checkpoint.follow()
        return
    seconds = [row.pop("seconds") for row in rows]
    write_table(arguments.steps, pa.Table.from_pylist(rows, schema=STEPS), STEPS)
    if arguments.speed:
        speed = [
            {"step": row["step"], "seconds": spent, "tokens_per_second": row["tokens"] / spent}
            for row, spent in zip(rows, seconds, strict=True)
        ]
        write_table(arguments.speed, pa.Table.from_pylist(speed, schema=SPEED), SPEED)
    with whole_directory(arguments.output, {"kind": "checkpoint"}) as directory:
        checkpoint.save(directory)


def training_examples(arguments: argparse.Namespace, options: Options) -> list[Example]:
    """The tokens of the training set.

    Raises:
        KnowshiftError: there are fewer facts than the size asked for.
    """
    order = read_table(arguments.order, ORDERS)
    size = len(order) if options.size is None else options.size
    if not 0 < size <= len(order):
        raise KnowshiftError(f"{arguments.order} holds {len(order)} facts, but {size} are asked for")
    prompt = read_prompt_template(arguments.prompt)
    questions, objects = order["question"].to_pylist()[:size], order["object"].to_pylist()[:size]
    tokenizer = load_tokenizer(arguments.model)
    return encode_examples(tokenizer, [*map(prompt.ask, questions)], [*map(prompt.reply, objects)])


if __name__ == "__main__":
    run(main)
