"""Restored models are evaluated in one process, yet every share's tables are those of a process of its own."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import evaluate_restored
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from cli.command_line import CommandLine
from knowshift.canonical import canonical_json, plain_number
from knowshift.evaluation.schemas import TASK_OUTCOMES
from knowshift.facts.schemas import FACTS
from knowshift.mastery.schemas import MASTERY
from knowshift.restoration.change_statistics import measure_changes
from knowshift.restoration.in_memory import RestoredModels
from knowshift.restoration.schemas import HISTOGRAM
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.parquet import read_table, table_metadata, write_table
from knowshift.runtime.resumption import digest_of
from knowshift.weights.deltas import diff_weights, open_versions

SHARES = [0.0, 5.0, 20.5, 100.0]

Tables = dict[str, bytes]
Evaluate = Callable[..., Tables]
Ways = dict[str, list[float]]


def mastery(facts: int) -> pa.Table:
    """Return a table of mastery with some facts of every level."""
    plain = dict.fromkeys(FACTS.names, "x") | {"aliases": [], "also_in_test": False}
    known = {"mastery": 0.5, "successes": [1], "first_position": [1], "half_mastery": [0.5, 0.5]}
    known |= {"draw_level": 2, "half_levels": [2, 2]}
    about = {"topic": "home", "domain": "in_domain", "split": "test", "object": "Rome"}
    asked = [{"fact_id": f"f{n}", "question": f"Where does hometest{n} live ?", "level": n % 5} for n in range(facts)]
    return pa.Table.from_pylist([plain | known | about | one for one in asked], schema=MASTERY)


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, deltas of two seeds to it, a histogram of the first's changes, and facts to ask about."""
    root = tmp_path_factory.mktemp("inputs")
    weights, draw = load_file(tiny_model / "model.safetensors"), torch.Generator().manual_seed(1)
    shutil.copytree(tiny_model, root / "base")
    for name in ("delta", "other"):
        moved = {key: value + 0.05 * torch.randn(value.shape, generator=draw) for key, value in sorted(weights.items())}
        tuned = root / f"tuned-{name}"
        tuned.mkdir()
        save_file(moved, tuned / "model.safetensors")
        facts: dict = {}
        with whole_directory(root / name, facts) as delta:
            facts |= diff_weights(root / "base", tuned, delta)
    histogram, _ = measure_changes(open_versions(root / "base", delta=root / "delta"), "transformer")
    write_table(root / "histogram.parquet", histogram, HISTOGRAM)
    write_table(root / "mastery.parquet", mastery(15), MASTERY)
    return root


