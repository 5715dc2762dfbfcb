#!/usr/bin/env python3
"""Run the commands of the tables in docs/evidence.md, and write what they count into their rows.

    python tools/evidence.py            prints the commands
    python tools/evidence.py WORD ...   runs those that contain one of the words

A command that fails leaves its row as it was.
"""

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import relu_ext

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "evidence.md"
PYTEST = re.compile(r"=* ?((?:\d+ \w+, )*\d+ passed.*?) in [\d.]+s")
SECONDS = re.compile(r"[,;] [\d,.]+ s$")


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def counted(output):
    """By column, what a command says at its end: a row, pytest's counts or a sentence."""
    lines = [line for line in output.splitlines() if line.strip()]
    if rows := [line for line in lines if line.startswith("| ")]:
        # Without the machine, which the page names in its own words.
        columns = ["compiler", "Python", "NumPy", "counted"]
        found = dict(zip(columns, cells(rows[-1])[1:], strict=True))
    elif counts := [match[1] for line in lines if (match := PYTEST.match(line))]:
        found = {"counted": re.sub(r", \d+ deselected", "", counts[-1])}
    else:
        found = {"counted": SECONDS.sub("", lines[-1])}
    thousands = re.sub(r"\d{4,}", lambda number: f"{int(number[0]):,}", found["counted"])
    return found | {"counted": thousands}


def run(command):
    """The standard output of a command, which this machine's environment also shows."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    finished = subprocess.run(
        command, shell=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    print(finished.stdout, end="")
    return finished.stdout if finished.returncode == 0 else None


def main(words):
    lines, failed, heading = PAGE.read_text(encoding="utf-8").splitlines(), False, []
    for i, line in enumerate(lines):
        if lines[i + 1 : i + 2] and lines[i + 1].startswith("| ---"):
            heading = cells(line)
        if not line.startswith("| ") or not (match := re.search(r"\| `([^`|]+)` \|", line)):
            continue
        if not any(word in match[1] for word in words):
            print(match[1], flush=True) if not words else None
            continue
        print(f"$ {match[1]}", flush=True)
        if (output := run(match[1])) is None:
            failed = True
            continue
        row = dict(zip(heading, cells(line), strict=True)) | counted(output)
        row["version"] = f"{relu_ext.__version__}, {datetime.date.today():%Y-%m-%d}"
        lines[i] = f"| {' | '.join(row.values())} |"
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
