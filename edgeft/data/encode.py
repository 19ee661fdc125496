"""Rows to what is trained on, by what the objective needs: token ids with labels, prompt and completions, prompts,
texts with a label. Called by `edgeft.data.prepare`.

The columns of each are the contract with training (docs/architecture.md); `edgeft.data.store` writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from edgeft import files
from edgeft.data.faults import BadRow
from edgeft.data.forms import NEEDS
from edgeft.data.masks import IGNORED, Example, Masker
from edgeft.data.rows import Row
from edgeft.data.spans import Turn


@dataclass(frozen=True)
class Encoded:
    """One row of a parquet file. `columns` without the id; `length` tokens of the longest sequence that is trained."""

    id: str
    columns: Mapping[str, Any]
    length: int
    trained: int
    roles: Mapping[str, int] = field(default_factory=dict)
    ends: tuple[int, ...] = ()
    in_pieces: bool = False
    label: str | None = None


class Encoder(Protocol):
    """Turns a row into what is trained on; `BadRow` when it cannot. `cut` shortens one to `limit` tokens, None when
    nothing of it would be trained."""

    def encode(self, row: Row) -> list[Encoded]: ...

    def cut(self, encoded: Encoded, limit: int) -> Encoded | None: ...


@dataclass(frozen=True)
class Settings:
    """What encoders need of a recipe. `labels` are the names of classes in order."""

    objective: str = "sft"
    roles: Sequence[str] = ("assistant",)
    stop_ids: Collection[int] = ()
    sequence_len: int = 1024
    labels: Sequence[str] = ()


def encoder(tokenizer: Any, settings: Settings) -> Encoder:
    """The encoder of an objective's rows."""
    kinds = {
        "language": Language,
        "preference": Preference,
        "unpaired_preference": Unpaired,
        "prompts": Prompts,
        "classification": Classified,
    }
    kind: Any = Windows if settings.objective == "cpt" else kinds[NEEDS[settings.objective]]
    made: Encoder = kind(tokenizer, settings)
    return made


class Language:
    """`input_ids`, `labels`: a conversation, its trained turns not masked; a text is trained whole."""

    def __init__(self, tokenizer: Any, settings: Settings) -> None:
        self._masker = Masker(tokenizer, settings.roles, settings.stop_ids) if tokenizer.chat_template else None
        self._texts = Texts(tokenizer, settings.stop_ids)

    def encode(self, row: Row) -> list[Encoded]:
        if "messages" not in row.value:
            ids = self._texts.ids(row.value["text"])
            return [_language(row.id, ids, ids, {"text": len(ids)}, ends=(ids[-1],))]
        assert self._masker is not None
        found = self._masker.encode(row.value["messages"], row.value.get("tools"))
        names = [row.id] if len(found) == 1 else [f"{row.id}/{one.turn}" for one in found]
        label = row.value.get("label")
        return [
            _language(name, one.ids, one.labels, one.roles, one.ends, one.in_pieces, label)
            for name, one in zip(names, found, strict=True)
        ]

    def cut(self, encoded: Encoded, limit: int) -> Encoded | None:
        ids, labels = encoded.columns["input_ids"][:limit], encoded.columns["labels"][:limit]
        trained = sum(label != IGNORED for label in labels[1:])
        if not trained:
            return None
        return replace(
            encoded, columns={"input_ids": ids, "labels": labels}, length=len(ids), trained=_count(labels), ends=()
        )


def _language(
    name: str,
    ids: Sequence[int],
    labels: Sequence[int],
    roles: Mapping[str, int],
    ends: tuple[int, ...] = (),
    in_pieces: bool = False,
    label: str | None = None,
) -> Encoded:
    columns = {"input_ids": ids, "labels": labels}
    return Encoded(name, columns, len(ids), _count(labels), roles, ends, in_pieces, label)


def _count(labels: Sequence[int]) -> int:
    return sum(label != IGNORED for label in labels)


