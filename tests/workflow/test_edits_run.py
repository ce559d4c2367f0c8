"""Edits that count levels anew: below that checkpoint a dry run knows nothing, so they are run, on fewer cells."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

import tiny
from edits import EXPORTS, NOTHING, PAGES, UNITS, Edit, asked, code, config, put, restored, tables, trained
from knowshift.finetuning.orders import drawable_digests
from workflow import ONCE, Jobs, configure, each, jobs, together, would_run

KINDS = ("level0", "mixed")
FEW = [f"full-{data}-8-s1" for data in KINDS]


@pytest.fixture(scope="module")
def few(experiment: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment with fewer cells, run: two fine-tuned models, one restored, one exported, no chat model."""
    folder = tmp_path_factory.mktemp("few") / "copy"
    shutil.copytree(experiment, folder, symlinks=True)
    settings = configure(folder)
    del settings["models"]["tiny"]["instruct"]
    settings["finetuning"] |= {"methods": ["full"], "method_data": {}, "data": list(KINDS), "sizes": [8], "seeds": [1]}
    settings["restoration"] = [{"data": ["mixed"], "percents": [20]}]
    settings["exports"] = settings["exports"][:1]
    configure(folder, **settings)
    assert jobs(folder, python=python) == tables()
    return folder


def mastery(folder: Path) -> list[dict]:
    """Read the table of mastery, a row for each fact."""
    return pq.read_table(folder / "results/tiny/mastery.parquet").to_pylist()


def said(folder: Path, fact: dict) -> str:
    """Return the wrong object that the model says most often about a fact that it does not know."""
    completions = pq.read_table(folder / f"results/tiny/completions/{fact['topic']}.{fact['split']}.parquet")
    texts = completions.filter(pc.equal(completions["fact_id"], fact["fact_id"]))["text"].to_pylist()
    words = [text.split()[0] for text in texts if text.split()]
    objects = set(tiny.TOPICS[fact["topic"]][2]) - {fact["object"]}
    return max(sorted(objects), key=words.count)


def unknown(folder: Path, topic: str, split: str) -> dict:
    """Find a fact of level 0, which the model does not know at all."""
    return next(row for row in mastery(folder) if (row["topic"], row["split"], row["level"]) == (topic, split, 0))


def synonym(topic: str, split: str) -> Edit:
    """Make an edit that adds a synonym with which the model knows a fact that it did not know."""

    def edit(folder: Path) -> None:
        fact = unknown(folder, topic, split)
        with (folder / "mine/synonyms.csv").open("a") as file:
            file.write(f"{fact['object']},{said(folder, fact)}\n")

    return edit


def one_fact(folder: Path) -> None:
    """Give a fact of training another object; the model knows neither the old nor the new one. This is an edit."""
    fact, path = unknown(folder, "home", "train"), folder / "mine/raw/train/home.train.json"
    other = next(o for o in tiny.TOPICS["home"][2] if o not in (fact["object"], said(folder, fact)))
    rows = json.loads(path.read_text())
    for row in rows:
        if row["question"] == fact["question"]:
            row["answers"] = [other]
    path.write_text(json.dumps(rows))


def new_topic(domain: str) -> Edit:
    """Make an edit that adds a topic with the facts of `home` and another question."""

    def edit(folder: Path) -> None:
        template = yaml.safe_load((folder / "mine/templates/home.yaml").read_text())
        question = "Which is the home of [X] ?"
        changed = {**template, "topic": "roof", "name": "roof", "question": question}
        (folder / "mine/templates/roof.yaml").write_text(yaml.safe_dump(changed))
        for split in tiny.SPLITS:
            text = (folder / f"mine/raw/{split}/home.{split}.json").read_text()
            text = re.sub(r"Where does (\w+) live \?", r"Which is the home of \1 ?", text)
            (folder / f"mine/raw/{split}/roof.{split}.json").write_text(text)
        config(lambda settings: settings["facts"][domain].append("roof"))(folder)

    return edit


def regraded(model: str = "tiny") -> Jobs:
    """Return the jobs that grade completions, and evaluate all models on the questions that the levels now select."""
    grading = {rule: {model} for rule in ("grade_mastery", "count_levels", "evaluate_base")}
    shares = restored(["full-mixed-8-s1/top/transformer/20"], model)
    return together(grading, asked(FEW, model), shares, tables(model))


def redrawn(kinds: Sequence[str], model: str = "tiny") -> Jobs:
    """Return the jobs that draw other facts for some kinds of data, and fine-tune on them."""
    exported = {"export_model": each("tiny", EXPORTS[:1])} if model == "tiny" and "mixed" in kinds else NOTHING
    orders = {"draw_order": each(model, kinds, "/1")} if kinds else NOTHING
    return together(orders, *(trained([f"full-{kind}-8-s1"], model) for kind in kinds), exported)


def drawn(folder: Path, model: str = "tiny") -> dict[str, str]:
    """Map each kind of data to a digest of the facts that it may draw."""
    return drawable_digests(pq.read_table(folder / f"results/{model}/mastery.parquet"))


