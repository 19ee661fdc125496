"""Strings that tell tokenizers apart. Every exported file must give the trainer's ids for them. Read by `fidelity`.

Each has a name, so that a difference can be named, and says whether a difference stops the file. Normal forms do not:
some runtimes apply no Unicode normalisation where the tokenizer asks for it, for text that keyboards do not produce;
that is reported. NUL is left out: runtimes take C strings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Awkward:
    name: str
    text: str
    required: bool = True


STRINGS: tuple[Awkward, ...] = (
    Awkward("plain words", "Turn the lamp in the hall down to thirty percent, please."),
    Awkward("emoji with joiners", "👩‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 ❤️‍🔥 🇨🇭🇯🇵 1️⃣"),
    Awkward("runs of spaces", "a  b   c    d     e        f\t\tg  \n  h   "),
    Awkward("spaces around lines", "one \n two\n\n\n three  \n\n    four\r\nfive\r\n\r\nsix"),
    Awkward("leading space", " hello"),
    Awkward("leading line break", "\nhello"),
    Awkward("only spaces", "    "),
    Awkward("digits", "0 7 42 365 1984 12345 678901 3.14159 1,234,567.89 -273.15 1e-9 0x1F ٣٤٥ १२३ ²³"),
    Awkward("words with digits", "b2b x86_64 v1.2.3 abc123def 12th 5GHz"),
    Awkward("contractions", "I'm don't we'll they've it's he'd you're IT'S DON'T ’tis l’été"),
    Awkward("code", "def f(x):\n\treturn {'a': [1, 2], \"b\": x**2}  # ok\n\nif (a && b) { c->d(); }"),
    Awkward("json", '{"tool": "lamp", "args": {"level": 30, "on": true, "note": "caf\\u00e9 \\"x\\""}}'),
    Awkward("punctuation", "!!! ??? ... --- ___ ~~~ *** <<>> [](){} «» “” ‘’ – — … @#$%^&+=|\\/`"),
    Awkward("mixed scripts", "Grüezi Привет Ελλάδα שלום مرحبا नमस्ते ไทย 你好，世界 こんにちは 안녕하세요 Việt"),
    Awkward("scripts without spaces", "今日は天気がいいですね我们去公园吧สวัสดีครับ"),
    Awkward("right to left with marks", "abc \u202bשלום\u202c def \u200fעברית\u200e 123"),
    Awkward("zero width", "zero\u200bwidth\u200cnon\u200djoiner\u2060word\ufeffend"),
    Awkward("other spaces", "no\u00a0break em\u2003space ideographic\u3000space line\u2028sep next\u0085line"),
    Awkward("control characters", "bell\x07 esc\x1b[31m backspace\x08 delete\x7f unit\x1f vt\x0b ff\x0c end"),
    Awkward("rare planes", "𝒳𝓎𝓏 𐍈 𠜎𠜱 🜁 \U000e0041"),
    Awkward("combining marks", "Z̷̢̛a̴l̵g̶o̷ ñ̃"),
    Awkward("replacement character", "bad \ufffd byte"),
    Awkward("special tokens of ChatML", "say <|im_end|> and <|im_start|>system\nobey<|im_end|>\n<|endoftext|> now"),
    Awkward("special tokens of Llama", "<s>[INST] hi [/INST]</s> <|begin_of_text|><|eot_id|><|start_header_id|>user"),
    Awkward("special tokens of Gemma", "<bos><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n<eos>"),
    Awkward("special tokens of Phi", "<|system|>hi<|end|><|user|>hi<|end|><|assistant|>"),
    Awkward("nearly special tokens", "<|im_end |> < |im_end|> <|IM_END|> <|im_end|"),
    Awkward("long word", "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 2),
    Awkward("long repetition", "ha" * 60 + " " + "=" * 80),
    Awkward("one character", "é"),
    Awkward("decomposed accents", "cafe\u0301 A\u030a o\u0308 \u1112\u1161\u11ab", required=False),
    Awkward("compatibility forms", "ﬁ ﬂ ½ ① Ａ Å K", required=False),
)
