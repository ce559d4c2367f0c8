"""What the report holds, in the order of its page: sections, figures and printed tables. They are listed nowhere else.

The rules declare their files from these lists, the catalogues of `figures/` and `tables/` find the functions that they
name, and the page shows and numbers what they hold. Rules import this module, so it imports neither pandas nor Altair.
"""

from typing import NamedTuple

# Sections that are left out where they have nothing to say; the first and the last name modules too.
ELSEWHERE = "elsewhere"  # models that were fine-tuned elsewhere
CLAIMS = "verdicts"  # the paper's claims, which are about training
TASKS = "tasks"  # the tasks that models have to go on doing


class SectionEntry(NamedTuple):
    """A section of the page.

    Attributes:
        name: its anchor, and its file resources/report/parts/NAME.html.jinja.
        title: its heading.
        short_title: its name in the list of sections at the top of the page.
    """

    name: str
    title: str
    short_title: str


class FigureEntry(NamedTuple):
    """A figure.

    Attributes:
        name: of the function that draws it, of its files in figures/, and of its caption in resources/captions/.
        module: the module of `knowshift.report.figures` that holds the function.
        section: name of the section that shows it.
    """

    name: str
    module: str
    section: str


class TableEntry(NamedTuple):
    """A printed table.

    Attributes:
        name: of the function that lays it out, and of its files in tables/.
        module: the module of `knowshift.report.tables` that holds the function.
        section: name of the section that shows it.
        source: the table of numbers that it is printed from, tables/SOURCE.parquet.
    """

    name: str
    module: str
    section: str
    source: str


SECTIONS = (
    SectionEntry("asked", "What was asked, and what was run", "What was run"),
    SectionEntry("before", "What was known before", "Known before"),
    SectionEntry("after", "What fine-tuning did", "What SFT did"),
    SectionEntry("elsewhere", "Models that were fine-tuned elsewhere", "Tuned elsewhere"),
    SectionEntry("null", "Concentration and its null", "Concentration"),
    SectionEntry("undone", "What could be undone", "What could be undone"),
    SectionEntry("tasks", "What the model is for", "Tasks"),
    SectionEntry("advice", "What to do", "What to do"),
    SectionEntry("verdicts", "The paper's claims on this run", "Verdicts"),
    SectionEntry("outputs", "Fact by fact", "Fact by fact"),
    SectionEntry("rest", "Costs, gaps and configuration", "Costs, gaps, configuration"),
)

FIGURES = (
    FigureEntry("mastery", "mastery", "before"),
    FigureEntry("level_regression", "knowledge", "before"),
    FigureEntry("accuracy_by_size", "accuracy", "after"),
    FigureEntry("accuracy_by_level", "accuracy", "after"),
    FigureEntry("training_accuracy", "accuracy", "after"),
    FigureEntry("flow", "flow", "after"),
    FigureEntry("flow_topics", "flow", "after"),
    FigureEntry("churn", "knowledge", "after"),
    FigureEntry("wrong_answers", "knowledge", "after"),
    FigureEntry("divergence", "divergence", "after"),
    FigureEntry("correlation", "divergence", "after"),
    FigureEntry("right_answer", "confidence", "after"),
    FigureEntry("confidence", "confidence", "after"),
    FigureEntry("fates", "elsewhere", "elsewhere"),
    FigureEntry("concentration", "parameters", "null"),
    FigureEntry("restored", "restoration", "undone"),
    FigureEntry("undoing", "undoing", "undone"),
    FigureEntry("restored_where", "parameters", "undone"),
    FigureEntry("restored_blocks", "restoration", "undone"),
    FigureEntry("task_trade", "tasks", "tasks"),
    FigureEntry("strategies", "accuracy", "advice"),
    FigureEntry("loss", "training", "rest"),
    FigureEntry("costs", "training", "rest"),
)

TABLES = (
    TableEntry("mastery_levels", "summary", "before", source="mastery"),
    TableEntry("mastery_topics", "summary", "before", source="mastery"),
    TableEntry("level_reliability", "knowledge", "before", source="level_reliability"),
    TableEntry("level_regression", "knowledge", "before", source="level_regression"),
    TableEntry("training_topics", "knowledge", "before", source="training_topics"),
    TableEntry("accuracy", "scores", "after", source="scores"),
    TableEntry("accuracy_levels", "scores", "after", source="scores_by_level"),
    TableEntry("churn", "knowledge", "after", source="churn"),
    TableEntry("wrong_answers", "knowledge", "after", source="wrong_answers"),
    TableEntry("level4_and_kl", "scores", "after", source="shifts"),
    TableEntry("correlation", "scores", "after", source="correlations"),
    TableEntry("right_answer", "confidence", "after", source="right_answer_gaps"),
    TableEntry("confidence", "confidence", "after", source="confidence_errors"),
    TableEntry("fates", "elsewhere", "elsewhere", source="fates"),
    TableEntry("fates_topics", "elsewhere", "elsewhere", source="fates"),
    TableEntry("concentration", "parameters", "null", source="concentration"),
    TableEntry("visible", "parameters", "null", source="concentration"),
    TableEntry("precision", "parameters", "null", source="precision"),
    TableEntry("restored", "parameters", "undone", source="restorations"),
    TableEntry("restored_training", "parameters", "undone", source="restorations"),
    TableEntry("undoing_ways", "undoing", "undone", source="undoing_ways"),
    TableEntry("undoing_rules", "undoing", "undone", source="undoing_rules"),
    TableEntry("restored_by_layer", "parameters", "undone", source="restored_layers"),
    TableEntry("restored_by_module", "parameters", "undone", source="restored_modules"),
    TableEntry("restored_blocks", "parameters", "undone", source="restorations"),
    TableEntry("task_trade", "tasks", "tasks", source="task_trade"),
    TableEntry("recommendation", "summary", "advice", source="recommendation"),
    TableEntry("strategies", "scores", "advice", source="strategies"),
    TableEntry("claims", "summary", "verdicts", source="claims"),
    TableEntry("costs", "summary", "rest", source="costs"),
)
