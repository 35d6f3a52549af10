"""Where files come in: an upload, or the lab's own samples; and how each went, in words."""

import html
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from typing import Any

from ipywidgets import HTML, FileUpload, HBox, VBox

from labkit.core.settings import MAX_BYTES, LabError
from labkit.views.buttons import row_of_buttons, say

ALERT_SECONDS = 60
HINT = (
    f"CSVs of at most {MAX_BYTES // 2**20} MiB each, chosen or dropped here. A name that begins "
    "with good trains well; bad, and half the time any other, gets shuffled labels."
)
# The widget keeps its file input to itself, and clicks it when it is clicked: what is dropped is
# handed to that input then, in place of a file chooser.
DROPS = """<style onload="
const box = this.closest('.labkit-uploads'), input = HTMLInputElement.prototype;
box.addEventListener('dragover', event => event.preventDefault());
box.addEventListener('drop', event => {
  event.preventDefault();
  const choose = input.click;
  input.click = function () {
    this.files = event.dataTransfer.files;
    this.dispatchEvent(new Event('change'));
  };
  try { box.querySelector('.widget-upload').click(); } finally { input.click = choose; }
});">.labkit-uploads { border: 2px dashed var(--jp-border-color1); padding: 0 8px 8px; }</style>"""
_ALERT, _OLD_ALERT = "<div role='alert' class='labkit-problem'>", "<div>"


def alert(text: str) -> str:
    """A text that screen readers say at once; empty when there is none."""
    return f"{_ALERT}{html.escape(text)}</div>" if text else ""


class Uploads:
    """Takes CSVs, one or many.

    Args:
        upload: is given a name and the bytes; says what came of it.
        samples: what the other buttons say, and do.
        aside: does a press elsewhere, so that the page answers meanwhile.
    """

    def __init__(
        self,
        upload: Callable[[str, bytes], str],
        samples: dict[str, Callable[[], Any]],
        aside: Callable[[Callable[[], Any]], "Future[Any]"],
    ) -> None:
        self._take, self._aside, self._alerted = upload, aside, 0.0
        self.button = FileUpload(
            description="Upload a CSV",
            accept=".csv",
            multiple=True,
            layout={"width": "max-content"},
        )
        self.button.observe(self._uploaded, "value")
        self.said = HTML(HINT)
        buttons = HBox([self.button, row_of_buttons("", samples, aside)])
        self.widget = VBox([HTML(f"{DROPS}<h2>Start a run</h2>"), buttons, self.said])
        self.widget.add_class("labkit-uploads")

    def age(self) -> None:
        """What was said a while ago is no alert any more."""
        if self._alerted and time.monotonic() > self._alerted:
            self.said.value = self.said.value.replace(_ALERT, _OLD_ALERT)
            self._alerted = 0.0

    def _uploaded(self, change: dict[str, Any]) -> None:
        if change["new"]:
            with suppress(LabError):
                self._aside(lambda: self._see_through(change["new"]))

    def _see_through(self, files: Any) -> None:
        """See uploaded files through. What became of those that were refused stays to be read."""
        refused = []
        for file in files:
            name, content = file["name"], bytes(file["content"])
            size = f"{len(content) / 1000:,.0f} kB"
            say(self.said, f"{name}, {size}: starting its run …")
            self.said.value += "<progress aria-label='Upload under way'></progress>"
            try:
                say(self.said, self._take(name, content))
            except Exception as err:
                refused.append(f"{datetime.now():%H:%M:%S} {err}")
        if refused:
            self.said.value = alert(" ".join(refused))
            self._alerted = time.monotonic() + ALERT_SECONDS
        self.button.value = ()
