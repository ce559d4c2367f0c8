# Tables, figures and the report.
#   needs   what the stages above made
#   makes   MODEL/tables/, MODEL/analysis/, tables/, figures/, report.html
from knowshift.analysis.run_schemas import MODEL_TABLES
from knowshift.analysis.schemas import ANALYSES
from knowshift.report import contents


localrules:
    join_tables,
    tabulate_costs,
    tabulate_published,
    tabulate_facts,
    print_tables,
    plot,
    report,


PAGE = [
    located(f"resources/report/{path.relative_to(BASE / 'resources/report')}")
    for path in sorted(Path(BASE, "resources/report").rglob("*"))
    if path.is_file()
]
TRAININGS = SETTINGS.finetuning.trained_otherwise() if SETTINGS.finetuning else {}
TABULATED = [*MODEL_TABLES, "mastery", "cells"]  # what tabulate_model writes of a model, apart from `answers`


def restored_percents():
    """Map each region to the percents that its most changed parameters are restored by, for the concentration.

    It takes the entries of all models, so that their tables have the same shares.
    """
    return {
        region: sorted(
            {
                percent
                for entry in SETTINGS.restoration
                if (entry.strategy, entry.region) == ("top", region)
                for percent in entry.percents
            }
        )
        for region in SETTINGS.regions
    }


rule tabulate_model:
    input:
        mastery=rules.grade_mastery.output.mastery,
        levels=rules.count_levels.output.levels,
        base=rules.evaluate_base.output.outcomes,
        few_shot=rules.evaluate_base.output.few_shot,
        facts=expand(rules.build_facts.output.facts, topic=DOMAIN_OF),
        instruct=lambda wc: (
            [f"{RESULTS}/{wc.model}/instruct/outcomes.parquet"] if SETTINGS.models[wc.model].instruct else []
        ),
        outcomes=of_runs("outcomes.parquet"),
        divergences=of_runs("divergence.parquet"),
        steps=of_runs("steps.parquet"),
        histograms=lambda wc: [
            path for region in SETTINGS.regions for path in of_runs(f"changes/{region}.histogram.parquet")(wc)
        ],
        restored=lambda wc: restored_outcomes(wc.model, feasible_runs(wc.model)),
        precision=lambda wc: precision_outcomes(wc.model, feasible_runs(wc.model)),
        tasks=lambda wc: task_outcomes(wc.model, feasible_runs(wc.model)),
        synonyms=[located(path) for path in SETTINGS.facts.synonyms],
    output:
        expand(f"{RESULTS}/{{{{model}}}}/tables/{{table}}.parquet", table=[*TABULATED, "answers", "task_answers"]),
    log:
        f"{RESULTS}/logs/tabulate_model/{{model}}.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(2000),
    params:
        spec=lambda wc: canonical_json(
            {
                "grid": GRID,
                "tuned": [cell.name for cell in TUNED_CELLS[wc.model]],
                "percents": restored_percents(),
                **matching(),
                "dtype": SETTINGS.answering_dtype(wc.model),
                **({"tasks": {name: task.metric for name, task in TASKS.items()}} if TASKS else {}),
            }
        ),
        code=digest("tabulate_model"),
        synonyms=content(*SETTINGS.facts.synonyms),
        script=script("tabulate_model"),
        tables=lambda wc, output: Path(output[0]).parent,
    message:
        "Tables of {wildcards.model}"
    shell:
        "python {params.script:q} --mastery {input.mastery:q} --levels {input.levels:q}"
        " --base-outcomes {input.base:q} --few-shot-outcomes {input.few_shot:q} --facts {input.facts:q}"
        " --instruct-outcomes {input.instruct:q} --outcomes {input.outcomes:q}"
        " --divergences {input.divergences:q} --steps {input.steps:q} --histograms {input.histograms:q}"
        " --restored {input.restored:q} --precision {input.precision:q} --task-outcomes {input.tasks:q}"
        " --synonyms {input.synonyms:q}"
        " --spec {params.spec:q}"
        " --output {params.tables:q} 2> {log:q}"


def orders_of_runs(wildcards):
    """List the orders that the runs of a model take their training facts from."""
    drawn = dict.fromkeys((cell.data, cell.seed) for cell in feasible_grid(wildcards.model))
    return [f"{RESULTS}/{wildcards.model}/orders/{data}-s{seed}.parquet" for data, seed in drawn]


# From graded answers alone: another interval or test asks no model again.
rule analyse_model:
    input:
        tables=rules.tabulate_model.output,
        mastery=rules.grade_mastery.output.mastery,
        divergences=of_runs("divergence.parquet"),
        orders=orders_of_runs,
    output:
        expand(f"{RESULTS}/{{{{model}}}}/analysis/{{table}}.parquet", table=ANALYSES),
    log:
        f"{RESULTS}/logs/analyse_model/{{model}}.log",
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
    params:
        spec=spec_of(
            {
                **matching(),
                "seed": SETTINGS.seed,
                **(
                    {"tasks": {name: fields(task, "metric", "tolerance") for name, task in TASKS.items()}}
                    if TASKS
                    else {}
                ),
                **({"trainings": TRAININGS} if TRAININGS else {}),
            }
        ),
        code=digest("analyse_model"),
        script=script("analyse_model"),
        folder=lambda wc, input: Path(input.tables[0]).parents[1],
        tables=lambda wc, input: Path(input.tables[0]).parent,
        analysis=lambda wc, output: Path(output[0]).parent,
    message:
        "Intervals, tests and verdicts of {wildcards.model}"
    shell:
        "python {params.script:q} --tables {params.tables:q} --mastery {input.mastery:q}"
        " --divergences {input.divergences:q} --orders {input.orders:q} --folder {params.folder:q}"
        " --spec {params.spec:q} --output {params.analysis:q} 2> {log:q}"


