# The checked configuration, paths, and the helpers that all rules share. Rules that make a result have two params:
#   spec   the part of the configuration that changes this result, as canonical JSON
#   code   a digest of the code that makes this result; comments, docstrings, formatting, the module that code lives in,
#          and changes that are recorded as neutral do not count
# Threads, memory and GPUs change no result. They are set in `threads` and `resources` (resources.smk); profiles
# override them.
import json
import re
import shlex
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
from knowshift.finetuning.grid import (
    Cell,
    TunedCell,
    available_facts,
    cell_of,
    cells,
    cells_read,
    feasible,
    is_restored,
    tuned_cells,
)
from knowshift.finetuning.stops import stops_by_training, trained_cell
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
# The models that the report is about: all of them, or those that the user names because another one cannot finish.
REPORTED = SETTINGS.report_on or list(SETTINGS.models)


GRID_RUN = rf"(?!{sections.TUNED}-){sections.METHOD}-(level[0-4]|mixed)-(\d+|all)-s\d+"
TUNED_RUN = f"{sections.TUNED}-{sections.MODEL_NAME}"


wildcard_constraints:
    model="|".join(map(re.escape, SETTINGS.models)),
    topic=r"\w+",
    split="train|dev|test",
    data=r"level[0-4]|mixed|known",
    run=f"{GRID_RUN}|{TUNED_RUN}",
    seed=r"\d+",
    strategy="|".join(get_args(Strategy)),
    region=f"{sections.REGION_NAME}|{LAYERS}",
    percent=r"\d+(\.\d+)?",
    task=sections.MODEL_NAME,
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


class Uncompared:
    """Words of a command line that change no result. Snakemake compares params of known types only, so not these."""

    def __init__(self, *words):
        self.words = words

    def __str__(self):
        return shlex.join(self.words)


def loading(model):
    """Return how a model is loaded, for specs; what is as by default (trust, attention) needs no word."""
    trusted = {"trust_remote_code": True} if model.trust_remote_code else {}
    return {"bos": model.bos} | trusted | ({} if model.attention == "auto" else {"attention": model.attention})


def matching():
    """Return how objects are searched for in texts, for specs; no word of ways to write a name if none counts."""
    writings = {"writings": sorted(SETTINGS.facts.writings)} if SETTINGS.facts.writings else {}
    return fields(SETTINGS.facts, "matching") | writings


def fields(section, *names):
    """Return some values of a section of the configuration, by name."""
    return {name: getattr(section, name) for name in names}


DOMAINS = {"in_domain": SETTINGS.facts.in_domain, "out_of_domain": SETTINGS.facts.out_of_domain}
DOMAIN_OF = {topic: domain for domain, topics in DOMAINS.items() for topic in topics}
UNITS = [(topic, split) for domain, topics in DOMAINS.items() for topic in topics for split in PROBED_SPLITS[domain]]
GRID = SETTINGS.finetuning and fields(SETTINGS.finetuning, *sections.GRID_KEYS)
KEEP_DELTAS = SETTINGS.finetuning.keep_deltas if SETTINGS.finetuning else "all"
# The cells of the grid, for every model. Some may turn out infeasible: a level may hold fewer facts than they ask for.
PLANNED_CELLS = cells(**GRID) if GRID else []
# The cells that were fine-tuned elsewhere, of each model.
TUNED_CELLS = {name: tuned_cells(model.tuned) for name, model in SETTINGS.models.items()}
