"""Code that is shown from its module."""

import pytest

from labkit.core import ports
from labkit.views.source import show_source


def text(*args: object, **kwargs: object) -> str:
    return str(show_source(*args, **kwargs).data)  # type: ignore[arg-type]


def test_all_of_it() -> None:
    shown = text(ports.accepts)
    assert shown.startswith("`labkit/core/ports.py`\n```python\ndef accepts(")
    assert "…" not in shown and shown.endswith("\n```")


def test_a_part_of_it_is_cut_out_and_says_so() -> None:
    first, *_ = text(ports, since="def accepts").splitlines()[2:]
    assert first.startswith("def accepts(")
    assert text(ports.accepts, lines=1).splitlines()[3:] == ["…", "```"]


def test_a_part_is_dedented() -> None:
    shown = text(ports.accepts, since="return", lines=1)
    assert shown.splitlines()[2].startswith("return")


def test_a_text_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="No line of accepts holds 'nowhere'"):
        show_source(ports.accepts, since="nowhere")
