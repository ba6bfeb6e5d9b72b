"""How much the inference step costs beside the provider's own latency.

    python benchmarks/api_overhead.py [--latency 0.05 0.2] [--examples 500]

For each latency the same examples are asked, 64 at once, of a local server over HTTP: by our inference step (answers
kept, predictions written), by a bare loop over the official AsyncOpenAI client, and by a bare aiohttp loop. Prints wall
time as a multiple of the ideal (examples x latency / 64) and the CPU time of this process per call. Start-up is apart:
each has asked one example before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb import models
from lumigator_nb.engine import inference
from lumigator_nb.security.redaction import redactor
from lumigator_nb.specs import Model, Step, StoreSpec, Summarization, WorkflowSpec
from lumigator_nb.storage import layout
from lumigator_nb.storage.results import ProgressWriter
from lumigator_nb.storage.store import Store
from lumigator_testing import ModelServer

AT_ONCE = 64
SENTENCES = ("The parcel came late and one cup was broken.", "Support sent a new cup on Tuesday.", "All is well now.")


def example(n: int) -> str:
    return f"Case {n}. " + " ".join(SENTENCES * 4)


@contextmanager
def measured(name: str, examples: int, latency: float) -> Iterator[list[float]]:
    """Print one line; what is given has the wall time in it afterwards."""
    cpu, wall, seconds = _cpu(), time.perf_counter(), []
    yield seconds
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    seconds.append(wall)
    ideal = examples * latency / AT_ONCE
    print(f"  {name:<22} {wall:6.2f} s = {wall / ideal:4.2f} x ideal   {cpu / examples * 1000:5.2f} ms CPU a call")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def inference_step(server: ModelServer, examples: int, latency: float) -> float:
    model = Model(
        "lead-1", provider="openai", base_url=server.base_url, concurrency=AT_ONCE, price={"prompt": 1, "completion": 2}
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(StoreSpec(uri=Path(folder).as_uri()))
        for name, size in (("warm", 1), ("timed", examples)):
            table = pa.table({"example": [example(n) for n in range(size)], "ground_truth": ["x"] * size})
            with store.writing(layout.examples(name)) as file:
                pq.write_table(table, file)
        models.check(model)
        _infer(store, model, "warm", 1)
        with measured("our inference step", examples, latency) as seconds:
            _infer(store, model, "timed", examples)
    return seconds[0]


def _infer(store: Store, model: Model, name: str, examples: int) -> None:
    spec = WorkflowSpec(
        workflow_id=name,
        dataset=layout.examples(name),
        n_examples=examples,
        task=Summarization(),
        model=model,
        metrics=(),
        shard_size=128,
    )
    inference.infer(spec, store, ProgressWriter(store, spec, Step.INFERENCE), redactor())


def async_openai(server: ModelServer, examples: int, latency: float) -> float:
    async def work() -> float:
        from openai import AsyncOpenAI

        async with AsyncOpenAI(api_key="none", base_url=server.base_url, max_retries=0) as client:

            async def ask(n: int) -> None:
                await client.chat.completions.create(**_body(n))

            return await _timed("bare AsyncOpenAI", ask, examples, latency)

    return asyncio.run(work())


def bare_aiohttp(server: ModelServer, examples: int, latency: float) -> None:
    async def work() -> None:
        import aiohttp

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(n: int) -> None:
                async with session.post(f"{server.base_url}/chat/completions", json=_body(n)) as response:
                    await response.json()

            await _timed("bare aiohttp", ask, examples, latency)

    asyncio.run(work())


def _body(n: int) -> dict:
    turns = [{"role": "system", "content": Summarization().instruction}, {"role": "user", "content": example(n)}]
    return {"model": "lead-1", "messages": turns, "temperature": 0, "max_tokens": 128}


async def _timed(name: str, ask: Callable[[int], Awaitable[None]], examples: int, latency: float) -> float:
    await ask(0)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(n: int) -> None:
        async with gate:
            await ask(n)

    with measured(name, examples, latency) as seconds:
        await asyncio.gather(*(one(n) for n in range(examples)))
    return seconds[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--examples", type=int, default=500)
    given = parser.parse_args()
    for latency in given.latency:
        print(f"{given.examples} examples, {1000 * latency:.0f} ms latency, {AT_ONCE} at once")
        with ModelServer(latency=latency) as server:
            for measure in (inference_step, async_openai, bare_aiohttp):
                measure(server, given.examples, latency)


if __name__ == "__main__":
    main()
