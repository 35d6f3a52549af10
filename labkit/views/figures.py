"""A model's figures beside the gate's thresholds."""

import html

from labkit.core.settings import LabError
from labkit.pipeline.messages import QualityMetrics
from labkit.pipeline.work.quality import gate

CELL = "style='text-align:left;padding:0 1.5em 0 0;overflow-wrap:break-word'"


def figures_table(metrics: QualityMetrics) -> str:
    """The figures beside the thresholds, as an accessible table."""
    try:
        asked = gate(metrics)
    except LabError as err:
        return f"<p>The thresholds cannot be read: {html.escape(str(err))}</p>"
    heads = "".join(
        f"<th scope='col' {CELL}>{h}</th>" for h in ("figure", "is", "must be", "so it")
    )
    rows = "".join(
        f"<tr><th scope='row' {CELL}>{html.escape(row.label)}</th><td {CELL}>{row.value:.3f}</td>"
        f"<td {CELL}>{row.must_be} {row.limit:.2f}</td>"
        f"<td {CELL}>{'passes' if row.ok else 'falls short'}</td></tr>"
        for row in asked
    )
    return (
        f"<table aria-label='Figures against the thresholds'>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )
