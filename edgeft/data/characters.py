"""What is wrong with a text's characters, and what in it looks like a secret. Called by `edgeft.data.rows`."""

from __future__ import annotations

import re

_SURROGATES = re.compile("[\ud800-\udfff]")
# C0 and C1 controls but tab and line breaks, DEL, the replacement character, noncharacters.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff]")
# UTF-8 that was once read as Windows-1252: "â€™" for an apostrophe, "Ã©" for e acute.
_MOJIBAKE = re.compile("â€[™œ˜“”•–—¦ž\x9d]|Ã[©¨¼¶¤Ÿ±³º¡ª«´µ¢£§]")
# Kind -> its form. Long random texts alone are no secret: hashes and ids look like that.
_SECRETS: dict[str, re.Pattern[str]] = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b"),
    "a GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a Stripe key": re.compile(r"\b[rs]k_live_[0-9A-Za-z]{20,}\b"),
    "an OpenAI or Anthropic key": re.compile(r"\bsk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "a JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "a password in a URL": re.compile(r"\b[a-z][a-z0-9+]{2,}://[^\s/:@]+:[^\s/:@]{6,}@[\w.-]+"),
}


def has_surrogates(text: str) -> bool:
    """Whether halves of a Unicode pair stand alone in it: such a text has no UTF-8."""
    return _SURROGATES.search(text) is not None


def control(text: str) -> str | None:
    """The first character that no text should hold, told; None when there is none."""
    found = _CONTROLS.search(text)
    if found:
        code = ord(found[0])
        return (
            f"U+{code:04X}, what is left of broken Unicode" if code >= 0xFFFD else f"the control character U+{code:04X}"
        )
    garbled = _MOJIBAKE.search(text)
    return f"{garbled[0]!r}, UTF-8 that was read as another encoding" if garbled else None


def secret(text: str) -> str | None:
    """What looks like a secret in it, told with its first characters only; None when nothing does."""
    for name, pattern in _SECRETS.items():
        found = pattern.search(text)
        if found:
            begin = found[0] if name == "a private key" else f"{found[0][:4]}…"
            return f"what looks like {name} ({begin})"
    return None
