"""What the report's page shows: numbered figures and tables with what can be downloaded of them, and what the text says."""

import base64
import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup, escape

from knowshift.report.figures.flow import FATES
from knowshift.report.figures.theme import DARK, KINDS, SETS, kind_name
from knowshift.report.tables.layout import Cell, Printed

Tables = Mapping[str, pd.DataFrame]
EMBEDDED = 64_000  # bytes of a Parquet file that still goes into the page
PARQUET = "application/vnd.apache.parquet"
OUTPUT = 160  # characters of an output that the table of facts shows
NUMBER = re.compile(r"^[+−-]?[\d,.]+( ?%)?( .*)?$|^[–—-]?$|^\s*$")


@dataclass(frozen=True)
class Figure:
    """A chart as it stands in the page.

    Attributes:
        svg: the picture that is there before scripts run.
        specification: its Vega-Lite, as text that can stand in a script element.
        width: of the picture, in pixels.
        absent: the cells that it would show were not run.
        parquet: its data as a data address; None where they are too large for the page.
    """

    name: str
    number: int
    svg: str
    specification: str
    width: float
    absent: bool
    parquet: str | None


def read_figure(name: str, number: int, svg: str, specification: str) -> Figure:
    """A figure from its files."""
    content = json.loads(specification)
    data = max(content.get("datasets", {}).values(), key=len, default=[])
    return Figure(
        name=name,
        number=number,
        svg=_own_names(svg, name),
        specification=in_script(specification),
        width=float(re.search(r'<svg[^>]*\bwidth="([\d.]+)"', svg)[1]),
        absent=bool(content.get("usermeta", {}).get("absent")),
        parquet=_parquet_address(pd.DataFrame(data)),
    )


def _own_names(svg: str, name: str) -> str:
    """The picture with names of its own for what it refers to: several pictures share a page."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)


def in_script(text: str) -> str:
    """JSON as it may stand inside a script element."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")


