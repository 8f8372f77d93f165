"""A headless Chromium of a test's own, and pages in it.

It is spoken to by its DevTools protocol over a pair of pipes (`--remote-debugging-pipe`): no
driver, no library, and no port that others could reach.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 20.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-breakpad", "--disable-crash-reporter", "--disable-dev-shm-usage",
    "--no-default-browser-check", "--force-color-profile=srgb", "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class BrowserError(Exception):
    """The browser has refused a command, or a script in a page has raised."""


class Browser:
    """One Chromium, with a profile in `folder`. Close it."""

    def __init__(self, folder: Path) -> None:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            pytest.skip("there is no chromium (apt-get install chromium)")
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()

        def give_pipes() -> None:  # it reads descriptor 3 and writes to 4
            spare_in, spare_out = os.dup(theirs_in), os.dup(theirs_out)
            while min(spare_in, spare_out) < 5:
                spare_in, spare_out = os.dup(spare_in), os.dup(spare_out)
            os.dup2(spare_in, 3)
            os.dup2(spare_out, 4)

        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"], close_fds=False,
            preexec_fn=give_pipes, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._data = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Have it do something; return what it answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {}))
                 .encode() + b"\0")
        until = time.monotonic() + LIMIT_S
        while True:
            answer = self._next(until - time.monotonic())
            assert answer is not None, f"no answer to {method}"
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self, patience_s: float) -> dict[str, Any] | None:
        """Return the next message, an event also being kept; None: there is none in that time."""
        while b"\0" not in self._data:
            if not select.select([self._from], [], [], max(0.0, patience_s))[0]:
                return None
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._data += part
        line, _, self._data = self._data.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def listen(self, seconds: float) -> None:
        """Take in what happens for so long."""
        until = time.monotonic() + seconds
        while self._next(until - time.monotonic()) is not None:
            pass

    def page(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open a page, as wide as that."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, url, width, height, dark)

    def close(self) -> None:
        """End it, and all the processes that it has started: they are of its process group."""
        with suppress(BrowserError, AssertionError, OSError):
            self.call("Browser.close")
            self._process.wait(LIMIT_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)


class Page:
    """A page that is open in a browser."""

    def __init__(
        self, browser: Browser, session: str, url: str, width: int, height: int, dark: bool
    ) -> None:
        self._browser, self._session = browser, session
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.looks(width, height, dark)
        self.call("Page.navigate", url=url)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something with this page."""
        return self._browser.call(method, self._session, **parameters)

    def looks(self, width: int, height: int = 900, dark: bool = False, still: bool = True) -> None:
        """Say how large the window is, and what its user prefers; `still`: no motion."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def run(self, script: str) -> Any:
        """Return what an expression is in the page; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True,
                         returnByValue=True)
        if "exceptionDetails" in done:
            raise BrowserError(str(done["exceptionDetails"])[:1000])
        return done["result"].get("value")

    def until(self, script: str, limit_s: float = LIMIT_S) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + limit_s
        while True:
            with suppress(BrowserError):  # it is loading
                if self.run(f"Boolean({script})"):
                    return
            assert time.monotonic() < end, (script, self.text())
            self._browser.listen(0.05)

    def text(self) -> str:
        """Return what a person reads on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def press(self, key: str, text: str = "") -> None:
        """Press a key, such as Tab, Enter or ArrowDown."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37,
                 "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = "\r" if key == "Enter" else text
        about = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text,
                  **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def heard(self) -> list[tuple[str, str]]:
        """Return what a screen reader is told: the role and the name of each part."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes
                if not node["ignored"]]

    def complaints(self) -> list[str]:
        """Return what the browser's console says is wrong, and what has raised."""
        self._browser.listen(0.05)
        found = []
        for event in self._browser.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"])[:500])
            if event["method"] == "Log.entryAdded" and (
                event["params"]["entry"]["level"] in ("error", "warning")
            ):
                found.append(event["params"]["entry"]["text"])
        return found

    def picture(self, file: Path, whole: bool = False) -> None:
        """Write what it looks like as PNG; `whole`: all of it, however long."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(data["data"]))

    def close(self) -> None:
        """Close it."""
        self.call("Page.close")
