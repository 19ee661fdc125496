"""What an importance matrix gains: KL divergence of quantized files from the trained model, with and without one.

    python tools/bench/imatrix.py --base builtin:sprout --adapter build/quickstart/train --data build/quickstart/data
                                  [--types q4_k_m,iq4_xs] [--rows 64] [--tokens 25000]

The matrix is computed on the training rows, the divergence on the test rows, teacher-forced, over the answers' tokens.
A type that cannot be made without a matrix has no row without.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]

from edgeft.data.store import read_tokens  # noqa: E402
from edgeft.evals.fidelity import examine, figures  # noqa: E402
from edgeft.evals.suites import Case  # noqa: E402
from edgeft.exporters import ExportSource  # noqa: E402
from edgeft.exporters.gguf.export import export  # noqa: E402
from edgeft.exporters.gguf.imatrix import write_imatrix  # noqa: E402
from edgeft.exporters.gguf.importance import compute  # noqa: E402
from edgeft.exporters.gguf.types import file_type  # noqa: E402
from edgeft.models.base import resolve  # noqa: E402
from edgeft.runtimes import open_hf, open_runtime  # noqa: E402
from edgeft.stages.imatrix import spread  # noqa: E402


def cases_of(path: Path, count: int) -> list[Case]:
    """Conversations that end with an answer, spread evenly."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["messages"][-1]["role"] == "assistant"]
    count = min(count, len(rows))
    chosen = [rows[i * len(rows) // count] for i in range(count)]
    return [Case(str(row["id"]), tuple(row["messages"][:-1]), row["messages"][-1]["content"]) for row in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a dataset artifact")
    parser.add_argument("--types", default="q4_k_m,iq4_xs")
    parser.add_argument("--rows", type=int, default=64, help="test rows that are compared")
    parser.add_argument("--tokens", type=int, default=25_000, help="training tokens of the matrix")
    given = parser.parse_args()
    base, cases = resolve(given.base), cases_of(given.data / "test.jsonl", given.rows)
    with tempfile.TemporaryDirectory() as where, open_hf(base, given.adapter) as trained:
        work = Path(where)
        rows = spread(read_tokens(given.data / "train.parquet").ids, given.tokens)
        began = time.perf_counter()
        found, unseen = compute(base, given.adapter, rows, dataset="train.parquet")
        took = time.perf_counter() - began
        write_imatrix(work / "imatrix.gguf", found)
        print(f"matrix: {len(rows)} rows, {sum(map(len, rows))} tokens, {len(found.entries)} weights, {took:.1f} s")
        if unseen:
            print(f"not seen: {', '.join(unseen)}")
        print(f"{'type':8} {'matrix':8} {'bytes':>12} {'mean KL':>10} {'top-1':>8}")
        for type_name in given.types.split(","):
            for matrix in (None, work / "imatrix.gguf"):
                if matrix is None and file_type(type_name).imatrix:
                    continue
                out = work / f"{type_name}-{'with' if matrix else 'without'}"
                out.mkdir()
                source = ExportSource(base, given.adapter, name="model")
                done = export(source, type_name, out, {"imatrix": matrix} if matrix else {})
                with open_runtime(out / done.facts["file"]) as runtime:
                    measured = figures(dict(examine(trained, runtime, cases, logit_rows=len(cases))))
                kl, top1 = measured["mean_kl"].value, measured["top1_agreement"].value
                word = "with" if matrix else "without"
                print(f"{type_name:8} {word:8} {done.facts['size']:12,} {kl:10.6f} {top1:8.4f}", flush=True)


if __name__ == "__main__":
    main()
