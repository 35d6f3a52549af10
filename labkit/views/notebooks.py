"""Notebooks as JupyterLab opens and saves them."""

import platform
from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

from labkit.views.live import WIDGET


class Notebooks(AsyncLargeFileManager):
    """A notebook that was only looked at is not unsaved, and a saved one needs no kernel.

    JupyterLab compares what a notebook says of its language with what the kernel says. Where the
    version differs, it takes the kernel's, and has a change to save before anybody typed. So each
    is opened as if written with the Python that is here.

    A widget in a file finds nothing that could bring it to life, and shows an error. So the file
    keeps what stands beside it: a sentence, or a picture.
    """

    async def get(self, *args: Any, **options: Any) -> dict[str, Any]:
        model: dict[str, Any] = await super().get(*args, **options)
        if model["type"] == "notebook" and model["content"]:
            language = model["content"]["metadata"].get("language_info", {})
            if "version" in language:
                language["version"] = platform.python_version()
        return model

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        if model.get("type") == "notebook" and model.get("content"):
            for cell in model["content"]["cells"]:
                for output in cell.get("outputs", []):
                    if len(data := output.get("data", {})) > 1:
                        data.pop(WIDGET, None)
        saved: dict[str, Any] = await super().save(model, path)
        return saved
