"""Made-up tables of what is known, net of noise: churn, wrong answers, topics, reliability, and probabilities."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

HELD_OUT = ["test", "test_ood"]


class KnowledgeTables:
    """The part of `made_up_tables.Tables` that makes up these tables; the rest of it fills the attributes."""

    grid: Any
    draw: np.random.Generator
    change: Any
    every: Any
    tuned: Any
    states: Any

    def churn(self) -> Iterator[dict]:
        """Rows of the table `churn`."""
        events = {"all": ("answered", 0.6), "known": ("lost", 0.12), "partly known": ("learned", 0.5),
                  "unknown": ("learned", 0.1)}  # fmt: skip
        for model in self.grid.models:
            for cell in self.tuned(model):
                for name in HELD_OUT:
                    for group, (event, share) in events.items():
                        noisy = share + abs(float(self.draw.normal(0, 0.02)))
                        yield {**cell, "set": name, "knowledge": group, "event": event, "facts": 50, "seeds": 2,
                               "answered_before": 0.3, "answered_few_shot": 0.5, "share": noisy, "spread": 0.01,
                               **self.change("disagreement", 0.1), "in_every_seed": noisy - 0.05,
                               "expected_in_every_seed": noisy**2,
                               **self.change("excess", noisy - 0.05 - noisy**2)}  # fmt: skip

    def wrong_answers(self) -> Iterator[dict]:
        """Rows of the table `wrong_answers`."""
        for cell in self.every():
            for name in HELD_OUT:
                for level in range(5):
                    shares = [0.1 + 0.2 * level, 0.02, 0.4 - 0.1 * level, 0.44 - 0.09 * level, 0.04 - 0.01 * level]
                    for kind, share in zip(("right", "near", "other object", "other", "nothing"), shares, strict=True):
                        yield {**cell, "set": name, "level": level, "seeds": 2, "questions": 25, "kind": kind,
                               "answers": round(50 * share), "share": share}  # fmt: skip

    def training_topics(self) -> Iterator[dict]:
        """Rows of the table `training_topics`."""
        for model in self.grid.models:
            for cell in self.tuned(model):
                for seed in range(1, self.grid.seeds + 1):
                    for topic in self.grid.in_domain:
                        run = f"{cell['method']}-{cell['data']}-{cell['size']}-s{seed}"
                        yield {**cell, "run": run, "seed": seed, "topic": topic,
                               "facts": cell["size"] // len(self.grid.in_domain)}  # fmt: skip

    def fates(self) -> Iterator[dict]:
        """Rows of the table `fates`."""
        shares = [{"chosen": False}]
        shares += [
            {"strategy": "top", "region": "transformer", "percent": percent, "chosen": percent == 20}
            for percent in (5.0, 20.0, 60.0)
        ]
        cells = [(model, name) for model in self.grid.models for name in self.grid.elsewhere]
        for model, name in cells:
            for held in HELD_OUT:
                for share in [*shares, *({"chosen": False, "topic": topic} for topic in self.grid.in_domain)]:
                    kept = 0.7 + share.get("percent", 0.0) / 300
                    columns = {"before": 0.5, "after": kept / 2 + 0.05, "kept_share": kept, "learned_share": 0.1}
                    yield {"model": model, "data": name, "set": held, "asked_with": "few-shot", **share, "facts": 200,
                           "kept": round(100 * kept), "lost": 100 - round(100 * kept), "learned": 10, "unknown": 90,
                           **columns, **{f"{key}_low": value - 0.04 for key, value in columns.items()},
                           **{f"{key}_high": value + 0.04 for key, value in columns.items()},
                           **self.change("change", kept / 2 - 0.45), "p": 0.002, "logprob_before": -1.2,
                           "logprob_after": -1.6}  # fmt: skip

    def task_trade(self) -> Iterator[dict]:
        """Rows of the table `task_trade`."""
        for model, name, (task, metric, scale) in product(self.grid.models, self.grid.elsewhere, self.grid.tasks):
            common = {"model": model, "task": task, "metric": metric, "tolerance": 0.05 * scale, "seeds": 1,
                      "examples_dev": 48, "examples": 52}  # fmt: skip
            for percent in (-1.0, 0.0, 5.0, 20.0, 60.0):  # -1: the pre-trained model, 0: nothing restored
                score, known = 0.9 - max(percent, 0.0) ** 1.5 / 1500, 0.3 + max(percent, 0.0) / 200
                score, known = (0.1, 0.5) if percent < 0 else (score, known)
                offset = 1.0 if metric == "loglikelihood" else 0.0
                row = {**common, "method": "tuned", "data": name, "frontier": percent >= 0,
                       "score_dev": scale * (score - offset), "change_dev": scale * (score - 0.9),
                       "keeps": percent < 60, "chosen": percent == 20,
                       **self.change("score", scale * (score - offset), 0.08 * scale),
                       **self.change("change", scale * (score - 0.9), 0.05 * scale), "knowledge_dev": known,
                       **self.change("knowledge", known), **self.change("knowledge_change", known - 0.3)}  # fmt: skip
                if percent > 0:
                    row |= {"strategy": "top", "region": "transformer", "percent": percent}
                if percent < 0:
                    row |= {"method": "few-shot", "data": None, "frontier": None, "keeps": None, "change_dev": None}
                    changes = product(("change", "knowledge_change"), ("", "_low", "_high"))
                    row |= dict.fromkeys(map("".join, changes))
                yield row

    def level_reliability(self) -> Iterator[dict]:
        """Rows of the table `level_reliability`."""
        for model in self.grid.models:
            for domain, split in ((None, None), ("in_domain", "train"), ("in_domain", "test")):
                yield {"model": model, "domain": domain, "split": split, "facts": 1500, "agreement": 0.67,
                       "correlation": 0.9, "spearman_brown": 0.95, "template_correlation": 0.65,
                       "template_lowest": 0.55, "template_highest": 0.76}  # fmt: skip

    def level_regression(self) -> Iterator[dict]:
        """Rows of the table `level_regression`."""
        means = [(0.0, 0.03), (0.17, 0.18), (0.4, 0.38), (0.67, 0.64), (0.92, 0.84)]
        for model in self.grid.models:
            for level, (observed, expected) in enumerate(means):
                yield {"model": model, "domain": None, "split": None, "level": level, "facts": 300,
                       "observed": observed, "expected": expected, "low": max(0.0, expected - 0.03),
                       "high": expected + 0.03, "same_level": 0.6}  # fmt: skip

    def right_answer_bins(self, column: str = "probability") -> Iterator[dict]:
        """Rows of the table `right_answer_bins`, or of another with its own column of probabilities."""
        for cell in self.states():
            for name in HELD_OUT:
                for bin_ in range(10):
                    middle = bin_ / 10 + 0.05
                    share = middle ** (1.5 if cell["state"] == "before" else 0.8) + self.draw.normal(0, 0.04)
                    yield {**cell, "set": name, "bin": bin_, "questions": 5 + 3 * (9 - bin_), column: middle,
                           "accuracy": float(np.clip(share, 0, 1))}  # fmt: skip

    def confidence_bins(self) -> Iterator[dict]:
        """Rows of the table `confidence_bins`."""
        return self.right_answer_bins("confidence")

    def confidence_errors(self) -> Iterator[dict]:
        """Rows of the table `confidence_errors`."""
        for cell in self.states():
            for name in HELD_OUT:
                yield {**cell, "set": name, "seeds": 3, "questions": 125, "confidence": 0.6, "accuracy": 0.55,
                       "error": 0.11, "error_spread": 0.01, "auroc": 0.78, "auroc_spread": 0.02,
                       "error_per_token": 0.3, "auroc_per_token": 0.75, "auroc_per_token_spread": None}  # fmt: skip

    def right_answer_gaps(self) -> Iterator[dict]:
        """Rows of the table `right_answer_gaps`."""
        for cell in self.states():
            for name in HELD_OUT:
                yield {**cell, "set": name, "seeds": 1, "questions": 125, "probability": 0.5, "accuracy": 0.55,
                       "gap": 0.08, "spread": None}  # fmt: skip
