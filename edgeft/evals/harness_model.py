"""A runtime of ours as a language model of the lm-eval harness, so that its tasks ask a GGUF file or an ONNX folder the
very same as a transformers model. Used by `edgeft.evals.harness`.

What the harness's own `hf` model does is done here: the tokens that the tokenizer puts before plain text, trailing
spaces of a context moved to the continuation (by the harness's base class), contexts cut at the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeft.evals.likelihoods import windows
from edgeft.runtimes.protocol import Request, Runtime

_MAX_TOKENS = 256  # of an answer, when the task does not say
_BATCH = 64


def as_model(runtime: Runtime, on_done: Callable[[float], None]) -> Any:
    """An `lm_eval.api.model.TemplateLM` that answers with the runtime. `on_done` hears how many more are done."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import normalize_gen_kwargs

    class Model(TemplateLM):  # type: ignore[misc]
        tokenizer_name = runtime.name

        @property
        def eot_token_id(self) -> int:
            return runtime.stop_ids[0]

        @property
        def prefix_token_id(self) -> int:
            return runtime.stop_ids[0] if runtime.prefix_id is None else runtime.prefix_id

        @property
        def max_length(self) -> int:
            return runtime.context_length

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            ids = runtime.encode(string)
            if add_special_tokens is False or not runtime.begins or ids[:1] == list(runtime.begins):
                return ids
            return [*runtime.begins, *ids]

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            text = runtime.render(chat_history, add_generation_prompt=add_generation_prompt)
            if add_generation_prompt:
                return text
            last = chat_history[-1]["content"].strip()
            return text[: text.rindex(last) + len(last)]

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            return "" if chat_template is False else runtime.name

        def _loglikelihood_tokens(
            self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
        ) -> list[tuple[float, bool]]:
            asked: list[Request] = []
            for _names, context, continuation in requests:
                whole = [*context, *continuation][-(runtime.context_length + 1) :]
                asked.append((whole[: -len(continuation)], continuation))
            found = runtime.loglikelihoods(asked, on_done=on_done)
            return [(_added(said.logprobs), said.greedy) for said in found]

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            cut = [
                windows([self.prefix_token_id], self.tok_encode(request.args[0]), runtime.context_length)
                for request in requests
            ]
            found = iter(runtime.loglikelihoods([window for text in cut for window in text], on_done=on_done))
            return [sum(_added(next(found).logprobs) for _ in text) for text in cut]

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            answers = [""] * len(requests)
            alike: dict[str, list[int]] = {}
            for number, request in enumerate(requests):
                alike.setdefault(repr(request.args[1]), []).append(number)
            for numbers in alike.values():
                settings = normalize_gen_kwargs(dict(requests[numbers[0]].args[1]), _MAX_TOKENS)
                most, stop = int(settings["max_gen_toks"]), [text for text in settings["until"] if text]
                prompts = {n: self.tok_encode(requests[n].args[0])[-(runtime.context_length - most) :] for n in numbers}
                numbers.sort(key=lambda n: (-len(prompts[n]), n))
                for first in range(0, len(numbers), _BATCH):
                    batch = numbers[first : first + _BATCH]
                    found = runtime.generate(
                        [prompts[n] for n in batch],
                        max_tokens=most,
                        temperature=float(settings.get("temperature") or 0.0),
                        stop=stop,
                    )
                    for number, completion in zip(batch, found, strict=True):
                        answers[number] = completion.text
                    on_done(len(batch))
            return answers

    return Model()


def _added(logprobs: Sequence[float]) -> float:
    """Log probabilities of tokens as the harness's `hf` model adds them, in torch's float32: of a thousand tokens that
    is a few units in the seventh digit from their sum, and its figures are what ours are compared with."""
    import torch

    return float(torch.tensor(logprobs, dtype=torch.float32).sum())
