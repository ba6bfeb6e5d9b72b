from __future__ import annotations

import base64
import hashlib
import json
import logging
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet, InvalidToken

from lumigator_nb.config import Settings
from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.security import redaction
from lumigator_nb.services.access.secrets import redactor_of

SECRET = "sk-0123456789abcdef"


def test_sealed_keys_open_with_the_nodes_secret_alone(monkeypatch) -> None:
    sealed = redaction.seal({"OPENAI_API_KEY": SECRET}, "shared")
    assert SECRET.encode() not in sealed
    for name in ("LUMIGATOR_SECRET_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="cannot be opened on this node"):
        redaction.unseal(sealed)
    monkeypatch.setenv("LUMIGATOR_SECRET_KEY", "another")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "shared")
    assert redaction.unseal(sealed) == {"OPENAI_API_KEY": SECRET}


def test_the_secret_that_seals_is_stretched_before_it_is_used() -> None:
    sealed = redaction.seal({"OPENAI_API_KEY": SECRET}, "shared")
    bare = base64.urlsafe_b64encode(hashlib.sha256(b"shared").digest())
    with pytest.raises(InvalidToken):
        Fernet(bare).decrypt(sealed)


def test_names_of_secrets_are_the_same_in_capitals_or_not() -> None:
    assert redaction.plain_name("openai_Api_key") == redaction.plain_name("OPENAI_API_KEY") == "OPENAI_API_KEY"
    for name in ("", "sk-abc", "ı_KEY", "_MY_KEY", "A B", f"A{'B' * 255}", None):
        with pytest.raises(InvalidInputError, match="the name of a secret is that of a variable") as caught:
            redaction.plain_name(name)
        assert not name or name not in str(caught.value)


def test_secrets_are_taken_out_longest_first() -> None:
    redact = redaction.Redactor({"SHORT": "sk-01234", "LONG": SECRET, "TINY": "abc"})
    assert redact(f"a {SECRET} b sk-01234 c abc") == "a [LONG removed] b [SHORT removed] c abc"


def test_only_variables_named_like_secrets_are_secret(monkeypatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setenv("SOME_MODEL_NAME", "gpt-0123456789")
    redact = redaction.redactor()
    assert redact(f"{SECRET} gpt-0123456789") == "[SOME_API_KEY removed] gpt-0123456789"


@pytest.mark.parametrize("secret", ["back\\slash\\9876", "quo'te\"d-9876", "gr\u00fc\u00dfe-9876", "p@ss/w+rd=9876"])
def test_secrets_are_found_as_errors_and_addresses_write_them(secret) -> None:
    redact = redaction.Redactor({"K": secret})
    error = KeyError(secret)
    texts = [str(error), repr(error), repr(repr(error)), str(KeyError(str(error))), f"{secret!a}", json.dumps([secret])]
    texts += [
        json.dumps(json.dumps(secret)),
        json.dumps(secret, ensure_ascii=False),
        f"postgresql://u:{quote(secret, safe='')}@h",
    ]
    for text in texts:
        assert "9876" not in redact(text), text
        assert "[K removed]" in redact(text)
        assert redact.found_in(text) == "K"


def test_passwords_in_addresses_and_keys_of_stores_are_secret(monkeypatch) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URL", "postgresql+psycopg://team:p%40ss-9876543@db.example:5432/lumi")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "account-0123456789")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;AccountKey=0123456789")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-0123456789")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ray-0123456789")
    monkeypatch.setenv("SOME_PAGE_URL", "https://db.example:5432/a@b")
    redact = redaction.redactor()
    for text in ("p@ss-9876543", "p%40ss-9876543", "account-0123456789", "AccountKey=0123456789", "aws-0123456789"):
        assert "removed]" in redact(f"refused: {text}"), text
    assert redact("ray-0123456789") == "[RAY_AUTH_TOKEN removed]"
    assert redact("team@db.example:5432/lumi https://db.example:5432/a@b") == (
        "team@db.example:5432/lumi https://db.example:5432/a@b"
    )


def test_secrets_among_the_arguments_of_connect_are_secret() -> None:
    url = "postgresql://team:p-9876543210@db.example/lumi"
    redact = redactor_of(Settings(sqlalchemy_database_url=url, aws_secret_access_key="aws-0123456789"))
    assert redact(f"{url} aws-0123456789") == (
        "postgresql://team:[SQLALCHEMY_DATABASE_URL removed]@db.example/lumi [AWS_SECRET_ACCESS_KEY removed]"
    )


def test_a_password_that_is_an_ordinary_word_is_left_in_texts(monkeypatch) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URL", "postgresql://lumigator:lumigator@localhost/lumigator")
    assert redaction.redactor()("lumigator cannot reach postgres") == "lumigator cannot reach postgres"


def test_log_records_and_their_tracebacks_are_cleaned() -> None:
    redact = redaction.Redactor({"K": SECRET})
    try:
        raise ValueError(f"wrong key {SECRET}")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
        record = logging.LogRecord("x", logging.ERROR, "x", 1, "failed with %s", (SECRET,), info)
    redact.filter(record)
    printed = logging.Formatter().format(record)
    assert SECRET not in printed
    assert "wrong key [K removed]" in printed
    assert "Traceback" in printed


def test_texts_with_a_secret_are_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidInputError, match="the prompt holds the value of K") as caught:
        redaction.refuse_secrets([("prompt", f"use {SECRET}")], redaction.Redactor({"K": SECRET}))
    assert SECRET not in str(caught.value)


def test_fields_that_hold_secrets_are_found_by_their_names() -> None:
    assert redaction.secret_field({"headers": [{"X-Api-Key": "abc"}]}) == "X-Api-Key"
    assert redaction.secret_field({"max_tokens": 5, "stop": ["a"], "logit_bias": {"5": 1}}) is None
