"""Tables of an experiment that was not run, as large as asked: for tests of the report alone.

Values follow smooth curves with noise, so that charts have something to show; no statistic is computed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from made_up_knowledge import HELD_OUT
from made_up_undoing import UndoingTables

from knowshift.analysis.costs import STAGES
from knowshift.analysis.published import paper_models, read_published
from knowshift.analysis.run_schemas import CONCENTRATION, MODEL_TABLES, PRECISION
from knowshift.analysis.schemas import ANALYSES, COSTS
from knowshift.facts.schemas import FACT_COUNTS
from knowshift.finetuning.schemas import CELLS
from knowshift.mastery.schemas import LEVEL_COUNTS
from knowshift.report.figures.flow import FATES
from knowshift.runtime.parquet import write_table

# The report does not read these tables; they stay empty.
EMPTY = {name: schema for name, schema in MODEL_TABLES.items() if name not in ("concentration", "precision")}
PUBLISHED = Path(__file__).parents[2] / "resources/published"
NOT_TUNED = {"pre-trained": 0.31, "few-shot": 0.45, "most frequent object": 0.25, "instruct": 0.52}  # accuracies
HOW = {"strategy": "top", "region": "transformer", "percent": 20.0}  # what is restored where only one share is shown


@dataclass(frozen=True)
class Grid:
    """What is made up; the defaults are about as large as the default experiment."""

    models: tuple[str, ...] = ("smollm2-135m",)
    kinds: tuple[str, ...] = ("level0", "level2", "mixed")
    sizes: tuple[int, ...] = (30, 100)
    seeds: int = 2
    restored_sizes: tuple[int, ...] = (100,)
    percents: tuple[float, ...] = (0, 1, 3, 5, 10, 20, 40, 60)
    blocks: tuple[str, ...] = ()
    layers: int = 30
    in_domain: tuple[str, ...] = ("city_country", "city_state", "country_capital", "country_continent")
    out_of_domain: tuple[str, ...] = ("country_language", "country_currency", "symbol_element")
    outputs: int = 200  # rows of the table of facts per model and kind
    lora: bool = False
    instruct: bool = False
    elsewhere: tuple[str, ...] = ("support-bot",)  # names of models that were fine-tuned elsewhere
    # tasks: names, metrics, and the scale of their scores
    tasks: tuple[tuple[str, str, float], ...] = (("tickets", "contains", 1.0), ("replies", "loglikelihood", 2.0))


PAPER = Grid(
    models=("llama-3-8b", "llama-3-70b", "llama-2-7b", "llama-2-13b", "llama-2-70b"),
    kinds=("level0", "level1", "level2", "level3", "level4", "mixed"),
    sizes=(60, 120, 240, 480, 960, 1920, 18000),
    seeds=5,
    restored_sizes=(240, 1920),
    blocks=tuple(f"{first}-{first + 3}" for first in range(0, 32, 4)),
    layers=32,
    in_domain=tuple(f"P{number}" for number in (17, 19, 20, 36, 69, 131, 159, 276, 495, 740)),
    out_of_domain=tuple(
        f"P{number}" for number in (26, 40, 50, 106, 112, 127, 136, 170, 175, 176, 264, 407, 413, 800)
    ),
    outputs=2000,
    lora=True,
    instruct=True,
)  # fmt: skip


class Tables(UndoingTables):
    """The tables of a grid, rows drawn from one seeded stream."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.draw = np.random.default_rng(1)

    def write(self, folder: Path) -> None:
        """All tables that the report reads, below `folder`."""
        schemas = {"mastery": LEVEL_COUNTS, "cells": CELLS, **ANALYSES}
        schemas |= {"concentration": CONCENTRATION, "precision": PRECISION}
        rows = {name: list(getattr(self, name)()) for name in schemas} | {name: [] for name in EMPTY}
        for name, schema in {**schemas, **EMPTY}.items():
            joined = pa.schema([pa.field("model", pa.string(), False), *schema])
            write_table(folder / f"{name}.parquet", pa.Table.from_pylist(rows[name], schema=joined), joined)
        published = read_published(PUBLISHED, paper_models(PUBLISHED, dict.fromkeys(self.grid.models)))
        write_table(folder / "published.parquet", published.replace_schema_metadata(None), published.schema)
        for name, schema in {"costs": COSTS, "facts": FACT_COUNTS}.items():
            table = pa.Table.from_pylist(list(getattr(self, name)()), schema=schema)
            write_table(folder / f"{name}.parquet", table, schema)

    def estimate(self, name: str, value: float) -> dict:
        """A noisy value as columns: mean, spread and interval."""
        value = float(np.clip(value + self.draw.normal(0, 0.012), 0.001, 0.999))
        return {name: value, "spread": 0.013, "low": max(0.0, value - 0.045), "high": min(1.0, value + 0.04)}

    def change(self, name: str, value: float, width: float = 0.03) -> dict:
        """A difference as columns: value and interval."""
        return {name: value, f"{name}_low": value - width, f"{name}_high": value + width}

    def tuned(self, model: str) -> Iterator[dict]:
        """The fine-tuned conditions of a model, as the columns that name them."""
        for method in ["full", *(["lora"] if self.grid.lora else [])]:
            for data in self.grid.kinds if method == "full" else ["mixed"]:
                for size in self.grid.sizes:
                    if data != "level4" or size < 10000:
                        yield {"model": model, "method": method, "data": data, "size": size, "asked": str(size)}

    def others(self, model: str) -> list[dict]:
        """The models that were not fine-tuned, as the columns that name them."""
        names = ["pre-trained", "few-shot", "most frequent object", *(["instruct"] if self.grid.instruct else [])]
        return [{"model": model, "method": name, "data": None, "size": None, "asked": None} for name in names]

    def every(self) -> Iterator[dict]:
        """All conditions of all models, as the columns that name them."""
        for model in self.grid.models:
            yield from [*self.others(model), *self.tuned(model)]

    def truth(self, cell: dict, name: str) -> float:
        """An accuracy that peaks at 240 facts and is worst for level 0."""
        if cell["data"] is None:
            return NOT_TUNED[cell["method"]]
        rank = {"level0": -0.07, "level1": 0.0, "level2": 0.035, "level3": 0.025, "level4": -0.015, "mixed": 0.02}
        fall = 0.03 * max(0.0, np.log10(cell["size"] / 240)) * (2 if cell["data"] == "level0" else 1)
        return 0.62 + rank[cell["data"]] - fall - 0.05 * (name == "test_ood") + 0.02 * (cell["method"] == "lora")

    def cells(self) -> Iterator[dict]:
        """Rows of the table `cells`."""
        for model in self.grid.models:
            for cell in self.tuned(model):
                for seed in range(1, self.grid.seeds + 1):
                    run = f"{cell['method']}-{cell['data']}-{cell['size']}-s{seed}"
                    yield {"model": model, "run": run, "method": cell["method"], "data": cell["data"],
                           "size": cell["asked"], "facts": cell["size"], "seed": seed, "state": "run"}  # fmt: skip
            for name in self.grid.elsewhere:
                yield {"model": model, "run": f"tuned-{name}", "method": "tuned", "data": name, "size": None,
                       "facts": None, "seed": None, "state": "run"}  # fmt: skip
            yield {"model": model, "run": "full-level4-99999-s1", "method": "full", "data": "level4", "size": "99999",
                   "facts": 7436, "seed": 1, "state": "infeasible"}  # fmt: skip

    def mastery(self) -> Iterator[dict]:
        """Rows of the table `mastery`."""
        for model in self.grid.models:
            for domain in ("in_domain", "out_of_domain"):
                for index, topic in enumerate(getattr(self.grid, domain)):
                    for split in ("train", "dev", "test") if domain == "in_domain" else ("dev", "test"):
                        shares = self.draw.dirichlet(np.roll([4.0, 5.0, 2.0, 1.5, 1.2], index % 3))
                        for level, share in enumerate(shares):
                            count = int(share * {"train": 4000, "dev": 20, "test": 500}[split])
                            yield {"model": model, "domain": domain, "topic": topic, "split": split, "level": level,
                                   "facts": count, "drawable": count if split == "train" else 0}  # fmt: skip

    def scores(self) -> Iterator[dict]:
        """Rows of the table `scores`."""
        for cell in self.every():
            for name in [*HELD_OUT, *(["training_set"] if cell["data"] else [])]:
                found = self.estimate("accuracy", self.truth(cell, name))
                yield {**cell, "set": name, "seeds": self.grid.seeds if cell["data"] else 1, "questions": 125, **found,
                       "lowest": found["accuracy"] - 0.02, "highest": found["accuracy"] + 0.02,
                       **self.change("gain", found["accuracy"] - 0.31),
                       **self.change("standardised", found["accuracy"] - 0.01)}  # fmt: skip

    def scores_by_level(self) -> Iterator[dict]:
        """Rows of the table `scores_by_level`."""
        common = max(size for size in self.grid.sizes if size < 10000)
        for cell in self.every():
            for name in HELD_OUT:
                for level, base in enumerate((0.03, 0.2, 0.55, 0.74, 0.85)):
                    found = self.estimate("accuracy", base + self.truth(cell, name) - 0.6)
                    yield {**cell, "common": cell["size"] in (common, None), "set": name, "level": level,
                           "seeds": self.grid.seeds, "questions": 25, **found}  # fmt: skip

    def shifts(self) -> Iterator[dict]:
        """Rows of the table `shifts`."""
        for cell in self.every():
            if cell["data"] is None:
                continue
            for name in HELD_OUT:
                kl = 0.3 + 2 * (0.7 - self.truth(cell, name)) + abs(float(self.draw.normal(0, 0.02)))
                known = self.estimate("accuracy", 0.4 + self.truth(cell, name) * 0.7)
                yield {**cell, "set": name, "seeds": self.grid.seeds, "facts": 25, "kl": kl, "spread": 0.05,
                       "low": kl * 0.85, "high": kl * 1.15, "accuracy": known["accuracy"], "accuracy_low": known["low"],
                       "accuracy_high": known["high"], "before": 0.74}  # fmt: skip

    def correlations(self) -> Iterator[dict]:
        """Rows of the table `correlations`."""
        for model in self.grid.models:
            for data in [None, *self.grid.kinds]:
                for name in HELD_OUT:
                    yield {"model": model, "method": "full", "data": data, "set": name, "points": 12, "spearman": -0.71,
                           "low": -0.9, "high": -0.31}  # fmt: skip

    def sweeps(self) -> Iterator[dict]:
        """Restored cells, with what is restored of them."""
        for model in self.grid.models:
            for cell in self.tuned(model):
                if cell["size"] in self.grid.restored_sizes and cell["method"] == "full":
                    for percent in self.grid.percents:
                        yield {**cell, **HOW, "percent": float(percent)}
                    for block in self.grid.blocks:
                        yield {**cell, **HOW, "region": block, "percent": 100.0}

    def restorations(self) -> Iterator[dict]:
        """Rows of the table `restorations`."""
        for cell in self.sweeps():
            percent, whole = cell["percent"], cell["region"] == "transformer"
            for name in [*HELD_OUT, "training_set"]:
                start = self.truth(cell, name)
                peak = 0.05 if cell["data"] == "level0" else 0.015
                fall = 0.3 * max(0.0, percent - 30) / 30 if whole else 0.02
                gain = 0.0 if percent == 0 else peak * min(1, percent / 10) - fall
                p = None if percent == 0 else float(np.exp(-abs(gain) * 60))
                yield {**cell, "set": name, "seeds": 1, "questions": 125, **self.estimate("accuracy", start + gain),
                       "unrestored": start, **self.change("gain", gain), "gained": 6, "lost": 3, "p": p,
                       "p_corrected": None if p is None else min(1.0, p * 3),
                       "undone": min(1.0, 0.7 + 0.08 * float(np.log1p(percent))) if whole else None}  # fmt: skip

    def strategies(self) -> Iterator[dict]:
        """Rows of the table `strategies`."""
        known = {**NOT_TUNED, "mixed": 0.64, "divided": 0.65, "lora": 0.63, "restored": 0.69}  # fmt: skip
        for model in self.grid.models:
            for strategy, value in known.items():
                if not getattr(self.grid, strategy, True):
                    continue
                tuned, restored = strategy in ("mixed", "divided", "lora", "restored"), strategy == "restored"
                method = "lora" if strategy == "lora" else "full" if tuned else strategy
                for name in HELD_OUT:
                    found = self.estimate("accuracy", value - 0.05 * (name == "test_ood"))
                    yield {"model": model, "strategy": strategy, "chosen": "on dev" if tuned else "as it is",
                           "method": method, "size": self.grid.sizes[0] if tuned else None,
                           "data": ("mixed" if strategy in ("mixed", "lora") else "level2") if tuned else None,
                           "asked": str(self.grid.sizes[0]) if tuned else None,
                           "selection": "top" if restored else None,
                           "region": "transformer" if restored else None, "percent": 20.0 if restored else None,
                           "set": name, "seeds": 1, "questions": 125, **found,
                           **self.change("gain", found["accuracy"] - 0.31)}  # fmt: skip

    def restored_layers(self) -> Iterator[dict]:
        """Rows of the table `restored_layers`."""
        for cell in self.sweeps():
            if cell["region"] == "transformer" and cell["percent"]:
                shares = self.draw.normal(1, 0.05, self.grid.layers)
                for layer, share in enumerate(shares / shares.sum()):
                    yield {**cell, "layer": layer, "seeds": 1, "parameters": 3_500_000, "share": float(share),
                           "share_of_parameters": 1 / self.grid.layers}  # fmt: skip

    def restored_modules(self) -> Iterator[dict]:
        """Rows of the table `restored_modules`."""
        parts = {"mlp.down_proj": (0.28, 0.26), "mlp.up_proj": (0.28, 0.26), "mlp.gate_proj": (0.24, 0.26),
                 "self_attn.o_proj": (0.09, 0.09), "self_attn.q_proj": (0.07, 0.09), "self_attn.v_proj": (0.03, 0.02),
                 "self_attn.k_proj": (0.01, 0.02)}  # fmt: skip
        for cell in self.sweeps():
            if cell["region"] == "transformer" and cell["percent"]:
                for module, (share, even) in parts.items():
                    yield {**cell, "module": module, "seeds": 1, "parameters": 9_000_000, "share_of_parameters": even,
                           "share": share + float(self.draw.normal(0, 0.004))}  # fmt: skip

    def largest(self, model: str) -> list[dict]:
        """The conditions at the largest size that is restored."""
        size = max(self.grid.restored_sizes, default=None)
        return [cell for cell in self.tuned(model) if cell["size"] == size and cell["method"] == "full"]

    def flows(self) -> Iterator[dict]:
        """Rows of the table `flows`."""
        weights = {"kept": 26, "lost by restoring": 2, "regained": 3, "lost": 4, "learned": 30,
                   "learned by restoring": 3, "learned, then undone": 4, "never known": 28}  # fmt: skip
        for model in self.grid.models:
            for cell in self.largest(model):
                run = f"full-{cell['data']}-{cell['size']}-s1"
                for name, topics in (("test", self.grid.in_domain), ("test_ood", self.grid.out_of_domain)):
                    for topic in topics:
                        for level in range(5):
                            for (before, after, restored), fate in FATES.items():
                                if count := int(self.draw.poisson(weights[fate] / 5)):
                                    yield {**cell, "run": run, "seed": 1, **HOW, "set": name, "topic": topic,
                                           "level": level, "knowledge": "known" if before else "unknown",
                                           "before": before, "after": after, "restored": restored,
                                           "facts": count}  # fmt: skip

    def fact_outputs(self) -> Iterator[dict]:
        """Rows of the table `fact_outputs`."""
        fates = list(FATES)
        names = ["Paris", "Nouvelle-Aquitaine", "São Tomé", "Kraków", "Springfield", "Saint-Étienne, Loire", "Ōsaka"]
        for model in self.grid.models:
            for cell in self.largest(model):
                for row in range(self.grid.outputs):
                    topic = self.grid.in_domain[row % len(self.grid.in_domain)]
                    known = fates[int(self.draw.integers(len(fates)))]
                    answer = names[row % len(names)]
                    said = [answer if state else f"{names[(row + 1) % len(names)]} {row % 97}" for state in known]
                    states = dict(zip(("before", "after", "restored"), zip(said, known, strict=True), strict=True))
                    yield {**cell, "run": f"full-{cell['data']}-{cell['size']}-s1", **HOW, "fact_id": f"{row:016x}",
                           "set": "test", "topic": topic, "level": row % 5, "object": answer,
                           "question": f"Where is place number {row} of {topic} located, <b>exactly</b>?",
                           **{state: text for state, (text, _) in states.items()},
                           **{f"{state}_correct": right for state, (_, right) in states.items()},
                           **dict.fromkeys([f"{state}_probability" for state in states], 0.4)}  # fmt: skip

    def states(self) -> Iterator[dict]:
        """What probabilities are shown of: before, after and restored."""
        nothing = dict.fromkeys(HOW)
        for model in self.grid.models:
            yield {**self.others(model)[0], **nothing, "state": "before"}
            for cell in self.largest(model):
                yield {**cell, **nothing, "state": "after"}
                yield {**cell, **HOW, "state": "restored"}

    def concentration(self) -> Iterator[dict]:
        """Rows of the table `concentration`."""
        curve = {1: 0.6, 3: 0.7, 5: 0.75, 10: 0.82, 20: 0.88, 40: 0.94, 60: 0.97}
        for row in self.cells():
            if row["state"] == "run":
                for percent, share in curve.items():
                    yield {"model": row["model"], "run": row["run"], "region": "transformer", "percent": float(percent),
                           "share": 0.999, "share_without_zeros": share - 0.03 * (row["data"] == "level0"),
                           "null_share": share - 0.02, "share_of_absolute": percent ** 0.9 / 100 ** 0.9,
                           "null_share_of_absolute": percent / 100, "share_of_squares": percent ** 0.8 / 100 ** 0.8,
                           "null_share_of_squares": percent / 100, "changes_undone": percent / 100,
                           "changes_undone_bfloat16": min(1.0, percent / 45), "visible_bfloat16": 0.36,
                           "parameters": 106_000_000, "zero_before": 31_000, "unchanged": 120_000}  # fmt: skip

    def precision(self) -> Iterator[dict]:
        """Rows of the table `precision`."""
        for row in self.cells():
            if row["state"] == "run" and self.grid.restored_sizes:
                for dtype, seen, percent in [("float32", 1.0, 0.0), ("float32", 1.0, 40.0), ("bfloat16", 0.4, 40.0)]:
                    yield {"model": row["model"], "run": row["run"], **HOW, "percent": percent, "dtype": dtype,
                           "set": "test", "questions": 100, "correct": 40, "share_correct": 0.4, "accuracy": 0.4 * seen,
                           "gain": 0.4 * seen - 0.4, "visible": seen, "undone": percent / 100 / seen}  # fmt: skip

    def loss_curves(self) -> Iterator[dict]:
        """Rows of the table `loss_curves`."""
        start = {"level0": 5.2, "level1": 3.8, "level2": 2.7, "level3": 2.1, "level4": 1.7, "mixed": 3.3}
        for cell in self.every():
            if cell["data"] is None:
                continue
            steps = max(2, min(100, cell["size"] // 8))
            for point in range(steps):
                loss = start[cell["data"]] * (0.35 + 0.65 * np.exp(-5 * point / steps)) + abs(self.draw.normal(0, 0.1))
                yield {**cell, "seeds": self.grid.seeds, "step": (point + 0.5) * cell["size"] / 8 / steps,
                       "loss": float(loss), "lowest": float(loss * 0.9), "highest": float(loss * 1.1)}  # fmt: skip

    def claims(self) -> Iterator[dict]:
        """Rows of the table `claims`."""
        said = ["Accuracy peaks at a middle size and falls with more facts",
                "The mastery of the data decides, level 0 is worst",
                "KL falls, then rises with size, and tracks the loss of accuracy",
                "Most of the update can be undone without harm"]  # fmt: skip
        for model in self.grid.models:
            for claim, statement in enumerate(said, 1):
                for part in (None, "a", "b"):
                    yield {"model": model, "claim": claim, "part": part, "statement": statement,
                           "verdict": ["holds", "does not hold", "cannot be told"][claim % 3],
                           "measure": "accuracy at the peak less that at the largest size", "unit": "points",
                           "value": 0.031, "low": 0.004, "high": 0.057, "bound": None if part is None else 0.0,
                           "confidence": 0.9955, "seeds": 3, "standard_error": 0.008, "df": 4.0, "p": 0.004,
                           "p_corrected": 0.04, "detectable": 0.034, "compared": "level 0, 30 against 100 facts",
                           "note": "Two sizes show no peak." if (claim, part) == (2, None) else None,
                           "needed": "It lies 3.1 points from the bound, and 3.4 points would have been seen with 80 %"
                           " probability: it needs a larger effect, or about 5 seeds." if claim == 2 else None
                           }  # fmt: skip

    def recommendation(self) -> Iterator[dict]:
        """Rows of the table `recommendation`."""
        for model in self.grid.models:
            if not self.grid.restored_sizes:
                nothing = dict.fromkeys(ANALYSES["recommendation"].names)
                yield {**nothing, "model": model, "reason": "No cell was restored."}
                continue
            size = self.grid.restored_sizes[0]
            run = f"full-level2-{size}-s1"
            for name in HELD_OUT:
                yield {"model": model, "reason": None, "run": run, "method": "full", "data": "level2", "size": size,
                       "asked": str(size), **HOW, "dev_accuracy": 0.66, "dev_questions": 20, "candidates": 24,
                       "seeds": 3, "behind": 0.01, "behind_error": 0.02, "unrestored_method": "full",
                       "unrestored_data": "mixed", "unrestored_size": size, "unrestored_accuracy": 0.66,
                       "run_accuracy": 0.7, "note": "20 dev questions are few, so the choice is uncertain",
                       "set": name, "questions": 125, **self.change("accuracy", 0.69), **self.change("gain", 0.03),
                       **self.change("gain_unrestored", 0.034), **self.change("gain_pretrained", 0.38),
                       "command": f"snakemake results/{model}/exports/{run}/top-transformer-20/manifest.json"
                       }  # fmt: skip

    def costs(self) -> Iterator[dict]:
        """Rows of the table `costs`."""
        for index, stage in enumerate(STAGES):
            for model in self.grid.models:
                yield {"stage": stage, "model": model, "jobs": 3 + index, "seconds": 40.0 * (1 + index % 5),
                       "longest": 30.0, "cpu_seconds": 60.0, "memory": 900.0 + 300 * index,
                       "tokens_per_second": 640.0 if stage == "finetune" else None}  # fmt: skip

    def facts(self) -> Iterator[dict]:
        """Rows of the table `facts`."""
        for domain in ("in_domain", "out_of_domain"):
            for topic in getattr(self.grid, domain):
                yield {"topic": topic, "domain": domain, "train": 400, "dev": 20, "test": 50, "also_in_test": 2,
                       "several_answers": 5, "repeated": 1, "bad_rows": 0}  # fmt: skip
