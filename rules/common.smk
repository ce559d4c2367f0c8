# Paths, the checked configuration, and what all rules share. They take two params from here:
#   spec   the part of the configuration that changes the rule's result, as canonical JSON
#   code   a digest of the code that makes the result (comments, docstrings and formatting do not count, and no change that
#          is recorded as neutral)
# Threads, memory and GPUs are execution: they stand in `threads` and `resources` (resources.smk), and profiles override them.
import json
from decimal import Decimal
from functools import cache

from knowshift.configuration import checking
from knowshift.configuration import sections
import neutral
from code_digests import digests
from knowshift.canonical import canonical_json
from knowshift.facts.source_rows import PROBED_SPLITS as SPLITS
from knowshift.runtime.errors import KnowshiftError
from knowshift.finetuning.grid import Cell, cells, feasible, is_restored
from knowshift.weights.regions import LAYERS
from snakemake.logging import logger

SCRIPTS = BASE / "scripts"

try:
    SETTINGS = checking.check(config, BASE)
    NEUTRAL_CHANGES = neutral.read_changes()
except (checking.ConfigurationError, neutral.NeutralError) as error:
    raise WorkflowError(str(error)) from None

RESULTS = SETTINGS.results
FACTS, GRID = SETTINGS.facts, SETTINGS.finetuning


wildcard_constraints:
    model="|".join(map(re.escape, SETTINGS.models)),
    topic=r"\w+",
    split="train|dev|test",
    data=r"level[0-4]|mixed",
    run=rf"{sections.METHOD}-(level[0-4]|mixed)-(\d+|all)-s\d+",
    seed=r"\d+",
    strategy="top|bottom|random|absolute",
    region=f"{sections.REGION_NAME}|{LAYERS}",
    percent=r"\d+(\.\d+)?",


@cache
def resource(path):
    """A file or folder that the configuration names, here or in the workflow's own folder."""
    return checking.locate(path, BASE)


def templates_of(topic):
    return f"{resource(FACTS.templates)}/{topic}.yaml"


def digest(script):
    """The `code` param of a rule."""
    return neutral.settle(script, digests.code_digest(SCRIPTS, script), NEUTRAL_CHANGES)


def script(name):
    """The path of a script. Snakemake compares no params that are a `Path`, and must not: a clone may lie elsewhere."""
    return SCRIPTS / f"{name}.py"


def fields(section, *names):
    """Some values of a section of the configuration."""
    return {name: getattr(section, name) for name in names}


def number(value):
    """A number in all its digits without needless ones, as in paths: 20.0 is 20."""
    return f"{Decimal(str(value)).normalize():f}"
