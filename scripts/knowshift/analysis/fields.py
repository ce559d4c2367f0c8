"""Fields that the schemas of the tables of the analysis share."""

import pyarrow as pa


def field(name: str, type_: pa.DataType, doc: str = "", null: bool = False) -> pa.Field:
    """A column, not null unless said so, with its description as metadata."""
    return pa.field(name, type_, null, {"doc": doc} if doc else None)


TEXT, REAL, COUNT, BOOL = pa.string(), pa.float64(), pa.int64(), pa.bool_()

CELL = [
    field(
        "method",
        TEXT,
        "full, lora or a variant; tuned: elsewhere; pre-trained, few-shot, most frequent object and instruct: not"
        " fine-tuned",
    ),
    field(
        "data",
        TEXT,
        "level0 … level4, mixed, or the name of a model tuned elsewhere; null: not fine-tuned",
        null=True,
    ),
    field("size", COUNT, "training facts used; null: not fine-tuned here", null=True),
    field("asked", TEXT, "training facts asked for: a number or all", null=True),
]
SEEDS = field("seeds", COUNT, "runs that the row is a mean of")
SET = field("set", TEXT, "test, test_ood, dev, dev_ood or training_set")
QUESTIONS = field("questions", COUNT, "facts asked of each run")
RESTORED = [
    field("strategy", TEXT, "what was undone first, or how: see docs/method.md"),
    field("region", TEXT),
    field("percent", REAL, "share of the region's parameters restored, in percent"),
]
MAYBE_RESTORED = [field.with_nullable(True) for field in RESTORED]


def estimate_fields(name: str, doc: str) -> list[pa.Field]:
    """The columns of a number, its spread over seeds and its interval over facts."""
    return [
        field(name, REAL, doc, null=True),
        field("spread", REAL, "standard deviation over seeds; null with one seed", null=True),
        field("low", REAL, "lower end of the 95 % interval over facts", null=True),
        field("high", REAL, "upper end", null=True),
    ]


def interval_fields(name: str, doc: str) -> list[pa.Field]:
    """The columns of a number and its interval over facts."""
    return [
        field(name, REAL, doc, null=True),
        field(f"{name}_low", REAL, "lower end of the 95 % interval over facts", null=True),
        field(f"{name}_high", REAL, "upper end", null=True),
    ]