def data_address(content: bytes, kind: str) -> str:
    """Content as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _parquet_address(frame: pd.DataFrame) -> str | None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    content = buffer.getvalue()
    return data_address(content, PARQUET) if len(content) <= EMBEDDED else None


@dataclass(frozen=True)
class Shown:
    """A printed table as it stands in the page.

    Attributes:
        numeric: which columns hold numbers, and are set flush right.
        csv, latex: what stands in it, as data addresses.
        parquet: the table that it prints, as a data address or, where that is too large, as the path beside the report.
        near: whether `parquet` lies in the page.
    """

    name: str
    number: int
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    reason: str | None
    numeric: list[bool]
    csv: str
    latex: str
    parquet: str
    near: bool


# In the order of the page, which numbers them.
TABLES = (
    "mastery_levels", "mastery_topics", "accuracy", "accuracy_levels", "level4_and_kl", "correlation", "calibration",
    "concentration", "restored", "restored_training", "restored_by_layer", "restored_by_module", "restored_blocks",
    "recommendation", "strategies", "claims", "costs",
)  # fmt: skip


def read_tables(printed: Sequence[Printed], directory: Path) -> dict[str, Shown]:
    """The printed tables with their files in `directory`."""
    shown = {}
    for table in sorted(printed, key=lambda table: TABLES.index(table.name)):
        content = (directory / f"{table.source}.parquet").read_bytes()
        near = len(content) <= EMBEDDED
        shown[table.name] = Shown(
            name=table.name,
            number=len(shown) + 1,
            title=table.title,
            columns=table.columns,
            rows=table.rows,
            reason=table.reason,
            numeric=numeric_columns(table.rows),
            csv=data_address((directory / f"{table.name}.csv").read_bytes(), "text/csv"),
            latex=data_address((directory / f"{table.name}.tex").read_bytes(), "application/x-tex"),
            parquet=data_address(content, PARQUET) if near else f"tables/{table.source}.parquet",
            near=near,
        )
    return shown


def numeric_columns(rows: Sequence[Sequence]) -> list[bool]:
    """Which columns of a printed table hold numbers, and are set flush right."""
    return [all(NUMBER.match(cell.text) for cell in column) for column in zip(*rows, strict=True)]


def cell_text(text: str) -> Markup:
    """A cell of a table with its interval and spread set small, so that the number stands out."""
    return Markup(re.sub(r" (\[[^\]]+\](?: ± [\d.]+)?|± [\d.]+)$", r" <small>\1</small>", str(escape(text))))


def sentence(text: str | None) -> str:
    """A remark of a table as a sentence: a capital first, a full stop last; level0 is named as in the text."""
    text = re.sub(r"\blevel(\d)", r"level \1", (text or "").strip().rstrip("."))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def dark_style() -> str:
    """Style rules that give charts the colours of a dark page; see `theme.DARK`."""
    return "\n".join(
        f'.chart [fill="{light}"] {{ fill: light-dark({light}, {dark}); }} '
        f'.chart [stroke="{light}"] {{ stroke: light-dark({light}, {dark}); }}'
        for light, dark in DARK.items()
    )


def pack_facts(outputs: pd.DataFrame) -> str | None:
    """The searchable table of facts: columns of indices into lists of texts, as JSON, gzip and base64; None without rows."""
    if outputs.empty:
        return None
    rows = outputs.copy()
    last = rows["restored_correct"].where(rows["restored_correct"].notna(), rows["after_correct"])
    fates = zip(rows["before_correct"].astype(bool), rows["after_correct"].astype(bool), last.astype(bool), strict=True)
    rows["change"] = [FATES[fate] for fate in fates]
    rows["training"] = [
        f"{kind_name(row.data)}, {row.size_:,} facts" + ("" if row.method == "full" else f", {row.method}")
        for row in rows.rename(columns={"size": "size_"}).itertuples()
    ]
    titles = {"model": "model", "training": "trained on", "topic": "topic", "question": "question", "object": "answer",
              "level": "level", "before": "before", "after": "after", "restored": "restored", "change": "change"}  # fmt: skip
    if rows["model"].nunique() == 1:
        titles.pop("model")
    order = {kind: place for place, kind in enumerate(KINDS)}
    rows = rows.sort_values(["model", "data", "method", "topic"], kind="stable",
                            key=lambda column: column.map(order) if column.name == "data" else column)  # fmt: skip
    packed: dict = {"columns": list(titles), "titles": list(titles.values()), "values": {}, "texts": {}, "right": {}}
    for column in titles:
        texts = rows[column]
        if column in ("before", "after", "restored"):
            texts = texts.map(lambda text: None if pd.isna(text) else " ".join(text.split())[:OUTPUT])
        codes, found = pd.factorize(texts, use_na_sentinel=False)
        packed["values"][column] = codes.tolist()
        packed["texts"][column] = [None if pd.isna(text) else text for text in pd.Series(found).tolist()]
    for column in ("before", "after", "restored"):
        name = f"{column}_correct"
        packed["right"][column] = name
        packed["values"][name] = rows[name].astype("boolean").fillna(False).astype(int).tolist()
    text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"), default=int)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def summarise(tables: Tables) -> dict:
    """The values that the text of the page names.

    Returns:
        models: per model what its cells and its most telling numbers are;
        facts: the facts of every topic and the rows left out; infeasible: the cells that could not be run;
        planned, run: numbers of cells; claims: the verdicts with their parts; recommendations: per model;
        papers: the run's models that are the paper's.
    """
    cells = tables["cells"]
    missing = cells[cells["state"] == "infeasible"]
    return {
        "models": [
            _model(name, {key: table[table["model"] == name] for key, table in tables.items() if "model" in table})
            for name in cells["model"].unique()
        ],
        "facts": tables["facts"].to_dict("records"),
        "infeasible": missing[["model", "run", "data", "size", "facts"]].to_dict("records"),
        "planned": len(cells),
        "run": len(cells) - len(missing),
        "seeds": int(cells["seed"].nunique()),
        "papers": sorted(tables["published"]["of"].dropna().unique()),
        "sets": SETS,
    }


def _rows(table: pd.DataFrame) -> list[dict]:
    """Rows as dictionaries, None where a value is missing."""
    return [{key: None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")]


def _model(name: str, tables: Tables) -> dict:
    scores = tables["scores"]
    held = scores[scores["data"].notna() & (scores["set"] == "test")].dropna(subset=["accuracy"])
    before = scores[scores["method"] == "pre-trained"].set_index("set")["accuracy"]
    best = held.sort_values("accuracy", ascending=False, kind="stable")
    swept = tables["restorations"]
    swept = swept[(swept["set"] == "test") & (swept["percent"] > 0)].dropna(subset=["gain"])
    claims = tables["claims"]
    return {
        "name": name,
        "before": {key: None if pd.isna(before.get(key)) else float(before[key]) for key in SETS},
        "best": _rows(best.head(1)),
        "worst": _rows(best.tail(1)) if len(best) > 1 else [],
        "restored": {
            "tried": len(swept),
            "gained": int(((swept["gain"] > 0) & (swept["p_corrected"] < 0.05)).sum()),
            "lost": int(((swept["gain"] < 0) & (swept["p_corrected"] < 0.05)).sum()),
            "best": _rows(swept.sort_values("gain", ascending=False, kind="stable").head(1)),
        },
        "fates": _fates(tables["flows"]),
        "zeros": _zeros(tables["concentration"]),
        "claims": [
            {**claim, "parts": _rows(claims[(claims["claim"] == claim["claim"]) & claims["part"].notna()])}
            for claim in _rows(claims[claims["part"].isna()])
        ],
        "recommendation": _rows(tables["recommendation"]),
    }


def _fates(flows: pd.DataFrame) -> dict | None:
    """Shares kept of what was known and learned of what was not, over all fine-tuned runs and in-domain test facts."""
    flows = flows[(flows["set"] == "test") & flows["data"].notna()]
    known = flows[flows["before"].astype(bool)]
    unknown = flows[~flows["before"].astype(bool)]
    if not known["facts"].sum() or not unknown["facts"].sum():
        return None
    return {
        "kept": known[known["after"].astype(bool)]["facts"].sum() / known["facts"].sum(),
        "learned": unknown[unknown["after"].astype(bool)]["facts"].sum() / unknown["facts"].sum(),
    }


def _zeros(concentration: pd.DataFrame) -> dict | None:
    if concentration.empty:
        return None
    first = concentration.iloc[0]
    return {
        "region": first["region"],
        "parameters": int(first["parameters"]),
        "zeros": int(first["zero_before"]),
        "unchanged": float((concentration["unchanged"] / concentration["parameters"]).mean()),
    }
