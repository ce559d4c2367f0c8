"""Checks a configuration: typed settings, or one line per problem that says which key is wrong and what is allowed."""

import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from knowshift.configuration.models import (
    REPOSITORY,
    SOURCE_KEYS,
    TUNED_SOURCE_KEYS,
    AdapterSource,
    DirectorySource,
    GgufSource,
    Tuned,
)
from knowshift.configuration.section import COMMIT, SHA256, WORD, Section
from knowshift.configuration.sections import Configuration
from knowshift.facts.source_rows import SPLITS
from knowshift.facts.task_examples import check_halves, read_examples
from knowshift.facts.templates import read_prompt_template, read_topic_templates
from knowshift.runtime.errors import KnowshiftError, shown
from knowshift.runtime.yaml_files import read_yaml
from knowshift.weights.model_folder import ADAPTER

RENAMED = {"rows": "tokens_per_pass"}  # keys of earlier versions
FORMS = {  # what a text of a pattern is
    COMMIT: "the whole hash of a commit (40 hexadecimal digits, as the hub lists them)",
    SHA256: "64 hexadecimal digits",
    WORD: "a word of letters, digits and _",
    f"^{REPOSITORY}$": "owner/name of a repository",
}


class ConfigurationError(KnowshiftError):
    """Lists what is wrong with a configuration, a line per problem."""


def locate(path: str, base: Path) -> str:
    """Return a path as given if it exists, and below the workflow's own folder otherwise."""
    return path if Path(path).exists() or not (base / path).exists() else str(base / path)


def read(path: Path, base: Path) -> Configuration:
    """Read and check a configuration file.

    Args:
        path: YAML file.
        base: the workflow's folder, where relative paths may also lie.

    Raises:
        KnowshiftError: the file cannot be read, or something is wrong with the configuration.
    """
    return check(read_yaml(path, " does not exist; it should be a configuration"), base)


def refuse_templates(raw: Any, path: str | Path) -> None:
    """Refuse a configuration that makes Snakemake run Python when it reads it, or that it cannot take at all.

    Args:
        raw: the configuration as it stands in the file, before Snakemake looks for templates in it.
        path: the file.

    Raises:
        ConfigurationError: it has the key __use_yte__, or no keys.
    """
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path}: must consist of keys with values, and is {shown(raw)}")
    if "__use_yte__" in raw:
        raise ConfigurationError(
            f"{path}: __use_yte__ makes Snakemake run the Python that stands in the file; write the values out instead"
        )


def check(raw: Any, base: Path) -> Configuration:
    """Check a configuration, including the files that it names, and return it as typed settings.

    Args:
        raw: the configuration as read from YAML.
        base: the workflow's folder, where relative paths may also lie.

    Raises:
        ConfigurationError: lists every problem, a line each, naming the key and what is allowed.
    """
    if not isinstance(raw, dict):
        raise ConfigurationError(f"configuration: must consist of keys with values, and is {shown(raw)}")
    try:
        settings = Configuration.model_validate(raw)
    except ValidationError as error:
        raise ConfigurationError(*_lines([_explain(problem) for problem in error.errors()])) from None
    if problems := _missing_files(settings, base):
        raise ConfigurationError(*_lines(problems))
    return settings


def _lines(problems: list[str]) -> list[str]:
    return [f"configuration: {problem}" for problem in dict.fromkeys(problems)]


def _explain(problem: Any) -> str:
    """Say in one line what is wrong, from one error of pydantic's."""
    keys = [str(part) for part in problem["loc"]]
    if "source" in keys:  # pydantic names the kind of source after it, which is no key of the configuration
        del keys[keys.index("source") + 1 : keys.index("source") + 2]
    key, kind, message = ".".join(keys), problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        *parents, last = keys
        if last in RENAMED:
            return f"{key} is now called {'.'.join([*parents, RENAMED[last]])}"
        return f"{key} is no known key; allowed here: {', '.join(_allowed_keys(parents))}"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "string_pattern_mismatch" and (form := FORMS.get(problem["ctx"]["pattern"])):
        return f"{key} must be {form}, not {shown(problem['input'])}"
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, not {shown(problem['input'])}"