@pytest.fixture
def evaluate(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Run the script in this process and return the bytes of its tables."""
    prompt = Path(evaluate_restored.__file__).parents[1] / "resources/prompt.yaml"

    def run(output: str, percents: list[float] | Ways, *more: str, strategy: str = "top", code: str = "1") -> Tables:
        place = tmp_path / output
        spec = {"per_level": {"test": 2}, "max_new_tokens": 3, "tokens_per_pass": 8}
        if isinstance(percents, dict):
            spec["strategies"] = [{"strategy": name, "percents": shares} for name, shares in percents.items()]
        else:
            spec |= {"strategy": strategy, "percents": percents}
        command = ["--model", str(inputs / "base"), "--delta", str(inputs / "delta"), "--prompt", str(prompt)]
        command += ["--mastery", str(inputs / "mastery.parquet"), "--spec", canonical_json(spec), "--code", code]
        command += ["--threads", "1", "--device", "cpu", "--chunk", "4"]
        monkeypatch.setattr("sys.argv", ["evaluate_restored.py", *command, "--output", str(place), *more])
        evaluate_restored.main()
        assert not list(tmp_path.glob(".*.unfinished"))
        return {path.name: path.read_bytes() for path in place.glob("*.parquet")}

    return run


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The shares of all models that are made, in order."""
    shares: list[float] = []
    make = RestoredModels.make

    def counted(self: RestoredModels, percent: float, *more, **others):
        shares.append(percent)
        return make(self, percent, *more, **others)

    monkeypatch.setattr(RestoredModels, "make", counted)
    return shares


def names(percents: list[float], strategy: str = "top") -> set[str]:
    ends = (".parquet", ".selection.parquet")
    return {f"{strategy}-{plain_number(percent)}{end}" for percent in percents for end in ends}


def keep(made: Path, kept: Path) -> list[str]:
    """Put the tables of a job, with their records, where later jobs look for them (FOLDER/REGION)."""
    kept.parent.mkdir(exist_ok=True)
    for path in made.iterdir():
        if path.name != "manifest.json":
            hidden, (strategy, rest) = "." * path.name.startswith("."), path.name.removeprefix(".").split("-", 1)
            shutil.copyfile(path, kept.with_name(f"{hidden}{strategy}-{kept.name}-{rest}"))
    return ["--kept", str(kept)]


@pytest.mark.parametrize("strategy", ["top", "bottom", "absolute", "random", "interpolate", "sign_agreeing"])
def test_shares_evaluated_together_are_those_evaluated_alone(
    evaluate: Evaluate, inputs: Path, tmp_path: Path, strategy: str
) -> None:
    others = ["--others", str(inputs / "other")] if strategy == "sign_agreeing" else []
    together = evaluate("together", SHARES, *others, strategy=strategy)
    assert set(together) == names(SHARES, strategy)
    for percent in SHARES:
        alone = evaluate(f"alone-{percent}", [percent], *others, strategy=strategy)
        assert alone == {name: together[name] for name in names([percent], strategy)}
    more = ["--histogram", str(inputs / "histogram.parquet")] if strategy in ("top", "bottom") else others
    assert evaluate("histogram", SHARES, *more, strategy=strategy) == together
    about = table_metadata(read_table(tmp_path / f"together/{strategy}-20.5.parquet"))
    assert about == {"strategy": strategy, "region": "transformer", "percent": 20.5}
    answers = {name: read_table(tmp_path / "together" / name)["gold_logprob"] for name in together if "sel" not in name}
    assert len({str(values) for values in answers.values()}) == len(SHARES)  # each share is another model


def test_shares_that_nothing_has_changed_for_are_copied(evaluate: Evaluate, tmp_path: Path, made: list[float]) -> None:
    few = evaluate("few", [5, 100])
    kept = keep(tmp_path / "few", tmp_path / "kept/transformer")
    made.clear()
    assert evaluate("all", SHARES, *kept).items() >= few.items() and made == [0, 20.5]
    made.clear()
    assert set(evaluate("less", [5], *kept)) == names([5]) and made == []
    assert evaluate("anew", [5], *kept, code="2").items() <= few.items() and made == [5]

    made.clear()
    damaged = tmp_path / "kept/top-transformer-5.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / "kept/top-transformer-100.selection.parquet").unlink()
    assert evaluate("mended", [5, 100], *kept) == few and made == [5, 100]
    made.clear()
    (tmp_path / "kept/.top-transformer-5.made").unlink()  # so a forced rule makes its results anew
    evaluate("forced", [5], *kept)
    assert made == [5]


COMPARING: Ways = {"top": [0, 20.5], "interpolate": [60, 100], "sign_agreeing": [5, 20.5], "last_layers": [50]}


def test_one_job_of_several_strategies_gives_what_a_job_for_each_gives(
    evaluate: Evaluate, inputs: Path, made: list[float]
) -> None:
    more = ["--others", str(inputs / "other"), "--histogram", str(inputs / "histogram.parquet")]
    together = evaluate("together", COMPARING, *more)
    assert made == [0, 20.5, 60, 100, 5, 20.5, 50]
    alone = [evaluate(f"alone {name}", shares, *more, strategy=name) for name, shares in COMPARING.items()]
    assert together == {name: table for tables in alone for name, table in tables.items()}
    assert len(together) == 2 * 7
    # Shares that differ are other models: the engine ran each of them.
    answers = [table for name, table in together.items() if "selection" not in name]
    assert len(set(answers)) == len(answers)


def test_a_further_strategy_is_computed_alone_and_each_depends_on_what_it_reads(
    evaluate: Evaluate, inputs: Path, tmp_path: Path, made: list[float]
) -> None:
    first: Ways = {"top": [5], "interpolate": [60]}
    histogram = ["--histogram", str(inputs / "histogram.parquet")]
    few = evaluate("few", first, *histogram)
    kept = keep(tmp_path / "few", tmp_path / "kept/transformer")
    made.clear()
    wider: Ways = {"top": [5], "sign_agreeing": [20.5], "interpolate": [60]}
    more = evaluate("more", wider, *histogram, "--others", str(inputs / "other"), *kept)
    assert more.items() > few.items() and made == [20.5]
    keep(tmp_path / "more", tmp_path / "kept/transformer")
    made.clear()
    # Other models to compare with make the shares of sign_agreeing stale; without a histogram those of top are.
    both = [str(inputs / "other"), str(inputs / "delta")]
    other = evaluate("other", wider, *histogram, "--others", *both, *kept)
    assert made == [20.5] and other.items() > few.items()
    made.clear()
    assert evaluate("without", wider, "--others", str(inputs / "other"), *kept) == more and made == [5]


def test_strategies_are_given_in_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    ways = [{"strategy": "top", "percents": [40, 1]}, {"strategy": "random", "percents": [1]}]
    _, options = CommandLine("", evaluate_restored.Options).read(["--strategies", json.dumps(ways)])
    assert list(options.percents_of.items()) == [("top", [1, 40]), ("random", [1])]
    wrong = {
        "give either --strategies, or --strategy and --percents": ["--strategy", "top"],
        "names something twice": ["--strategies", json.dumps([*ways, ways[0]])],
    }
    for says, more in wrong.items():
        with pytest.raises(SystemExit):
            CommandLine("", evaluate_restored.Options).read(["--strategies", json.dumps(ways), *more])
        said = capsys.readouterr().err
        assert says in said and said.startswith("error: ") and said.count("\n") == 1


def test_an_interrupted_job_keeps_the_shares_that_it_has_finished(
    evaluate: Evaluate, tmp_path: Path, made: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate("whole", SHARES)
    made.clear()
    with monkeypatch.context() as patched:
        make = RestoredModels.make

        def failing(self: RestoredModels, percent: float, *more, **others):
            if percent == 20.5:
                raise KeyboardInterrupt
            return make(self, percent, *more, **others)

        patched.setattr(RestoredModels, "make", failing)
        with pytest.raises(KeyboardInterrupt):
            evaluate("cut", SHARES)
    assert made == [0, 5] and not (tmp_path / "cut").exists()
    assert evaluate("cut", SHARES) == whole
    assert made == [0, 5, 20.5, 100]


def test_a_share_can_be_evaluated_in_a_process_of_its_own(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with vLLM, which gives its device back only when its process ends."""
    whole = evaluate("whole", [5])
    lists = []
    with monkeypatch.context() as patched:
        patched.setattr(evaluate_restored, "answer_shares", lambda *parts: lists.append(parts))
        patched.setattr(evaluate_restored, "publish", lambda *_: None)
        (tmp_path / "own").mkdir()
        evaluate("own", [5])
    ((arguments, shares, folder),) = lists
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        pool.submit(evaluate_restored.answer_shares, arguments, shares, folder).result()
    place = evaluate_restored.unfinished_place(folder, shares[0])
    assert [path.read_bytes() for path in shares[0].files(place)] == [
        whole["top-5.parquet"],
        whole["top-5.selection.parquet"],
    ]


def test_tasks_are_asked_in_the_same_process_and_a_changed_one_alone(
    evaluate: Evaluate, tmp_path: Path, made: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, kept = tmp_path / "task.jsonl", tmp_path / "kept/transformer"
    lines = [json.dumps({"prompt": f"hometest{number} lives in", "expected": "Rome"}) for number in range(9)]
    examples.write_text("\n".join(lines))
    tasks = [{"name": "t", "max_new_tokens": 2}]
    more = ["--tasks", canonical_json(tasks), "--task-files", str(examples), "--kept", str(kept)]
    plain = evaluate("plain", [5, 100])
    made.clear()
    both = evaluate("both", [5, 100], *more)
    assert made == [5, 100] and both.items() > plain.items()  # each model is made once for all that it is asked
    assert set(both) - set(plain) == {"top-5.t.task.parquet", "top-100.t.task.parquet"}
    table = read_table(tmp_path / "both/top-5.t.task.parquet", TASK_OUTCOMES)
    assert table["example"].to_pylist() == [*range(1, 10)] and set(table["half"].to_pylist()) == {"dev", "test"}
    about = {"strategy": "top", "region": "transformer", "percent": 5.0, "task": "t"}
    assert table_metadata(table) == about
    keep(tmp_path / "both", kept)
    made.clear()
    assert evaluate("again", [5, 100], *more) == both and made == []
    examples.write_text("\n".join(lines[1:]))
    with monkeypatch.context() as patched:
        patched.setattr("cli.asking.AskedModel.answer", lambda *_, **__: pytest.fail("questions were asked anew"))
        changed = evaluate("changed", [5, 100], *more)
    assert changed.items() > plain.items() and made == [5, 100]
    assert len(read_table(tmp_path / "changed/top-100.t.task.parquet")) == 8


def test_a_command_line_without_shares_takes_the_papers() -> None:
    _, options = CommandLine("", evaluate_restored.Options).read(["--strategy", "top"])
    assert options.percents == [1, 3, 5, 10, 20, 40, 60]


def test_answers_to_questions_and_tasks_depend_on_the_models_that_are_compared(tmp_path: Path) -> None:
    names = ("model", "prompt", "delta", "mastery", "order", "histogram", "files")
    for name in (*names, "other", "another", "examples"):
        (tmp_path / name).write_text(name)
    paths = {name: tmp_path / name for name in names}
    spec = {"per_level": {"test": 2}, "percents": [5, 20], "tasks": [{"name": "t"}], "strategy": "sign_agreeing"}
    options = evaluate_restored.Options.model_validate(spec)
    keys = []
    for others in ([tmp_path / "other"], [tmp_path / "other", tmp_path / "another"], None):
        given = Namespace(**paths, others=others, task_files=[tmp_path / "examples"], code="1")
        keys.append({share.name: digest_of(share.key) for share in evaluate_restored.list_shares(given, options)})
    assert [*keys[0]] == [f"sign_agreeing-{name}" for name in ("5", "5.t.task", "20", "20.t.task")]
    for name in keys[0]:
        assert len({one[name] for one in keys}) == 3