rule join_tables:
    input:
        expand(f"{RESULTS}/{{model}}/tables/{{table}}.parquet", model=REPORTED, table=TABULATED),
        expand(rules.analyse_model.output, model=REPORTED),
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=[*TABULATED, *ANALYSES]),
    log:
        f"{RESULTS}/logs/join_tables.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(1000),
    params:
        code=digest("join_tables"),
        script=script("join_tables"),
        names=TABULATED,
        folders=[f"{RESULTS}/{model}" for model in REPORTED],
        tables=lambda wc, output: Path(output[0]).parent,
    message:
        "Tables of all models"
    shell:
        "python {params.script:q} --folders {params.folders:q} --tables {params.names:q}"
        " --output {params.tables:q} 2> {log:q}"


# Benchmarks and speeds are no inputs: were they gone, what wrote them would run again. The tables say when all is done.
rule tabulate_costs:
    input:
        rules.join_tables.output,
    output:
        costs=f"{RESULTS}/tables/costs.parquet",
    log:
        f"{RESULTS}/logs/tabulate_costs.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        code=digest("tabulate_costs"),
        script=script("tabulate_costs"),
        results=lambda wc, output: Path(output.costs).parents[1],
        models=list(REPORTED),
    message:
        "Time and memory per stage"
    shell:
        "python {params.script:q} --results {params.results:q} --models {params.models:q}"
        " --output {output.costs:q} 2> {log:q}"


def hub_sources():
    """Return the repository on the hub that each model comes from; None for a model from elsewhere."""
    return {name: getattr(model.source, "hub", None) for name, model in SETTINGS.models.items()}


rule tabulate_published:
    input:
        [
            located(f"resources/published/{path.name}")
            for path in sorted(Path(BASE, "resources/published").glob("*.csv"))
        ],
    output:
        published=f"{RESULTS}/tables/published.parquet",
    log:
        f"{RESULTS}/logs/tabulate_published.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        spec=spec_of({"sources": hub_sources()}),
        code=digest("tabulate_published"),
        script=script("tabulate_published"),
        folder=lambda wc, input: Path(input[0]).parent,
    message:
        "The paper's figures"
    shell:
        "python {params.script:q} --published {params.folder:q} --spec {params.spec:q}"
        " --output {output.published:q} 2> {log:q}"


rule tabulate_facts:
    input:
        facts=expand(rules.build_facts.output.facts, topic=DOMAIN_OF),
    output:
        facts=f"{RESULTS}/tables/facts.parquet",
    log:
        f"{RESULTS}/logs/tabulate_facts.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        code=digest("tabulate_facts"),
        script=script("tabulate_facts"),
    message:
        "Facts per topic"
    shell:
        "python {params.script:q} --facts {input.facts:q} --output {output.facts:q} 2> {log:q}"


rule print_tables:
    input:
        rules.join_tables.output,
        rules.tabulate_costs.output.costs,
    output:
        [f"{RESULTS}/tables/{table.name}.{kind}" for table in contents.TABLES for kind in ("csv", "tex")],
    log:
        f"{RESULTS}/logs/print_tables.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(1000),
    params:
        code=digest("print_tables"),
        script=script("print_tables"),
        tables=lambda wc, output: Path(output[0]).parent,
    message:
        "Tables as they are printed"
    shell:
        "python {params.script:q} --tables {params.tables:q} --output {params.tables:q} 2> {log:q}"


def numbers(wildcards):
    """List the tables that charts and the page are made from; they fill one folder."""
    return [
        *rules.join_tables.output,
        rules.tabulate_costs.output.costs,
        rules.tabulate_published.output.published,
        rules.tabulate_facts.output.facts,
    ]


rule plot:
    input:
        numbers,
    output:
        [f"{RESULTS}/figures/{figure.name}.{kind}" for figure in contents.FIGURES for kind in ("vl.json", "png")],
        [
            report(
                f"{RESULTS}/figures/{figure.name}.svg",
                f"../resources/captions/{figure.name}.rst",
                "Figures",
                labels={"figure": figure.name},
            )
            for figure in contents.FIGURES
        ],
    log:
        f"{RESULTS}/logs/plot.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(2000),
    params:
        code=digest("plot"),
        script=script("plot"),
        tables=lambda wc, input: Path(input[0]).parent,
        figures=lambda wc, output: Path(output[0]).parent,
    message:
        "Figures"
    shell:
        "python {params.script:q} --tables {params.tables:q} --output {params.figures:q} 2> {log:q}"


rule report:
    input:
        numbers,
        rules.print_tables.output,
        figures=rules.plot.output,
        page=PAGE,
    output:
        report=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(2000),
    params:
        spec=spec_of({"experiment": SETTINGS.model_dump(exclude={"results", "allow_large"})}),
        code=digest("report"),
        script=script("report"),
        tables=lambda wc, input: Path(input[0]).parent,
        figures=lambda wc, input: Path(input.figures[0]).parent,
        page=lambda wc, input: str(BASE / "resources/report"),
    message:
        "Report: {output.report}"
    shell:
        "python {params.script:q} --tables {params.tables:q} --figures {params.figures:q} --page {params.page:q}"
        " --spec {params.spec:q} --output {output.report:q} 2> {log:q}"
