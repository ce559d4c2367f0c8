# knowshift: what supervised fine-tuning does to what a language model knows.
#
#   snakemake                      everything, to results/report.html (profiles/default sets the cores)
#   snakemake -n                   what would run, and why
#   snakemake --configfile FILE    another experiment
#   snakemake STAGE                up to a stage: mastery, finetunes, evaluations, restorations, report, export
#   snakemake plan                 what it will take: jobs, tokens, disk, GPU-hours
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

if not workflow.current_basedir.is_local:
    raise WorkflowError("knowshift runs its scripts where they lie: clone it, and name the Snakefile of the clone")

BASE = Path(workflow.current_basedir)  # also where another workflow uses this one as a module
sys.path.extend(str(BASE / folder) for folder in ("rules", "scripts"))

import starting
from snakemake.settings.types import DeploymentMethod, ExecMode

# Jobs run under the interpreter that runs Snakemake, unless they get a conda environment of their own, or the
# environment variable KNOWSHIFT_PYTHON names another interpreter.
IN_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
if lacking := starting.missing_packages(BASE / "pyproject.toml", starting.READ_WITH if IN_CONDA else None):
    raise WorkflowError(starting.how_to_install(lacking, BASE, sys.executable, IN_CONDA))
if not IN_CONDA:
    shell.prefix(starting.shell_prefix(os.environ.get("KNOWSHIFT_PYTHON") or sys.executable))

from watching import handler

# A configuration given on the command line replaces the default one; Snakemake alone would merge the two. Where the
# working directory has none, that of the clone counts.
if not workflow.config_settings.configfiles:

    configfile: starting.configuration_file(BASE)


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/facts.smk"
include: "rules/models.smk"
include: "rules/mastery.smk"
include: "rules/finetuning.smk"
include: "rules/evaluation.smk"
include: "rules/tasks.smk"
include: "rules/restoration.smk"
include: "rules/reporting.smk"
include: "rules/targets.smk"
include: "rules/orphans.smk"


# A person watches this instead of Snakemake's own lines, which are in .snakemake/log/.
if (
    workflow.exec_mode == ExecMode.DEFAULT
    and Path(workflow.main_snakefile).resolve() == Path(BASE, "Snakefile").resolve()
):
    handler.install(logger, workflow.output_settings, foreseen_jobs, Path(RESULTS, "report.html"), len(SETTINGS.models))


# All digests are taken. The parsed code would stay in memory, and Python's garbage collector would search it.
digests.code.cache_clear()


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        final_results(),
        exported_models(),
