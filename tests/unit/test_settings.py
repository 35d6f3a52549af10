"""Settings: read afresh, written whole, and wrong ones named with the file and the mend."""

import errno
import json
import os
import re
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from labkit.core.account import no_home, no_name
from labkit.core.envfile import ensure_env, write_env
from labkit.core.files import write_atomically
from labkit.core.process import environment_of_ours
from labkit.core.record import model_server_url, recorded_address
from labkit.core.settings import (
    REPOSITORY,
    LabError,
    config_file,
    known,
    paths,
    read_env,
    settings,
    source_of,
    temporal_profile,
)
from labkit.faults import changed_env
from tests.conftest import as_ordinary_user


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
    "value",
    ["plain", "a b", " a ", "a#b", "a #b", "it's", '"', "\\", "a\\'b", "a=b", "ünï", "$x", "${x}"],
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


# ---------------------------------------------------------------- unusable values are refused


@pytest.mark.parametrize(
    "address",
    [
        *("localhost", "http://localhost:7233", "host:99999", "host:0", "host:", ":7233", "h:p"),
        *("a:1:2", "two words:7233", "host:7233/", "dns:///host:7233", "::1:7233", "u@host:7233"),
        "host:\u0663",
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env", "a lab.env block", "temporal.toml"])
def test_an_address_that_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, where: str, address: str
) -> None:
    with ExitStack() as stack:
        if where == "environment":
            monkeypatch.setenv("TEMPORAL_ADDRESS", address)
        elif where == ".env":
            write_env(TEMPORAL_ADDRESS=address)
        elif where == "a lab.env block":
            stack.enter_context(changed_env(TEMPORAL_ADDRESS=address))
        else:
            (home / where).write_text(f'[profile.default]\naddress = "{address}"\n')
            monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(home / where))
        with pytest.raises(LabError, match=f"TEMPORAL_ADDRESS in .*{where} is not usable") as err:
            temporal_profile()
        assert repr(address) in str(err.value)


@pytest.mark.parametrize("address", ["localhost:7233", "10.0.0.1:1", "[::1]:7233", "a-b.c_d:65535"])
def test_an_address_that_is_one(home: Path, address: str) -> None:
    write_env(TEMPORAL_ADDRESS=address)
    assert temporal_profile()["target_host"] == settings().temporal_address == address


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_HOST", "db:5433"),
        ("POSTGRES_HOST", "postgresql://db"),
        ("POSTGRES_HOST", "me@db"),
        ("LABKIT_UI_URL", "localhost:8233"),
        ("LABKIT_UI_URL", "http://"),
        ("TEMPORAL_ADDRESS", "localhost"),
        ("POSTGRES_PASSWORD", "a\nb"),
        ("POSTGRES_PASSWORD", "a\tb"),
        ("POSTGRES_PASSWORD", "zero\u200bwidth"),
        ("POSTGRES_USER", "a\x00b"),
        ("TEMPORAL_TASK_QUEUE", "a\r"),
    ],
)
def test_a_value_that_no_server_would_take(home: Path, name: str, value: str) -> None:
    write_env(**{name: value})
    with pytest.raises(LabError, match=rf"{name}.*Mend it there") as err:
        settings()
    assert "PASSWORD" not in name or value not in str(err.value)


@pytest.mark.parametrize("host", ["db", "10.0.0.1", "::1", "/run/postgresql", "a,b"])
def test_hosts(home: Path, host: str) -> None:
    write_env(POSTGRES_HOST=host)
    assert settings().postgres_host == host


def test_a_password_that_is_not_text(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", os.fsdecode(b"\xff"))
    with pytest.raises(LabError, match=r"POSTGRES_PASSWORD in the environment is not usable"):
        settings()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (r"'a\nb'", r"a\nb"),
        (r"a\nb", r"a\nb"),
        ("'${HOME}'", "${HOME}"),
        ("${HOME}", "${HOME}"),
        ('"$HOME"', "$HOME"),
        ("a#b", "a#b"),
    ],
)
def test_a_password_is_taken_literally(home: Path, line: str, value: str) -> None:
    paths().env.write_text(f"POSTGRES_PASSWORD={line}\n")
    assert settings().postgres_password.get_secret_value() == value


def test_an_escape_in_double_quotes_is_refused(home: Path) -> None:
    paths().env.write_text('POSTGRES_PASSWORD="a\\nb"\n')
    with pytest.raises(LabError, match="in double quotes a backslash makes them"):
        settings()


@pytest.mark.parametrize("line", ['POSTGRES_PASSWORD="open', "POSTGRES_DB='a' b", "a b c"])
def test_a_line_that_cannot_be_read_is_named(home: Path, line: str) -> None:
    paths().env.write_text(f"# first\n{line}\nPOSTGRES_DB=x\n")
    with pytest.raises(LabError, match=rf"Line 2 of {paths().env}") as err:
        settings()
    assert "open" not in str(err.value), "it may be a secret"
    with pytest.raises(LabError, match="Line 2"):
        ensure_env()


def test_a_mark_of_windows_editors(home: Path) -> None:
    paths().env.write_bytes(b"\xef\xbb\xbfPOSTGRES_DB=mine\n")
    assert settings().postgres_db == "mine"


# ---------------------------------------------------------------- where a value comes from


