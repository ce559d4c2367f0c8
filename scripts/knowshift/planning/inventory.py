"""Finds out how large the facts and the models of an experiment are before they are built.

What is built already is counted as it is. Otherwise facts are counted from raw data, or from the published numbers of
EntityQuestions; models are sized by their files, their published shape, or their name.
"""

import csv
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from knowshift.evaluation.questions import question_set
from knowshift.facts.building import build_facts
from knowshift.facts.question_files import read_question_files
from knowshift.facts.schemas import FACTS
from knowshift.facts.source_rows import PROBED_SPLITS, SPLITS, TopicRows
from knowshift.facts.task_examples import read_examples
from knowshift.facts.templates import (
    SUBJECT,
    PromptTemplate,
    TopicTemplates,
    read_prompt_template,
    read_topic_templates,
)
from knowshift.facts.user_table import FactTable
from knowshift.mastery.schemas import LEVEL_COUNTS, LEVELS
from knowshift.planning.fact_counts import CHARACTERS_PER_TOKEN, TopicSize
from knowshift.planning.planned_model import ModelSize, TaskSize
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table
from knowshift.weights.model_folder import read_config
from knowshift.weights.parameter_counts import named_parameters, stored_parameters

# Numbers of facts by split, also_in_test, and the mean characters of subjects and objects.
TopicCounts = Mapping[str, float]


class Inventory:
    """The sizes of an experiment's facts and models, as far as they are known.

    Args:
        experiment: the checked configuration.
        root: the project's folder; relative paths of the configuration that do not exist are looked up there.
    """

    def __init__(self, experiment: Any, root: Path) -> None:
        self._experiment, self._root, self._results = experiment, root, Path(experiment.results)

    def topics(self, built: bool = True) -> dict[str, TopicSize]:
        """Find the size of every topic.

        Args:
            built: whether tables of facts that are built already count; they may be older than the raw data.

        Raises:
            KnowshiftError: nothing is known of a topic.
        """
        settings = self._experiment.facts
        prompt = read_prompt_template(self._locate(settings.prompt))
        folder = self._locate(settings.templates)
        topics = {}
        for domain in PROBED_SPLITS:
            templates = {name: read_topic_templates(folder / f"{name}.yaml") for name in getattr(settings, domain)}
            for name, counts in self._count_facts(domain, templates, built).items():
                topics[name] = self._topic_size(domain, counts, templates[name], prompt)
        return topics

    def models(self, given: Mapping[str, float]) -> dict[str, ModelSize]:
        """Find the size of every model.

        Args:
            given: number of parameters of some models by name, which takes precedence.

        Raises:
            KnowshiftError: the size of a model is not known.
        """
        return {name: self._model_size(name, given.get(name)) for name in self._experiment.models}

    def _locate(self, path: str) -> Path:
        """The path as given if it exists, else under the project's folder."""
        return Path(path) if Path(path).exists() else self._root / path

    @cached_property
    def _tasks(self) -> list[TaskSize]:
        """The sizes of all tasks, counted from their files."""
        found = []
        for task in self._experiment.tasks:
            examples = read_examples(self._locate(task.questions))
            characters = sum(example.characters for example in examples)
            found.append(TaskSize(len(examples), characters / CHARACTERS_PER_TOKEN, len(examples) * task.tokens))
        return found

    def _published(self, name: str) -> list[dict[str, str]]:
        """The rows of a table of published numbers."""
        with (self._root / f"resources/published/{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _topic_size(
        self, domain: str, counts: TopicCounts, templates: TopicTemplates, prompt: PromptTemplate
    ) -> TopicSize:
        """Turn counts of facts and characters into those of probed facts and tokens."""
        completions = templates.completions[: self._experiment.mastery.templates]
        subject = counts["subject_characters"] - len(SUBJECT)  # it replaces the placeholder
        facts = {split: int(counts[split]) for split in PROBED_SPLITS[domain]}
        for split in facts:
            if (limit := self._experiment.facts_limit(split)) is not None:
                facts[split] = min(facts[split], limit)
        drawable = int(counts["train"] - counts["also_in_test"])
        # Each text but the answer begins with one token that marks its start.
        return TopicSize(
            domain=domain,
            facts=facts,
            drawable=min(drawable, facts.get("train", drawable)),
            completion=1 + (sum(map(len, completions)) / len(completions) + subject) / CHARACTERS_PER_TOKEN,
            question=1 + (len(prompt.ask(templates.question)) + subject) / CHARACTERS_PER_TOKEN,
            answer=(len(prompt.reply("")) + counts["object_characters"]) / CHARACTERS_PER_TOKEN,
        )

    def _count_facts(self, domain: str, templates: Mapping[str, TopicTemplates], built: bool) -> dict[str, TopicCounts]:
        """Count the facts of a domain's topics: from built tables if wanted, else raw data, else as published."""
        tables = {name: self._results / "facts" / f"{name}.parquet" for name in templates}
        if built and all(path.exists() for path in tables.values()):
            return {name: _count(read_table(path, FACTS)) for name, path in tables.items()}
        if sources := self._raw_rows(templates):
            groups = {
                name: {other: sources[other] for other in templates if templates[other].question == template.question}
                for name, template in templates.items()
            }
            return {name: _count(build_facts(templates[name], domain, group)[0]) for name, group in groups.items()}
        known = {row.pop("topic"): row for row in self._published("entityquestions")}
        for name in templates:
            if name not in known:
                raise KnowshiftError(
                    f"the number of facts of topic {name} is not known before its raw data are there; fetch them with"
                    f" snakemake {self._results}/raw/manifest.json"
                )
        return {name: {key: float(known[name][key]) for key in known[name] if key != "domain"} for name in templates}

    def _raw_rows(self, templates: Mapping[str, TopicTemplates]) -> dict[str, TopicRows]:
        """Read the raw rows of topics; empty if there are no raw data yet."""
        settings = self._experiment.facts
        if settings.source == "table":
            table, shares = FactTable(self._locate(settings.path)), settings.split_shares.model_dump()
            return {name: table.read(template, shares) for name, template in templates.items()}
        folder = self._results / "raw" if settings.source == "archive" else self._locate(settings.path)
        if not (folder / "train").is_dir():
            return {}
        return {name: read_question_files(folder, template) for name, template in templates.items()}

    def _model_size(self, name: str, given: float | None) -> ModelSize:
        """Find the size of one model: from its folder if it is there, else from its published shape or its name."""
        source = self._experiment.models[name].source
        repository = next((value for key in ("hub", "wheel", "gguf") if (value := getattr(source, key, None))), None)
        shape = next((row for row in self._published("shapes") if row["repository"] == repository), None)
        resolved = self._results / name / "base"
        is_resolved = (resolved / "config.json").exists()
        folder = resolved if is_resolved else Path(getattr(source, "directory", resolved))
        levels = self._known_levels(name, shape["model"] if shape else None)
        if (folder / "config.json").exists():
            stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
            vocabulary = read_config(folder).get("vocab_size", 0)
            vocabulary = vocabulary if isinstance(vocabulary, int) else 0  # models of several parts have it elsewhere
            return ModelSize(given or stored_parameters(folder) or 0, stored, levels, vocabulary, self._tasks)
        parameters = given or (llama_parameters(shape) if shape else named_parameters(repository or name))
        if not parameters:
            raise KnowshiftError(
                f"the number of parameters of {name} is not known before the model is there; give it as --parameters"
                f" '{{\"{name}\": 7e9}}'"
            )
        file_bytes = parameters * (
            4 if hasattr(source, "wheel") or hasattr(source, "gguf") else 2
        )  # quantised weights are written as float32
        return ModelSize(parameters, file_bytes, levels, int(shape["vocab_size"]) if shape else 0, self._tasks)

    def _known_levels(self, name: str, published_as: str | None) -> dict[str, list[int]]:
        """Count the facts per mastery level of each set of facts, as far as they are known.

        Args:
            name: the model's name in the configuration.
            published_as: its name in the published tables; None if it is not there.

        Returns:
            Facts per level for drawable and for each question set: measured ones, else the published ones of this model
            if the experiment has the published topics, else none.
        """
        measured = self._results / name / "levels.parquet"
        if measured.exists():
            return _measured_levels(read_table(measured, LEVEL_COUNTS))
        if published_as is None or self._experiment.facts.source != "archive":
            return {}
        published_topics = {(row["topic"], row["domain"]) for row in self._published("entityquestions")}
        topics = {(topic, domain) for domain in PROBED_SPLITS for topic in getattr(self._experiment.facts, domain)}
        if topics != published_topics:
            return {}
        levels: dict[str, list[int]] = {}
        for row in self._published("mastery_distribution"):
            if row["model"] == published_as:
                facts = "drawable" if row["split"] == "train" else row["split"]
                levels.setdefault(facts, [0] * len(LEVELS))[int(row["level"])] = int(row["facts"])
        return levels


