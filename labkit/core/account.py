"""The user who starts the lab: what a container's user may lack, each with its mend."""

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

MEND_HOME = "Mend: export HOME=/a/folder/of/yours"


def no_name() -> str:
    """What to say when the user has no entry in ``/etc/passwd``; nothing when there is one."""
    if sys.platform == "win32":
        return ""
    import pwd

    with suppress(KeyError):
        pwd.getpwuid(os.geteuid())
        return ""
    return (
        f"User {os.geteuid()} has no name on this machine, and PostgreSQL's initdb asks for one. "
        f"Mend: add the line lab:x:{os.geteuid()}:{os.getegid()}::/tmp:/bin/sh to /etc/passwd, or "
        f"use a PostgreSQL of your own: LABKIT_POSTGRES=external"
    )


def no_home() -> str:
    """What to say when Jupyter cannot write its own folders; nothing when it can."""
    from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

    try:
        for folder in map(Path, (jupyter_config_dir(), jupyter_data_dir(), jupyter_runtime_dir())):
            there = next(step for step in (folder, *folder.parents) if step.exists())
            tempfile.TemporaryFile(dir=there).close()
    except RuntimeError:
        return f"Jupyter knows no home folder of this user. {MEND_HOME}"
    except OSError as err:
        return f"Jupyter cannot write {folder}: {err.strerror}. {MEND_HOME}"
    return ""
