"""Made-up tables that compare ways to undo a part of an update."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from made_up_knowledge import HELD_OUT, KnowledgeTables

WAYS = ("top", "interpolate", "drop_rescale")
OTHERWISE = {"stop_at": ("half", "quarter"), "gentle": ("gentle",)}  # way to train otherwise to its methods


def here(cell: dict) -> bool:
    """Whether a cell was fine-tuned here, so that the facts that it was taught are known."""
    return cell["method"] != "tuned"


class UndoingTables(KnowledgeTables):
    """Their rows; what they take of the grid stands in `Tables`."""

    grid: Any
    sweeps: Any
    change: Any

    def undone(self) -> Iterator[dict]:
        """Cells of which a part was undone, by set."""
        for cell in self.sweeps():
            if cell["percent"] == 0 and cell["region"] == "transformer":
                head = {name: value for name, value in cell.items() if name not in ("strategy", "percent")}
                yield from ({**head, "set": name, "seeds": 1, "known": 40} for name in HELD_OUT)
        for model, name in product(self.grid.models, self.grid.elsewhere):
            head = {"model": model, "method": "tuned", "data": name, "region": "transformer"}
            yield from ({**head, "set": name, "seeds": 1, "known": 40} for name in HELD_OUT)

    def undoing(self) -> Iterator[dict]:
        """Rows of the table `undoing`."""
        for head in self.undone():
            for number, strategy in enumerate(WAYS):
                for percent in (0.0, 20.0, 60.0, 100.0):
                    taught = 0.95 - 0.9 * (percent / 100) ** 2
                    knowledge = 0.5 + 0.3 * percent / 100 + (percent % 100 > 0) * (0.05 - 0.04 * number)
                    lost = {"frontier": not number, **self.change("taught", taught)} if here(head) else {}
                    yield {**head, "strategy": strategy, "percent": percent, **lost, "kept": 0.45,
                           **self.change("knowledge", knowledge), "regained": knowledge - 0.45}  # fmt: skip
            for way, methods in OTHERWISE.items() if head["method"] == "full" else ():
                for number, method in enumerate((None, *methods)):
                    taught, knowledge = 0.95 - 0.2 * number, 0.5 + 0.1 * number
                    yield {**head, "strategy": way, "percent": None if method else 0.0, "variant": method,
                           "frontier": False, "kept": 0.45, "regained": knowledge - 0.45,
                           **self.change("taught", taught), **self.change("knowledge", knowledge)}  # fmt: skip

    def undoing_ways(self) -> Iterator[dict]:
        """Rows of the table `undoing_ways`."""
        for head in self.undone():
            for number, strategy in enumerate(WAYS):
                p = 0.01 * number if number else None
                gain = {} if not number else self.change("matched_gain", 0.02 - 0.03 * number)
                over = {} if not number else self.change("over_reference", 0.01 - 0.02 * number)
                area = {**self.change("area", 0.7 - 0.02 * number), **over, "matched_taught": 0.9}
                yield {**head, "strategy": strategy, "points": 4, "reference": "top", "matched_percent": 20.0,
                       **(area if here(head) else {}), **gain, "p": p, "p_corrected": p,
                       **self.change("matched_knowledge", 0.6 - 0.02 * number),
                       "best_percent": 60.0, **self.change("best_accuracy", 0.6)}  # fmt: skip
            for way, methods in OTHERWISE.items() if head["method"] == "full" else ():
                yield {**head, "strategy": way, "points": 1 + len(methods), "reference": "top", "p": 0.2,
                       "p_corrected": 0.4, "matched_variant": methods[0], "matched_taught": 0.9,
                       **self.change("matched_knowledge", 0.55), **self.change("matched_gain", 0.01),
                       "best_variant": methods[-1], **self.change("best_accuracy", 0.6)}  # fmt: skip

    def undoing_rules(self) -> Iterator[dict]:
        """Rows of the table `undoing_rules`."""
        for head in self.undone():
            del head["known"]
            for rule, percent in {"knee": 5.0, "holds 90 %": 20.0, "half the norm": None}.items():
                found = {} if percent is None else {"accuracy": 0.6, "best_accuracy": 0.62}
                regret = {} if percent is None else self.change("regret", 0.02)
                yield {**head, "rule": rule, "percent": percent, "best_percent": 10.0, **found, **regret}  # fmt: skip
