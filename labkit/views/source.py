"""The lab's own code, shown from its module: what is on the screen is what runs."""

import inspect
import textwrap
from typing import Any

from IPython.display import Markdown


def show_source(thing: Any) -> Markdown:
    """Show a function, a class or a module as highlighted code, with where it stands."""
    source = textwrap.dedent(inspect.getsource(thing)).rstrip()
    module = thing.__name__ if inspect.ismodule(thing) else thing.__module__
    return Markdown(f"`{module.replace('.', '/')}.py`\n```python\n{source}\n```")
