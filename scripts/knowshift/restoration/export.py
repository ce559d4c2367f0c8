"""Writing restored models as ordinary Hugging Face directories, with a card that says how they were made."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.restoration.undoing import Undoing
from knowshift.runtime.artefacts import manifest_of
from knowshift.weights.model_writer import write_model
from knowshift.weights.versions import Versions

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [knowshift]
{base_model}---
# {name}

The fine-tuned model `{after}`, whose base is {before}, with a part of the update undone. {undone}.
All other parameters are those of the fine-tuned model, stored as {dtypes}.

Made with knowshift: `export_model.py --strategy {strategy} --region '{region}' --percent {percent:g} --seed {seed}`.
`selection.json` holds the numbers, and how many parameters of each tensor were restored. The method is that of Ye et
al., EMNLP 2025 (arXiv:2509.16596).
"""
# A folder from elsewhere may have a manifest that was not written here: its words must not become parts of a card.
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
_WHEEL = re.compile(r"[\w.-]+ [\w.!+-]+ [\w./ +-]+")
SELECTED = """Of the {n:,} parameters in
the region `{region}`, {k_count:,} ({percent:g} %) have their values from before fine-tuning again, chosen by the
strategy `{strategy}`: {undoes}"""
COMPUTED = """Of the changes to the {n:,}
parameters in the region `{region}`, {percent:g} % were undone by the strategy `{strategy}`: {undoes}"""


def export_restored(
    output: Path, base: Path, files: Path, versions: Versions, undoing: Undoing, about: dict[str, Any]
) -> None:
    """Write a restored model into a directory, in the shards of the base.

    Args:
        output: an existing directory.
        base: the model directory before training.
        files: the directory that configuration and tokenizer are copied from.
        versions: the model before and after training.
        undoing: what to undo.
        about: `name` of the model, `after` (the name of what holds the fine-tuned model), and the `strategy`, `region`,
            `percent` and `seed` of the restoration; the card says them, and `selection.json` holds them.
    """
    write_model(output, base, files, versions.dtypes, lambda name: _pieces(versions, undoing, name), versions.added)
    dtypes = sorted(set(versions.dtypes.values()))
    counts = {"n": undoing.parameters, "k_count": undoing.selected, "threshold": undoing.threshold}
    traits = STRATEGY_TRAITS[about["strategy"]]
    undone = (SELECTED if traits.selects else COMPUTED).format(undoes=traits.undoes, **counts, **about)
    before, base_model = _origin(base)
    card = CARD.format(
        undone=undone, dtypes=" and ".join(dtypes), before=before, base_model=base_model, **counts, **about
    )
    (output / "README.md").write_text(card, encoding="utf-8")
    table = undoing.tensors
    restored = dict(zip(table["tensor"].to_pylist(), table["restored"].to_pylist(), strict=True))
    unchanged = sum(table["restored_unchanged"].to_pylist())
    report = {**about, **counts, "restored_unchanged": unchanged, "restored_per_tensor": restored}
    (output / "selection.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _origin(base: Path) -> tuple[str, str]:
    """Say where a base comes from, by its manifest where it has one that says it.

    Returns:
        Markdown for the text of a card, and the line of its header that names a base model on the hub, or "".
    """
    match (manifest_of(base, verify=False) or {}).get("source"):
        case {"hub": str(repository), "revision": str(revision)} if _REPOSITORY.fullmatch(f"{repository}@{revision}"):
            return f"`{repository}` at {revision}", f"base_model: {repository}\n"
        case {"wheel": str(package), "version": str(version), "file": str(file)} if _WHEEL.fullmatch(
            f"{package} {version} {file}"
        ):
            return f"`{file}` of the Python package {package} {version}", ""
        case _:
            return f"`{base.name}`", ""


def _pieces(versions: Versions, undoing: Undoing, name: str) -> Iterator[np.ndarray]:
    """Return the consecutive pieces of a tensor of the restored model, as one-dimensional bit patterns."""
    if name in undoing.names:
        return (bits for _, bits in undoing.restored_pieces(versions, name))
    return (piece.tuned for piece in versions.pieces(name, 0, versions.parameters(name)))
