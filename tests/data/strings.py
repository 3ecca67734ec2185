"""Varied strings, the same every time, for tests of tokenizers."""

from __future__ import annotations

import random

FRAGMENTS = [
    "hello", "World", " the", "don't", "we'll", "I'VE", "naïve", "Ünïcödé", "straße", "ﬁnal",
    "Привет", "мир", "日本語", "漢字かな", "한국어", "مرحبا", "שלום", "हिन्दी", "ไทย", "ελληνικά",
    "e\u0301", "a\u0308o\u0302", "n\u0303", "क्षि", "Z\u0351\u036b\u0343a\u0334l\u0321go",
    "👍", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "🇫🇷", "1️⃣", "🤷🏾‍♀️",
    "0", "7", "42", "2024", "3.14159", "1,000,000", "1e-5", "0x1F", "½", "²", "٣٤", "Ⅷ", "①",
    " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u2003", "\u3000",
    "\u200b", "\u200d", "\ufeff", "\u2028", "\x00", "\x1c", "\x7f", "\u0085",
    "def f(x):\n    return x**2  # ok\n", "if (a != b && c) { x[i]++; }",
    "<div class='a'>", "</div>",
    "SELECT * FROM t WHERE id=1;", "$\\alpha_{i}^{2}$", "a_b_c", "CamelCase", "--flag=value",
    "!", "?!", "...", "…", "“quoted”", "‘it’s’", "—", "«»", "¿", "©®™", "€£¥", "'", "''", "\"",
    "http://example.org/?q=1&r=%20", "user@example.org", "C:\\path\\file", "~/.config",
    "▲", "█", "∀x∈ℝ", "√2≈1.41", "→", "\ue000", "\U0001f9ff", "\U00020000", "\ufffd",
]  # fmt: skip


def varied_strings(special: list[str], count: int = 300) -> list[str]:
    """The empty string, every fragment, and compositions with special tokens."""
    rng = random.Random(0)
    strings = ["", *FRAGMENTS, *special]
    while len(strings) < count:
        parts = rng.choices(FRAGMENTS + special * 3, k=rng.randint(2, 12))
        strings.append(rng.choice(["", " "]).join(parts))
    return strings