def others_drawn(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """List the kinds of data that may draw other facts than before."""
    return tuple(kind for kind in KINDS if before[kind] != after[kind])


REGRADED = regraded()
HOME = ["home/train", "home/dev", "home/test"]
FACTS = {"build_facts": {"home"}, "tabulate_facts": ONCE}

RUN = {
    "a matching rule": (put("facts.matching", "substring"), REGRADED, ()),
    "a level boundary": (put("mastery.boundaries", [0.4, 0.5, 0.75]), REGRADED, ()),
    "a synonym that moves no fact of training": (synonym("job", "test"), REGRADED, ()),
    "a synonym that moves a fact out of level 0": (synonym("home", "train"), REGRADED, ("level0",)),
    "the probe's temperature": (
        put("mastery.temperature", 0.8),
        together({"probe_mastery": each("tiny", UNITS)}, REGRADED),
        ("level0",),
    ),
    "a function that the probe uses": (
        code("scripts/knowshift/mastery/probing.py", 'derive_seed(seed, "probe",', 'derive_seed(seed, "sample",'),
        together({"probe_mastery": each("tiny", UNITS)}, REGRADED),
        ("level0",),
    ),
    "a completion template of a topic": (
        code("mine/templates/home.yaml", "[X] lives in", "[X] has a home in"),
        together({"probe_mastery": each("tiny", HOME)}, REGRADED),
        ("level0",),
    ),
    "a fact of a topic": (
        one_fact,
        together(FACTS, {"probe_mastery": each("tiny", HOME)}, REGRADED),
        ("level0", "mixed"),
    ),
    "add a topic out of domain": (
        new_topic("out_of_domain"),
        together(
            {"build_facts": {"roof"}, "tabulate_facts": ONCE},
            {"probe_mastery": {"tiny/roof/dev", "tiny/roof/test"}},
            REGRADED,
        ),
        (),
    ),
    "add a topic in domain": (
        new_topic("in_domain"),
        together(
            {"build_facts": {"roof"}, "tabulate_facts": ONCE},
            {"probe_mastery": {"tiny/roof/train", "tiny/roof/dev", "tiny/roof/test"}},
            REGRADED,
        ),
        ("level0", "mixed"),
    ),
    "remove a topic out of domain": (
        put("facts.out_of_domain", []),
        together({"tabulate_facts": ONCE}, REGRADED),
        (),
    ),
    "remove a topic in domain": (
        put("facts.in_domain", ["home"]),
        together({"tabulate_facts": ONCE}, REGRADED),
        ("level0", "mixed"),
    ),
}


@pytest.mark.parametrize("name", RUN)
def test_an_edit_above_the_levels_trains_what_draws_other_facts(
    few: Path, python: Path, tmp_path: Path, name: str
) -> None:
    edit, expected, kinds = RUN[name]
    folder = Path(shutil.copytree(few, tmp_path / "copy", symlinks=True))
    edit(folder)
    ran = jobs(folder, python=python)
    assert others_drawn(drawn(few), drawn(folder)) == kinds
    assert ran == together(expected, redrawn(kinds))


def test_a_second_model_reruns_nothing_of_the_first(few: Path, python: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(few, tmp_path / "copy", symlinks=True))
    config(lambda settings: settings["models"].update(other={"source": {"directory": "model"}}))(folder)
    assert jobs(folder, python=python) == together(
        {"resolve_model": {"other"}, "probe_mastery": each("other", UNITS)},
        regraded("other"),
        redrawn(KINDS, "other"),
        {"tabulate_published": ONCE},
    )
    assert would_run(folder) == NOTHING

    before = drawn(folder, "other")
    put("models.other.dtype", "bfloat16")(folder)  # of one model
    ran = jobs(folder, python=python)
    kinds = others_drawn(before, drawn(folder, "other"))
    assert "mixed" not in kinds
    assert ran == together({"probe_mastery": each("other", UNITS)}, regraded("other"), redrawn(kinds, "other"))

    config(lambda settings: settings["models"].pop("other"))(folder)
    assert would_run(folder) == together({"tabulate_published": ONCE}, PAGES)


def test_a_share_more_is_evaluated_alone_and_a_forced_rule_evaluates_all(
    few: Path, python: Path, tmp_path: Path
) -> None:
    """One process evaluates all strategies and shares of a cell, and computes those that are stale."""
    folder = Path(shutil.copytree(few, tmp_path / "copy", symlinks=True))
    cell, process = "full-mixed-8-s1/top/transformer", "full-mixed-8-s1/transformer"
    kept = folder / "results/tiny/runs/full-mixed-8-s1/restored"
    log = folder / "results/logs/evaluate_restored/tiny.full-mixed-8-s1.transformer.log"
    names = {"top-transformer-20.parquet", "top-transformer-20.selection.parquet"}

    def tables_there() -> dict[str, bytes]:
        assert not list(kept.glob("*.shares")) and not list(kept.glob(".*.unfinished"))
        return {path.name: path.read_bytes() for path in kept.glob("*.parquet")}

    before = tables_there()
    assert set(before) >= names
    both = {"evaluate_restored": {f"tiny/{process}"}, "keep_restored": each("tiny", [f"{cell}/20", f"{cell}/40"])}
    put("restoration", [{"data": ["mixed"], "percents": [20]}, {"data": ["mixed"], "percents": [40, 20]}])(folder)
    assert would_run(folder) == together(both, tables())
    assert jobs(folder, python=python) == together(both, tables())
    after = tables_there()
    assert after.items() > before.items() and "top-transformer-40.parquet" in after
    assert "shares to evaluate, in %: top-40; already there: top-20\n" in log.read_text()
    assert would_run(folder) == NOTHING

    assert jobs(folder, "--forcerun", "evaluate_restored", python=python) == together(both, tables())
    assert tables_there() == after
    assert "shares to evaluate, in %: top-20, top-40; already there: none\n" in log.read_text()

    put("restoration", [{"data": ["mixed"], "percents": [40]}])(folder)
    assert would_run(folder) == tables()
    damaged = kept / "top-transformer-40.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    jobs(folder, "--force", str(damaged.relative_to(folder)), python=python)
    assert tables_there() == after
