# Tables, figures and the report.
#   needs   what the stages above made
#   makes   MODEL/tables/, tables/, figures/, report.html
TABLES = [
    "accuracy",
    "accuracy_by_level",
    "cells",
    "concentration",
    "divergence",
    "mastery",
    "restored",
    "restored_where",
    "training_accuracy",
    "training_loss",
]
FIGURES = [
    "mastery",
    "accuracy_by_size",
    "accuracy_by_level",
    "training_accuracy",
    "divergence",
    "concentration",
    "restored",
]


rule tabulate_model:
    input:
        mastery=rules.grade_mastery.output.mastery,
        levels=rules.count_levels.output.levels,
        base=rules.score_base.output.outcomes,
        instruct=lambda wc: (
            [f"{RESULTS}/{wc.model}/instruct/outcomes.parquet"] if SETTINGS.models[wc.model].instruct else []
        ),
        outcomes=of_runs("outcomes.parquet"),
        divergences=of_runs("divergence.parquet"),
        steps=of_runs("steps.parquet"),
        histograms=lambda wc: [
            path for region in SETTINGS.regions for path in of_runs(f"updates/{region}.histogram.parquet")(wc)
        ],
        restored=lambda wc: restored_outcomes(wc.model, feasible_runs(wc.model)),
        synonyms=[resource(path) for path in FACTS.synonyms],
    output:
        expand(f"{RESULTS}/{{{{model}}}}/tables/{{table}}.parquet", table=[*TABLES, "answers"]),
    log:
        f"{RESULTS}/logs/tabulate_model/{{model}}.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=2000,
    params:
        spec=canonical_json({"grid": fields(GRID, *configuration.GRID_KEYS), "matching": FACTS.matching}),
        code=digest("tabulate_model"),
        script=script("tabulate_model"),
        tables=lambda wc, output: Path(output[0]).parent,
    message:
        "Tables of {wildcards.model}"
    shell:
        "python {params.script:q} --mastery {input.mastery:q} --levels {input.levels:q}"
        " --base-outcomes {input.base:q} --instruct-outcomes {input.instruct:q} --outcomes {input.outcomes:q} --divergences {input.divergences:q}"
        " --steps {input.steps:q} --histograms {input.histograms:q} --restored {input.restored:q}"
        " --synonyms {input.synonyms:q} --spec {params.spec:q} --output {params.tables:q} 2> {log:q}"


# Not called `tabulate`: a script of that name would stand before the PyPI package that torch imports.
rule join_tables:
    input:
        expand(f"{RESULTS}/{{model}}/tables/{{table}}.parquet", model=SETTINGS.models, table=TABLES),
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=TABLES),
    log:
        f"{RESULTS}/logs/join_tables.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=1000,
    params:
        code=digest("join_tables"),
        script=script("join_tables"),
        models=[f"{RESULTS}/{model}/tables" for model in SETTINGS.models],
        tables=lambda wc, output: Path(output[0]).parent,
    message:
        "Tables of all models"
    shell:
        "python {params.script:q} --models {params.models:q} --output {params.tables:q} 2> {log:q}"


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
        mem_mb=500,
    params:
        code=digest("tabulate_facts"),
        script=script("tabulate_facts"),
    message:
        "Facts per topic"
    shell:
        "python {params.script:q} --facts {input.facts:q} --output {output.facts:q} 2> {log:q}"


rule plot:
    input:
        rules.join_tables.output,
    output:
        expand(f"{RESULTS}/figures/{{figure}}.{{kind}}", figure=FIGURES, kind=["vl.json", "png"]),
        [
            report(
                f"{RESULTS}/figures/{figure}.svg",
                f"../resources/captions/{figure}.rst",
                "Figures",
                labels={"figure": figure},
            )
            for figure in FIGURES
        ],
    log:
        f"{RESULTS}/logs/plot.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=2000,
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
        tables=rules.join_tables.output,
        facts=rules.tabulate_facts.output.facts,
        figures=rules.plot.output,
        template=resource("resources/report.html.jinja"),
    output:
        report=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=1000,
    params:
        spec=canonical_json({"experiment": SETTINGS.model_dump(exclude={"results"})}),
        code=digest("report"),
        script=script("report"),
        tables=lambda wc, input: Path(input.tables[0]).parent,
        figures=lambda wc, input: Path(input.figures[0]).parent,
    message:
        "Report: {output.report}"
    shell:
        "python {params.script:q} --tables {params.tables:q} --figures {params.figures:q} --template {input.template:q}"
        " --spec {params.spec:q} --output {output.report:q} 2> {log:q}"
