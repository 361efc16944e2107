"""`invoke web`: a folder with a page that runs a `.tflite` in any browser, by MediaPipe's
tasks-vision.

The package comes from the user, unpacked, because a project downloads nothing. What the page itself
consists of lies in `clients/web/`; nothing in it names another server, and it forbids the browser
to ask one: tasks-vision 1.x would send figures about its use to its makers.
"""

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import replacing, sha256_file, write_json
from scripts.core.text import DetectorError
from scripts.deploy.metadata import read_metadata
from scripts.deploy.reader import open_detector

PAGE = Path(__file__).resolve().parents[2] / "clients/web"
PACKAGE, PACKAGE_FILE = "@mediapipe/tasks-vision", "package.json"
NEEDED = ("vision_bundle.mjs", "wasm/vision_wasm_internal.js", "wasm/vision_wasm_internal.wasm")
OLD_BROWSERS = ("wasm/vision_wasm_nosimd_internal.js", "wasm/vision_wasm_nosimd_internal.wasm")
"""For browsers without SIMD; copied when the package has them."""

GET_IT = f"`npm pack {PACKAGE}`, unpack the .tgz, then name its folder `package`"
ABOUT, MODEL = "about.json", "detector.tflite"
"""The model has one name in every folder, so that no older one is left beside it; ABOUT says what
it was called."""


@dataclass(frozen=True)
class WebCounts:
    """What was written: the model, the version of the package, number and size of the files, and
    the folder."""

    model: str
    version: str
    files: int
    megabytes: float
    out: str

    def __str__(self) -> str:
        return (f"{self.model} with tasks-vision {self.version}, {self.files} files, {self.megabytes:.1f} MB in "
                f"{self.out}\nTo see it: python -m http.server --directory \"{self.out}\", then open "
                "http://localhost:8000")


def make_web(model: Path, bundle: Path | None, out: Path) -> WebCounts:
    """Write the page with `model` (a `.tflite`) and what it needs of `bundle` (the unpacked
    package) to `out`.

    Files of these names in `out` are replaced, others are left alone. DetectorError for a model
    that is missing, has no metadata, is no detector or is `int8_raw`, for a folder that is not the
    package, and when `out` is a file.
    """
    version = _package_version(bundle)
    about = {**_about(model), "tasks_vision": version}
    if out.exists() and not out.is_dir():
        raise DetectorError(f"not a folder: {out}: name another with --out")
    sources = {path.name: path for path in sorted(PAGE.iterdir()) if path.is_file()}
    sources |= {name: bundle / name for name in (*NEEDED, *OLD_BROWSERS) if (bundle / name).is_file()}
    sources[MODEL] = model
    with ExitStack() as written:  # A full disk leaves no half of a page, and the older page as it was.
        for name, path in sources.items():
            shutil.copyfile(path, written.enter_context(replacing(out / name)))
        write_json(written.enter_context(replacing(out / ABOUT)), about)
    size = sum((out / name).stat().st_size for name in (*sources, ABOUT))
    return WebCounts(model.name, version, len(sources) + 1, size / 1e6, out.as_posix())


def _about(model: Path) -> dict:
    """What the page has to know of the model, and what it shows."""
    if model.is_dir():
        raise DetectorError(f"a folder, browsers run only .tflite files: {model}: name a file of tflite/")
    detector, metadata = open_detector(model), read_metadata(model)
    if detector.is_raw:
        raise DetectorError(f"a raw file, which MediaPipe finishes in another way than was measured: {model}: "
                            "name another variant with --model, such as int8")
    return {"name": metadata["name"], "labels": metadata["labels"], "input_px": detector.input_px,
            "file": model.name, "sha256": sha256_file(model)}


def _package_version(bundle: Path | None) -> str:
    """The version of the unpacked package. DetectorError when it is not that package, or not all of
    it."""
    if bundle is None:
        raise DetectorError(f"no folder of {PACKAGE} is named: --bundle: {GET_IT}")
    if not bundle.is_dir():
        raise DetectorError(f"no such folder: {bundle}: {GET_IT} after --bundle")
    try:
        package = json.loads((bundle / PACKAGE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DetectorError(f"no {PACKAGE_FILE} that can be read: {bundle}: {GET_IT} after --bundle") from None
    name = package.get("name") if isinstance(package, dict) else None
    if name != PACKAGE:
        raise DetectorError(f"package is {name!r}, not {PACKAGE}: {bundle / PACKAGE_FILE}: {GET_IT} after --bundle")
    missing = [file for file in NEEDED if not (bundle / file).is_file()]
    if missing:
        raise DetectorError(f"package lacks {', '.join(missing)}: {bundle}: unpack all of it anew: {GET_IT}")
    return str(package.get("version", "unknown"))
