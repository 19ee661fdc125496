"""The command line of the tools that make a recipe's rows: write the files, or check that the committed ones are what
the tool writes. Used by make_household.py, make_objectives.py and make_tasks.py.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(files: Mapping[str, str], tool: str, folder: Path, about: str) -> int:
    """Exit code of `tool [--check] [--out FOLDER]`: 0, or 1 when a checked file is missing or another.

    files   path below the folder -> content
    folder  where they lie in the repository
    about   what --help says
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="only verify that the files are what this writes")
    parser.add_argument("--out", type=Path, default=folder, help="folder to write to")
    options = parser.parse_args()
    stale = []
    for name, content in files.items():
        path = options.out / name
        if options.check:
            if not path.is_file() or path.read_text(encoding="utf-8") != content:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    if stale:
        print(f"not what tools/{tool} writes: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0
