"""The searchable table of answers, packed to stand in the report's page."""

import base64
import gzip
import json
from typing import Any

import pandas as pd

from knowshift.report.figures.theme import KINDS, kind_name

MAX_ANSWER = 160  # characters of an answer that the table shows
ANSWER_COLUMNS = ("before", "after", "restored")  # columns of answers; NAME_correct says whether each is right
TITLES = {
    "model": "model",
    "training": "trained on",
    "topic": "topic",
    "question": "question",
    "object": "answer",
    "level": "level",
    "before": "before",
    "after": "after",
    "restored": "restored",
    "change": "change",
}
# What became of an answer, by whether it is right before fine-tuning, after it and restored. Where nothing was
# restored, the last repeats `after`. Whether a fact was known before is another question, see `figures.flow`.
CHANGES = {
    (True, True, True): "stays right",
    (True, True, False): "wrong by restoring",
    (True, False, True): "right again",
    (True, False, False): "becomes wrong",
    (False, True, True): "becomes right",
    (False, True, False): "right, then wrong again",
    (False, False, True): "right by restoring",
    (False, False, False): "stays wrong",
}


def pack_answers(outputs: pd.DataFrame) -> str | None:
    """Pack the table of answers for resources/report/report.js, which unpacks it.

    Args:
        outputs: rows of the table `fact_outputs`.

    Returns:
        JSON, compressed with gzip and encoded in base64. Its key `values` holds a list per column, of indices into the
        column's list of distinct texts under `texts`; the columns NAME_correct hold 0 or 1. None without rows.
    """
    if outputs.empty:
        return None
    rows = outputs.copy()
    last = rows["restored_correct"].where(rows["restored_correct"].notna(), rows["after_correct"])
    right = zip(rows["before_correct"].astype(bool), rows["after_correct"].astype(bool), last.astype(bool), strict=True)
    rows["change"] = [CHANGES[states] for states in right]
    rows["training"] = [
        f"{data}, tuned elsewhere"
        if pd.isna(size)
        else f"{kind_name(data)}, {size:,.0f} facts" + ("" if method == "full" else f", {method}")
        for data, size, method in zip(rows["data"], rows["size"], rows["method"], strict=True)
    ]
    titles = {name: title for name, title in TITLES.items() if name != "model" or rows["model"].nunique() > 1}
    order = {kind: number for number, kind in enumerate(KINDS)}
    rows = rows.sort_values(
        ["model", "data", "method", "topic"],
        kind="stable",
        key=lambda column: column.map(order) if column.name == "data" else column,
    )
    packed: dict[str, Any] = {
        "columns": list(titles),
        "titles": list(titles.values()),
        "values": {},
        "texts": {},
        "right": {},
    }
    for column in titles:
        texts = rows[column]
        if column in ANSWER_COLUMNS:
            texts = texts.map(lambda text: None if pd.isna(text) else " ".join(text.split())[:MAX_ANSWER])
        codes, found = pd.factorize(texts, use_na_sentinel=False)
        packed["values"][column] = codes.tolist()
        packed["texts"][column] = [None if pd.isna(text) else text for text in pd.Series(found).tolist()]
    for column in ANSWER_COLUMNS:
        name = f"{column}_correct"
        packed["right"][column] = name
        packed["values"][name] = rows[name].astype("boolean").fillna(False).astype(int).tolist()
    text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"), default=int)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
