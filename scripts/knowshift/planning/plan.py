"""What an experiment comes to before anything runs: jobs, tokens, bytes and GPU-hours. Counting, no model and no file.

Where something is not known yet, all cells are taken to be feasible and facts to lie evenly over the levels. Token numbers are
upper bounds where a model may stop early.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knowshift.finetuning.grid import Cell, cells, is_restored
from knowshift.finetuning.orders import data_levels
from knowshift.planning import sizing
from knowshift.planning.accelerators import NODE, Accelerator, generating_seconds, starting_seconds, training_seconds

SPLITS = {"in_domain": ("train", "dev", "test"), "out_of_domain": ("dev", "test")}  # that are probed
# Rules with one job whatever the grid, and with one for each model.
TABLES = ("join_tables", "tabulate_costs", "tabulate_facts", "tabulate_published", "print_tables")
ONCE = (*TABLES, "plot", "report", "all")
PER_MODEL = ("resolve_model", "grade_mastery", "count_levels", "evaluate_base", "tabulate_model", "analyse_model")
BY_CHANGE = ("top", "bottom")  # strategies that start from the stored histogram

# Bytes on disk: per character of a completion and per parameter of a float32 delta as measured on the default experiment, per
# answer with its 100 first tokens and logits as Parquet of such numbers takes. Everything else is small beside them.
COMPLETION_BYTES = 0.5
ANSWER_BYTES = 600
DELTA_BYTES = 2.1
CHARACTERS = 4  # of a token, about, in English


@dataclass(frozen=True)
class Topic:
    """What a topic holds.

    Attributes:
        domain: in_domain or out_of_domain.
        facts: split to number of facts that are probed.
        drawable: train facts that training sets may draw.
        completion, question, answer: mean tokens of a completion template with its subject, of a question in its prompt,
            of an answer.
    """

    domain: str
    facts: Mapping[str, int]
    drawable: int
    completion: float
    question: float
    answer: float


@dataclass(frozen=True)
class Weights:
    """What is known of a model beforehand.

    Attributes:
        parameters: N.
        file_bytes: size of its files.
        levels: set of facts (drawable, dev, test, dev_ood, test_ood) to facts per level, as far as they are known.
        vocabulary: tokens that the model knows.
    """

    parameters: float
    file_bytes: float
    levels: Mapping[str, Sequence[int]]
    vocabulary: int = 0


@dataclass(frozen=True)
class Work:
    """What the jobs of one rule take for one model.

    Attributes:
        rule, model: whose work it is.
        jobs: how many.
        completions: sequences that are generated.
        read, written: tokens of prompts or training examples, and tokens that are generated.
        gpus: that each job holds.
        hours: GPU-hours of all jobs.
    """

    rule: str
    model: str
    jobs: int
    completions: float = 0
    read: float = 0
    written: float = 0
    gpus: int = 0
    hours: float = 0


@dataclass
class Plan:
    """What an experiment comes to.

    Attributes:
        jobs: rule to number of jobs.
        work: the GPU work, largest first.
        disk: what to bytes that stay.
        passing: bytes that one fine-tuning of the largest model takes beside, while it runs.
        cells, infeasible: fine-tuned models, and those that have too few facts.
        assumed: models whose levels are not known.
    """

    jobs: Counter[str] = field(default_factory=Counter)
    work: list[Work] = field(default_factory=list)
    disk: Counter[str] = field(default_factory=Counter)
    passing: float = 0
    cells: int = 0
    infeasible: int = 0
    assumed: list[str] = field(default_factory=list)


def plan(experiment: Any, topics: Mapping[str, Topic], models: Mapping[str, Weights], accelerator: Accelerator) -> Plan:
    """What an experiment comes to.

    Args:
        experiment: its checked configuration.
        topics: topic to what it holds.
        models: model to what is known of it.
        accelerator: the GPU that hours are counted of.
    """
    result = Plan()
    result.jobs.update(dict.fromkeys(ONCE, 1) | {"build_facts": len(topics)})
    if experiment.facts.source == "archive":
        result.jobs["retrieve_entityquestions"] = 1
    for name, weights in models.items():
        _Model(experiment, topics, name, weights, accelerator).add_to(result)
    result.work.sort(key=lambda work: -work.hours)
    return result


class _Model:
    """The share of one model in a plan."""

    def __init__(
        self, experiment: Any, topics: Mapping[str, Topic], name: str, weights: Weights, accelerator: Accelerator
    ) -> None:
        self.experiment, self.topics, self.name, self.weights = experiment, topics, name, weights
        self.accelerator, self.grid = accelerator, experiment.finetuning
        self.machine = sizing.Machine(accelerator.memory / 1e9, NODE)
        planned = cells(self.grid.methods, self.grid.data, self.grid.sizes, self.grid.seeds, self.grid.method_data)
        self.planned = len(planned)
        self.runs = [cell for cell in planned if self._facts(cell) > 0]
        self.trained = [*self.runs]  # beside them, those that only an export asks for
        self.exports = [entry for entry in experiment.exports if entry.model == name]
        for entry in self.exports:
            if (cell := Cell.parse(entry.run)) not in self.trained:
                self.trained.append(cell)
        self.restored = dict.fromkeys(  # several entries may ask for the same
            (cell, entry.strategy, entry.region, percent)
            for cell in self.runs
            for entry in experiment.restoration
            if is_restored(entry, name, cell)
            for percent in entry.percents
        )

    def _levels(self, facts: str) -> Sequence[float]:
        """Facts per level of a set."""
        if facts in self.weights.levels:
            return self.weights.levels[facts]
        if facts == "drawable":
            total = sum(topic.drawable for topic in self.topics.values() if topic.domain == "in_domain")
        else:
            split = facts.removesuffix("_ood")
            domain = "out_of_domain" if facts.endswith("_ood") else "in_domain"
            total = sum(topic.facts[split] for topic in self.topics.values() if topic.domain == domain)
        return [total / 5] * 5

    def _facts(self, cell: Cell) -> float:
        """Training facts of a cell; 0 where there are too few, which is not known before levels are."""
        levels = data_levels(cell.data)
        there = sum(count for level, count in enumerate(self._levels("drawable")) if levels is None or level in levels)
        if cell.size == "all":
            return there
        return cell.size if there >= cell.size or "drawable" not in self.weights.levels else 0

    def _mean(self, what: str, domain: str) -> float:
        """Mean tokens of a text over a domain's facts."""
        pairs = [
            (getattr(topic, what), sum(topic.facts.values()))
            for topic in self.topics.values()
            if topic.domain == domain
        ]
        total = sum(count for _, count in pairs)
        return sum(value * count for value, count in pairs) / total if total else 0.0

    def _asked(self) -> tuple[float, float]:
        """Held-out questions that every model is asked, and the tokens of their prompts and answers."""
        questions = tokens = 0.0
        for name, limit in self.experiment.evaluation.per_level.items():
            count = sum(count if limit is None else min(limit, count) for count in self._levels(name))
            domain = "out_of_domain" if name.endswith("_ood") else "in_domain"
            questions += count
            tokens += count * (self._mean("question", domain) + self._mean("answer", domain))
        return questions, tokens

    def add_to(self, result: Plan) -> None:
        """Count this model's jobs, work and files."""
        if "drawable" not in self.weights.levels:
            result.assumed.append(self.name)
        result.cells += len(self.runs)
        result.infeasible += self.planned - len(self.runs)
        result.jobs.update(self._jobs())
        work = [self._probing(), *self._training(), *self._asking()]
        result.work += [item for item in work if item.jobs]
        result.disk.update(self._disk(work))
        result.passing = max(result.passing, self._passing())

    def _histograms(self, cell: Cell) -> set[str]:
        """Regions whose relative changes are counted for a run."""
        restored = {region for other, strategy, region, _ in self.restored if other == cell and strategy in BY_CHANGE}
        return {*self.experiment.regions, *restored}

    def _kept(self) -> list[Cell]:
        """Runs whose delta stays on disk."""
        if self.grid.keep_deltas == "all":
            return self.trained
        kept = {cell for cell, *_ in self.restored} | {Cell.parse(entry.run) for entry in self.exports}
        return [cell for cell in self.trained if cell in kept]

    def _jobs(self) -> dict[str, int]:
        instruct = int(self.experiment.models[self.name].instruct is not None)
        kept = len(self._kept()) if self.grid.keep_deltas == "restored" else 0
        return {
            **dict.fromkeys(PER_MODEL, 1),
            "resolve_instruct": instruct,
            "probe_mastery": sum(len(SPLITS[topic.domain]) for topic in self.topics.values()),
            "evaluate_instruct": instruct,
            "draw_order": len({(cell.data, cell.seed) for cell in self.trained}),
            "finetune": len(self.trained),
            "diff_weights": len(self.trained) - kept,
            "keep_delta": kept,
            "measure_changes": sum(len(self._histograms(cell)) for cell in self.runs),
            "evaluate": len(self.runs),
            "measure_divergence": len(self.runs),
            "evaluate_restored": len(self.restored),
            "export_model": len(self.exports),
        }

    def _generating(
        self, rule: str, jobs: int, settings: Any, completions: float, read: float, delta: bool = False
    ) -> Work:
        """Work of jobs that generate with the model."""
        size, written = self.weights.parameters, completions * settings.max_new_tokens
        dtype = self.experiment.models[self.name].dtype or settings.dtype
        devices = sizing.asking_gpus(size, dtype, settings.engine, self.machine)
        rows = min(settings.rows, max(1, completions / max(1, jobs)))
        seconds = generating_seconds(size, read, written, rows, dtype, self.accelerator)
        loaded = self.weights.file_bytes + (size * DELTA_BYTES if delta else 0)
        seconds += starting_seconds(jobs, devices, loaded)
        return Work(rule, self.name, jobs, completions, read, written, devices, seconds / 3600)

    def _probing(self) -> Work:
        settings = self.experiment.mastery
        facts = [(sum(topic.facts.values()), topic.completion) for topic in self.topics.values()]
        read = settings.templates * sum(count * tokens for count, tokens in facts)
        completions = sum(count for count, _ in facts) * settings.templates * settings.samples
        return self._generating("probe_mastery", self._jobs()["probe_mastery"], settings, completions, read)

    def _training(self) -> Iterable[Work]:
        example = self._mean("question", "in_domain") + self._mean("answer", "in_domain") + 1
        size = self.weights.parameters
        for method in self.grid.methods:
            kind, recipe = self.grid.training(method)
            runs = [cell for cell in self.trained if cell.method == method]
            facts = sum(map(self._facts, runs)) * recipe.epochs
            dtype = recipe.compute or recipe.dtype
            held = sizing.training_bytes(size, kind, recipe.model_dump())
            devices, _ = sizing.training_gpus(sizing.gpus_for(size, held, self.machine), self.machine)
            seconds = training_seconds(
                size,
                facts * example,
                facts / recipe.batch_size,
                kind,
                recipe.optimizer,
                dtype,
                devices,
                self.accelerator,
            )
            seconds += starting_seconds(len(runs), devices, self.weights.file_bytes + size * sizing.WIDTH[recipe.dtype])
            yield Work(f"finetune ({method})", self.name, len(runs), 0, facts * example, 0, devices, seconds / 3600)

    def _asking(self) -> Iterable[Work]:
        settings = self.experiment.evaluation
        questions, tokens = self._asked()
        own = self._mean("question", "in_domain") + self._mean("answer", "in_domain")

        def trained(runs: Iterable[Cell]) -> float:
            limit = settings.training_set
            return sum(facts if limit is None else min(limit, facts) for facts in map(self._facts, runs))

        # The pre-trained model is asked all training facts too, also those that are never drawn.
        train = sum(topic.facts["train"] for topic in self.topics.values() if topic.domain == "in_domain")
        yield self._generating("evaluate_base", 1, settings, questions + train, tokens + train * own)
        if self.experiment.models[self.name].instruct:
            yield self._generating("evaluate_instruct", 1, settings, questions, tokens)
        for rule, runs in {"evaluate": self.runs, "evaluate_restored": [cell for cell, *_ in self.restored]}.items():
            more = trained(runs)
            asked, read = len(runs) * questions + more, len(runs) * tokens + more * own
            yield self._generating(rule, len(runs), settings, asked, read, delta=True)

    def _disk(self, work: Iterable[Work]) -> dict[str, float]:
        """What stays."""
        size, models = self.weights.parameters, 1 + (self.experiment.models[self.name].instruct is not None)
        limit = self.experiment.evaluation.per_level.get("test", 0)
        known = self._levels("test")[4]
        leading = known if limit is None else min(limit, known)
        answers = sum(item.completions for item in work if item.rule != "probe_mastery")
        written = sum(item.written for item in work if item.rule == "probe_mastery")
        stored = sizing.WIDTH[self.grid.dtype] / 4
        return {
            "models": models * self.weights.file_bytes,
            "completions": written * CHARACTERS * COMPLETION_BYTES,
            "answers": answers * ANSWER_BYTES + leading * self.weights.vocabulary * 4,
            "deltas": len(self._kept()) * size * DELTA_BYTES * stored,
            "exports": len(self.exports) * size * 4 * stored,
        }

    def _passing(self) -> float:
        """One fine-tuning while it runs: its saved state (weights, two moments), its checkpoint, then its delta."""
        stored = sizing.WIDTH[self.grid.dtype]
        return self.weights.parameters * (3 * stored + stored + DELTA_BYTES * stored / 4)
