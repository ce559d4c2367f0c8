"""No script that writes a folder replaces what it reads, or what somebody else has put there."""

import json
import zipfile
from pathlib import Path

import pytest

from fuzzing import runs_well

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
    """The writers of folders, with all of their arguments but `--output`."""
    base, tuned, delta = (str(inputs / name) for name in ("base", "tuned", "delta"))
    training = ["--order", str(inputs / "order.parquet"), "--prompt", str(inputs / "prompt.yaml")]
    away = str(inputs.with_name("away"))
    return {
        "export_model": ["--base", base, "--delta", delta, "--percent", "20"],
        "diff_weights": ["--base", base, "--tuned", tuned],
        "finetune": ["--model", base, *training, "--steps", f"{away}.parquet", "--device", "cpu"],
        "resolve_model": ["--source", json.dumps({"directory": base})],
        "retrieve_entityquestions": [
            *("--location", str(inputs / "facts.zip"), "--contents-sha256", "null", "--downloads", away),
        ],
    }


def content(folder: Path) -> dict[str, bytes | None]:
    """All files and folders below a folder; what a writer keeps for itself beside its output does not count."""
    paths = [path for path in folder.rglob("*") if not path.name.endswith((".lock", ".unfinished", "key.json"))]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("place", ["w", "w/base", "w/base/inside", ".", "mine", "link"])
@pytest.mark.parametrize("script", commands(Path("w")))
def test_nothing_that_was_there_is_replaced(inputs: Path, script: str, place: str) -> None:
    """`w/base/inside` lies in an input of all but one, which reads an archive and makes a folder of its own there."""
    root = inputs.parent
    (root / "mine/train").mkdir(parents=True)
    (root / "mine/train/home.train.json").write_text("mine")
    (root / "link").symlink_to("mine")
    before = content(root)
    done = runs_well(script, [*commands(inputs)[script], "--output", str(root / place)])
    assert not done or (script, place) == ("retrieve_entityquestions", "w/base/inside")
    after = content(root)
    assert {name: after.get(name) for name in before} == before and (root / "link").is_symlink()
