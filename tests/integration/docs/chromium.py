"""A headless Chromium, spoken to by its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# No background traffic of the browser's own, and nothing outside of this machine resolves.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
    "--window-size=1440,1100",
)
TIMEOUT_SECONDS = 30


class Page:
    """One tab. Every request it makes, and every violation of its content policy, is written down."""

    def __init__(self, socket: ClientConnection, folder: Path) -> None:
        self._socket = socket
        self._folder = folder
        self._number = 0
        self.requested: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (told := json.loads(self._socket.recv(TIMEOUT_SECONDS))).get("id") != self._number:
            self._note(told)
        assert "error" not in told, told
        return told["result"]

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"])[:500])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait_for(self, expression: str, seconds: float = TIMEOUT_SECONDS) -> Any:
        """The expression's value, once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                self.screenshot(self._folder / "stuck.png")
                raise AssertionError(f"{expression} is not true; see stuck.png; the page complains: {self.complaints}")
            time.sleep(0.1)
        return value

    def click(self, selector: str, text: str) -> None:
        """Press the first visible element of this kind whose text begins with `text`, once it stands still."""
        looked_for = f"""(() => {{
            const all = [...document.querySelectorAll({json.dumps(selector)})];
            const shows = e => (e.innerText || "").trim().startsWith({json.dumps(text)}) && e.checkVisibility();
            const found = all.find(shows);
            if (!found) return null;
            found.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = found.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        place, before = self.wait_for(looked_for), None
        while place != before:
            time.sleep(0.2)
            place, before = self.wait_for(looked_for), place
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            more = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **more)

    def press(self, selector: str, text: str, *, until: str) -> None:
        """Click until the page shows it: a click while it is busy is lost, and is repeated, as a person would."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            self.click(selector, text)
            try:
                self.wait_for(until, 3)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A page of a browser that is started for it, with a profile of its own in `folder`."""
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"], stdout=log, stderr=log
        )
        try:
            with connect(_page_address(folder / "profile", process), max_size=None) as socket:
                yield Page(socket, folder)
        finally:
            process.terminate()
            process.wait(60)


def _page_address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    told, deadline = profile / "DevToolsActivePort", time.monotonic() + TIMEOUT_SECONDS
    while not (told.exists() and told.read_text().strip()):
        assert process.poll() is None, "the browser ended"
        assert time.monotonic() < deadline, "the browser opened no port"
        time.sleep(0.05)
    port = told.read_text().split()[0]
    while True:
        tabs = httpx.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
        for tab in tabs:
            if tab["type"] == "page":
                return str(tab["webSocketDebuggerUrl"])
        assert time.monotonic() < deadline, tabs
        time.sleep(0.05)