class Texts:
    """Documents as ids: the beginning that the tokenizer gives a text, the text, and an end token."""

    def __init__(self, tokenizer: Any, stop_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else min(stop_ids, default=None)

    def ids(self, text: str) -> list[int]:
        if self._end is None:
            raise BadRow("refused by template", "the tokenizer has no end-of-text token to put behind a document")
        ids = list(self._tokenizer(text, verbose=False)["input_ids"])
        while ids and ids[-1] == self._end:  # some tokenizers write it themselves
            ids.pop()
        return [*ids, self._end]


class Windows:
    """`input_ids`, `labels` of raw texts: each document whole, cut into windows of `sequence_len` tokens. A window
    begins with the last token of the one before it, so that every token but a document's first is learnt once; no
    window holds two documents."""

    def __init__(self, tokenizer: Any, settings: Settings) -> None:
        self._texts, self._length = Texts(tokenizer, settings.stop_ids), settings.sequence_len

    def encode(self, row: Row) -> list[Encoded]:
        ids = self._texts.ids(row.value["text"])
        starts = range(0, max(1, len(ids) - 1), self._length - 1)
        found = []
        for number, start in enumerate(starts, 1):
            window = ids[start : start + self._length]
            labels = window if start == 0 else [IGNORED, *window[1:]]
            name = row.id if len(starts) == 1 else f"{row.id}/{number}"
            ends = (ids[-1],) if start + self._length >= len(ids) else ()
            found.append(_language(name, window, labels, {"text": len(window) - (start > 0)}, ends))
        return found

    def cut(self, encoded: Encoded, limit: int) -> Encoded | None:
        raise AssertionError("windows are never too long")


class _Answers:
    """Prompts and completions as ids."""

    def __init__(self, tokenizer: Any, settings: Settings) -> None:
        self._masker = Masker(tokenizer, settings.roles, settings.stop_ids)

    def _answer(self, row: Row, key: str) -> tuple[Example, list[int], list[int]]:
        """(example, prompt ids, ids of the completion with its end-of-turn token)."""
        prompt: list[Turn] = row.value["prompt"]
        turns = [*prompt, *row.value[key]]
        trained = [index for index in range(len(prompt), len(turns)) if turns[index]["role"] == "assistant"]
        found = self._masker.encode(turns, row.value.get("tools"), only=trained)
        if len(found) > 1:
            raise BadRow(
                "refused by template", f'"{key}" has several answers, and the template writes them otherwise together'
            )
        labels = found[0].labels
        first = next(at for at, label in enumerate(labels) if label != IGNORED)
        last = max(at for at, label in enumerate(labels) if label != IGNORED)
        return found[0], list(found[0].ids[:first]), list(found[0].ids[first : last + 1])


class Preference(_Answers):
    """`prompt_ids`, `chosen_ids`, `rejected_ids`."""

    def encode(self, row: Row) -> list[Encoded]:
        chosen, prompt, better = self._answer(row, "chosen")
        rejected, again, worse = self._answer(row, "rejected")
        if prompt != again:
            raise BadRow("refused by template", "the template writes the prompt otherwise before the two answers")
        columns = {"prompt_ids": prompt, "chosen_ids": better, "rejected_ids": worse}
        roles = {role: count + rejected.roles.get(role, 0) for role, count in chosen.roles.items()}
        return [
            Encoded(
                row.id,
                columns,
                len(prompt) + max(len(better), len(worse)),
                len(better) + len(worse),
                roles,
                (*chosen.ends, *rejected.ends),
                chosen.in_pieces or rejected.in_pieces,
            )
        ]

    def cut(self, encoded: Encoded, limit: int) -> Encoded | None:
        columns = dict(encoded.columns)
        room = limit - len(columns["prompt_ids"])
        if room < 1 or columns["chosen_ids"][:room] == columns["rejected_ids"][:room]:
            return None
        columns |= {key: columns[key][:room] for key in ("chosen_ids", "rejected_ids")}
        trained = len(columns["chosen_ids"]) + len(columns["rejected_ids"])
        return replace(encoded, columns=columns, length=limit, trained=trained, ends=())


class Unpaired(_Answers):
    """`prompt_ids`, `completion_ids`, `label`."""

    def encode(self, row: Row) -> list[Encoded]:
        found, prompt, answer = self._answer(row, "completion")
        label = bool(row.value["label"])
        columns = {"prompt_ids": prompt, "completion_ids": answer, "label": label}
        ends = found.ends if label else ()
        said = "good" if label else "bad"
        return [
            Encoded(row.id, columns, len(prompt) + len(answer), len(answer), found.roles, ends, found.in_pieces, said)
        ]

    def cut(self, encoded: Encoded, limit: int) -> Encoded | None:
        columns = dict(encoded.columns)
        room = limit - len(columns["prompt_ids"])
        if room < 1:
            return None
        columns["completion_ids"] = columns["completion_ids"][:room]
        return replace(encoded, columns=columns, length=limit, trained=room, ends=())


class Prompts:
    """`prompt_ids`, `prompt` (the turns as JSON), `reference` (the row's other fields as JSON). Nothing is masked: the
    model writes its own answers. Their end-of-turn token is that of a plain answer."""

    def __init__(self, tokenizer: Any, settings: Settings) -> None:
        self._masker = Masker(tokenizer, settings.roles, settings.stop_ids)

    def encode(self, row: Row) -> list[Encoded]:
        turns = row.value["prompt"]
        self._masker.renderer.check_special(turns)
        answered = self._masker.encode(
            [*turns, {"role": "assistant", "content": "Yes."}], row.value.get("tools"), only=[len(turns)]
        )[-1]
        text = self._masker.renderer.render(turns, row.value.get("tools"), prompt=True)
        ids = self._masker.tokenize(text)[0]
        columns = {
            "prompt_ids": ids,
            "prompt": files.canonical_json(turns),
            "reference": files.canonical_json(row.value["reference"]),
        }
        return [Encoded(row.id, columns, len(ids), 0, {"user": len(ids)}, answered.ends)]

    def cut(self, encoded: Encoded, limit: int) -> Encoded | None:
        return None  # a question without its end is another question


class Classified:
    """`input_ids`, `label` (its number among the labels). A text has the tokens that the tokenizer puts around it, a
    conversation is rendered by the chat template."""

    def __init__(self, tokenizer: Any, settings: Settings) -> None:
        self._tokenizer, self._labels = tokenizer, {name: number for number, name in enumerate(settings.labels)}
        self._masker: Masker | None = None
        self._settings = settings

    def encode(self, row: Row) -> list[Encoded]:
        name = row.value["label"]
        if name not in self._labels:
            raise BadRow("unknown label", f"the label {name!r} is not one of {', '.join(self._labels)}")
        if "prompt" in row.value:
            self._masker = self._masker or Masker(self._tokenizer, ("assistant",), self._settings.stop_ids)
            text = self._masker.renderer.render(row.value["prompt"])
            ids = self._masker.tokenize(text)[0]
        else:
            ids = list(self._tokenizer(row.value["text"], verbose=False)["input_ids"])
        columns = {"input_ids": ids, "label": self._labels[name]}
        return [Encoded(row.id, columns, len(ids), len(ids), {"text": len(ids)}, label=name)]

    def cut(self, encoded: Encoded, limit: int) -> Encoded | None:
        ids = encoded.columns["input_ids"]
        kept = [*ids[: limit - 1], ids[-1]] if self._adds_end() else ids[:limit]
        return replace(encoded, columns={**encoded.columns, "input_ids": kept}, length=limit, trained=limit)

    def _adds_end(self) -> bool:
        """Whether the tokenizer puts a special token behind a text, which then stays."""
        plain = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        return bool(self._tokenizer("a")["input_ids"][-1:] != plain[-1:])
