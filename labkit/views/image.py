"""Figures as pictures with an alternative text."""

import base64
import html
import io

from matplotlib.figure import Figure


def png(figure: Figure) -> str:
    """A figure as base64, which is how notebooks keep pictures."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return base64.b64encode(content.getvalue()).decode()


def as_image(figure: Figure, alt: str) -> str:
    """A figure as an ``<img>``. Safe in any thread, for one that pyplot has not made."""
    source = f"data:image/png;base64,{png(figure)}"
    return f'<img alt="{html.escape(alt)}" src="{source}" style="max-width:100%">'
