"""Edits of a copy of the tiny experiment, and the jobs that must run again after them, by rule and cell."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import yaml

from workflow import ONCE, Jobs, configure, each, together

Edit = Callable[[Path], object]

# The cells of the tiny experiment (tiny.py). Sizes of 1000 are infeasible.
UNITS = [f"{topic}/{split}" for topic in ("home", "pet") for split in ("train", "dev", "test")]
UNITS += ["job/dev", "job/test"]
FULL = [f"full-{data}-{cell}" for data in ("level0", "mixed") for cell in ("8-s1", "8-s2", "all-s1")]
LORA = [f"lora-mixed-{cell}" for cell in ("8-s1", "8-s2", "all-s1")]
RUNS = FULL + LORA
RESTORED = [f"full-mixed-8-s1/{cell}" for cell in ("top/transformer/0", "top/transformer/20", "top/transformer/100")]
RESTORED += ["full-mixed-8-s1/random/mlp/50", "full-mixed-8-s1/top/0-1/100"]
EXPORTS = ["full-mixed-8-s1/top/transformer/20", "full-mixed-8-s1/absolute/values/50"]

PICTURES: Jobs = {"plot": ONCE, "report": ONCE}
PRINTED: Jobs = {"print_tables": ONCE, "report": ONCE}
PAGES: Jobs = {"join_tables": ONCE, "tabulate_costs": ONCE, **PRINTED, **PICTURES}
NOTHING: Jobs = {}


def tables(model: str = "tiny") -> Jobs:
    """Return the jobs that make a model's tables, and all that is made of tables."""
    return {"tabulate_model": {model}, "analyse_model": {model}, **PAGES}


def asked(runs: list[str], model: str = "tiny") -> Jobs:
    """Return the jobs that evaluate fine-tuned models."""
    return {"evaluate": each(model, runs), "measure_divergence": each(model, runs)}


def trained(runs: list[str], model: str = "tiny") -> Jobs:
    """Return the jobs that fine-tune models, with all that follows for each."""
    made = {rule: each(model, runs) for rule in ("finetune", "diff_weights")}
    return together(made, {"measure_changes": each(model, runs, "/transformer")}, asked(runs, model))


def stopped(runs: list[str], model: str = "tiny") -> Jobs:
    """Return the jobs of cells that stop another's training early: all that follows a training, and none."""
    return {rule: cells for rule, cells in trained(runs, model).items() if rule != "finetune"}


def restored(shares: list[str], model: str = "tiny", with_others: bool = False) -> Jobs:
    """Return the jobs that evaluate restored models: one process for each cell and region.

    Args:
        shares: the restored models, RUN/STRATEGY/REGION/PERCENT.
        model: the model.
        with_others: whether the other shares of these processes are there, and are copied anew.
    """

    def process(share: str) -> str:
        cell, _, region, _ = share.rsplit("/", 3)
        return f"{cell}/{region}"

    processes = {process(share) for share in shares}
    others = [share for share in RESTORED if process(share) in processes] if with_others else []
    return {"evaluate_restored": each(model, processes), "keep_restored": each(model, [*shares, *others])}


def graded(model: str = "tiny") -> Jobs:
    """Return the jobs that grade stored completions; a dry run cannot know what follows the checkpoint."""
    return {rule: {model} for rule in ("grade_mastery", "count_levels", "evaluate_base", "evaluate_instruct")}


FULL_TRAINED = together(
    trained(FULL),
    {"measure_changes": {"tiny/full-mixed-8-s1/0-1"}},  # its histogram is that of a restored region
    restored(RESTORED),
    {"export_model": each("tiny", EXPORTS)},
    tables(),
)
# Of the trainings on mixed facts one more step's model is wanted.
STOPPED_TRAINED = together(
    trained([run for run in FULL if "mixed" in run]),
    {"measure_changes": {"tiny/full-mixed-8-s1/0-1"}},
    restored(RESTORED),
    {"export_model": each("tiny", EXPORTS)},
    tables(),
)
ALL_TRAINED = together(FULL_TRAINED, trained(LORA))
ALL_PROBED = together({"probe_mastery": each("tiny", UNITS)}, graded(), tables())
TRAIN_PROBED = together({"probe_mastery": {"tiny/home/train", "tiny/pet/train"}}, graded(), tables())


