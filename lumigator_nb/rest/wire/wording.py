"""Hints as a program over REST can follow them: many are written for a notebook, and name calls of Python."""

from __future__ import annotations

import re

# What hints say in Python, and what it is over REST. Of those that no request can come to, only the part that is no
# Python is kept.
_WORDS: tuple[tuple[str, str], ...] = (
    (r"or delete\(…, stop=True\)", "or DELETE it with ?force=true"),
    (r"cascade=True deletes", "DELETE with ?cascade=true removes"),
    (r"ws\.wait\(experiment\) first", "wait until one of its workflows has succeeded"),
    (r"to remove it: ws\.secrets\.delete\([^)]*\)", "to remove it, DELETE it"),
    (r"^Model\(…, prompt=…\)", "give it one as system_prompt"),
    (r"tell them apart: (?:lm\.)?Model\(…, label='…'\)", "give another name"),
    (r"give the model a smaller batch \(lm\.Model\(…, batch_size=…\)\)", "give the model a smaller batch_size"),
    (r"a key goes into \.env: api_key_name='…'", "a key is stored as a secret, and named as secret_key_name"),
    (r"name the variable that holds the key: api_key_name='…'", "store it as a secret, and name it as secret_key_name"),
    (
        r"put the key into \.env as NAME=key, and write api_key_name='NAME'",
        "store the key with PUT /api/v1/settings/secrets/NAME, and name it as secret_key_name",
    ),
    (r"ask a server as Model\(name, provider='openai', base_url=…\)", "ask a server as provider openai at base_url"),
    (r"give another name=,", "give another name,"),
    (r"set device='auto'", "set accelerator to auto"),
    (r"a task such as lm\.Translation\('English', 'German'\)", "translation as task_definition, with both languages"),
    (r"upload it with ground_truth='…'", "upload it with a column ground_truth"),
    (r'Name the column in the call: upload\(…, (\w+)="…"\)', r"Name the column \1 in the file"),
    (r"name the one you mean exactly as it is written: example=, ground_truth=", "let only one of them have this name"),
    (
        r"give its folder: model='/absolute/path', num_layers=…",
        "put it into the Hugging Face cache of the cluster's nodes",
    ),
    (r"launch\(…, timeout=…\) sets the time", "job_timeout_sec sets the time"),
    (r"raise it and go on where it stopped: ws\.workflows\.resume\(…, budget=…\)", "raise it and ask again"),
    (r"name one: metric='\w+'", "name one as metric"),
    (r"decode it first: frame\[.*", "store it as text"),
    (r" or Model\(…, num_gpus=0\),", ""),
)  # fmt: skip
# A call, such as `wait()` or `f(…, x=1)`, but for the one that all know who write models; a keyword with its value,
# unless it is a query or a setting of the server.
_PYTHON = re.compile(
    r"\b(?:ws|lm)\.\w|@lm\b|(?<=\w)(?<!save_pretrained)\((?:\)|…|\[|'|\"|[\w.]+[,=)])"
    r"|(?<![?&])\b[a-z_]+=(?:…|\w|'|\"|\[|,|$)|\w\[(?:'|\w+,)"
)
_CLAUSES = re.compile(r"(; |, or |(?<=\w)\. |: )")
_MARK = "\nHint: "


def hint(text: str | None) -> str | None:
    """Return a hint without Python; None where nothing else is in it."""
    if text is None:
        return None
    found = _replaced(text)
    if "python -c" in found or not _PYTHON.search(found):  # a line for a shell is one for its operator
        return found
    first, *rest = _CLAUSES.split(found)
    pairs = [("", first), *zip(rest[::2], rest[1::2], strict=True)]
    kept = [(mark, clause) for mark, clause in pairs if not _PYTHON.search(clause)]
    return "".join(text for pair in kept for text in pair).removeprefix(kept[0][0]) if kept else None


def message(text: str | None) -> str | None:
    """Return what is recorded of a failure, which may end with a hint, without Python in our own words."""
    if text is None:
        return None
    said, mark, advice = text.partition(_MARK)
    better = hint(advice) if mark else None
    return _replaced(said) + (_MARK + better if better else "")


def _replaced(text: str) -> str:
    for python, words in _WORDS:
        text = re.sub(python, words, text)
    return text
