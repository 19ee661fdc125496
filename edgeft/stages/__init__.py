"""The table of stage kinds. A stage is one module with VERSION, Params and run; see `edgeft.pipeline.stage.Stage`."""

from __future__ import annotations

from edgeft.registry import Row

STAGES: dict[str, Row] = {
    "data": Row("edgeft.stages.data", "read, split, render and mask the rows", extra="train"),
    "train": Row("edgeft.stages.train", "train the adapter", extra="train"),
    "merge_base": Row("edgeft.stages.merge_base", "measure which base to fold the adapter into", extra="train"),
    "merge": Row("edgeft.stages.merge", "write the merged checkpoint", extra="train"),
    "eval": Row("edgeft.stages.eval", "ask a model the suites", extra="train"),
    "probe": Row("edgeft.stages.probe", "measure what the tuned model forgot and learnt by heart", extra="train"),
    "gate": Row("edgeft.stages.gate", "judge the tuned model against the base", extra="eval"),
    "imatrix": Row("edgeft.stages.imatrix", "measure what each input column of the weights matters", extra="train"),
    "export": Row("edgeft.stages.export", "write a GGUF file or an ONNX folder"),
    "verify": Row("edgeft.stages.verify", "judge an exported file against the tuned model", extra="eval"),
    "report": Row("edgeft.stages.report", "write the HTML report"),
}
