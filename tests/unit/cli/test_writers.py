"""No script that writes a folder replaces what it reads, or what somebody else has put there."""

import json
import zipfile
from pathlib import Path

import pytest

from fuzzing import runs_well
from knowshift.finetuning.job import TrainingFiles, claimed
from knowshift.finetuning.options import TrainingOptions
from knowshift.runtime.errors import KnowshiftError

SPLITS = ("train", "dev", "test")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with something to read for every writer, and notes beside it."""
    folder = tmp_path / "w"
    for name in ("base", "tuned", "delta"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    for name in ("notes.txt", "order.parquet", "prompt.yaml"):
        (folder / name).write_text("mine")
    with zipfile.ZipFile(folder / "facts.zip", "w") as archive:
        for split in SPLITS:
            archive.writestr(f"{split}/home.{split}.json", "[]")
    return folder


def commands(inputs: Path) -> dict[str, list[str]]:
    """The scripts that write folders, with all of their arguments but `--output`; that which trains is tried below."""
    base, tuned, delta = (str(inputs / name) for name in ("base", "tuned", "delta"))
    away = str(inputs.with_name("away"))
    return {
        "export_model": ["--base", base, "--delta", delta, "--percent", "20"],
        "diff_weights": ["--base", base, "--tuned", tuned],
        "resolve_model": ["--source", json.dumps({"directory": base})],
        "retrieve_entityquestions": [
            *("--location", str(inputs / "facts.zip"), "--contents-sha256", "null", "--downloads", away),
        ],
    }


def content(folder: Path) -> dict[str, bytes | None]:
    """All files and folders below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


PLACES = ["w", "w/base", "w/base/inside", ".", "mine", "link"]


def others(root: Path) -> dict[str, bytes | None]:
    """Put something of somebody else's into the places that are not inputs, and return all that is there."""
    (root / "mine/train").mkdir(parents=True)
    (root / "mine/train/home.train.json").write_text("mine")
    (root / "link").symlink_to("mine")
    return content(root)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("script", commands(Path("w")))
def test_nothing_that_was_there_is_replaced(inputs: Path, script: str, place: str) -> None:
    """`w/base/inside` lies in an input of all but one, which reads an archive and makes a folder of its own there."""
    root = inputs.parent
    before = others(root)
    done = runs_well(script, [*commands(inputs)[script], "--output", str(root / place)])
    assert not done or (script, place) == ("retrieve_entityquestions", "w/base/inside")
    after = content(root)
    assert {name: after.get(name) for name in before} == before and (root / "link").is_symlink()


@pytest.mark.parametrize("place", PLACES)
def test_training_does_not_begin_where_its_checkpoint_may_not_be_written(inputs: Path, place: str) -> None:
    root = inputs.parent
    before = others(root)
    files = TrainingFiles(
        model=inputs / "base",
        order=inputs / "order.parquet",
        prompt=inputs / "prompt.yaml",
        checkpoint=root / place,
        steps=root / "steps.parquet",
    )
    with pytest.raises(KnowshiftError), claimed(files, TrainingOptions(), ""):
        pass
    assert content(root) == before and (root / "link").is_symlink()