# --- edits ---


def config(change: Callable[[dict], object]) -> Edit:
    """Make an edit that changes the configuration."""

    def edit(folder: Path) -> None:
        settings = configure(folder)
        change(settings)
        configure(folder, **settings)

    return edit


def put(key: str, value: object) -> Edit:
    """Make an edit that gives a key of the configuration, such as `facts.path`, another value."""

    def change(settings: dict) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            settings = settings.setdefault(parent, {})
        settings[last] = value

    return config(change)


def restore(**entry: object) -> Edit:
    """Make an edit that adds an entry under restoration, for one run."""
    cell = {"methods": ["full"], "data": ["mixed"], "sizes": [8], "seeds": [1]}
    return config(lambda settings: settings["restoration"].append({**cell, **entry}))


def remove_restored(key: str, value: object) -> Edit:
    """Make an edit that removes the entries under restoration in which a key has a value."""

    def change(settings: dict) -> None:
        settings["restoration"] = [entry for entry in settings["restoration"] if entry.get(key) != value]

    return config(change)


def code(file: str, old: str, new: str) -> Edit:
    """Make an edit that replaces the first occurrence of a text in a file, and asserts that there is one."""

    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text, f"{file} no longer has {old!r}"
        (folder / file).write_text(text.replace(old, new, 1))

    return edit


def older(file: str, old: str, new: str) -> Edit:
    """Make an edit that puts another file in the place of one: as `code`, with a time before that of all results."""

    def edit(folder: Path) -> None:
        code(file, old, new)(folder)
        os.utime(folder / file, (0, 0))

    return edit


def several(*edits: Edit) -> Edit:
    """Make one edit of several."""
    return lambda folder: [edit(folder) for edit in edits]


def unparse(file: str) -> Edit:
    """Make an edit that formats a Python file anew, without comments."""
    return lambda folder: (folder / file).write_text(ast.unparse(ast.parse((folder / file).read_text())))


def reverse_keys(folder: Path) -> None:
    """Reverse the order of all keys of the configuration; this is an edit."""

    def turned(value: object) -> object:
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    (folder / "config.yaml").write_text(yaml.safe_dump(turned(configure(folder)), sort_keys=False))


def delete(name: str) -> Edit:
    """Make an edit that deletes a file."""
    return lambda folder: (folder / name).unlink()


def variant(name: str, **settings: object) -> Edit:
    """Make an edit that adds a variant of full fine-tuning, on mixed data."""
    return several(
        put("finetuning.variants", {name: {"method": "full", **settings}}),
        put("finetuning.methods", ["full", "lora", name]),
        put("finetuning.method_data", {"lora": ["mixed"], name: ["mixed"]}),
    )


def trained_as(name: str) -> Jobs:
    """Return the jobs that such a variant adds."""
    return together(trained([run.replace("lora", name) for run in LORA]), tables())


METHODS = {
    "add a method": (variant("bf16", dtype="bfloat16"), trained_as("bf16")),
    "add a method that is pulled to the base": (variant("pulled", l2_sp=0.1), trained_as("pulled")),
    "add a method that trains known facts along": (
        variant("replayed", replay=0.5),
        together({"draw_order": {"tiny/known/1", "tiny/known/2"}}, trained_as("replayed")),
    ),
}

OLDER_TIMES = {
    "another prompt with an older time": (
        older("resources/prompt.yaml", '"<|question|> {question}', '"<|question|> Say: {question}'),
        together(ALL_TRAINED, {"evaluate_base": {"tiny"}, "evaluate_instruct": {"tiny"}}),
    ),
    "other synonyms with an older time": (
        older("mine/synonyms.csv", "Paris,Lutetia", "Rome,Roma"),
        together(graded(), tables()),
    ),
}

STOPS = {
    "stop a method early": (
        several(
            put("finetuning.variants", {"half": {"method": "full", "stop_at": 0.5}}),
            put("finetuning.methods", ["full", "lora", "half"]),
            put("finetuning.method_data", {"lora": ["mixed"], "half": ["mixed"]}),
        ),
        together(STOPPED_TRAINED, stopped([run.replace("lora", "half") for run in LORA])),
    ),
}
