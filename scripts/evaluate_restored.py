r"""Undo parts of a fine-tuning in memory, and ask each restored model the same questions.

    python scripts/evaluate_restored.py --model base/ --delta delta/ --strategy top --region transformer \
        --percents '[1, 20]' --mastery mastery.parquet --order order.parquet --prompt resources/prompt.yaml \
        --output shares/

For every share, such as 20 %, `shares/` gets 20.parquet with the answers and 20.selection.parquet with what was
restored, and for every task of --tasks, such as support, 20.support.task.parquet with the answers to its examples. Base
and delta are read once for all shares. An interrupted job goes on where it ended.
"""

import gc
import shutil
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.command_line import CommandLine, quick_imports, run
from knowshift.canonical import plain_number
from knowshift.configuration.restoration import RestoredShare, RestoredShares, Selecting
from knowshift.configuration.tasks import AskedTask, AskedTasks
from knowshift.evaluation.options import QUESTIONS_PER_CHUNK, RunOptions
from knowshift.runtime.artefacts import check_replaceable, whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.progress import start_logging
from knowshift.runtime.resumption import digest_of, hidden_beside, holding, input_digests, is_made, record_made

if TYPE_CHECKING:
    import pyarrow as pa

    from knowshift.restoration.in_memory import RestoredModels


# What the answers to a task depend on besides the task: what is restored, and how the model computes.
TASK_OPTIONS = ("strategy", "region", "percent", "seed", "engine", "dtype", "tokens_per_pass", "trust_remote_code")


class Options(RunOptions, Selecting, RestoredShares, AskedTasks):
    """What is restored, and what the restored models are asked."""


class ShareOptions(RunOptions, Selecting, RestoredShare):
    """What is restored in one restored model, and what it is asked."""


@dataclass(frozen=True)
class Share:
    """One share of a region, asked the questions about facts or a task, and what its tables depend on.

    Attributes:
        options: what is restored, and what is asked.
        key: JSON values on which the tables depend.
        task: the task; None for the questions about facts.
        examples: the file of its examples.
    """

    options: ShareOptions
    key: dict[str, Any]
    task: AskedTask | None = None
    examples: Path | None = None

    @property
    def name(self) -> str:
        """The share as paths write it, such as 20, and what it is asked if that is a task, such as 20.support.task."""
        percent = plain_number(self.options.percent)
        return f"{percent}.{self.task.name}.task" if self.task else percent

    def files(self, place: str) -> list[Path]:
        """List the paths of its tables, which begin with `place`: answers, and for questions also what was restored."""
        ends = [".parquet"] if self.task else [".parquet", ".selection.parquet"]
        return [Path(f"{place}{self.name}{end}") for end in ends]

    def record(self, place: str) -> Path:
        """Return the path of the record that says what these tables were made from."""
        return hidden_beside(Path(f"{place}{self.name}"), "made")

    def is_made(self, place: str) -> bool:
        """Tell whether its tables are there, whole, and made from what they would be made from now."""
        return bool(self.key["code"]) and is_made(self.record(place), self.key, self.files(place))


def list_shares(arguments: Namespace, options: Options) -> list[Share]:
    """List the shares that are asked for, rising, each of them once, and after each the tasks that it is asked."""
    names = ("model", "prompt", "delta", "mastery", "order", "histogram", "files")
    others = arguments.others or []
    inputs = input_digests(*(getattr(arguments, name) for name in names), *others)
    shared = {"code": arguments.code, "inputs": inputs}
    rest, shares = options.model_dump(exclude={"percents", "tasks"}), []
    files = arguments.task_files or []
    if len(files) != len(options.tasks):
        raise KnowshiftError(f"--task-files names {len(files)} files, and --tasks {len(options.tasks)} tasks")
    for percent in sorted({*options.percents}):
        chosen = ShareOptions.model_validate({**rest, "percent": percent})
        shares.append(Share(chosen, {**shared, "options": chosen.model_dump()}))
        for task, path in zip(options.tasks, files, strict=True):
            made_with = chosen.model_dump(include=set(TASK_OPTIONS)) | {"task": task.model_dump()}
            inputs = input_digests(arguments.model, arguments.delta, arguments.files, *others, path)
            shares.append(Share(chosen, {"code": arguments.code, "inputs": inputs, "options": made_with}, task, path))
    return shares


def unfinished_place(folder: Path, share: Share) -> str:
    """Return where a share's tables lie until all shares are there: in a folder of its own, named after its key."""
    return f"{folder}/{share.name}-{digest_of(share.key)}/"


