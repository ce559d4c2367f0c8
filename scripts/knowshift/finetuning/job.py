"""One fine-tuning from files to files: read the training set, train, save on the way, write checkpoint and tables."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from knowshift.allowed_values import Bos
from knowshift.facts.templates import read_prompt_template
from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.finetuning.kept_stops import KeptStops
from knowshift.finetuning.loop import Example, adamw, highest_of_all_processes, train
from knowshift.finetuning.lora import add_adapters, initialise_adapters
from knowshift.finetuning.options import TrainingOptions
from knowshift.finetuning.pull import Pull
from knowshift.finetuning.replay import replayed_count, replayed_facts
from knowshift.finetuning.saved_state import TrainingState
from knowshift.finetuning.schemas import ORDERS, SPEED, STEPS
from knowshift.finetuning.sharding import load_sharded
from knowshift.models.admission import tried
from knowshift.models.loading import DTYPES, check_model, load_model, load_tokenizer, trust_code_of, use_attention
from knowshift.models.tokenizing import encode_examples
from knowshift.randomness import derive_seed
from knowshift.runtime.artefacts import check_replaceable, whole_directory
from knowshift.runtime.errors import Interrupted, KnowshiftError
from knowshift.runtime.parquet import read_table, write_table
from knowshift.runtime.progress import progress, start_logging
from knowshift.runtime.resumption import input_digests, resumable
from knowshift.runtime.tensorboard import tensorboard
from knowshift.weights.positions import learned_positions

SAVE, END = 1, 2  # what a process asks for after a step


@dataclass(frozen=True)
class TrainingFiles:
    """The files that a fine-tuning reads and writes.

    Attributes:
        model: directory of the base.
        order: table of training facts, in the schema `ORDERS`.
        prompt: prompt template (YAML).
        checkpoint: model directory to write.
        steps: table of losses to write, in the schema `STEPS`.
        speed: table of times to write, in the schema `SPEED`; None writes none.
        events: folder for TensorBoard's events; None writes none.
        replayed: order of well-known facts, some of which are trained along (`ORDERS`); None without replay.
    """

    model: Path
    order: Path
    prompt: Path
    checkpoint: Path
    steps: Path
    speed: Path | None = None
    events: Path | None = None
    replayed: Path | None = None

    @property
    def read(self) -> list[Path]:
        """The files and folders that are read."""
        return [self.model, self.order, self.prompt, *([self.replayed] if self.replayed else [])]


def is_first_process() -> bool:
    """Tell whether this is the process that logs and writes; the only one is."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def claimed(
    files: TrainingFiles, options: TrainingOptions, code: str, stops: Sequence[float] = ()
) -> Iterator[Path | None]:
    """Claim the training and yield the folder of its saved state, the same in all processes.

    None is yielded if there is nothing left to do, because another copy of this job has done it.

    Args:
        files: what is read and written.
        options: what changes the result.
        code: version of the code; a state that another version saved is not continued.
        stops: shares of the steps after which the model is kept as well.

    Raises:
        KnowshiftError: the checkpoint's folder may not be written, see `check_replaceable`.
    """
    if not is_first_process():
        found: list[Path | None] = [None]
        dist.broadcast_object_list(found)
        yield found[0]
        return
    key = {
        "options": options.model_dump(),
        "code": code,
        "processes": dist.get_world_size() if dist.is_initialized() else 1,
        "inputs": input_digests(*files.read),
        **({"stops": sorted(stops)} if stops else {}),
    }
    check_replaceable(files.checkpoint, files.read)  # not only when all is trained
    with resumable(files.checkpoint, key) as folder:
        if dist.is_initialized():
            dist.broadcast_object_list([folder])
        yield folder


