"""A run drawn as one: its steps from left to right, each with its state, in HTML.

The strip is a list of text, so that whoever cannot see it hears the same. Styles are inline and
colours are seen on white and on black: it looks the same in a notebook that nobody trusts yet, in
either theme, and on the dashboard. Narrow pages break it into rows.
"""

import html

from labkit.ask.view import View, times
from labkit.pipeline.messages import STEPS

# A state has a shape and a colour (3 to 1 at least on white and on black), and a border of its own.
GREEN, BLUE, AMBER, RED, GREY = "#2e8b57", "#3b7fd4", "#b5760a", "#d9412f", "#808080"
LOOKS = {
    "done": ("✓", GREEN, "2px solid"),
    "running": ("▶", BLUE, "4px double"),
    "backing off": ("↻", AMBER, "2px dashed"),
    "waiting": ("◆", AMBER, "4px double"),
    "failed": ("✕", RED, "4px solid"),
    "fell short": ("✕", RED, "4px solid"),
    "rejected": ("✕", RED, "4px solid"),
    "expired": ("■", RED, "2px solid"),
    "cancelled": ("■", RED, "2px solid"),
    "terminated": ("■", RED, "2px solid"),
    "timed out": ("■", RED, "2px solid"),
    "to come": ("○", GREY, "2px dotted"),
    "not reached": ("–", GREY, "2px dotted"),
}
HELD = ("‖", AMBER, "2px solid")
ACTIVITIES = {
    "data_preprocessing": "preprocess_data",
    "model_training": "train_model",
    "experiment_tracking": "log_experiment",
    "quality_assessment": "assess_model_quality",
    "dev_deployment": "deploy_to_dev",
    "prod_deployment": "deploy_to_prod",
}
MARKS_AT_MOST = 8
FLEX = "display:flex;flex-wrap:wrap;gap:6px 0"
STEP = "display:flex;flex:1 1 9em;min-width:9em;margin:0;padding:0;line-height:1.35"


def as_strip(view: View, line: str = "") -> str:
    """A view as a strip.

    Args:
        view: what is known about the run.
        line: what stands below; else where the run is, and why it does not go on.
    """
    rows = view.rows()
    steps = "".join(_step(view, row, last=row == rows[-1]) for row in rows)
    said = [line] if line else [view.headline(), *filter(None, [view.trouble()])]
    below = "".join(f"<div style='overflow-wrap:anywhere'>{html.escape(it)}</div>" for it in said)
    return (
        f"<ol aria-label='Steps of the pipeline' style='{FLEX};list-style:none;margin:4px 0;"
        f"padding:0'>{steps}</ol><div role='status'>{below}</div>"
    )


def _step(view: View, row: tuple[str, str, str], last: bool) -> str:
    step, word, remark = row
    now = word == "running" and step == view.status.current_step
    word = _word(view, step, word, now)
    shape, colour, border = LOOKS.get(word, HELD)
    name = html.escape(step).replace("_", "_<wbr>")
    arrow = "" if last else "<span aria-hidden='true' style='align-self:center'>→</span>"
    told = [html.escape(remark)] if step in view.status.completed_steps and remark else []
    inside = "".join(f"<div>{it}</div>" for it in (name, *_details(view, step, now), *told))
    head = f"<span aria-hidden='true' style='color:{colour}'>{shape}</span> "
    box = f"border:{border} {colour};border-radius:6px;flex:1 1 0;min-width:0;padding:3px 7px"
    return (
        f"<li style='{STEP}'><div style='{box};overflow-wrap:anywhere'>"
        f"<div>{head}<strong>{html.escape(word)}</strong></div>{inside}</div>{arrow}</li>"
    )


def _word(view: View, step: str, word: str, now: bool) -> str:
    """The state of a step in a word, which also says which step ended the run."""
    if now and view.next_attempt_seconds is not None:
        return "backing off"
    if step == "quality_assessment" and view.status.quality_gate_failed:
        return "fell short"
    if step == "awaiting_prod_approval" and word == "done":
        if view.status.decision is None:
            return "expired"
        return word if view.status.decision.approved else "rejected"
    return word


def _details(view: View, step: str, now: bool) -> list[str]:
    """What is worth knowing of a step: trees, attempts, and the back-off that is running."""
    found = []
    if now and view.trees:
        trees, of = view.trees.get("trees", 0), view.trees.get("of", 0)
        found.append(f"{trees} of {of} trees{_bar('Trees', trees, of)}")
    if now and view.attempt > 1:
        marks = "✕" * min(view.attempt - 1, MARKS_AT_MOST)
        failed = f"<span aria-hidden='true' style='color:{RED}'>{marks}</span> "
        found.append(f"{failed}attempt {view.attempt}{_gap(view)}")
    elif (tried := view.tried.get(ACTIVITIES.get(step, ""), 1)) > 1 and not now:
        found.append(f"tried {times(tried)}")
    return found


def _gap(view: View) -> str:
    """How long until the next attempt, of how long a back-off."""
    if view.next_attempt_seconds is None:
        return ""
    left = round(view.next_attempt_seconds)
    of = max(left, round(view.gap_seconds))
    return f" in {left} s{_bar('Back-off', of - left, of)}" if of else ""


def _bar(name: str, value: float, most: float) -> str:
    return (
        f"<progress aria-label='{name}' max='{most:g}' value='{value:g}' "
        f"style='display:block;width:100%'></progress>"
    )


def progress_bar(view: View) -> str:
    """How many steps are done, as a bar and in words."""
    done, all_ = len(view.status.completed_steps), len(STEPS) - 1
    return (
        f"<progress max='{all_}' value='{done}' "
        f"aria-label='Steps done'></progress> {done} of {all_} steps done"
    )
