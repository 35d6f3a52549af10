"""What holds for any payload, any keys in any order, and any change of any byte."""

import base64
import random
import traceback
from pathlib import Path, PurePath

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from labkit import encryption
from labkit.core.envfile import ensure_env, write_env
from labkit.core.settings import LabError, opaque_key, read_env
from labkit.encryption import EncryptionCodec, key_id
from labkit.pipeline.names import workflow_id

KEYS = [Fernet.generate_key().decode() for _ in range(4)]
METADATA = st.dictionaries(st.text(max_size=9), st.binary(max_size=9), max_size=3)
PAYLOADS = st.builds(lambda m, d: Payload(metadata=m, data=d), METADATA, st.binary(max_size=500))


@given(st.lists(PAYLOADS, max_size=5), st.permutations(KEYS), st.permutations(KEYS))
async def test_any_order_of_keys(before: list[Payload], old: list[str], new: list[str]) -> None:
    stored = await EncryptionCodec(old, encrypt=True).encode(before)
    assert {p.metadata["encryption-key-id"] for p in stored} <= {key_id(old[0].encode())}
    assert await EncryptionCodec(new, encrypt=False).decode(stored) == before


@given(PAYLOADS, st.integers(0, 3))
async def test_any_keys_without_the_right_one(payload: Payload, missing: int) -> None:
    stored = await EncryptionCodec([KEYS[missing]], encrypt=True).encode([payload])
    others = [key for number, key in enumerate(KEYS) if number != missing]
    with pytest.raises(LabError, match=key_id(KEYS[missing].encode()).decode()) as raised:
        await EncryptionCodec(others, encrypt=False).decode(stored)
    shown = "".join(traceback.format_exception(raised.value))
    assert not [key for key in KEYS if key in shown]


@given(PAYLOADS, st.randoms(use_true_random=False), st.sampled_from(["flip", "cut", "add"]))
async def test_any_change_of_the_stored_bytes(
    payload: Payload, rng: random.Random, how: str
) -> None:
    codec = EncryptionCodec(KEYS, encrypt=True)
    (stored,) = await codec.encode([payload])
    data = bytearray(stored.data)
    place = rng.randrange(len(data))
    if how == "flip":
        data[place] ^= rng.randrange(1, 256)
    elif how == "cut":
        del data[place:]
    else:
        data[place:place] = bytes([rng.randrange(256)])
    stored.data = bytes(data)
    try:
        assert await codec.decode([stored]) == [payload], "base64 forgives what means nothing"
    except LabError as err:
        assert "or it was changed since" in str(err)


@given(PAYLOADS)
async def test_the_same_twice_looks_different(payload: Payload) -> None:
    first, second = await EncryptionCodec(KEYS, encrypt=True).encode([payload, payload])
    assert first.data != second.data


@pytest.mark.parametrize(
    "bad",
    ["", "short", KEYS[0][:-1], "ü" * 44, "=" * 44],
    ids=["empty", "short", "cut", "not-ascii", "no-bytes"],
)
def test_a_malformed_key(bad: str) -> None:
    with pytest.raises(LabError, match="not a Fernet key") as raised:
        EncryptionCodec([KEYS[0], bad], encrypt=True)
    shown = "".join(traceback.format_exception(raised.value))
    assert KEYS[0] not in shown


@pytest.mark.parametrize("between", [";", " ", "|", "\t", "\n", "", "==", ",,", ", ;", "\u00a0"])
def test_two_keys_without_a_comma_between_them(home: Path, between: str) -> None:
    """Fernet itself takes the first, and passes over what follows it."""
    write_env(TEMPORAL_ENCRYPTION_KEY=KEYS[0] + between + KEYS[1])
    for read in (encryption.key_ids, lambda: encryption.data_converter(encrypted=True)):
        with pytest.raises(LabError, match=r"not a Fernet key|cannot be seen") as raised:
            read()
        assert not [key for key in KEYS if key in str(raised.value)]
    before = read_env()
    with pytest.raises(LabError):
        encryption.rotate_key()
    assert read_env() == before


@pytest.mark.parametrize(
    "bad",
    ["," + KEYS[0], KEYS[0] + ",", KEYS[0] + ", x", KEYS[0][1:], "'"],
    ids=["comma before", "comma after", "no second key", "cut short", "quote"],
)
def test_each_key_is_checked(home: Path, bad: str) -> None:
    write_env(TEMPORAL_ENCRYPTION_KEY=bad)
    with pytest.raises(LabError, match="not a Fernet key"):
        encryption.key_ids()


def test_keys_that_are_right(home: Path) -> None:
    other_alphabet = base64.b64encode(b"\xfb\xff" * 16).decode()  # as openssl makes them
    write_env(TEMPORAL_ENCRYPTION_KEY=f" {KEYS[0]} , {other_alphabet}")
    assert len(encryption.key_ids()) == 2
    write_env(TEMPORAL_ENCRYPTION_KEY="")
    assert encryption.key_ids() == []


def test_an_encrypted_lab_may_be_the_first_start_of_all(home: Path) -> None:
    (home / ".env").unlink()
    ensure_env()
    encryption.data_converter(encrypted=True)


def test_rotate_and_retire(home: Path) -> None:
    (first,) = encryption.key_ids()
    second = encryption.rotate_key()
    third = encryption.rotate_key()
    assert encryption.key_ids() == [third, second, first]
    encryption.retire_key(second)
    assert encryption.key_ids() == [third, first]
    assert (home / ".env").stat().st_mode & 0o777 == 0o600


def test_an_older_env_gets_what_it_lacks(home: Path) -> None:
    write_env(LABKIT_CODEC_TOKEN="", LABKIT_ID_KEY="mine")
    password = read_env()["POSTGRES_PASSWORD"]
    assert ensure_env() is False
    after = read_env()
    assert len(after["LABKIT_CODEC_TOKEN"]) >= 20
    assert (after["LABKIT_ID_KEY"], after["POSTGRES_PASSWORD"]) == ("mine", password)


# ---------------------------------------------------------------- opaque ids


@given(
    st.text(st.characters(categories=["L", "N"]), min_size=4, max_size=30), st.integers(0, 2**60)
)
def test_opaque_ids_name_nothing(stem: str, mtime_ns: int) -> None:
    path = PurePath(f"{stem}.csv")
    id = workflow_id(path, mtime_ns, "key")
    assert id == workflow_id(path, mtime_ns, "key")
    assert id != workflow_id(path, mtime_ns, "other key")
    assert id != workflow_id(PurePath(f"x{stem}.csv"), mtime_ns, "key")
    digest = id.rsplit("-", 1)[1]
    assert len(digest) == 16 and set(digest) <= set("0123456789abcdef")
    assert id.startswith("mlops-") and stem not in digest


def test_opaque_ids_are_an_option_and_outlive_a_rotation(home: Path) -> None:
    assert opaque_key() == ""
    write_env(LABKIT_OPAQUE_IDS="true")
    before = opaque_key()
    encryption.rotate_key()
    assert len(before) >= 20 and opaque_key() == before
