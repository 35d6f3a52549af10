"""The lab's own code, shown from its module: what is on the screen is what runs."""

import inspect
import textwrap
from typing import Any

from IPython.display import Markdown


def show_source(thing: Any, since: str = "", lines: int | None = None) -> Markdown:
    """Show a function, a class or a module as highlighted code, with where it stands.

    Args:
        since: show it from the line that holds this text on.
        lines: show so many, and a sign that there are more.

    Raises:
        ValueError: no line holds the text.
    """
    source = inspect.getsource(thing).rstrip().splitlines()
    first = next((n for n, line in enumerate(source) if since in line), None)
    if first is None:
        raise ValueError(f"No line of {thing.__name__} holds {since!r}.")
    last = len(source) if lines is None else first + lines
    part = textwrap.dedent("\n".join(source[first:last]))
    if last < len(source):
        part += "\n…"
    module = thing.__name__ if inspect.ismodule(thing) else thing.__module__
    return Markdown(f"`{module.replace('.', '/')}.py`\n```python\n{part}\n```")
