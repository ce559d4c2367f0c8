"""Whatever stands in a configuration or another YAML file that a user writes is accepted, or refused in clear lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

import tiny
from fuzzing import DATES, JUNK, TEXTS, bounded, damaged, ends_well, fresh_folder, spoiled
from knowshift.configuration import checking
from knowshift.configuration.sections import GRID_KEYS
from knowshift.facts.templates import SUBJECT, read_prompt_template, read_topic_templates
from knowshift.finetuning.grid import cells
from knowshift.weights.regions import in_region, names_in_region

Fuzz = Callable[..., None]
NAMES = [f"model.layers.{layer}.{part}.weight" for layer in range(3) for part in ("self_attn.q_proj", "mlp.up_proj")]


@pytest.fixture
def good(tiny_facts: Path, tmp_path: Path) -> dict[str, Any]:
    """A configuration that is accepted."""
    return tiny.configuration(tiny_facts, tmp_path)


def test_configurations(good: dict[str, Any], fuzz: Fuzz, tmp_path: Path) -> None:
    def check(raw: Any) -> None:
        settings = ends_well(lambda: checking.check(raw, tmp_path))
        if settings is not None:
            with bounded():
                grid = cells(**{key: getattr(settings.finetuning, key) for key in GRID_KEYS})
                assert len(set(grid)) == len(grid) > 0
                assert settings.computing_dtypes() and settings.narrow_answers() is not None
                for method in settings.finetuning.methods:
                    settings.finetuning.training(method)

    assert ends_well(lambda: checking.check(good, tmp_path))
    fuzz(spoiled(good, JUNK | DATES), check, 400)


def test_texts_of_configurations(good: dict[str, Any], fuzz: Fuzz, tmp_path: Path) -> None:
    text = yaml.safe_dump(good, sort_keys=False).encode()

    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            (folder / "config.yaml").write_bytes(data)
            ends_well(lambda: checking.read(folder / "config.yaml", tmp_path))

    fuzz(damaged(text) | st.binary(max_size=40), check, 150)


TEMPLATES = {
    "topic": "home",
    "name": "home",
    "question": "Where is [X] ?",
    "completions": ["[X] is in", "[X] lives in"],
}
PROMPT = {"prompt": "Q: {question} A:", "answer": " {object}"}


def written(value: Any) -> bytes:
    """Write a value as YAML, or as nothing where YAML has no form for it."""
    try:
        return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
    except yaml.YAMLError:
        return b""


@pytest.mark.parametrize(
    ("name", "values", "read"),
    [("home.yaml", TEMPLATES, read_topic_templates), ("prompt.yaml", PROMPT, read_prompt_template)],
)
def test_templates(name: str, values: dict, read: Callable[[Path], Any], fuzz: Fuzz) -> None:
    def check(data: bytes) -> None:
        with fresh_folder() as folder:
            path = folder / name
            path.write_bytes(data)
            found = ends_well(lambda: read(path))
            if found is not None:
                before = found.question.count(SUBJECT) if name == "home.yaml" else found.prompt.count("{question}")
                assert before == 1
                assert "somebody" in found.ask("somebody")

    fuzz(spoiled(values, JUNK | DATES).map(written) | damaged(written(values)), check, 200)


def test_regions(fuzz: Fuzz) -> None:
    numbers = st.sampled_from(["0", "2", "7", "99999999999", "-", ",", "0-3"])
    pieces = st.lists(
        numbers | st.sampled_from(["(", ")", "a+", "*", ".", r"\d", "[", "layers", "{2}", "|"]), max_size=6
    )

    def check(region: str) -> None:
        chosen = ends_well(lambda: names_in_region(NAMES, region))
        if chosen is not None:
            assert chosen == [name for name in NAMES if in_region(name, region)] != []

    fuzz(pieces.map("".join) | st.sampled_from(TEXTS) | st.text(max_size=12), check, 200)
