"""Read the command line with one-line errors and exit code 2, and write files in one step."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

SCHEMA = 3
BENCHMARKS = Path(__file__).parents[1]
RESULTS = BENCHMARKS / "results"
"""One file for each CPU that has been measured."""
PROGRAMS = RESULTS / "programs"
"""The same for whole programs."""
LAST = BENCHMARKS / "last.json"
"""What a run writes that is not for publication."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")

    def output(self, path: Path) -> None:
        """Refuse a file that cannot be written, before there is anything to write."""
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            self.error(f"cannot write {path}; valid: a file that may be written")
        if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            self.error(f"cannot write into {path.parent}; valid: a directory that may be written")

    def results(self, path: Path) -> dict[str, Any]:
        """What run.py wrote to that file."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.error(f"cannot read {path}: {error.strerror}; valid: a file written by run.py")
        except ValueError:
            data = None
        if not (isinstance(data, dict) and data.get("schema") == SCHEMA):
            self.error(f"{path} is not a results file; valid: JSON of schema {SCHEMA} by run.py")
        return data


def dumps(data: dict[str, Any]) -> str:
    """JSON with one line for each cell, so that git shows which cells changed."""
    cells = ",\n".join(
        json.dumps(cell, ensure_ascii=False, separators=(",", ":")) for cell in data["cells"]
    )
    head = json.dumps(data | {"cells": []}, ensure_ascii=False, indent=1)
    return head.replace('"cells": []', f'"cells": [\n{cells}\n]', 1) + "\n"


def write(path: Path, text: str) -> None:
    """Replace the file in one step, so that an interruption leaves the old one whole."""
    written = path.with_name(f"{path.name}.{os.getpid()}.part")
    written.write_text(text, encoding="utf-8")
    written.replace(path)


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command that may end at once when its reader, such as `head`, has read enough."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
