from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keyring
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked
from pydantic import SecretStr
from waiting import PATIENCE_S

from lumigator_nb.errors import ConfigurationError, SecretError
from lumigator_nb.security import redaction, vault
from lumigator_nb.security.vault import SealingKey, Vault

VALUE = SecretStr("sk-0123456789abcdef")
TEXT, OTHER = SecretStr("a long text that nobody guesses"), SecretStr("another text, just as long")


@given(value=st.text(), name=st.text(alphabet="ABC_1", min_size=1))
def test_what_is_sealed_opens_under_its_name_alone(value, name) -> None:
    key = SealingKey(b"k" * 32)
    sealed = key.seal(name, SecretStr(value))
    assert key.open(name, sealed).get_secret_value() == value
    with pytest.raises(SecretError, match="belongs to another name"):
        key.open(f"{name}_", sealed)


@given(st.data())
def test_no_altered_byte_goes_unnoticed(data) -> None:
    key = SealingKey(b"k" * 32)
    sealed = key.seal("NAME", VALUE)
    at = data.draw(st.integers(0, len(sealed) - 1))
    altered = sealed[:at] + data.draw(st.characters().filter(lambda c: c != sealed[at])) + sealed[at + 1 :]
    with pytest.raises(SecretError):
        key.open("NAME", altered)


def test_another_text_for_the_same_bytes_does_not_open() -> None:
    key = SealingKey(b"k" * 32)
    sealed = next(text for text in iter(lambda: key.seal("NAME", VALUE), "") if "-" in text)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = sealed.rstrip("=")[-1]
    alike = [each for each in digits if digits.index(each) // 4 == digits.index(last) // 4 and each != last]
    altered = [sealed.replace("-", "+"), *(sealed.replace(f"{last}=", f"{each}=") for each in alike)]
    assert len(altered) == 4
    for text in altered:
        with pytest.raises(SecretError):
            key.open("NAME", text)


@pytest.mark.parametrize("stored", ["", "1.", "1.AAAA", "2.AAAA", "Zm9v", "1.ä", "1.AAA"])
def test_what_was_never_sealed_does_not_open(stored) -> None:
    with pytest.raises(SecretError, match="set it again"):
        SealingKey(b"k" * 32).open("NAME", stored)


def test_another_key_does_not_open_it_and_equal_values_look_different() -> None:
    key = SealingKey(b"k" * 32)
    assert key.seal("NAME", VALUE) != key.seal("NAME", VALUE)
    with pytest.raises(SecretError) as caught:
        SealingKey(b"x" * 32).open("NAME", key.seal("NAME", VALUE))
    assert caught.value.__cause__ is None
    assert VALUE.get_secret_value() not in str(caught.value)


def test_the_key_file_is_made_once_and_for_the_owner_alone(tmp_path) -> None:
    home = tmp_path / "home"
    assert Vault(home).ids() == []
    assert not home.exists()
    first = Vault(home).current()
    assert stat.S_IMODE((home / vault.FILE).stat().st_mode) == 0o600
    assert Vault(home).current().id == first.id
    assert sorted(path.name for path in home.iterdir()) == ["secret.key", "secret.key.lock"]


def test_all_who_come_first_at_once_end_with_one_key(tmp_path) -> None:
    code = "from pathlib import Path; from lumigator_nb.security.vault import Vault; "
    code += "print(Vault(Path('home')).current().id)"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=PATIENCE_S)[0] for process in started}) == 1
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: Vault(tmp_path / "another").current().id, range(32)))
    assert len(found) == 1


def test_a_file_left_by_a_killed_process_is_in_nobodys_way(tmp_path) -> None:
    (tmp_path / "secret.key.0a.part").write_text("half a k")
    kept = Vault(tmp_path).current().id
    assert Vault(tmp_path).ids() == [kept]
    assert not (tmp_path / "secret.key.0a.part").exists()


def test_what_version_0_1_0_sealed_opens(tmp_path, monkeypatch) -> None:
    """By a key file, by a text, and on the way to a worker: these texts are what it left."""
    (tmp_path / vault.FILE).write_text("# The first key seals, all of them open.\n" + "a2tr" * 10 + "a2s=\n")
    (tmp_path / vault.FILE).chmod(0o600)
    by_file = "1.DYAfTWbB4aq_wdY31hhmsVf08MEjtRa0SkeBbg9Q_Hj4hZ9AVD9z6VvNRsytMVM="
    by_text = "1.JUXi4SNNHy9IRwmG682OAnNXKClPljkXDEbcMgcqrD2TF-4PyxTcvNMoDTUOvzw="
    assert Vault(tmp_path).current().open("OPENAI_API_KEY", by_file) == VALUE
    assert Vault(tmp_path, TEXT).current().open("OPENAI_API_KEY", by_text) == VALUE
    monkeypatch.setenv("LUMIGATOR_SECRET_KEY", "shared")
    on_its_way = (
        b"gAAAAABrDXv5teJeFBd_2C_8-uNhXvDOq72sPdqcLLyHxylqNEn0MSaRQU3Jqsc6wHyxpTJi4y4i_2N1Ri_Q1KMtDHyloD6n0-qAcg1ARTl"
        b"_72ZG0DWgyWCHv1qvyHtZwqnvV-YAlhjJ"
    )
    assert redaction.unseal(on_its_way) == {"OPENAI_API_KEY": VALUE.get_secret_value()}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_read_is_refused_with_what_mends_it(tmp_path, mode) -> None:
    kept = Vault(tmp_path).current().id
    (tmp_path / vault.FILE).chmod(mode)
    with pytest.raises(SecretError, match="can be read or written by others") as caught:
        Vault(tmp_path).current()
    command = caught.value.hint.partition(";")[0]
    subprocess.run(command, shell=True, check=True)
    assert Vault(tmp_path).current().id == kept


