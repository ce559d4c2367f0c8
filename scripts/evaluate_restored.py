r"""Undo parts of a fine-tuning in memory, and ask each restored model the same questions.

    python scripts/evaluate_restored.py --model base/ --delta delta/ --strategy top --region transformer \
        --percents '[1, 20]' --mastery mastery.parquet --order order.parquet --prompt resources/prompt.yaml \
        --output shares/

For every share, such as 20 %, `shares/` gets top-20.parquet with the answers and top-20.selection.parquet with what was
restored, and for every task of --tasks, such as support, top-20.support.task.parquet with the answers to its examples.
Several strategies are given by --strategies. Base and delta are read once for all strategies and shares, and one model
in memory becomes each of them in turn. An interrupted job goes on where it ended.
"""

import shutil
from argparse import Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.command_line import CommandLine, quick_imports, run
from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.canonical import plain_number
from knowshift.configuration.restoration import AskedShares, RestoredShare, Selecting
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


class Options(RunOptions, AskedShares, AskedTasks):
    """What is restored, and what the restored models are asked."""


class ShareOptions(RunOptions, Selecting, RestoredShare):
    """What is restored in one restored model, and what it is asked."""


@dataclass(frozen=True)
class Share:
    """A share of a region, undone with one strategy, asked about facts or a task, and what its tables depend on.

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
        """The share as paths write it, such as top-20, and what it is asked if that is a task, as top-20.math.task."""
        return f"{self.options.strategy}-{self._end}"

    @property
    def _end(self) -> str:
        percent = plain_number(self.options.percent)
        return f"{percent}.{self.task.name}.task" if self.task else percent

    def place(self, kept: Path) -> Path:
        """Return how the paths of its tables begin among those that earlier jobs made, see `--kept`."""
        return kept.with_name(f"{self.options.strategy}-{kept.name}-{self._end}")

    def files(self, place: Path) -> list[Path]:
        """List the paths of its tables, which begin with `place`: answers, and for questions also what was restored."""
        ends = [".parquet"] if self.task else [".parquet", ".selection.parquet"]
        return [place.with_name(f"{place.name}{end}") for end in ends]

    def record(self, place: Path) -> Path:
        """Return the path of the record that says what these tables were made from."""
        return hidden_beside(place, "made")

    def is_made(self, place: Path) -> bool:
        """Tell whether its tables are there, whole, and made from what they would be made from now."""
        return bool(self.key["code"]) and is_made(self.record(place), self.key, self.files(place))


class Compared(NamedTuple):
    """What a strategy reads beside base and delta.

    Attributes:
        histogram: the histogram of the region's relative changes.
        others: deltas of other seeds.
    """

    histogram: Path | None
    others: list[Path]


def compared(arguments: Namespace, strategy: str) -> Compared:
    """Return those of the given files that a strategy reads; the answers of others do not depend on them."""
    traits = STRATEGY_TRAITS[strategy]
    others = (arguments.others or []) if traits.other_seeds else []
    return Compared(arguments.histogram if traits.from_histogram else None, others)


def list_shares(arguments: Namespace, options: Options) -> list[Share]:
    """List the shares that are asked for, by strategy and rising, and after each the tasks that it is asked."""
    files = arguments.task_files or []
    if len(files) != len(options.tasks):
        raise KnowshiftError(f"--task-files names {len(files)} files, and --tasks {len(options.tasks)} tasks")
    rest, shares = options.model_dump(exclude={"strategy", "percents", "strategies", "tasks"}), []
    names = ("model", "prompt", "delta", "mastery", "order")
    for strategy, percents in options.percents_of.items():
        histogram, others = compared(arguments, strategy)
        given = (*(getattr(arguments, name) for name in names), histogram, arguments.files, *others)
        shared = {"code": arguments.code, "inputs": input_digests(*given)}
        for percent in percents:
            chosen = ShareOptions.model_validate({**rest, "strategy": strategy, "percent": percent})
            shares.append(Share(chosen, {**shared, "options": chosen.model_dump()}))
            for task, path in zip(options.tasks, files, strict=True):
                made_with = chosen.model_dump(include=set(TASK_OPTIONS)) | {"task": task.model_dump()}
                inputs = input_digests(arguments.model, arguments.delta, arguments.files, *others, path)
                key = {"code": arguments.code, "inputs": inputs, "options": made_with}
                shares.append(Share(chosen, key, task, path))
    return shares


def unfinished_place(folder: Path, share: Share) -> Path:
    """Return how a share's paths begin until all shares are there: in a folder of its own, named after its key."""
    return folder / f"{share.name}-{digest_of(share.key)}" / share.name


