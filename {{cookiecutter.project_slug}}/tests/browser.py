"""Headless Chromium for tests of the pages that `invoke web` and `invoke report` make. Nothing but
loopback is used.

It takes a Chromium (Debian's package `chromium`); the page of `invoke web` also the unpacked npm
package @mediapipe/tasks-vision, whose folder the variable DETECTOR_TASKS_VISION names; only tests
read that variable. Tests that lack what they need are skipped.
"""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VARIABLE = "DETECTOR_TASKS_VISION"
FLAGS = (
    "--headless=new", "--no-sandbox", "--enable-logging=stderr", "--no-first-run", "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update", "--disable-extensions", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
HOST_PAGE = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="frame" src="{page}" allow="camera"
  style="width: {width_px}px; height: 900px; border: 0"></iframe>
<script type="module">
const frame = document.getElementById("frame");
const page = frame.contentWindow;
const loaded = () =>
  page.location.href !== "about:blank" && page.document.readyState === "complete";
await new Promise((done) => {{ frame.addEventListener("load", done); if (loaded()) done(); }});
const pause = () => new Promise((done) => setTimeout(done, 50));
const until = async (holds) => {{ while (!holds()) await pause(); }};
const run = async () => {{ {script} }};
const result = await run().then(
  (returned) => ({{ returned }}), (error) => ({{ thrown: String(error) }}));
await fetch("/result", {{ method: "POST", body: JSON.stringify(result) }});
</script>
"""
"""The page under test in a frame; `script` may use `page` (its window) and `until`, and returns
what JSON can hold."""


def chromium() -> str | None:
    """The browser's program, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def missing_browser() -> str:
    """What has to be installed before `visit` works; empty when nothing is missing."""
    return "" if chromium() else "no browser: install Debian's package chromium"


def missing() -> str:
    """What the page of `invoke web` needs besides; empty when nothing is missing."""
    if missing_browser():
        return missing_browser()
    if not os.environ.get(VARIABLE):
        return (f"{VARIABLE} is not set: unpack the npm package @mediapipe/tasks-vision and name "
                "its folder there")
    return ""


def predicted_rows(path: Path, model: Path) -> tuple[tuple[int, int], list[dict]]:
    """The size in px of an image and what `invoke predict` would write of it, without a threshold.
    """
    import numpy as np

    from scripts.data.image_files import open_upright
    from scripts.deploy.predictions import detection_rows
    from scripts.deploy.reader import open_detector

    image, detector = open_upright(path.read_bytes()), open_detector(model)
    return image.size, detection_rows(
        detector.detect(np.asarray(image)), image.size, detector.labels, 0.0)


class _Handler(SimpleHTTPRequestHandler):
    """Answers for the `Site` that its server belongs to."""

    def __init__(self, request, client, server):
        self.site = server.site
        super().__init__(request, client, server, directory=str(self.site.folder))

    def translate_path(self, path):
        found = self.site.files.get(path)
        return str(found) if found else super().translate_path(path)

    def do_GET(self):
        self.site.asked.append(self.path)
        if self.path in self.site.pages:
            self._answer(self.site.pages[self.path])
        else:
            super().do_GET()

    def do_POST(self):
        result = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")  # First: whoever waits for the result ends the browser.
        self.site.results.put(result)

    def _answer(self, body: bytes):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Site:
    """A server on loopback: `folder` at `/`, and `files` (address -> path) beside it.

    `asked` are its requests, `console` what the pages of the last visit wrote to the console,
    errors among it.
    """

    def __init__(self, folder: Path, files: dict[str, Path] | None = None):
        self.folder, self.files = folder, files or {}
        self.pages: dict[str, bytes] = {}
        self.results: queue.Queue = queue.Queue()
        self.asked: list[str] = []
        self.console: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.site = self
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def visit(self, script: str, *flags: str, page: str = "/index.html", width_px: int = 800,
              wait_s: float = 300):
        """What `script` returns when it runs beside the page. RuntimeError with its or the
        browser's words if it fails.

        `page` is the address of the page under test, `flags` are more flags of Chromium, `wait_s`
        the guard against a browser that hangs.
        """
        self.pages["/host.html"] = HOST_PAGE.format(
            script=script, width_px=width_px, page=page).encode("utf-8")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, open_log(
            profile) as log:
            command = [chromium(), *FLAGS, *flags, f"--user-data-dir={profile}",
                       f"{self.address}/host.html"]
            browser = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                result = self.results.get(timeout=wait_s)
            except queue.Empty:
                log.seek(0)
                raise RuntimeError(f"the browser returned nothing: {log.read()[-2000:]}") from None
            finally:
                browser.terminate()
                browser.wait()
                log.seek(0)
                self.console = [line for line in log.read().splitlines() if ":CONSOLE" in line]
        if "thrown" in result:
            raise RuntimeError(f"the script failed in the browser: {result['thrown']}")
        return result["returned"]


@contextlib.contextmanager
def open_log(folder: str):
    """A file for what the browser says."""
    with open(Path(folder) / "log.txt", "w+", encoding="utf-8", errors="replace") as log:
        yield log
