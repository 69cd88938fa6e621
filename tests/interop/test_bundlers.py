"""The client that a hub serves, in programs that others build: for a page, its worker and Node; and type-checked."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from tests.browser.conftest import CHROMIUM_FLAGS, chromium
from tests.interop.fresh import command, place, printed, require_all, tool
from tests.interop.node import FOLDER, MODULES, require_packages
from tests.support.hub import RunningHub

BUNDLE = FOLDER / "bundle.mjs"
NODE22 = "node22/bin/node"


class Files(SimpleHTTPRequestHandler):
    """Files, and no word of each in the tests' output."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over HTTP, as any web server has it; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def page_of(folder: Path) -> AsyncIterator[Page]:
    """The page in a folder, in Chromium; an exception nobody caught fails the test."""
    faults: list[str] = []
    with served(folder) as address:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
            try:
                page = await browser.new_page()
                page.on("pageerror", lambda error: faults.append(str(error)))
                await page.goto(f"{address}/page.html")
                yield page
            finally:
                await browser.close()
    assert not faults, faults


@pytest.fixture(scope="module")
def bundled(bare_project: Path) -> Path:
    """The project, with what Vite and webpack have made of it."""
    require_packages("vite", "webpack")
    for name in ("vite", "webpack"):
        command("node", BUNDLE, name, bare_project, cwd=bare_project)
    html = (bare_project / "page.html").read_text()
    (bare_project / "webpack" / "page.html").write_text(html.replace(' type="module"', " defer"))
    return bare_project


@pytest.mark.timeout(400)  # the first use of npm installs packages
@pytest.mark.parametrize("bundler", ["vite", "webpack"])
@pytest.mark.parametrize("is_worker", [False, True], ids=["page", "worker"])
async def test_a_page(bundler: str, is_worker: bool, runtimes_hub: RunningHub, bundled: Path) -> None:
    async with place(runtimes_hub) as found, page_of(bundled / bundler) as page:
        require_all(await page.evaluate("(place) => run(place)", {**asdict(found), "worker": is_worker}))


async def test_a_bundle_for_node_without_ws(runtimes_hub: RunningHub, bundled: Path) -> None:
    async with place(runtimes_hub) as found:
        program = str(bundled / "webpack" / "main.mjs")
        require_all(await printed(tool(NODE22), program, *found.arguments, cwd=bundled))


@pytest.fixture(scope="module")
def native(bare_project: Path) -> Path:
    """What Metro makes of the project for React Native."""
    require_packages("metro", "@react-native/metro-config", "@react-native/babel-preset", "ws")
    command(tool(NODE22), BUNDLE, "metro", bare_project, cwd=bare_project)
    return bare_project / "metro"


@pytest.mark.parametrize("bundle", ["exports.js", "main.js"], ids=["package exports", "main fields"])
async def test_react_native(bundle: str, runtimes_hub: RunningHub, native: Path) -> None:
    async with place(runtimes_hub) as found:
        script = str(FOLDER / "native.mjs")
        require_all(await printed("node", script, str(native / bundle), *found.arguments, cwd=native))


def test_hermes_compiles_what_react_native_is_given(native: Path) -> None:
    compiler = tool("hermes-compiler/hermesc/linux64-bin/hermesc")
    for bundle in ("exports.js", "main.js"):
        command(compiler, "-w", "-emit-binary", "-out", native / f"{bundle}.hbc", native / bundle, cwd=native)


@pytest.mark.parametrize(
    ("resolution", "module"), [("node10", "commonjs"), ("node16", "node16"), ("bundler", "esnext")]
)
def test_typescript_finds_the_types(resolution: str, module: str, bare_project: Path, tmp_path: Path) -> None:
    require_packages("typescript")
    folder = tmp_path / "project"
    shutil.copytree(bare_project / "node_modules", folder / "node_modules")
    for name in ("scenario.js", "types.ts"):
        shutil.copy(bare_project / name, folder)
    shutil.copy(folder / "types.ts", folder / "types.cts")
    options = {
        "module": module, "moduleResolution": resolution, "target": "es2022", "lib": ["es2022", "dom"], "types": [],
        "strict": True, "allowJs": True, "checkJs": True, "noEmit": True, "ignoreDeprecations": "5.0",
    }  # fmt: skip
    (folder / "package.json").write_text('{"type": "module"}')
    files = ["scenario.js", "types.ts", "types.cts"]
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": files}))
    command("node", MODULES / "typescript" / "bin" / "tsc", "--project", ".", cwd=folder)
