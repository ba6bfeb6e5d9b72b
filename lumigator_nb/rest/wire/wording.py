"""Messages and hints for REST clients. Most are written for notebooks: calls of Python are replaced or left out."""

from __future__ import annotations

import re

# Parts of hints that name Python, and their equivalents in REST.
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
    (r"say it: better=\{'…': 'higher'\}", "correct the files"),
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
# Matches Python: a call such as `wait()` or `f(…, x=1)`, but not `save_pretrained(…)`, which is advice for authors of
# models; or a keyword with its value, but not a query or a setting of the server.
_PYTHON = re.compile(
    r"\b(?:ws|lm)\.\w|@lm\b|(?<=\w)(?<!save_pretrained)\((?:\)|…|\[|'|\"|[\w.]+[,=)])"
    r"|(?<![?&])\b[a-z_]+=(?:…|\w|'|\"|\[|,|$)|\w\[(?:'|\w+,)"
)
_CLAUSES = re.compile(r"(; |, or |(?<=\w)\. |: )")
_MARK = "\nHint: "


def hint(text: str | None) -> str | None:
    """Return a hint without its clauses that name Python; None if nothing is left."""
    if text is None:
        return None
    replaced = _replaced(text)
    if "python -c" in replaced or not _PYTHON.search(replaced):  # `python -c` is a command for the operator
        return replaced
    first, *rest = _CLAUSES.split(replaced)
    clauses = [("", first), *zip(rest[::2], rest[1::2], strict=True)]  # (separator before it, clause)
    usable = [(separator, clause) for separator, clause in clauses if not _PYTHON.search(clause)]
    return "".join(part for pair in usable for part in pair).removeprefix(usable[0][0]) if usable else None


def message(text: str | None) -> str | None:
    """Return the recorded message of a failure, with its hint as :func:`hint` returns it."""
    if text is None:
        return None
    problem, mark, advice = text.partition(_MARK)
    usable_hint = hint(advice) if mark else None
    return _replaced(problem) + (_MARK + usable_hint if usable_hint else "")


def _replaced(text: str) -> str:
    for python, words in _WORDS:
        text = re.sub(python, words, text)
    return text
