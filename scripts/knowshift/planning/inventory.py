"""What is known of facts and models before anything is built: as built where it is, else from raw data, else as published."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from knowshift.evaluation.questions import question_set
from knowshift.facts.building import build_facts
from knowshift.facts.question_files import read_question_files
from knowshift.facts.source_rows import Source
from knowshift.facts.templates import SUBJECT, TopicTemplates, read_prompt_template, read_topic_templates
from knowshift.facts.user_table import FactTable
from knowshift.mastery.schemas import LEVELS
from knowshift.planning.plan import CHARACTERS, SPLITS, Topic, Weights
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.parameter_counts import named_parameters, stored_parameters


class Beforehand:
    """What is known of an experiment's facts and models.

    Args:
        experiment: its checked configuration.
        root: the project's folder, which the configuration's paths may be relative to.
    """

    def __init__(self, experiment: Any, root: Path) -> None:
        self._experiment, self._root, self._results = experiment, root, Path(experiment.results)

    def _located(self, path: str) -> Path:
        return Path(path) if Path(path).exists() else self._root / path

    def _published(self, name: str) -> list[dict[str, str]]:
        with (self._root / f"resources/published/{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def topics(self) -> dict[str, Topic]:
        """What every topic holds.

        Raises:
            KnowshiftError: nothing is known of a topic.
        """
        settings, topics = self._experiment.facts, {}
        prompt = read_prompt_template(self._located(settings.prompt))
        for domain, splits in SPLITS.items():
            names = getattr(settings, domain)
            templates = {
                name: read_topic_templates(self._located(settings.templates) / f"{name}.yaml") for name in names
            }
            for name, counts in self._counts(domain, templates).items():
                chosen = templates[name].completions[: self._experiment.mastery.templates]
                subject = counts["subject_characters"] - len(SUBJECT)
                facts = {split: int(counts[split]) for split in splits}
                if settings.dev_limit is not None:
                    facts["dev"] = min(facts["dev"], settings.dev_limit)
                topics[name] = Topic(
                    domain=domain,
                    facts=facts,
                    drawable=int(counts["train"] - counts["also_in_test"]),
                    completion=1 + (sum(map(len, chosen)) / len(chosen) + subject) / CHARACTERS,
                    question=1 + (len(prompt.ask(templates[name].question)) + subject) / CHARACTERS,
                    answer=(len(prompt.reply("")) + counts["object_characters"]) / CHARACTERS,
                )
        return topics

    def _counts(self, domain: str, templates: Mapping[str, TopicTemplates]) -> dict[str, dict[str, float]]:
        """Facts per split of a domain's topics, and how long their subjects and objects are."""
        built = {name: self._results / "facts" / f"{name}.parquet" for name in templates}
        if all(path.exists() for path in built.values()):
            return {name: _count(pq.read_table(path)) for name, path in built.items()}
        if sources := self._sources(templates):
            groups = {
                name: {other: sources[other] for other in templates if templates[other].question == template.question}
                for name, template in templates.items()
            }
            return {name: _count(build_facts(templates[name], domain, group)[0]) for name, group in groups.items()}
        known = {row.pop("topic"): row for row in self._published("entityquestions")}
        for name in templates:
            if name not in known:
                raise KnowshiftError(
                    f"how many facts topic {name} has is not known before its raw data are there; fetch them with"
                    f" snakemake {self._results}/raw/manifest.json"
                )
        return {name: {key: float(known[name][key]) for key in known[name] if key != "domain"} for name in templates}

    def _sources(self, templates: Mapping[str, TopicTemplates]) -> dict[str, Source]:
        """The raw rows of topics; nothing where the raw data are not there yet."""
        settings = self._experiment.facts
        if settings.source == "table":
            table, shares = FactTable(self._located(settings.path)), settings.split_shares.model_dump()
            return {name: table.read(template, shares) for name, template in templates.items()}
        folder = self._results / "raw" if settings.source == "archive" else self._located(settings.path)
        if not (folder / "train").is_dir():
            return {}
        return {name: read_question_files(folder, template) for name, template in templates.items()}

    def models(self, given: Mapping[str, float]) -> dict[str, Weights]:
        """What is known of every model.

        Args:
            given: parameters of some of them.

        Raises:
            KnowshiftError: nobody knows how large a model is.
        """
        models = {}
        for name, entry in self._experiment.models.items():
            repository = getattr(entry.source, "hub", None) or getattr(entry.source, "wheel", None)
            row = next((row for row in self._published("shapes") if row["repository"] == repository), None)
            base = self._results / name / "base"
            folder = base if (base / "config.json").exists() else Path(getattr(entry.source, "directory", base))
            if (folder / "config.json").exists():
                size = given.get(name) or stored_parameters(folder) or 0
                stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
                vocabulary = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size", 0)
            else:
                size = given.get(name) or (_parameters(row) if row else named_parameters(repository or name))
                if not size:
                    raise KnowshiftError(
                        f"how many parameters {name} has is not known before it is there; say it: --parameters"
                        f" '{{\"{name}\": 7e9}}'"
                    )
                stored = size * (4 if hasattr(entry.source, "wheel") else 2)  # quantised files are written as float32
                vocabulary = int(row["vocab_size"]) if row else 0
            models[name] = Weights(size, stored, self._levels(name, row), vocabulary)
        return models

    def _levels(self, name: str, row: Mapping[str, str] | None) -> dict[str, list[int]]:
        """Facts per level of each set: as measured, else as published for this model and these facts, else none."""
        levels: dict[str, list[int]] = {}
        measured = self._results / name / "levels.parquet"
        if measured.exists():
            for count in pq.read_table(measured).to_pylist():
                train = count["split"] == "train"
                kind = "drawable" if train else question_set(count["domain"], count["split"])
                counts = levels.setdefault(kind, [0] * len(LEVELS))
                counts[count["level"]] += count["drawable" if train else "facts"]
        elif row and self._experiment.facts.source == "archive":
            known = {(topic["topic"], topic["domain"]) for topic in self._published("entityquestions")}
            asked = {(t, domain) for domain in SPLITS for t in getattr(self._experiment.facts, domain)}
            for count in self._published("mastery_distribution") if asked == known else ():
                if count["model"] == row["model"]:
                    kind = "drawable" if count["split"] == "train" else count["split"]
                    levels.setdefault(kind, [0] * len(LEVELS))[int(count["level"])] = int(count["facts"])
        return levels


def _count(facts: pa.Table) -> dict[str, float]:
    splits = facts["split"].to_pylist()
    return {
        **{split: splits.count(split) for split in ("train", "dev", "test")},
        "also_in_test": sum(facts["also_in_test"].to_pylist()),
        **{
            f"{name}_characters": sum(map(len, facts[name].to_pylist())) / max(1, len(facts))
            for name in ("subject", "object")
        },
    }


def _parameters(row: Mapping[str, str]) -> int:
    """Parameters of a LLaMA by its shape: embedding, head, and per layer attention, MLP and two norms; then one more norm."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    hidden, inner, layers, vocabulary = (int(row[name]) for name in names)
    shared = int(row["num_key_value_heads"]) / int(row["num_attention_heads"])
    layer = 2 * hidden * hidden * (1 + shared) + 3 * hidden * inner + 2 * hidden
    return round(vocabulary * hidden * (1 if row["tie_word_embeddings"] == "true" else 2) + layers * layer + hidden)
