"""What a recipe names outside itself: are its files and its base model there? Called by `edgeft check`, before rows.

Opens nothing but folders and the base model's JSON; no network, no heavy import.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from edgeft import datafiles
from edgeft.errors import EdgeftError, Location, RecipeError
from edgeft.files import is_lfs_pointer
from edgeft.recipe.judging import Suite
from edgeft.recipe.names import BUILTIN_ROWS, SPLITS, TEMPLATES
from edgeft.recipe.schema import Phase, Recipe
from edgeft.recipe.tasks import task_faults
from edgeft.registry import suggestion


class Found(Protocol):
    """A base model reference taken apart; `edgeft.models.base.Base` is one."""

    @property
    def folder(self) -> Path | None: ...


class Models(Protocol):
    """How a base model is found and looked at without the network; the module `edgeft.models.base` is one."""

    def find(self, ref: str, *, relative_to: Path | None = None) -> Found: ...

    def check(self, base: Found) -> None: ...


def check(recipe: Recipe, models: Models) -> list[EdgeftError]:
    """Every file of the recipe that is not there or unreadable, and what is wrong with its base model and teachers."""
    faults: list[EdgeftError] = [*_files(recipe), *_patterns(recipe), *task_faults(recipe)]
    for key, ref in models_of(recipe):
        faults += _model(recipe, models, key, ref)
    return sorted(faults, key=lambda fault: (fault.where.line, fault.where.column) if fault.where else (0, 0))


def files_of(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(key in the recipe, path as written) of every file that the recipe names."""
    for _, key, data, _ in recipe.data_sections:
        for split, entries in (("datasets", data.datasets), ("validation", data.validation), ("test", data.test)):
            for index, entry in enumerate(entries):
                path = datafiles.without_sample(entry.path)[0]
                if datafiles.find(path, relative_to=recipe.folder).kind == "file":
                    yield f"{key}.{split}.{index}.path", path
        if data.chat_template is not None and data.chat_template not in TEMPLATES:
            yield f"{key}.chat_template", data.chat_template
    for place, phase in _phases(recipe):
        for index, reward in enumerate(phase.rewards):
            if reward.path is not None:
                yield f"{place}.rewards.{index}.path", reward.path
    for export, options in recipe.export.items():
        if isinstance(options.imatrix, str):
            yield f"export.{export}.imatrix", options.imatrix
    if recipe.eval is not None:
        for key, path in suite_files(recipe.eval.suites):
            yield f"eval.suites.{key}" + ("" if "." in key else ".rows"), path


def models_of(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(key in the recipe, reference as written) of the base model and of teachers."""
    yield "base_model", recipe.base_model
    for place, phase in _phases(recipe):
        if phase.teacher is not None:
            yield f"{place}.teacher", phase.teacher


def _phases(recipe: Recipe) -> Iterator[tuple[str, Phase]]:
    """The phases of the training with their places."""
    yield from ((f"earlier_phases.{index}", phase) for index, phase in enumerate(recipe.earlier_phases))
    yield "train", recipe.train


def suite_files(suites: Mapping[str, Suite]) -> Iterator[tuple[str, str]]:
    """(SUITE or SUITE.KEY, path as written) of every file that the suites name: rows, examples, JSON Schemas."""
    for name, suite in suites.items():
        if suite.rows not in SPLITS and suite.rows not in BUILTIN_ROWS and suite.task is None:
            yield name, suite.rows
        if suite.few_shot_rows is not None and suite.few_shot_rows not in ("train", *SPLITS):
            yield f"{name}.few_shot_rows", suite.few_shot_rows
        if suite.json_schema is not None:
            yield f"{name}.json_schema", suite.json_schema


def _patterns(recipe: Recipe) -> Iterator[RecipeError]:
    """Globs and folders of datasets that hold no data file."""
    for _, key, data, _ in recipe.data_sections:
        for split, entries in (("datasets", data.datasets), ("validation", data.validation), ("test", data.test)):
            for index, entry in enumerate(entries):
                found = datafiles.find(datafiles.without_sample(entry.path)[0], relative_to=recipe.folder)
                if found.kind == "file" or found.path is None:
                    continue
                try:
                    wanted = entry.split or {"datasets": "train"}.get(split, split)
                    datafiles.files_of(found.path, split=wanted, subset=entry.subset)
                except EdgeftError as error:
                    where = recipe.location_of(f"{key}.{split}.{index}.path")
                    yield RecipeError(f"{entry.path}: {error.what}", where=where, do=error.do)


def _files(recipe: Recipe) -> Iterator[RecipeError]:
    for key, written in files_of(recipe):
        where = recipe.location_of(key)
        path = recipe.resolve(written)
        try:
            with path.open("rb"):
                pass
            if is_lfs_pointer(path):
                yield RecipeError(f"{written} is a Git LFS pointer, not the data", where=where, do="run: git lfs pull")
        except FileNotFoundError:
            yield _absent(path, written, where, is_rows=key.endswith(".rows"))
        except IsADirectoryError:
            yield RecipeError(f"{written} is a folder, not a file", where=where, do="name the file in it")
        except OSError as error:
            yield RecipeError(f"{written} cannot be read: {error.strerror}", where=where)


def _absent(path: Path, written: str, where: Location, *, is_rows: bool) -> RecipeError:
    near = _near(path)
    if near:
        do = f"did you mean {Path(written).with_name(near).as_posix()!r}?"
    elif is_rows and "/" not in written:
        do = f"rows are a file, or one of these; {suggestion(written, (*SPLITS, *BUILTIN_ROWS))}"
    else:
        do = "paths are relative to the recipe's folder"
    return RecipeError(f"there is no file {written}", where=where, do=do)


def _near(path: Path) -> str | None:
    """The name in the same folder that is most like the missing one."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    except OSError:
        return None
    return next(iter(difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)), None)


def _model(recipe: Recipe, models: Models, key: str, ref: str) -> Iterator[RecipeError]:
    """A model's fault, at its place in the recipe. A hub id that is not cached is no fault: it is downloaded."""
    where = recipe.location_of(key)
    try:
        models.check(models.find(ref, relative_to=recipe.folder))
    except EdgeftError as error:
        what = error.what if key == "base_model" else error.what.replace("the base model", "the teacher")
        yield RecipeError(f"{what}: {ref}" if error.where else what, where=where, do=error.do)
