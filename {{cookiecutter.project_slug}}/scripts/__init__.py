"""The code behind `tasks.py`: one room a stage, left to right; no room imports from a room on its
right.

pipeline -> images -> records -> training -> evaluation -> deploy
"""

import os

# TensorFlow reads this when it is first imported, in whatever room that happens; its start-up lines
# are no news to us.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
