"""What an artifact is made of, as data: its digest names the artifact, the difference of two answers "why".

A fingerprint covers the stage kind, its code version, canonical parameters, and the content of inputs and sources. It
does not cover the target's name, paths or times: the same work asked for by two recipes is done once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, RootModel

from edgeft.files import canonical_json, digest_text
from edgeft.pipeline.events import Reason

_SHOWN = 48  # characters of a value in a reason
_UNSET = object()


@dataclass(frozen=True)
class Components:
    """The parts of a fingerprint.

    inputs   role -> {"target", "digest"}; the digest covers the artifact's files and facts
    sources  role -> {"kind", "ref", "digest", "files": {name: sha256}}; `files` only for folders
    """

    stage: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, Mapping[str, Any]]

    def fingerprint(self) -> str:
        """sha256 in hex over everything that decides the result."""
        return digest_text(
            canonical_json(
                {
                    "stage": self.stage,
                    "version": self.version,
                    "params": self.params,
                    "inputs": {role: entry["digest"] for role, entry in self.inputs.items()},
                    "sources": {role: entry["digest"] for role, entry in self.sources.items()},
                }
            )
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "version": self.version,
            "params": dict(self.params),
            "inputs": {role: dict(entry) for role, entry in self.inputs.items()},
            "sources": {role: dict(entry) for role, entry in self.sources.items()},
        }

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Components:
        """Raises KeyError or TypeError when `raw` is not one."""
        return Components(raw["stage"], raw["version"], raw["params"], dict(raw["inputs"]), dict(raw["sources"]))


def canonical_params(params: BaseModel) -> dict[str, Any]:
    """Parameters as JSON values, without the fields marked `Field(json_schema_extra={"fingerprint": False})`."""
    value: dict[str, Any] = _canonical(params, params.model_dump(mode="json"))
    return value


def _canonical(value: Any, dumped: Any) -> Any:
    """Walk a value and its JSON form side by side: drop unmarked fields, give sets one order."""
    if isinstance(value, RootModel):
        return _canonical(value.root, dumped)
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        kept = {}
        for name, info in type(value).model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("fingerprint") is False:
                continue
            if name in dumped:
                kept[name] = _canonical(getattr(value, name), dumped[name])
        return kept
    if isinstance(value, set | frozenset):
        return sorted(dumped, key=canonical_json)
    if isinstance(value, list | tuple) and isinstance(dumped, list) and len(value) == len(dumped):
        return [_canonical(item, form) for item, form in zip(value, dumped, strict=True)]
    if isinstance(value, Mapping) and isinstance(dumped, dict) and len(value) == len(dumped):
        return {key: _canonical(item, form) for (key, form), item in zip(dumped.items(), value.values(), strict=True)}
    return dumped


def differences(old: Components, new: Components) -> list[Reason]:
    """Every difference that changes the fingerprint, in the order people look for them."""
    return [
        *_version_difference(old, new),
        *(Reason("parameter", text) for text in parameter_differences(old.params, new.params)),
        *_source_differences(old.sources, new.sources),
        *_input_differences(old.inputs, new.inputs),
    ]


def parameter_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """ "learning_rate 0.002 → 0.0001" for each setting that differs; nested names are dotted."""
    before, after = dict(_flat(old)), dict(_flat(new))
    names = [*after, *(name for name in before if name not in after)]
    changed = [(name, before.get(name, _UNSET), after.get(name, _UNSET)) for name in names]
    return [f"{name} {_show(a)} → {_show(b)}" for name, a, b in changed if not _same(a, b)]


def _version_difference(old: Components, new: Components) -> Iterator[Reason]:
    if old.stage != new.stage:
        yield Reason("version", f"the {old.stage} stage became the {new.stage} stage")
    elif old.version != new.version:
        yield Reason("version", f"the {new.stage} stage's code changed (version {old.version} → {new.version})")


def _source_differences(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> Iterator[Reason]:
    for role, entry in new.items():
        before = old.get(role)
        name = _source_name(entry)
        if before is None:
            yield Reason("source", f"{name} is new")
        elif before["digest"] != entry["digest"]:
            if before["ref"] != entry["ref"]:
                yield Reason("source", f"{_source_name(before)} → {entry['ref']}")
            else:
                yield Reason("source", f"{name} changed{_changed_files(before, entry)}")
    for role, entry in old.items():
        if role not in new:
            yield Reason("source", f"{_source_name(entry)} is gone")


def _source_name(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "model":
        return f"base model {entry['ref']}"
    return f"{entry['kind']} {PurePath(entry['ref']).name}"


def _changed_files(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """ " (a.txt changed, b.txt is new, …)" for folders whose files are known on both sides."""
    before, after = old.get("files"), new.get("files")
    if not before or not after:
        return ""
    notes = [
        f"{name} is new" if name not in before else f"{name} changed"
        for name, digest in after.items()
        if before.get(name) != digest
    ]
    notes += [f"{name} is gone" for name in before if name not in after]
    return f" ({', '.join(notes[:3])}{', …' if len(notes) > 3 else ''})" if notes else ""


def _input_differences(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> Iterator[Reason]:
    for role, entry in new.items():
        before = old.get(role)
        if before is None:
            yield Reason("input", f"input {entry['target']} is new")
        elif before["digest"] != entry["digest"]:
            if before["target"] != entry["target"]:
                yield Reason("input", f"input {before['target']} → {entry['target']}")
            else:
                yield Reason("input", f"input {entry['target']} changed")
    for role, entry in old.items():
        if role not in new:
            yield Reason("input", f"input {entry['target']} is gone")


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings (and of lists of mappings) with dotted names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
        if not value and prefix:
            yield prefix, {}
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{prefix}[{number}]")
    else:
        yield prefix, value


def _same(a: Any, b: Any) -> bool:
    if a is _UNSET or b is _UNSET:
        return a is b
    return canonical_json(a) == canonical_json(b)


def _show(value: Any) -> str:
    if value is _UNSET:
        return "unset"
    text = value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
