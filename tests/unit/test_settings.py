"""Settings: read afresh, written whole, and wrong ones named with the file and the mend."""

import json
import os
import re
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from labkit.core.envfile import ensure_env, write_env
from labkit.core.files import write_atomically
from labkit.core.record import model_server_url, recorded_address
from labkit.core.settings import (
    REPOSITORY,
    LabError,
    config_file,
    paths,
    read_env,
    settings,
    temporal_profile,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_private_env_with_fresh_secrets(home: Path) -> None:
    example = (REPOSITORY / ".env.example").read_text()
    first = read_env()
    assert mode(paths().env) == 0o600
    assert len(first["POSTGRES_PASSWORD"]) >= 20
    Fernet(first["TEMPORAL_ENCRYPTION_KEY"])
    lines = (home / ".env").read_text().splitlines()
    changed = [old for old, new in zip(example.splitlines(), lines, strict=True) if old != new]
    secrets = "POSTGRES_PASSWORD TEMPORAL_ENCRYPTION_KEY LABKIT_CODEC_TOKEN LABKIT_ID_KEY"
    assert changed == [f"{name}=" for name in secrets.split()]

    assert ensure_env() is False, "it is there"
    assert read_env() == first
    paths().env.unlink()
    assert ensure_env() is True
    assert read_env()["POSTGRES_PASSWORD"] != first["POSTGRES_PASSWORD"]


def test_env_is_made_whole_or_not_at_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths().env.unlink()
    seen = []
    replace = Path.replace

    def spy(self: Path, target: Path) -> Path:
        done = replace(self, target)
        seen.append(read_env()["POSTGRES_PASSWORD"])
        return done

    monkeypatch.setattr(Path, "replace", spy)
    ensure_env()
    assert len(seen) == 1
    assert seen[0], "for a moment, there was a file without a password"


def test_write_env_keeps_every_other_line(home: Path) -> None:
    path = paths().env
    path.write_text("# mine\nexport A=1\n\nB=2 # two\nPOSTGRES_DB=old\nPOSTGRES_DB=older")
    path.chmod(0o644)
    write_env(POSTGRES_DB="new", A="7", C="3")
    assert path.read_text().splitlines() == [
        "# mine", "A=7", "", "B=2 # two", "POSTGRES_DB=new", "C=3",
    ]  # fmt: skip
    assert mode(path) == 0o600
    assert settings().postgres_db == "new"


@pytest.mark.parametrize(
    "value", ["plain", "a b", " a ", "a#b", "a #b", "it's", '"', "\\", "a\\'b", "a=b", "ünï", "$x"]
)
def test_what_write_env_writes_is_what_is_read(home: Path, value: str) -> None:
    write_env(POSTGRES_PASSWORD=value, POSTGRES_DB="after")
    assert settings().postgres_password.get_secret_value() == value
    assert read_env()["POSTGRES_PASSWORD"] == value
    assert settings().postgres_db == "after"


def test_the_environment_beats_env(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(POSTGRES_DB="from_file")
    assert settings().postgres_db == "from_file"
    monkeypatch.setenv("POSTGRES_DB", "from_environment")
    assert settings().postgres_db == "from_environment"
    monkeypatch.setenv("POSTGRES_DB", "")
    assert settings().postgres_db == "from_file", "an empty variable is none"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_PORT", "abc"),
        ("POSTGRES_PORT", "0"),
        ("POSTGRES_PORT", "70000"),
        ("LABKIT_POSTGRES", "mysql"),
        ("LABKIT_SPEED", "0"),
        ("LABKIT_SPEED", "fast"),
        ("LABKIT_APPROVAL_DAYS", "0"),
        ("LABKIT_APPROVAL_DAYS", "nan"),
        ("LABKIT_APPROVAL_DAYS", "1e9"),
        ("LABKIT_OTHER_FILES", "sometimes"),
    ],
)
def test_a_bad_value_names_itself_the_file_and_the_mend(home: Path, name: str, value: str) -> None:
    write_env(**{name: value})
    with pytest.raises(LabError, match=rf"{name}.*Mend it there") as caught:
        settings()
    assert str(paths().env) in str(caught.value)


def test_an_env_that_is_no_text(home: Path) -> None:
    paths().env.write_bytes("POSTGRES_DB=müller\n".encode("latin-1"))
    for read in (settings, read_env, temporal_profile):
        with pytest.raises(LabError, match="is not UTF-8"):
            read()


