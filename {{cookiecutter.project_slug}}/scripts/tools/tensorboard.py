"""`invoke tensorboard`: the curves of training and evaluation in the browser."""

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.core.text import DetectorError

HOST = "localhost"
PORTS_TRIED = 100
STARTING_S = 60
# Names in the browser and folders relative to the project: TensorBoard splits this at commas and
# colons, which an absolute path may hold.
FOLDERS = {"training": "training", "evaluation": "eval/tensorboard"}

# TensorBoard 2.20 looks for plugins of other packages with pkg_resources, which setuptools has left
# out since 82. Without it the server does not start; with this stand-in it has its own plugins.
SERVER = """
import sys, types
try:
    import pkg_resources
except ImportError:
    stand_in = types.ModuleType("pkg_resources")
    stand_in.iter_entry_points = lambda *_: []
    sys.modules["pkg_resources"] = stand_in
from tensorboard.main import run_main
run_main()
"""


def open_tensorboard(root: Path, port: int = 6006) -> None:
    """Serve `training/` and `eval/tensorboard/` to this machine only until Ctrl-C.

    `port` is tried first, then the next ones. Raises DetectorError when none is free or TensorBoard
    does not start.
    """
    port = free_port(port)
    events = (path for folder in FOLDERS.values()
              for path in (root / folder).rglob("events.out.tfevents.*"))
    if next(events, None) is None:
        print("no curves yet; they appear while `invoke train` runs", flush=True)
    folders = ",".join(f"{name}:{folder}" for name, folder in FOLDERS.items())
    command = [sys.executable, "-c", SERVER, f"--logdir_spec={folders}", f"--host={HOST}",
               f"--port={port}"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
        try:
            _wait_for(server, port, log)
            print(f"TensorBoard: http://{HOST}:{port}/ (Ctrl-C ends it)", flush=True)
            server.wait()
            raise DetectorError(f"TensorBoard ended by itself ({_last_line(log)}): port {port}: "
                                "run `invoke doctor`")
        except KeyboardInterrupt:
            print(flush=True)
        finally:
            _end(server)


def free_port(port: int) -> int:
    """Return `port`, or the next one that nothing on this machine listens at.

    Raises DetectorError when there is none.
    """
    if not 1 <= port <= 65535:
        raise DetectorError(f"port {port} does not exist: --port: give a number from 1024 to "
                            "65535, such as 6006")
    last = min(port + PORTS_TRIED, 65536)
    for candidate in range(port, last):
        if not _answers(candidate) and _can_bind(candidate):
            return candidate
    raise DetectorError(f"ports {port} to {last - 1} are all taken: {HOST}: give another one with "
                        "--port")


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _can_bind(port: int) -> bool:
    """Not enough alone: on some systems a server that listens on all addresses allows it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            if sys.platform != "win32":  # there it would allow two servers on one port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait_for(server: subprocess.Popen, port: int, log) -> None:
    """Return when the server answers; raise DetectorError with its last line when it does not."""
    deadline_s = time.monotonic() + STARTING_S
    while time.monotonic() < deadline_s and server.poll() is None:
        if _answers(port):
            return
        time.sleep(0.2)
    state = "ended" if server.poll() is not None else f"did not answer in {STARTING_S} s"
    raise DetectorError(f"TensorBoard {state} ({_last_line(log)}): port {port}: run `invoke "
                        "doctor`")


def _last_line(log) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:200]


def _end(server: subprocess.Popen) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