def test_links_pipes_and_folders_are_no_key_files(tmp_path) -> None:
    path = tmp_path / vault.FILE
    Vault(tmp_path / "else").current()
    for target in (tmp_path / "else" / vault.FILE, tmp_path / "nothing"):
        path.symlink_to(target)
        with pytest.raises(SecretError, match="symbolic link"):
            Vault(tmp_path).current()
        path.unlink()
    assert not (tmp_path / "nothing").exists()
    os.mkfifo(path)
    with pytest.raises(SecretError, match="not an ordinary file"):
        Vault(tmp_path).current()
    path.unlink()
    path.mkdir()
    with pytest.raises(SecretError, match="not an ordinary file"):
        Vault(tmp_path).current()


@pytest.mark.parametrize("line", ["oops", "AAAA", "ä" * 44])
def test_a_damaged_key_file_names_the_line_and_nothing_of_the_others(tmp_path, line) -> None:
    Vault(tmp_path).current()
    path = tmp_path / vault.FILE
    kept = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + line + "\n")
    for act in (Vault(tmp_path).current, Vault(tmp_path).renew, Vault(tmp_path).ids):
        with pytest.raises(SecretError, match="line 3 of the key file") as caught:
            act()
        assert kept not in shown_variables(caught.value)
    path.write_text("")
    path.chmod(0o600)
    with pytest.raises(SecretError, match="no key in"):
        Vault(tmp_path).current()


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretError, match="cannot be"):
        Vault(tmp_path / "file" / "home").current()


def test_a_new_key_seals_and_those_before_it_open(tmp_path) -> None:
    first = Vault(tmp_path).current()
    sealed = first.seal("NAME", VALUE)
    second = Vault(tmp_path).renew()
    third = Vault(tmp_path).renew()
    assert Vault(tmp_path).ids() == [third.id, second.id, first.id]
    found = Vault(tmp_path).find(first.id)
    assert found is not None
    assert found.open("NAME", sealed) == VALUE
    assert Vault(tmp_path).find("nothing") is None


def test_a_text_wins_over_the_file_and_is_the_same_key_everywhere(tmp_path) -> None:
    filed = Vault(tmp_path).current()
    one, two = Vault(tmp_path, TEXT), Vault(tmp_path / "elsewhere", TEXT)
    assert one.current().id == two.current().id != filed.id
    assert one.ids() == [one.current().id, filed.id]
    assert one.renew().id == one.current().id
    after = Vault(tmp_path, OTHER, old=TEXT)
    assert after.current().id != one.current().id
    assert after.find(one.current().id) is not None


@pytest.mark.parametrize("text", ["x", "fifteen letters"])
def test_a_short_text_seals_nothing(tmp_path, text) -> None:
    with pytest.raises(ConfigurationError, match="too short") as caught:
        Vault(tmp_path, SecretStr(text)).current()
    assert text not in caught.value.message.split()


def test_each_purpose_has_its_own_bytes() -> None:
    assert vault.derived(TEXT, "a") != vault.derived(TEXT, "b") != vault.derived(OTHER, "b")
    assert len(vault.derived(TEXT, "a")) == 32


class MemoryKeyring(KeyringBackend):
    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("locked")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password


@pytest.fixture
def os_keyring(monkeypatch) -> MemoryKeyring:
    backend = MemoryKeyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    return backend


def test_the_keyring_keeps_the_keys_of_each_home(tmp_path, os_keyring) -> None:
    text = SecretStr("keyring:")
    first = Vault(tmp_path, text).current()
    assert Vault(tmp_path, text).current().id == first.id
    assert Vault(tmp_path / "another", text).current().id != first.id
    second = Vault(tmp_path, text).renew()
    assert Vault(tmp_path, text).ids() == [second.id, first.id]
    assert not (tmp_path / vault.FILE).exists()
    # Going over to a text.
    assert Vault(tmp_path, TEXT, old=text).find(first.id) is not None
    os_keyring.locked = True
    with pytest.raises(SecretError, match="keyring refuses: KeyringLocked"):
        Vault(tmp_path, text).current()


def test_without_a_keyring_that_is_said(tmp_path, os_keyring, monkeypatch) -> None:
    monkeypatch.setattr(MemoryKeyring, "priority", 0.5)
    with pytest.raises(ConfigurationError, match="offers none"):
        Vault(tmp_path, SecretStr("keyring:")).current()
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigurationError, match="packages that are not installed"):
        Vault(tmp_path, SecretStr("keyring:")).current()


def test_neither_keys_nor_vaults_show_or_pickle_themselves(tmp_path) -> None:
    key = Vault(tmp_path).current()
    line = (tmp_path / vault.FILE).read_text().splitlines()[1]
    for each in (key, Vault(tmp_path, TEXT)):
        assert line not in repr(each)
        assert TEXT.get_secret_value() not in repr(each)
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(each)


def shown_variables(error: BaseException) -> str:
    """What a traceback that shows variables would show, of the package's own functions."""
    found, trace = [], error.__traceback__
    while trace:
        if "lumigator_nb" in Path(trace.tb_frame.f_code.co_filename).parts:
            found.append(repr(trace.tb_frame.f_locals))
        trace = trace.tb_next
    return "\n".join([*found, str(error)])
