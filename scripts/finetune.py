"""Fine-tune a model on the first facts of an order.

    python scripts/finetune.py --model base/ --order order.parquet --prompt resources/prompt.yaml \
        --size 240 --name s1 --output checkpoint/ --steps steps.parquet
    torchrun --nproc-per-node 8 scripts/finetune.py …        the same over several processes, sharded

Weights are trained and saved in float32 (the parameter analysis needs it); `--compute bfloat16` autocasts the arithmetic.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from command_line import CommandLine, option, run
from knowshift.artifacts import read_manifest, read_table, whole_directory, write_table
from knowshift.devices import lease_device
from knowshift.draws import ORDERS
from knowshift.errors import KnowshiftError
from knowshift.models import DTYPES, load_model, load_tokenizer
from knowshift.progress import progress
from knowshift.prompts import encode_examples
from knowshift.randomness import derive_seed
from knowshift.templates import read_prompt_template
from knowshift.training import STEPS, Recipe, shard, train


@dataclass(frozen=True)
class Options:
    size: int | None = option("training facts; null takes all of the order", None)
    name: str = option("names the order of the examples", "s1")
    seed: int = option("the experiment's seed", 1)
    learning_rate: float = option("peak learning rate", 1e-5)
    schedule: str = option("cosine, linear or constant", "cosine")
    warmup: float = option("share of the steps over which the rate rises", 0.0)
    batch_size: int = option("examples per optimizer step, over all processes", 8)
    epochs: int = option("passes over the training set", 1)
    weight_decay: float = option("AdamW's weight decay", 0.0)
    beta1: float = option("AdamW's beta1", 0.9)
    beta2: float = option("AdamW's beta2", 0.999)
    max_gradient_norm: float = option("clip gradients to this norm; 0 never", 1.0)
    loss_on: str = option("answer, or all tokens", "answer")
    dtype: str = option("type of the weights", "float32")
    compute: str | None = option("autocast the arithmetic to this type; null: the weights' own", None)


@contextmanager
def computing(arguments) -> Iterator[torch.device]:
    """The device of this process; under torchrun, one of a group."""
    if "RANK" not in os.environ:
        with lease_device(arguments.device, arguments.threads) as device:
            yield device
        return
    gpus = torch.cuda.is_available() and arguments.device != "cpu"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    elif arguments.threads:
        torch.set_num_threads(max(1, arguments.threads // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "model directory")
    parser.path("--order", "order of training facts")
    parser.path("--prompt", "prompt template (YAML)")
    parser.path("--output", "checkpoint directory to write")
    parser.path("--steps", "table of losses to write (Parquet)")
    parser.execution()
    arguments, options = parser.read()

    order = read_table(arguments.order, ORDERS)
    size = len(order) if options.size is None else options.size
    if not 0 < size <= len(order):
        raise KnowshiftError(f"{arguments.order} holds {len(order)} facts, but {size} are asked for")
    template = read_prompt_template(arguments.prompt)
    questions, objects = order["question"].to_pylist()[:size], order["object"].to_pylist()[:size]
    if (arguments.model / "manifest.json").is_file():
        read_manifest(arguments.model)
    recipe = Recipe(**{name: getattr(options, name) for name in Recipe.__dataclass_fields__})

    with computing(arguments) as device:
        model, tokenizer = load_model(arguments.model, options.dtype), load_tokenizer(arguments.model)
        if dist.is_initialized():
            shard(model)
        model.to(device)
        examples = encode_examples(tokenizer, [*map(template.ask, questions)], [*map(template.reply, objects)])
        compute = DTYPES[options.compute] if options.compute else None
        steps = -(-size // options.batch_size) * options.epochs
        first = not dist.is_initialized() or dist.get_rank() == 0
        training = train(model, examples, recipe, derive_seed(options.seed, "train", options.name), compute)
        rows = list(progress(training, what="training", unit="steps", total=steps)) if first else list(training)
        if dist.is_initialized():
            whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
            own = {name for name, _ in model.named_parameters()}  # a tied tensor under its first name only
            state = {name: tensor for name, tensor in whole.items() if name in own}
        else:
            state = None
        if first:
            with whole_directory(arguments.output, {"kind": "checkpoint"}) as directory:
                model.save_pretrained(directory, state_dict=state)
            write_table(arguments.steps, pa.Table.from_pylist(rows, schema=STEPS), STEPS)


if __name__ == "__main__":
    run(main)
