"""`run.py` beside an exported classifier: labels texts with onnxruntime, tokenizers and numpy, without edgeft.

Called by `classifier_files`. With a chat template that can be taken apart (see `run_script`), `--chat` gives the text
as a user's message, as rows of conversations were in training.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeft.exporters.onnx.run_script import chat_parts


def run_script(template: str | None, tokens: Mapping[str, str]) -> str:
    """The text of run.py. tokens: the special tokens that the template may name."""
    parts = None if template is None else chat_parts(template, tokens)
    around = None if parts is None else [parts["start"], parts["after_user"], parts["strip"]]
    return _SCRIPT.replace("_CHAT_", repr(around))


_SCRIPT = r'''"""Label texts with the ONNX classifier in this folder. Needs: pip install onnxruntime tokenizers numpy

    python run.py "a text" "another text"      the likeliest label of each, and its probability
    python run.py --file texts.txt --all       a text on each line; the probability of every label
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
CHAT = _CHAT_  # what stands before and behind a user's message, for a model that was taught conversations


class Classifier:
    def __init__(self, threads=0, provider="CPUExecutionProvider"):
        head = json.loads((HERE / "labels.json").read_text(encoding="utf-8"))
        self.labels, self.pad, self.ends, self.longest = (
            head[key] for key in ("labels", "pad_id", "ends", "max_length")
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=[provider])
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))

    def encode(self, text, chat):
        if chat:
            before, behind, strip = CHAT
            text = before + (text.strip() if strip else text) + behind
        ids = self.tokenizer.encode(text, add_special_tokens=not chat).ids
        if len(ids) <= self.longest:
            return ids
        ends = 0 if chat else self.ends
        return ids[: self.longest - ends] + ids[len(ids) - ends :]

    def classify(self, texts, chat=False):
        """float64[texts, labels]: the probability of each label."""
        rows = [self.encode(text, chat) or [self.pad] for text in texts]
        ids = np.full((len(rows), max(map(len, rows))), self.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for line, row in enumerate(rows):
            ids[line, : len(row)] = row
            mask[line, : len(row)] = 1
        (logits,) = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
        raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="*")
    parser.add_argument("--file", type=Path, help="texts, one on each line")
    parser.add_argument("--all", action="store_true", help="every label's probability")
    parser.add_argument("--json", action="store_true", help="one JSON object on each line")
    parser.add_argument("--chat", action="store_true", help="give each text as a user's message")
    parser.add_argument("--threads", type=int, default=0, help="0 lets ONNX Runtime choose")
    parser.add_argument("--provider", default="CPUExecutionProvider")
    options = parser.parse_args()
    texts = [*options.text, *(options.file.read_text(encoding="utf-8").splitlines() if options.file else [])]
    if not texts:
        parser.error("give a text, or --file")
    if options.chat and CHAT is None:
        parser.error("this model has no chat template")
    classifier = Classifier(options.threads, options.provider)
    for start in range(0, len(texts), 16):
        for text, row in zip(texts[start:], classifier.classify(texts[start : start + 16], options.chat)):
            shares = {label: float(row[i]) for i, label in enumerate(classifier.labels)}
            best = max(shares, key=shares.get)
            if options.json:
                print(json.dumps({"text": text, "label": best, "probabilities": shares}, ensure_ascii=False))
            elif options.all:
                print(best, *(f"{label}={share:.4f}" for label, share in shares.items()), text, sep="\t")
            else:
                print(best, f"{shares[best]:.4f}", text, sep="\t")


if __name__ == "__main__":
    main()
'''
