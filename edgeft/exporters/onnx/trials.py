"""Built-in texts that an exported graph is tried with where no rows of the user's own are at hand."""

from __future__ import annotations

TEXTS = (
    "Turn the light in the kitchen on and the one in the hall off, please.",
    "What time does the train to Oslo leave on Friday?",
    "The order arrived two days late, the box was damaged, and nobody answered my messages. I want my money back!",
    "It rained all night; in the morning the wind had dropped and the streets were quiet.",
    '{"device": "heating", "room": "bath", "value": 21.5}',
    "Yes.",
    "Grüezi! Où est la gare? Привет, 你好。",
    "def area(width, height):\n    return width * height",
)
