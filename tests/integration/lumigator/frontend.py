"""Lumigator's UI: built from a checkout with npm, and served as its nginx does, in front of a server."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from waiting import PATIENCE_S

UPSTREAM: web.AppKey[str] = web.AppKey("upstream", str)
SITE: web.AppKey[Path] = web.AppKey("site", Path)
UPLOAD_BYTES = 50 * 2**20
# Of one connection alone, or of what was unpacked on the way.
NOT_PASSED_ON = {"Connection", "Content-Encoding", "Content-Length", "Keep-Alive", "Transfer-Encoding"}


def built(checkout: Path, kept: Path) -> Path:
    """Return the folder of the built UI, kept for the next time, as nothing in a build depends on our code.

    Args:
        kept: folder for builds, one for each commit of Lumigator.
    """
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, check=True, text=True
    ).stdout.strip()
    found = kept / commit / "dist"
    if not found.exists():
        if shutil.which("npm") is None:
            pytest.skip("NOT TESTED: Lumigator's UI; npm is not installed")
        work = kept / f"{commit}-work"
        shutil.rmtree(work, ignore_errors=True)
        old = shutil.ignore_patterns("node_modules", "dist")
        shutil.copytree(checkout / "lumigator" / "frontend", work, ignore=old)
        _call(work, "npm", "ci", "--no-audit", "--no-fund")
        _call(work, "npx", "vite", "build", "--outDir", str(found), "--emptyOutDir")
        shutil.rmtree(work)
    return found


def _call(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@contextmanager
def behind_a_proxy(site: Path, port: int, upstream: str) -> Iterator[str]:
    """Serve a built UI, and below /api a server; gives the address.

    The rules are those of lumigator/frontend/nginx, but for `Host $http_host`, as docs/rest.md has it.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = web.AppRunner(_app(site, upstream))

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield f"http://localhost:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _app(site: Path, upstream: str) -> web.Application:
    app = web.Application(client_max_size=UPLOAD_BYTES)
    app[UPSTREAM], app[SITE] = upstream, site
    app.router.add_route("*", "/api{path:.*}", _pass_on)
    app.router.add_get("/{path:.*}", _file)
    return app


async def _pass_on(request: web.Request) -> web.Response:
    headers = {name: value for name, value in request.headers.items() if name not in NOT_PASSED_ON}
    headers |= {"X-Real-IP": request.remote or "", "X-Forwarded-For": request.remote or ""}
    async with (
        ClientSession(auto_decompress=True) as session,
        session.request(
            request.method, f"{request.app[UPSTREAM]}{request.raw_path}", headers=headers, data=await request.read()
        ) as answer,
    ):  # fmt: skip
        kept = {name: value for name, value in answer.headers.items() if name not in NOT_PASSED_ON}
        return web.Response(status=answer.status, headers=kept, body=await answer.read())


async def _file(request: web.Request) -> web.FileResponse:
    site = request.app[SITE]
    found = (site / request.match_info["path"]).resolve()
    return web.FileResponse(found if found.is_file() and found.is_relative_to(site) else site / "index.html")
