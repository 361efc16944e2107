"""Native Windows lacks TensorFlow Text; nobody here has a Windows machine, but what can be tried elsewhere is tried."""

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_TENSORFLOW_TEXT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow_text":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
platform, sys.platform = sys.platform, sys.argv[1]
import scripts
sys.platform = platform
from scripts.training import detector, runner
from scripts.evaluation import model
from scripts.deploy import convert, tflite
"""


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "works"), [("win32", True), ("linux", False)])
def test_the_chain_imports_without_tensorflow_text_on_windows(platform, works):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW_TEXT, platform], capture_output=True, text=True,
                          cwd=Path(__file__).resolve().parent.parent)
    assert (done.returncode == 0) is works, done.stderr