def llama_parameters(shape: Mapping[str, str]) -> int:
    """Count the parameters of a LLaMA model from its shape.

    These are the embedding and the output head (unless they are tied), in each layer attention, MLP and two norms, and
    a final norm.

    Args:
        shape: a row of `resources/published/shapes.csv`, with the keys of the model's config.json.
    """
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    hidden, inner, layers, vocabulary = (int(shape[name]) for name in names)
    shared = int(shape["num_key_value_heads"]) / int(shape["num_attention_heads"])
    layer = 2 * hidden * hidden * (1 + shared) + 3 * hidden * inner + 2 * hidden
    return round(vocabulary * hidden * (1 if shape["tie_word_embeddings"] == "true" else 2) + layers * layer + hidden)


def _measured_levels(counts: pa.Table) -> dict[str, list[int]]:
    """Sum a table in the schema `LEVEL_COUNTS` over topics: facts per level for drawable and for each question set."""
    levels: dict[str, list[int]] = {}
    for row in counts.to_pylist():
        train = row["split"] == "train"
        facts = "drawable" if train else question_set(row["domain"], row["split"])
        levels.setdefault(facts, [0] * len(LEVELS))[row["level"]] += row["drawable" if train else "facts"]
    return levels


def _count(facts: pa.Table) -> TopicCounts:
    """Count the facts of a table in the schema `FACTS`, and average the characters of their subjects and objects."""
    splits = facts["split"].to_pylist()
    counts: dict[str, float] = {split: splits.count(split) for split in SPLITS}
    counts["also_in_test"] = sum(facts["also_in_test"].to_pylist())
    for name in ("subject", "object"):
        counts[f"{name}_characters"] = sum(map(len, facts[name].to_pylist())) / max(1, len(facts))
    return counts