class Restoring:
    """The model that becomes each restored model in turn; it is read, and a strategy prepared, when that is needed.

    Args:
        arguments: the script's.
        shares: the shares that are asked.
    """

    def __init__(self, arguments: Namespace, shares: Sequence[Share]) -> None:
        self._arguments, self._shares = arguments, shares

    @cached_property
    def _models(self) -> "RestoredModels":
        from knowshift.restoration.in_memory import RestoredModels

        arguments = self._arguments
        return RestoredModels(arguments.model, arguments.delta, arguments.threads or 1, arguments.files)

    def prepared(self, options: ShareOptions) -> "RestoredModels":
        """Return the models with all shares of a share's strategy prepared, and those of no other strategy."""
        from knowshift.randomness import derive_seed
        from knowshift.restoration.schemas import HISTOGRAM
        from knowshift.runtime.parquet import read_table

        strategy, seed = options.strategy, derive_seed(options.seed, "restore")
        if self._models.prepared != (strategy, options.region, seed):
            mine = (share.options.percent for share in self._shares if share.options.strategy == strategy)
            path, others = compared(self._arguments, strategy)
            histogram = read_table(path, HISTOGRAM) if path else None
            self._models.undo(strategy, options.region, sorted({*mine}), seed, histogram, others)
        return self._models

    def make(self, options: ShareOptions, target: Any, last: bool, _: Any = None) -> Any:
        """Make a share's model on the device `target`."""
        return self.prepared(options).make(options.percent, options.dtype, target, last)


def by_model(shares: Sequence[Share]) -> list[list[Share]]:
    """Group shares, in their order, by the restored model that is asked."""
    return [[*same] for _, same in groupby(shares, lambda share: (share.options.strategy, share.options.percent))]


def answer_shares(arguments: Namespace, shares: Sequence[Share], folder: Path) -> None:
    """Restore each share, ask the restored model, and write the tables into folders below `folder`."""
    start_logging()
    with quick_imports():
        import torch

        from cli.asking import read_run_questions
        from cli.asking_in_turn import AskedInTurn
        from cli.asking_tasks import answer_task
        from knowshift.models.loading import check_model
        from knowshift.restoration.schemas import SELECTION
        from knowshift.runtime.device_lease import lease_device
        from knowshift.runtime.parquet import write_table

    check_model(arguments.model)
    questions: list[pa.Table] = []
    models, engines, grouped = Restoring(arguments, shares), [], by_model(shares)
    with lease_device(arguments.device, arguments.threads) as device:
        target = torch.device("cpu") if shares[0].options.engine == "vllm" else device  # see open_engine
        for same in grouped:
            options = same[0].options
            load = partial(models.make, options, target, same is grouped[-1])
            about = {"strategy": options.strategy, "region": options.region, "percent": options.percent}
            # First: it says whether the model's code is trusted.
            asked = AskedInTurn(arguments, options, load, device, engines)
            for share in same:
                answers, *selection = share.files(unfinished_place(folder, share))
                if selection and not selection[0].exists():
                    tensors = models.prepared(options).undoings[options.percent].tensors
                    write_table(selection[0], tensors, SELECTION, about)
                if share.task and share.examples:
                    place = share.examples, answers
                    more = share.key, {**about, "task": share.task.name}
                    answer_task(arguments, share.task, options.seed, *place, partial(getattr, asked, "engine"), *more)
                else:
                    inputs = arguments.delta, arguments.mastery, arguments.order
                    questions = questions or [read_run_questions(arguments, options)]
                    asked.answer(questions[0], answers, *inputs, about=about)


def publish(shares: Sequence[Share], places: Mapping[str, Path], output: Path) -> None:
    """Write the folder of all tables, each with its record, from where each share's tables are.

    Args:
        shares: the shares.
        places: the beginning of the paths of each share's tables, by its name.
        output: the folder.
    """
    with whole_directory(output, {"kind": "restored shares"}) as folder:
        for share in shares:
            place = folder / share.name
            files = share.files(place)
            for source, copy in zip(share.files(places[share.name]), files, strict=True):
                shutil.copyfile(source, copy)
            record_made(share.record(place), share.key, files)


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
        "strategies top and bottom; others do not read it.",
        required=False,
        bare=True,
    )
    parser.others()
    parser.file("--task-files", "Examples of each of --tasks (JSON lines).", required=False, many=True)
    parser.new_folder("--output", "Folder of tables to write (Parquet).")
    parser.add_argument(
        "--kept",
        metavar="FOLDER/REGION",
        type=Path,
        help="Earlier tables, which are copied where nothing that they depend on has changed: their folder, and the "
        "region as their names write it, as in STRATEGY-REGION-PERCENT.parquet.",
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
        places: dict[str, Path] = {}
        for share in shares:
            for place in [output / share.name, *([share.place(arguments.kept)] if arguments.kept else [])]:
                if share.is_made(place):
                    places[share.name] = place
        lacking = [share for share in shares if share.name not in places]
        todo, done = (", ".join(names) or "none" for names in ([share.name for share in lacking], places))
        start_logging().info("shares to evaluate, in %%: %s; already there: %s", todo, done)
        if lacking and options.engine == "vllm":
            # An engine of vLLM keeps its device for as long as its process lives: a process for each share.
            with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
                for same in by_model(lacking):
                    pool.submit(answer_shares, arguments, same, unfinished).result()
        elif lacking:
            answer_shares(arguments, lacking, unfinished)
        places |= {share.name: unfinished_place(unfinished, share) for share in lacking}
        publish(shares, places, output)
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    run(main)
