"""Invented rows of the tables of facts."""


def fact(number: int, **more: object) -> dict:
    """The row number `number` of a table of facts, with some of its columns set by hand."""
    row = {
        "fact_id": f"f{number}",
        "topic": "T",
        "domain": "in_domain",
        "split": "train",
        "subject": f"s{number}",
        "object": "x",
        "aliases": [],
        "question": f"q{number}?",
        "also_in_test": False,
    }
    return row | more
