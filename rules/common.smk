# The checked configuration, paths, and the helpers that all rules share. Rules that make a result have two params:
#   spec   the part of the configuration that changes this result, as canonical JSON
#   code   a digest of the code that makes this result; comments, docstrings, formatting, the module that code lives in,
#          and changes that are recorded as neutral do not count
# Threads, memory and GPUs change no result. They are set in `threads` and `resources` (resources.smk); profiles
# override them.
import json
import re
from functools import cache
from pathlib import Path
from typing import get_args

from knowshift.allowed_values import Dtype, Strategy
from knowshift.configuration import checking
from knowshift.configuration import consent
from knowshift.configuration import sections
import neutral
from code_digests.content import ContentDigests, directory_digest
from code_digests import digests
from knowshift.canonical import canonical_json, plain_number
from knowshift.facts.source_rows import PROBED_SPLITS
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.yaml_files import read_yaml
from knowshift.finetuning.grid import Cell, cells, cells_read, feasible, is_restored
from knowshift.weights.delta_format import DELTA_FORMAT
from knowshift.weights.regions import LAYERS
from snakemake.logging import logger

SCRIPTS = BASE / "scripts"

try:
    for path in workflow.configfiles:
        # Snakemake has read it, but says nothing of a key that is given twice, or that made it run Python.
        checking.refuse_templates(read_yaml(Path(path), " does not exist"), path)
    SETTINGS = checking.check(config, BASE)
    consent.check_size(SETTINGS)
    NEUTRAL_CHANGES = neutral.read_changes()
except (KnowshiftError, neutral.NeutralError) as error:
    raise WorkflowError(str(error)) from None

RESULTS = SETTINGS.results


wildcard_constraints:
    model="|".join(map(re.escape, SETTINGS.models)),
    topic=r"\w+",
    split="train|dev|test",
    data=r"level[0-4]|mixed",
    run=rf"{sections.METHOD}-(level[0-4]|mixed)-(\d+|all)-s\d+",
    seed=r"\d+",
    strategy="|".join(get_args(Strategy)),
    region=f"{sections.REGION_NAME}|{LAYERS}",
    percent=r"\d+(\.\d+)?",
    arm=f"(-({'|'.join(get_args(Dtype))}))?",  # of `more_dtypes`, in the folder restored-DTYPE


CONTENT = ContentDigests(Path(".snakemake/knowshift/content.json"))


def content(*paths):
    """Return a digest of the content of files that users edit, for params: their times need not be newer."""
    found = CONTENT.digests(Path(located(path)) for path in paths)
    return canonical_json(list(found.values()))


@cache
def located(path):
    """Return the path of a file or folder of the configuration: as given, or below the workflow's own folder."""
    return checking.locate(path, BASE)


def spec_of(value):
    """Return the `spec` param of a rule whose jobs have the same one.

    It is a function, because in a plain text Snakemake takes words in braces for wildcards.
    """
    text = canonical_json(value)
    return lambda wildcards: text


def templates_of(topic):
    """Return the path of a topic's templates."""
    return f"{located(SETTINGS.facts.templates)}/{topic}.yaml"


def digest(script):
    """Return the `code` param of a rule: the digest of its script."""
    return neutral.settle(script, digests.code_digest(SCRIPTS, script), NEUTRAL_CHANGES)


def script(name):
    """Return the path of a script, as a `Path`: Snakemake does not compare those, so a clone may lie anywhere."""
    return SCRIPTS / f"{name}.py"


def loading(model):
    """Return how a model is loaded, for specs; a model whose own code is not trusted needs no word about it."""
    return {"bos": model.bos} | ({"trust_remote_code": True} if model.trust_remote_code else {})


def fields(section, *names):
    """Return some values of a section of the configuration, by name."""
    return {name: getattr(section, name) for name in names}


DOMAINS = {"in_domain": SETTINGS.facts.in_domain, "out_of_domain": SETTINGS.facts.out_of_domain}
DOMAIN_OF = {topic: domain for domain, topics in DOMAINS.items() for topic in topics}
UNITS = [(topic, split) for domain, topics in DOMAINS.items() for topic in topics for split in PROBED_SPLITS[domain]]
# The cells of the grid, for every model. Some may turn out infeasible: a level may hold fewer facts than they ask for.
PLANNED_CELLS = cells(**fields(SETTINGS.finetuning, *sections.GRID_KEYS))
