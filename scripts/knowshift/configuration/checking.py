"""Checks a configuration: typed settings, or one line per problem that says which key is wrong and what is allowed."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from knowshift.configuration.sections import Configuration, Counterpart, DirectorySource, Export, Model, Restoration
from knowshift.facts.templates import read_prompt_template, read_topic_templates
from knowshift.runtime.errors import KnowshiftError


class ConfigurationError(KnowshiftError):
    """Lists what is wrong with a configuration, a line per problem."""


def locate(path: str, base: Path) -> str:
    """A path as given where it exists, else below the workflow's own folder."""
    return path if Path(path).exists() or not (base / path).exists() else str(base / path)


def check(raw: dict[str, Any], base: Path) -> Configuration:
    """The typed settings of a raw configuration, files that it names included.

    Args:
        raw: as read from YAML.
        base: the workflow's folder, where relative paths may also lie.

    Raises:
        ConfigurationError: lists every problem, a line each, naming the key and what is allowed.
    """
    try:
        settings = Configuration.model_validate(raw)
    except ValidationError as error:
        raise ConfigurationError(_lines(_explain(problem) for problem in error.errors())) from None
    if problems := _missing(settings, base):
        raise ConfigurationError(_lines(problems))
    return settings


def _lines(problems: Any) -> str:
    return "configuration: " + "\nconfiguration: ".join(dict.fromkeys(problems))


def _explain(problem: dict[str, Any]) -> str:
    place = [str(part) for part in problem["loc"] if not str(part).endswith("Source")]
    key, kind, message = ".".join(place), problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"{key} is no known key; allowed here: {', '.join(_keys(place[:-1]))}"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, not {problem['input']!r}"


def _keys(place: list[str]) -> list[str]:
    """The keys that the section at `place` allows."""
    section: Any = Configuration
    parents = {"restoration": Restoration, "exports": Export, "models": Model, "instruct": Counterpart}
    for part in place:
        if part in parents:
            section = parents[part]
        elif part == "source":
            return ["wheel, version, sha256, file", "or hub, revision", "or directory"]
        elif part in section.model_fields and isinstance(section.model_fields[part].annotation, type):
            section = section.model_fields[part].annotation
    return list(section.model_fields)


def _missing(settings: Configuration, base: Path) -> list[str]:
    """Problems with files that the configuration names."""
    facts, problems = settings.facts, []
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
            for split in ("train", "dev", "test") if facts.source == "folder" else ():
                raw = Path(locate(facts.path, base)) / split / f"{topic}.{split}.json"
                if not raw.is_file():
                    problems.append(f"facts.{key}: {raw} does not exist; it should hold the raw questions of {topic}")
    if facts.source == "table" and not Path(locate(facts.path, base)).is_file():
        problems.append(f"facts.path: {facts.path} does not exist; it should be the table of facts")
    try:
        read_prompt_template(Path(locate(facts.prompt, base)))
    except KnowshiftError as error:
        problems.append(f"facts.prompt: {error}")
    problems += [
        f"facts.synonyms: {path} does not exist" for path in facts.synonyms if not Path(locate(path, base)).is_file()
    ]
    for name, model in settings.models.items():
        for key, part in {"source": model, "instruct.source": model.instruct}.items():
            source = part and part.source
            if isinstance(source, DirectorySource) and not Path(source.directory).is_dir():
                problems.append(f"models.{name}.{key}.directory: {source.directory} is no folder")
    return problems
