"""A lab that teaches how Temporal makes a machine-learning pipeline survive everything.

Notebooks need one name: ``from labkit import Lab``. It is loaded on first use, because the
workflow sandbox imports this package for every run and must not pay for what it never calls.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.lab import Lab, Run

__all__ = ["Lab", "Run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from labkit import lab

        return getattr(lab, name)
    raise AttributeError(f"module 'labkit' has no attribute {name!r}")
