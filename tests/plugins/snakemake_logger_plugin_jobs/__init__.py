"""A logger plugin of Snakemake that writes a line for each job that starts or would start: its rule and wildcards."""

import json
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """The options of the plugin."""

    path: str = field(default="jobs.jsonl", metadata={"help": "file to write to"})


class LogHandler(LogHandlerBase):
    """Writes the jobs to the file."""

    writes_to_stream = writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True

    def emit(self, record: LogRecord) -> None:
        """Append a line if a message announces a job."""
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            with Path(self.settings.path).open("a", encoding="utf-8") as file:
                file.write(json.dumps([record.rule_name, list((record.wildcards or {}).values())]) + "\n")
