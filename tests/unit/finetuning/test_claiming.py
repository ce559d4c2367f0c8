"""Claiming a training: an output folder that may not be written is refused before a model is trained."""

from pathlib import Path

import pytest

from knowshift.finetuning.job import TrainingFiles, claimed
from knowshift.finetuning.options import TrainingOptions
from knowshift.runtime.errors import KnowshiftError


def files(folder: Path) -> TrainingFiles:
    (folder / "base").mkdir()
    for name in ("base/config.json", "order.parquet", "prompt.yaml"):
        (folder / name).write_text("x")
    inputs = (folder / "base", folder / "order.parquet", folder / "prompt.yaml")
    return TrainingFiles(*inputs, folder / "checkpoint", folder / "steps.parquet")


def test_a_folder_of_somebody_else_is_refused_before_training(tmp_path: Path) -> None:
    made, options = files(tmp_path), TrainingOptions(name="s1", seed=1)
    with claimed(made, options, "code") as folder:
        assert folder and folder.is_dir()
    made.checkpoint.mkdir()
    (made.checkpoint / "thesis.tex").write_text("mine")
    with pytest.raises(KnowshiftError, match=r"thesis\.tex"), claimed(made, options, "code"):
        pass
    assert (made.checkpoint / "thesis.tex").read_text() == "mine"


def test_the_base_is_no_place_for_a_checkpoint(tmp_path: Path) -> None:
    made = files(tmp_path)
    inside = TrainingFiles(made.model, made.order, made.prompt, made.model / "checkpoint", made.steps)
    with pytest.raises(KnowshiftError, match="lies in"), claimed(inside, TrainingOptions(name="s1", seed=1), "code"):
        pass
