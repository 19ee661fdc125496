"""The extras of pyproject.toml are those that `edgeft.extras` checks for; everything that is installed is pinned."""

from __future__ import annotations

import logging
import re
import tomllib
from pathlib import Path

import pytest

from edgeft import extras
from edgeft.errors import MissingError

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUNDLES = {"all", "dev"}
APART = {"optimum"}  # has an environment of its own, which edgeft starts: exporters/onnx/optimum.py looks for it


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def required(extra: str) -> set[str]:
    """Distributions of an extra, those of extras that it includes too."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        if requirement.startswith("edgeft["):
            for other in requirement.removeprefix("edgeft[").rstrip("]").split(","):
                found |= required(other.strip())
        else:
            found.add(name_of(requirement))
    return found


def test_the_same_extras_in_both_places() -> None:
    assert set(PROJECT["optional-dependencies"]) - BUNDLES - APART == set(extras.EXTRAS)


@pytest.mark.parametrize("extra", sorted(extras.EXTRAS))
def test_what_is_checked_for_is_what_is_installed(extra: str) -> None:
    checked = {name.lower() for _, name in extras.EXTRAS[extra]}
    assert checked <= required(extra)


def test_all_has_every_extra_that_fits_together() -> None:
    assert required("all") == required("train") | required("gguf") | required("onnx") | required("eval")


def pinned(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins.values()), "no local version tags"
    return {name.lower().replace("_", "-") for name in pins}


def test_every_requirement_is_pinned() -> None:
    wanted = {name_of(text) for text in PROJECT["dependencies"]} | required("dev")
    assert wanted <= pinned("constraints.txt")
    assert required("optimum") <= pinned("tools/optimum.txt")


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "gguf", (("no_such_module_at_all", "no-such-package"),))
    with pytest.raises(MissingError) as caught:
        extras.require("gguf")
    assert str(caught.value) == "this needs no-such-package\npip install 'edgeft[gguf]'"
    assert caught.value.exit_code == 3


def test_a_module_that_talks_while_it_is_imported_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "talkative.py").write_text(
        "import logging\nlogging.getLogger('talkative.deep').warning('install more')\n"
        "logging.getLogger('talkative.deep').error('broken')\nvalue = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert extras.imported("talkative").value == 3
    assert caplog.messages == ["broken"]
    logging.getLogger("talkative.deep").warning("heard again")
    assert caplog.messages == ["broken", "heard again"]
