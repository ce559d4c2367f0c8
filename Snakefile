# knowshift: what supervised fine-tuning does to what a language model knows.
#
#   snakemake                      everything, to results/report.html (profiles/default sets the cores)
#   snakemake -n                   what would run, and why
#   snakemake --configfile FILE    another experiment
import sys
from pathlib import Path

sys.path.extend(str(Path(workflow.basedir, folder)) for folder in ("rules", "schemas", "scripts"))


# A configuration given on the command line replaces the default one; Snakemake alone would merge the two.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/resources.smk"
include: "rules/facts.smk"
include: "rules/models.smk"
include: "rules/mastery.smk"
include: "rules/finetuning.smk"
include: "rules/evaluation.smk"
include: "rules/restoration.smk"
include: "rules/reporting.smk"
include: "rules/orphans.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        exported_models(),
