"""Edits of a copy of the tiny experiment, and the jobs that they should rerun, by rule and cell."""

import ast
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
PAGES: Jobs = {
    "join_tables": ONCE,
    "tabulate_costs": ONCE,
    **PRINTED,
    **PICTURES,
}  # the joining tables, pictures, report
NOTHING: Jobs = {}


def tables(model: str = "tiny") -> Jobs:
    return {"tabulate_model": {model}, "analyse_model": {model}, **PAGES}


def asked(runs: list[str], model: str = "tiny") -> Jobs:
    """Fine-tuned models are asked again."""
    return {"evaluate": each(model, runs), "measure_divergence": each(model, runs)}


def trained(runs: list[str], model: str = "tiny") -> Jobs:
    """Models are trained, with all that is made of each."""
    made = {rule: each(model, runs) for rule in ("finetune", "diff_weights")}
    return together(made, {"measure_changes": each(model, runs, "/transformer")}, asked(runs, model))


def graded(model: str = "tiny") -> Jobs:
    """Stored completions are graded again; what the checkpoint leads to is not known in a dry run."""
    return {rule: {model} for rule in ("grade_mastery", "count_levels", "evaluate_base", "evaluate_instruct")}


ALL_TRAINED = together(
    trained(RUNS),
    {"measure_changes": {"tiny/full-mixed-8-s1/0-1"}},  # its histogram is that of a restored region
    {"evaluate_restored": each("tiny", RESTORED), "export_model": each("tiny", EXPORTS)},
    tables(),
)
ALL_PROBED = together({"probe_mastery": each("tiny", UNITS)}, graded(), tables())


# --- edits ---


def config(change: Callable[[dict], object]) -> Edit:
    """An edit of the configuration."""

    def edit(folder: Path) -> None:
        settings = configure(folder)
        change(settings)
        configure(folder, **settings)

    return edit


def put(key: str, value: object) -> Edit:
    """Another value of one key of the configuration."""

    def change(settings: dict) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            settings = settings.setdefault(parent, {})
        settings[last] = value

    return config(change)


def restore(**entry: object) -> Edit:
    """One more entry under restoration, for one cell."""
    cell = {"methods": ["full"], "data": ["mixed"], "sizes": [8], "seeds": [1]}
    return config(lambda settings: settings["restoration"].append({**cell, **entry}))


def remove_restored(key: str, value: object) -> Edit:
    """Without the entries under restoration that have a value."""

    def change(settings: dict) -> None:
        settings["restoration"] = [entry for entry in settings["restoration"] if entry.get(key) != value]

    return config(change)


def code(file: str, old: str, new: str) -> Edit:
    """Another text in a file of the workflow."""

    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text, f"{file} no longer has {old!r}"
        (folder / file).write_text(text.replace(old, new, 1))

    return edit


def several(*edits: Edit) -> Edit:
    """Edits at once."""
    return lambda folder: [edit(folder) for edit in edits]


def unparse(file: str) -> Edit:
    """A Python file in another formatting, without comments."""
    return lambda folder: (folder / file).write_text(ast.unparse(ast.parse((folder / file).read_text())))


def reverse_keys(folder: Path) -> None:
    def turned(value: object) -> object:
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    (folder / "config.yaml").write_text(yaml.safe_dump(turned(configure(folder)), sort_keys=False))


def delete(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()
