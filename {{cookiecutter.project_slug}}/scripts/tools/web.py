"""`invoke web`: a folder with a page that runs a `.tflite` in any browser, by MediaPipe's
tasks-vision.

The package comes from the user, unpacked, because a project downloads nothing. The page lies in
`clients/web/`. Nothing in it names another server, and it forbids the browser to ask one:
tasks-vision 1.x would send figures about its use to its makers.
"""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

from scripts.core.files import replacing, sha256_file, write_json
from scripts.core.text import DetectorError
from scripts.deploy.metadata import read_metadata
from scripts.deploy.reader import open_detector

PAGE = Path(__file__).resolve().parents[2] / "clients/web"
PACKAGE, PACKAGE_FILE = "@mediapipe/tasks-vision", "package.json"
NEEDED = ("vision_bundle.mjs", "wasm/vision_wasm_internal.js", "wasm/vision_wasm_internal.wasm")
# For browsers without SIMD; copied when the package has them.
OLD_BROWSERS = ("wasm/vision_wasm_nosimd_internal.js", "wasm/vision_wasm_nosimd_internal.wasm")

GET_IT = f"`npm pack {PACKAGE}`, unpack the .tgz, then name its folder `package`"
# The model has one name in every folder, so that no older one is left beside it; ABOUT says what it
# was called.
ABOUT, MODEL = "about.json", "detector.tflite"


def make_web(model: Path, bundle: Path | None, out: Path) -> str:
    """Write the page with `model` (a `.tflite`) and the files that it needs to the folder `out`.

    Files of these names in `out` are replaced, others are left alone.

    Args:
        model: not `int8_raw`.
        bundle: the unpacked package; None is answered with how to get it.
        out: the folder to write.

    Returns:
        A summary and how to see the page.

    Raises:
        DetectorError: The model is missing, is no detector of this project or is raw; `bundle` is
            not the package; or `out` is a file.
    """
    version = _package_version(bundle)
    about = {**_about(model), "tasks_vision": version}
    if out.exists() and not out.is_dir():
        raise DetectorError(f"not a folder: {out}: name another with --out")
    # The page, the package and the model, by their names in the folder.
    sources = {path.name: path for path in sorted(PAGE.iterdir()) if path.is_file()}
    sources |= {name: bundle / name for name in (*NEEDED, *OLD_BROWSERS)
                if (bundle / name).is_file()}
    sources[MODEL] = model
    # All files are replaced at the end together: a full disk leaves the older page as it was.
    with ExitStack() as written:
        for name, path in sources.items():
            shutil.copyfile(path, written.enter_context(replacing(out / name)))
        write_json(written.enter_context(replacing(out / ABOUT)), about)
    size = sum((out / name).stat().st_size for name in (*sources, ABOUT))
    return (f"{model.name} with tasks-vision {version}, {len(sources) + 1} files, "
            f"{size / 1e6:.1f} MB in {out.as_posix()}\n"
            f"To see it: python -m http.server --directory \"{out.as_posix()}\", then open "
            "http://localhost:8000")


def _about(model: Path) -> dict:
    """Return what the page has to know of the model, and what it shows."""
    if model.is_dir():
        raise DetectorError(f"a folder, browsers run only .tflite files: {model}: name a file of "
                            "tflite/")
    # Opened once here, so that a file that cannot run is found now and not in a browser.
    detector, metadata = open_detector(model), read_metadata(model)
    if detector.is_raw:
        raise DetectorError(f"a raw file, which MediaPipe finishes in another way than was "
                            f"measured: {model}: name another variant with --model, such as int8")
    return {"name": metadata["name"], "labels": metadata["labels"],
            "input_px": detector.input_px, "file": model.name, "sha256": sha256_file(model)}


def _package_version(bundle: Path | None) -> str:
    """Return the version of the package; DetectorError for another or an incomplete one."""
    if bundle is None:
        raise DetectorError(f"no folder of {PACKAGE} is named: --bundle: {GET_IT}")
    if not bundle.is_dir():
        raise DetectorError(f"no such folder: {bundle}: {GET_IT} after --bundle")
    try:
        package = json.loads((bundle / PACKAGE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DetectorError(f"no {PACKAGE_FILE} that can be read: {bundle}: {GET_IT} after "
                            "--bundle") from None
    name = package.get("name") if isinstance(package, dict) else None
    if name != PACKAGE:
        raise DetectorError(f"package is {name!r}, not {PACKAGE}: {bundle / PACKAGE_FILE}: "
                            f"{GET_IT} after --bundle")
    missing = [file for file in NEEDED if not (bundle / file).is_file()]
    if missing:
        raise DetectorError(f"package lacks {', '.join(missing)}: {bundle}: unpack all of it anew: "
                            f"{GET_IT}")
    return str(package.get("version", "unknown"))