def test_secrets_do_not_print(home: Path) -> None:
    secret = read_env()["POSTGRES_PASSWORD"]
    assert secret not in f"{settings()!r} {settings()}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing. Restore it with: git checkout config/dev.yml"),
        ("port: [", "is not valid YAML"),
        (b"\xff\xfe", "is not valid YAML"),
        ("- 8080", "must hold 'name: value' lines"),
        ("", "must hold 'name: value' lines"),
    ],
)
def test_a_config_file_that_cannot_be_used(
    home: Path, content: str | bytes | None, says: str
) -> None:
    path = home / "config" / "dev.yml"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(LabError, match=re.escape(says)) as caught:
        config_file("dev.yml")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["host: 127.0.0.1", "port: http", "port: 0", "port: 65536"])
def test_a_model_server_without_a_port(home: Path, content: str) -> None:
    (home / "config" / "dev.yml").write_text(content)
    with pytest.raises(LabError, match=r"dev\.yml must name a port"):
        model_server_url("dev")


def test_write_atomically_leaves_the_old_content_on_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("ä" * 100)
    write_atomically(path, b"old", mode=0o600)
    assert mode(path) == 0o600

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("chmod", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(Path, name, fail)
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("state", [None, "", "[]", "{", '{"services": {}}', b"\xff"])
def test_no_address_is_recorded(home: Path, state: str | bytes | None) -> None:
    if state is not None:
        paths().state.parent.mkdir()
        paths().state.write_bytes(state.encode() if isinstance(state, str) else state)
    assert recorded_address("temporal") is None
    assert model_server_url("dev") == f"http://127.0.0.1:{config_file('dev.yml')['port']}"


def test_recorded_addresses_beat_config(home: Path) -> None:
    state = {"services": {"dev": {"address": "http://127.0.0.1:9"}}}
    write_atomically(paths().state, json.dumps(state).encode())
    assert recorded_address("dev") == "http://127.0.0.1:9"
    assert model_server_url("dev") == "http://127.0.0.1:9"
    assert model_server_url("prod").endswith(":8081")


def test_without_an_address_temporal_is_the_labs_own(home: Path) -> None:
    assert "target_host" not in temporal_profile()
    assert temporal_profile()["namespace"] == "default"


def test_temporal_address_in_env_or_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env(TEMPORAL_ADDRESS="in-file:7233")
    assert temporal_profile()["target_host"] == "in-file:7233"
    monkeypatch.setenv("TEMPORAL_ADDRESS", "")
    assert temporal_profile()["target_host"] == "in-file:7233"
    monkeypatch.setenv("TEMPORAL_ADDRESS", "in-environment:7233")
    assert temporal_profile()["target_host"] == "in-environment:7233"


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_toml_profile(home: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    toml = home / "temporal.toml"
    toml.write_text('[profile.lab]\naddress = "in-toml:7233"\nnamespace = "mine"\n')
    names = {"TEMPORAL_CONFIG_FILE": str(toml), "TEMPORAL_PROFILE": "lab", "TEMPORAL_NAMESPACE": ""}
    write_env(TEMPORAL_NAMESPACE="")
    if where == "file":
        write_env(**names)
    else:
        for name, value in names.items():
            monkeypatch.setenv(name, value)
    assert temporal_profile()["target_host"] == "in-toml:7233"
    assert temporal_profile()["namespace"] == "mine"

    toml.write_text("[profile.lab")
    with pytest.raises(LabError, match="TEMPORAL_CONFIG_FILE"):
        temporal_profile()


def test_files_are_named_relative_to_the_root(home: Path) -> None:
    inside = paths().raw / "good.csv"
    assert paths().name(inside) == "data/raw/good.csv"
    assert paths().find("data/raw/good.csv") == inside
    assert paths().name(Path("/elsewhere/x.csv")) == "/elsewhere/x.csv"
    assert paths().find("/elsewhere/x.csv") == Path("/elsewhere/x.csv")


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/data/..", "{}/link", "relative"])
def test_one_home_in_many_forms(home: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    (home / "link").symlink_to(home)
    named = os.path.relpath(home, REPOSITORY) if form == "relative" else form.format(home)
    monkeypatch.setenv("LABKIT_HOME", named)
    (home / "data").mkdir()
    for folder in (home, home / "data"):  # a notebook's kernel runs in another folder
        monkeypatch.chdir(folder)
        assert paths().root == home.resolve()
        assert paths().name(paths().raw / "good.csv") == "data/raw/good.csv"


def test_an_empty_home_is_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", "")
    assert paths().root == REPOSITORY
