# knowshift: what supervised fine-tuning does to what a language model knows.
#
#   snakemake                      everything, to results/report.html (profiles/default sets the cores)
#   snakemake -n                   what would run, and why
#   snakemake --configfile FILE    another experiment
#   snakemake STAGE                up to a stage: mastery, finetunes, evaluations, restorations, report, export
#   snakemake plan                 what it will take: jobs, tokens, disk, GPU-hours
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

if not workflow.current_basedir.is_local:
    raise WorkflowError("knowshift runs its scripts where they lie: clone it, and name the Snakefile of the clone")

BASE = Path(workflow.current_basedir)  # also where another workflow uses this one as a module
sys.path.extend(str(BASE / folder) for folder in ("rules", "scripts"))


# A configuration given on the command line replaces the default one; Snakemake alone would merge the two.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/facts.smk"
include: "rules/models.smk"
include: "rules/mastery.smk"
include: "rules/finetuning.smk"
include: "rules/evaluation.smk"
include: "rules/restoration.smk"
include: "rules/reporting.smk"
include: "rules/targets.smk"
include: "rules/orphans.smk"


# All digests are taken. The parsed code would stay in memory, and Python's garbage collector would search it.
digests.code.cache_clear()


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        final_results(),
        exported_models(),
