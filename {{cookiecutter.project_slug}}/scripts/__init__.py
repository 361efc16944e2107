"""The code behind `tasks.py`. `scripts/README.md` says which package holds what."""

import os

# TensorFlow reads this when it is first imported, in whatever module that happens; its start-up
# lines would hide the lines of the steps.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
