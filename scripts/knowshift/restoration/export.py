"""Restored models as ordinary Hugging Face directories, with a card that says how they were made."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from knowshift.restoration.selection import Selection
from knowshift.runtime.artefacts import manifest_of
from knowshift.weights.model_writer import write_model
from knowshift.weights.versions import Pairs

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [knowshift]
{base_model}---
# {name}

The fine-tuned model `{after}`, whose base is {before}, with a part of the update undone. Of the {n:,} parameters in the region `{region}`,
{k_count:,} ({percent:g} %) have their values from before fine-tuning again, chosen by the strategy `{strategy}`:
{chosen}. All other parameters are those of the fine-tuned model, stored as {dtypes}.

Made with knowshift: `export_model.py --strategy {strategy} --region '{region}' --percent {percent:g} --seed {seed}`.
`selection.json` holds the numbers, and how many parameters of each tensor were restored. The method is that of Ye et al.,
EMNLP 2025 (arXiv:2509.16596).
"""
CHOSEN = {
    "top": "those that fine-tuning changed most, relative to their value",
    "bottom": "those that fine-tuning changed least, relative to their value",
    "absolute": "those that fine-tuning changed most, in absolute terms",
    "random": "at random, by the seed",
}


def export(output: Path, base: Path, files: Path, pairs: Pairs, selection: Selection, about: dict) -> None:
    """Write a restored model into a directory, in the shards of the base.

    Args:
        output: the directory.
        base: the model directory before training.
        files: the directory that configuration and tokenizer are copied from.
        pairs: the model before and after training.
        selection: what to restore.
        about: name of the model, name of what holds the fine-tuned one (after), strategy, region, percent and seed, for the card
            and `selection.json`.
    """
    write_model(output, base, files, pairs.dtypes, lambda name: _pieces(pairs, selection, name))
    dtypes = sorted(set(pairs.dtypes.values()))
    counts = {"n": selection.parameters, "k_count": selection.selected, "threshold": selection.threshold}
    chosen = CHOSEN[about["strategy"]]
    before, base_model = _origin(base)
    card = CARD.format(
        chosen=chosen, dtypes=" and ".join(dtypes), before=before, base_model=base_model, **counts, **about
    )
    (output / "README.md").write_text(card, encoding="utf-8")
    table = selection.tensors
    restored = dict(zip(table["tensor"].to_pylist(), table["restored"].to_pylist(), strict=True))
    unchanged = pc.sum(table["restored_unchanged"]).as_py()
    report = {**about, **counts, "restored_unchanged": unchanged, "restored_per_tensor": restored}
    (output / "selection.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _origin(base: Path) -> tuple[str, str]:
    """Where a base comes from, by its manifest where it has one, and a line for the head of a card if that is the hub."""
    source = (manifest_of(base, verify=False) or {}).get("source", {})
    if "hub" in source:
        return f"`{source['hub']}` at {source['revision']}", f"base_model: {source['hub']}\n"
    if "wheel" in source:
        return f"`{source['file']}` of the Python package {source['wheel']} {source['version']}", ""
    return f"`{base.name}`", ""


def _pieces(pairs: Pairs, selection: Selection, name: str) -> Iterator[np.ndarray]:
    """Consecutive flat pieces of a tensor of the restored model, as bit patterns."""
    if name in selection.ties:
        return (bits for _, bits in selection.restored(pairs, name))
    return (piece.tuned for piece in pairs.pieces(name, 0, pairs.parameters(name)))
