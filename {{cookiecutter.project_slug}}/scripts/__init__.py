"""The code behind `tasks.py`: one room a stage, left to right; no room imports from a room on its right.

pipeline -> pictures -> records -> training -> evaluation -> deploy
"""