def finetune(
    files: TrainingFiles,
    options: TrainingOptions,
    device: torch.device,
    folder: Path,
    told_to_end: Callable[[], bool],
    save_every: float,
    gradient_checkpointing: bool,
    stops: Sequence[float] = (),
) -> None:
    """Train from where an earlier start ended, and write the checkpoint and the tables.

    Args:
        files: what is read and written.
        options: what changes the result.
        device: the device of this process.
        folder: holds the saved state, see `claimed`.
        told_to_end: asked after every step.
        save_every: seconds between two saves.
        gradient_checkpointing: compute activations again in the backward pass, for less memory and the same result.
        stops: shares of the steps after which the model is kept as well, in `stops/` of the checkpoint.

    Raises:
        Interrupted: the job was told to end; everything done is saved.
    """
    if options.trust_remote_code:
        trust_code_of(files.model)
    if is_first_process():  # one process is enough, because every file is read
        check_model(files.model)
    examples = read_training_examples(files, options.size, options.bos, options.replay)
    seed = derive_seed(options.seed, "train", options.name)
    model = _load(files.model, options, device, seed)
    use_attention(model, options.attention)
    check_positions(model, examples)
    if gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    checkpoint, optimizer, state = Checkpoint(model, files.model), adamw(model, options), TrainingState(folder)
    pull = Pull(optimizer, options.l2_sp)  # before saved weights are loaded

    rows = state.load(model, optimizer)
    if rows and is_first_process():
        start_logging().info("going on after step %d", len(rows))
    total = math.ceil(len(examples) / options.batch_size) * options.epochs
    kept = KeptStops(folder, stops, total)
    compute = DTYPES[options.compute] if options.compute else None
    saved = started = time.monotonic()
    with (
        progress(what="training", unit="steps", total=total, initial=len(rows), show=is_first_process()) as bar,
        tensorboard(files.events if is_first_process() else None, len(rows) + 1) as record,
    ):
        packs = tried(files.model).get("packs")
        packs = packs if isinstance(packs, bool) else None
        for row in train(model, optimizer, examples, options.recipe(), seed, compute, len(rows), packs, pull):
            now = time.monotonic()
            rows.append({**row, "seconds": now - started})
            started = now
            record(row)
            if kept.are_due(len(rows)):
                kept.keep(checkpoint, len(rows), is_first_process())
                started = time.monotonic()  # writing is no part of the next step
            due = is_first_process() and now - saved >= save_every
            wish = END if told_to_end() else SAVE if due else 0
            if (agreed := highest_of_all_processes(wish, device)) and len(rows) < total:
                state.save(model, optimizer, rows)
                saved = time.monotonic()
                if agreed == END:
                    raise Interrupted(f"saved after step {len(rows)} of {total}; start the job again to go on")
            bar.update()

    if is_first_process():
        _write_tables(files, rows)
        with whole_directory(files.checkpoint, {"kind": "checkpoint"}) as directory:
            checkpoint.save(directory)
            kept.put_into(directory)
    else:
        checkpoint.follow()


def read_training_examples(
    files: TrainingFiles, size: int | None, bos: Bos = "as_tokenizer", replay: float = 0.0
) -> list[Example]:
    """Read the tokens of the first `size` facts of the order, all of them if it is None, then of replayed facts.

    Raises:
        KnowshiftError: there are fewer facts than the size asked for, or replay lacks its order.
    """
    order = read_table(files.order, ORDERS)
    count = len(order) if size is None else size
    if not 0 < count <= len(order):
        raise KnowshiftError(f"{files.order} holds {len(order)} facts, but {count} are asked for")
    prompt = read_prompt_template(files.prompt)
    facts = pa.concat_tables([order.slice(0, count), *_read_replayed(files, order.slice(0, count), replay)])
    questions, objects = facts["question"].to_pylist(), facts["object"].to_pylist()
    tokenizer = load_tokenizer(files.model)
    return encode_examples(tokenizer, [*map(prompt.ask, questions)], [*map(prompt.reply, objects)], bos)


def _read_replayed(files: TrainingFiles, taught: pa.Table, replay: float) -> list[pa.Table]:
    """Read the facts that are trained along with those that are taught, and say if they are fewer than asked for.

    Raises:
        KnowshiftError: there is a share without an order to take them from, or an order without a share.
    """
    if not replay and not files.replayed:
        return []
    if not replay or not files.replayed:
        raise KnowshiftError(
            "replay needs both a number of facts per taught fact (--replay) and an order of known facts (--replayed)"
        )
    facts = replayed_facts(read_table(files.replayed, ORDERS), taught, replay)
    asked = replayed_count(replay, len(taught))
    if len(facts) < asked and is_first_process():
        start_logging().info("replay: %d of the %d facts asked for; there are no more", len(facts), asked)
    return [facts]


def check_positions(model: PreTrainedModel, examples: Sequence[Example]) -> None:
    """Check that a model has a position for every token of the training examples.

    Raises:
        KnowshiftError: an example is longer than the positions that the model has learned.
    """
    longest, positions = max(len(ids) for ids, _ in examples), learned_positions(model)
    if positions is not None and longest > positions:
        raise KnowshiftError(
            f"a training example has {longest:,} tokens, but this model has learned {positions:,} positions; shorten"
            " the prompt (facts.prompt) or the longest facts"
        )


def _load(directory: Path, options: TrainingOptions, device: torch.device, seed: int) -> PreTrainedModel:
    """Load the model, sharded if there are several processes, with the adapters of the method lora."""
    lora = options.lora if options.method == "lora" else None
    if dist.is_initialized():
        model = load_sharded(directory, options.dtype, device, lora)
    else:
        model = load_model(directory, options.dtype, device)
        if lora:
            add_adapters(model, lora)
    if lora:
        initialise_adapters(model, seed)
    return model


def _write_tables(files: TrainingFiles, rows: list[dict[str, Any]]) -> None:
    """Write the table of losses, and that of times if it is wanted."""
    steps = [{name: row[name] for name in STEPS.names} for row in rows]
    write_table(files.steps, pa.Table.from_pylist(steps, schema=STEPS), STEPS)
    if files.speed:
        speed = [
            {"step": row["step"], "seconds": row["seconds"], "tokens_per_second": row["tokens"] / row["seconds"]}
            for row in rows
        ]
        write_table(files.speed, pa.Table.from_pylist(speed, schema=SPEED), SPEED)