def _allowed_keys(parents: list[str]) -> list[str]:
    """Return the keys that a section allows, given the keys that lead to it."""
    section: type[Section] = Configuration
    for part in parents:
        if part == "source" and part in section.model_fields:
            return ["; or ".join((TUNED_SOURCE_KEYS if section is Tuned else SOURCE_KEYS).values())]
        field = section.model_fields.get(part)  # names of models and positions in lists are no fields
        section = next(_sections_in(field.annotation), section) if field else section
    return list(section.model_fields)


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a type is made of, such as `Model` in `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _sections_in(part)


def _problems_with_results(settings: Configuration, base: Path) -> Iterator[str]:
    """Say why results cannot be written to the folder that is named for them, or should not."""
    place, here = Path(os.path.realpath(settings.results)), Path(os.path.realpath("."))
    if place == here or place in here.parents:
        yield f"results: {settings.results} is or holds the folder that this runs in; name a folder of its own"
    facts = settings.facts
    read = {"facts.path": facts.path, "facts.templates": facts.templates}
    for name, model in settings.models.items():
        for key, one in {"source": model, **{f"tuned.{name}.source": one for name, one in model.tuned.items()}}.items():
            for kind in ("directory", "adapter"):
                read[f"models.{name}.{key}.{kind}"] = getattr(one.source, kind, None)
    for key, path in read.items():
        if path and Path(os.path.realpath(locate(path, base))) == place:
            yield f"results: {settings.results} is also {key}, which is read; name another folder"
    above = place
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        yield f"results: {above} is no folder; name another"
    elif above != place and not os.access(above, os.W_OK | os.X_OK):
        yield f"results: {place} cannot be made (permission denied in {above}); name another folder"


def _missing_files(settings: Configuration, base: Path) -> list[str]:
    """Return the problems with files that the configuration names."""
    facts, problems = settings.facts, list(_problems_with_results(settings, base))
    for key in ("in_domain", "out_of_domain"):
        for topic in getattr(facts, key):
            path = Path(locate(facts.templates, base)) / f"{topic}.yaml"
            try:
                count = len(read_topic_templates(path).completions)
            except KnowshiftError as error:
                problems.append(f"facts.{key}: {error}")
                continue
            if count < settings.mastery.templates:
                problems.append(
                    f"mastery.templates is {settings.mastery.templates}, but {path} has only {count} completions"
                )
            if facts.source == "folder" and facts.path:
                files = [Path(locate(facts.path, base)) / split / f"{topic}.{split}.json" for split in SPLITS]
                problems += [
                    f"facts.{key}: {file} does not exist; it should hold the raw questions of {topic}"
                    for file in files
                    if not file.is_file()
                ]
    if facts.source == "table" and facts.path and not Path(locate(facts.path, base)).is_file():
        problems.append(f"facts.path: {facts.path} does not exist; it should be the table of facts")
    try:
        read_prompt_template(Path(locate(facts.prompt, base)))
    except KnowshiftError as error:
        problems.append(f"facts.prompt: {error}")
    problems += [
        f"facts.synonyms: {path} does not exist" for path in facts.synonyms if not Path(locate(path, base)).is_file()
    ]
    for number, task in enumerate(settings.tasks):
        path = Path(locate(task.questions, base))
        try:
            check_halves(read_examples(path), settings.seed)
        except KnowshiftError as error:
            problems.append(f"tasks.{number}.questions: {error}")
    for name, model in settings.models.items():
        parts = {"": model, "instruct.": model.instruct} | {f"tuned.{key}.": one for key, one in model.tuned.items()}
        for key, part in parts.items():
            source = part and part.source
            if isinstance(source, DirectorySource) and not Path(source.directory).is_dir():
                problems.append(f"models.{name}.{key}source.directory: {source.directory} is no folder")
            if isinstance(source, GgufSource) and not Path(source.gguf).is_file():
                problems.append(f"models.{name}.{key}source.gguf: {source.gguf} is no file")
            if isinstance(source, AdapterSource) and not Path(source.adapter, ADAPTER).is_file():
                problems.append(f"models.{name}.{key}source.adapter: {source.adapter} holds no adapter ({ADAPTER})")
        for key, one in model.tuned.items():
            if one.prompt_file is not None:
                try:
                    read_prompt_template(Path(locate(one.prompt_file, base)))
                except KnowshiftError as error:
                    problems.append(f"models.{name}.tuned.{key}.prompt: neither chat nor study, and {error}")
    return problems
