"""The one exception that users see."""


class DetectorError(Exception):
    """A refusal in one line: `<what, with the value>: <where>: <what to type next>`.

    `tasks.py` prints it on stderr after `error: ` and exits with code 1; no traceback is shown.
    """
