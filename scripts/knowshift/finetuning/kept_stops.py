"""Keeps the model at some steps of a training, until the checkpoint is written."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from knowshift.finetuning.checkpoint import Checkpoint
from knowshift.finetuning.stops import step_of, stop_folder
from knowshift.runtime.artefacts import whole_directory


class KeptStops:
    """The models that a training keeps on its way, in the folder of its saved state.

    A model is written before the state of its step is saved, so a training that goes on from a saved state has all
    models of earlier steps. Those of later ones are written again, to the same bytes.

    Args:
        folder: of the saved state.
        shares: the shares of the steps after which the model is kept.
        steps: optimizer steps of the whole training.
    """

    def __init__(self, folder: Path, shares: Sequence[float], steps: int) -> None:
        self._folder, self._steps = folder, {share: step_of(share, steps) for share in shares}

    def are_due(self, step: int) -> bool:
        """Tell whether the model is kept after a step, from 1."""
        return step in self._steps.values()

    def keep(self, checkpoint: Checkpoint, step: int, first_process: bool) -> None:
        """Write the model as it is after a step; one process writes, and all others take part.

        Args:
            checkpoint: of the model in training.
            step: from 1; one that is due.
            first_process: whether this is the process that writes.
        """
        for share in [share for share, due in self._steps.items() if due == step]:
            if first_process:
                about = {"kind": "checkpoint", "step": step}
                with whole_directory(stop_folder(self._folder, share), about) as directory:
                    checkpoint.save(directory)
            else:
                checkpoint.follow()

    def put_into(self, checkpoint: Path) -> None:
        """Put the models into a checkpoint that is being written. They stay here too, in case it is not finished."""
        for share in self._steps:
            shutil.copytree(stop_folder(self._folder, share), stop_folder(checkpoint, share), copy_function=_link)


def _link(source: str, target: str) -> None:
    """Give a file a second name; copy it where the file system has no hard links."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
