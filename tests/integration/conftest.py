from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_testing import ModelServer, screens


@pytest.fixture(scope="session")
def home():
    """A workspace's folder with a short path, since Unix sockets below it allow 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="lumi-"))
    yield folder
    with lm.connect(lumigator_home=folder) as ws:
        ws.cluster.shutdown()
    shutil.rmtree(folder)


@pytest.fixture
def ws(home):
    with lm.connect(lumigator_home=home) as made:
        yield made


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> str:
    """A causal language model of random weights that answers as long as it may: real code, a known duration."""
    pytest.importorskip("transformers", reason="pip install 'lumigator-nb[hf]'")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    words = {word: index for index, word in enumerate(["<pad>", "<unk>", *(f"w{n}" for n in range(200))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=2048,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return f"hf/{folder}"


@pytest.fixture(scope="module")
def running():
    """A model server for a module's tests, which bring it back to how it was by a fixture `server` of their own."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def client(server):
    import openai

    with openai.OpenAI(base_url=server.base_url, api_key="sk-mine", max_retries=0) as made:
        yield made


@pytest.fixture
def free_port() -> int:
    return screens.free_port()


@pytest.fixture(scope="module")
def chromium():
    """A headless browser for a module's tests."""
    if not screens.chromium():
        pytest.skip("no browser is installed (Debian: apt-get install chromium)")
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_S * 1000)
    with screens.browser() as opened:
        yield opened


@pytest.fixture
def watched():
    """What goes wrong in the pages that a test opens; there must be nothing at its end."""
    found = screens.Watched()
    yield found
    assert found.problems == []
    assert found.elsewhere == set()


@pytest.fixture
def new_page(chromium, watched, request):
    """Opens a page in a browser session of its own; what they show in the end is kept under build/screens."""
    pages = []

    def opened(width: int = 1280, height: int = 800, **options):
        page = chromium.new_context(viewport={"width": width, "height": height}, **options).new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        pages.append(watched.watch(page))
        return page

    yield opened
    folder = request.config.rootpath / "build" / "screens"
    for number, page in enumerate(pages):
        page.screenshot(path=folder / f"{request.node.name}-{number}.png")
        page.context.close()


@pytest.fixture
def page(new_page):
    return new_page()


@pytest.fixture(scope="session")
def postgres_url():
    """A PostgreSQL server of our own on loopback, gone afterwards."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="lumi-pg-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The server refuses to work as root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")

    def call(*arguments: str) -> None:
        subprocess.run([*as_user, *arguments], check=True, capture_output=True, timeout=PATIENCE_S, cwd="/")

    data, options = str(folder / "data"), f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    call(str(binaries[-1] / "initdb"), "-D", data, "-A", "trust", "-U", "postgres")
    call(str(binaries[-1] / "pg_ctl"), "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    call(str(binaries[-1] / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)