def test_the_place_that_a_value_comes_from(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_of("POSTGRES_DB") == ".env"
    with changed_env(POSTGRES_DB="x"):
        assert source_of("POSTGRES_DB") == "a lab.env block"
        assert source_of("POSTGRES_USER") == ".env"
        monkeypatch.setenv("POSTGRES_DB", "y")
        assert source_of("POSTGRES_DB") == "the environment"
        assert known()["POSTGRES_DB"] == "y"
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", "/somewhere/temporal.toml")
    assert source_of("TEMPORAL_ADDRESS") == "/somewhere/temporal.toml"
    write_env(TEMPORAL_ADDRESS="a:1")
    assert source_of("TEMPORAL_ADDRESS") == ".env"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEMPORAL_API_KEY", "theirs"),
        ("TEMPORAL_TLS", "maybe"),
        ("TEMPORAL_TLS", "true"),
        ("TEMPORAL_TLS_CLIENT_CERT_PATH", "/nowhere"),
        ("TEMPORAL_GRPC_META_TENANT", "theirs"),
    ],
)
def test_keys_for_other_servers_are_not_for_the_labs_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert temporal_profile() == {"namespace": "default"}


def test_a_profile_without_an_address_is_not_for_the_labs_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = home / "temporal.toml"
    toml.write_text('[profile.default]\napi_key = "theirs"\nnamespace = "mine"\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(toml))
    assert temporal_profile() == {"namespace": "default"}, "as .env says"
    write_env(TEMPORAL_NAMESPACE="")
    assert temporal_profile() == {"namespace": "mine"}
    monkeypatch.setenv("TEMPORAL_ADDRESS", "cloud:7233")
    assert temporal_profile()["api_key"] == "theirs"


# ---------------------------------------------------------------- files that are not plain files


@pytest.mark.parametrize("there", [True, False])
def test_a_linked_env_stays_a_link(home: Path, tmp_path: Path, there: bool) -> None:
    target = tmp_path / "elsewhere" / "my.env"
    if there:
        target.parent.mkdir()
        paths().env.rename(target)
    else:
        paths().env.unlink()
    paths().env.symlink_to(target)
    ensure_env()
    write_env(POSTGRES_DB="mine")
    assert paths().env.is_symlink()
    assert settings().postgres_db == "mine"
    assert mode(target) == 0o600
    assert [*target.parent.iterdir()] == [target]


def test_a_chain_of_links(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("three")
    write_atomically(tmp_path / "one", b"new")
    assert (tmp_path / "three").read_bytes() == b"new"
    assert (tmp_path / "one").is_symlink() and (tmp_path / "two").is_symlink()


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM])
@pytest.mark.parametrize("content", [b"a longer one than before", b"short"])
def test_a_file_that_cannot_be_replaced_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, content: bytes
) -> None:
    """As a file is that is mounted alone into a container."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "state.json"
    path.write_bytes(b"what was before")
    inode = path.stat().st_ino
    monkeypatch.setattr(Path, "replace", fail)
    write_atomically(path, content, mode=0o600)
    assert path.read_bytes() == content
    assert (path.stat().st_ino, mode(path)) == (inode, 0o600)
    assert [*tmp_path.iterdir()] == [path]
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomically(tmp_path / "new.json", content)


def test_a_folder_of_another_user(home: Path) -> None:
    """A file of mine in a folder where I may make none."""
    if os.geteuid() == 0:
        os.chown(paths().env, 65534, 65534)
    home.chmod(0o555)
    with as_ordinary_user(paths().env):
        write_env(POSTGRES_DB="mine")
        assert settings().postgres_db == "mine"
        paths().env.chmod(0o400)
        with pytest.raises(LabError, match=r"\.env cannot be written: Permission denied"):
            write_env(POSTGRES_DB="other")
    home.chmod(0o755)
    assert "mine" in paths().env.read_text()


def test_an_env_that_is_a_folder(home: Path) -> None:
    """Docker makes one, where it is told to mount a file that is not there."""
    paths().env.unlink()
    paths().env.mkdir()
    for read in (settings, ensure_env, lambda: write_env(A="b")):
        with pytest.raises(LabError, match=r"\.env cannot be read: Is a directory"):
            read()


# ---------------------------------------------------------------- nothing for others to read


def test_what_lies_in_the_labs_folder_is_private(home: Path) -> None:
    old = [paths().lab / name for name in ("temporal.db", "temporal.db-wal", "lab.log", "x/deep")]
    for file in old:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
        file.chmod(0o666)
    (paths().lab / "x").chmod(0o777)
    (paths().lab / "link").symlink_to(home / ".env.example")
    (home / ".env.example").touch(0o644)
    paths().make()
    for file in old[:3]:
        assert mode(file) == 0o600
    assert mode(paths().lab / "x") == 0o700
    assert mode(paths().lab) == (0o711 if os.geteuid() == 0 else 0o700)
    assert mode(home / ".env.example") == 0o644, "a link leads out"
    assert mode(paths().raw) != 0o700, "data are for all"


# ---------------------------------------------------------------- the user who starts the lab


@pytest.mark.parametrize("place", ["/proc", "a file", "below a file"])
def test_a_home_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    assert no_home() == ""
    (tmp_path / "file").touch()
    home = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "below"}
    monkeypatch.setenv("HOME", str(home.get(place, place)))
    assert re.match(r"Jupyter cannot write .*\. Mend: export HOME=", no_home())
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name))
    assert no_home() == "", "nobody needs HOME then"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(Path, "expanduser", unknown)
    assert no_home().startswith("Jupyter knows no home folder of this user. Mend: export HOME=")


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert no_name() == ""
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    assert "User 4000000 has no name" in no_name() and "Mend: add the line lab:x:" in no_name()


def test_what_the_servers_of_the_lab_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGOPTIONS", "PGDATESTYLE", "TEMPORAL_ENV", "TEMPORAL_API_KEY", "LANG"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setenv("HOME", "")
    env = environment_of_ours()
    assert {name for name in env if env[name] == "theirs"} == {"LANG"}
    assert env["USER"] and env["HOME"]


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