def answer_shares(arguments: Namespace, shares: Sequence[Share], folder: Path) -> None:
    """Restore each share, ask the restored model, and write the tables into folders below `folder`."""
    start_logging()
    with quick_imports():
        import torch

        from cli.asking import AskedModel, read_run_questions
        from cli.asking_tasks import answer_task
        from knowshift.models.loading import check_model
        from knowshift.randomness import derive_seed
        from knowshift.restoration.in_memory import RestoredModels
        from knowshift.restoration.schemas import HISTOGRAM, SELECTION
        from knowshift.runtime.device_lease import lease_device
        from knowshift.runtime.parquet import read_table, write_table

    first = shares[0].options
    percents = sorted({share.options.percent for share in shares})
    check_model(arguments.model)

    @cache
    def questions() -> "pa.Table":
        return read_run_questions(arguments, first)

    @cache
    def models() -> RestoredModels:
        return RestoredModels(
            arguments.model,
            arguments.delta,
            first.strategy,
            first.region,
            percents,
            derive_seed(first.seed, "restore"),
            arguments.threads or 1,
            read_table(arguments.histogram, HISTOGRAM) if arguments.histogram else None,
            arguments.files,
            arguments.others or [],
        )

    with lease_device(arguments.device, arguments.threads) as device:
        target = torch.device("cpu") if first.engine == "vllm" else device  # see open_engine
        for percent in percents:
            same = [share for share in shares if share.options.percent == percent]
            options = same[0].options
            load = partial(_make, models, options, target, last=percent == percents[-1])
            about = {"strategy": options.strategy, "region": options.region, "percent": options.percent}
            asked = AskedModel(arguments, options, load, device)  # first: it says whether the model's code is trusted
            for share in same:
                answers, *selection = share.files(unfinished_place(folder, share))
                if selection and not selection[0].exists():
                    write_table(selection[0], models().undoings[percent].tensors, SELECTION, about)
                if share.task and share.examples:
                    place = share.examples, answers
                    # No variable may hold what gives the engine, or the engine would stay in memory.
                    more = share.key, {**about, "task": share.task.name}
                    answer_task(arguments, share.task, options.seed, *place, partial(getattr, asked, "engine"), *more)
                else:
                    inputs = arguments.delta, arguments.mastery, arguments.order
                    asked.answer(questions(), answers, *inputs, about=about)
            del asked, load
            gc.collect()  # or this share's engine would still be in memory when the next one is made


def _make(models: Callable[[], "RestoredModels"], options: ShareOptions, target: Any, _: Any, last: bool) -> Any:
    """Make a share's model on the device `target`."""
    return models().make(options.percent, options.dtype, target, last)


def publish(shares: Sequence[Share], places: Mapping[str, str], output: Path) -> None:
    """Write the folder of all tables, each with its record, from where each share's tables are.

    Args:
        shares: the shares.
        places: the beginning of the paths of each share's tables, by its name.
        output: the folder.
    """
    with whole_directory(output, {"kind": "restored shares"}) as folder:
        for share in shares:
            files = share.files(f"{folder}/")
            for source, copy in zip(share.files(places[share.name]), files, strict=True):
                shutil.copyfile(source, copy)
            record_made(share.record(f"{folder}/"), share.key, files)


def main() -> None:
    """Read the command line, restore and ask where that is still to be done, and write the tables of all shares."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--model", "Model directory (the base).")
    parser.folder("--delta", "Delta directory of the fine-tuned model.")
    parser.files_of_tuned()
    parser.file("--mastery", "Mastery table (Parquet).")
    parser.file("--order", "Order of training facts (Parquet).", required=False, bare=True)
    parser.file("--prompt", "Prompt template (YAML); none is read in a chat.", required=False, bare=True)
    parser.file(
        "--histogram",
        "Histogram of the region's relative changes, of measure_changes.py; saves a pass over the weights with the "
        "strategies top and bottom.",
        required=False,
        bare=True,
    )
    parser.others()
    parser.file("--task-files", "Examples of each of --tasks (JSON lines).", required=False, many=True)
    parser.new_folder("--output", "Folder of tables to write (Parquet).")
    parser.add_argument(
        "--kept",
        metavar="PREFIX",
        help="How the paths of earlier tables begin; they are copied where nothing that they depend on has changed.",
    )
    parser.execution(QUESTIONS_PER_CHUNK)
    arguments, options = parser.read()
    shares = list_shares(arguments, options)
    output, unfinished = arguments.output, hidden_beside(arguments.output, "unfinished")
    inputs = [arguments.model, arguments.delta, arguments.mastery, arguments.prompt, arguments.files]
    check_replaceable(output, [path for path in [*inputs, *(arguments.others or [])] if path])
    output.parent.mkdir(parents=True, exist_ok=True)
    with holding(hidden_beside(output, "lock")):
        # The output is there if another copy of this job made it while this one waited.
        candidates = [place for place in (f"{output}/", arguments.kept) if place]
        places = {share.name: place for share in shares for place in candidates if share.is_made(place)}
        lacking = [share for share in shares if share.name not in places]
        todo, done = (", ".join(names) or "none" for names in ([share.name for share in lacking], places))
        start_logging().info("shares to evaluate, in %%: %s; already there: %s", todo, done)
        if lacking and options.engine == "vllm":
            # An engine of vLLM keeps its device for as long as its process lives: a process for each share.
            with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
                for _, same in groupby(lacking, lambda share: share.options.percent):
                    pool.submit(answer_shares, arguments, [*same], unfinished).result()
        elif lacking:
            answer_shares(arguments, lacking, unfinished)
        places |= {share.name: unfinished_place(unfinished, share) for share in lacking}
        publish(shares, places, output)
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    run(main)
