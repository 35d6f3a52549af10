"""Encryption: nothing in clear when it was asked for, and clear words when a key is missing."""

import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from labkit.ask.client import connect
from labkit.ask.look import look
from labkit.core.envfile import write_env
from labkit.core.settings import LabError
from labkit.encryption import ENCODING, EncryptionCodec, data_converter, key_id
from labkit.pipeline.messages import Decision
from labkit.pipeline.workflow import MLOpsWorkflow
from tests.workflow.fakes import Bench, eventually, fails

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"secret"')


def id_of(key: str) -> str:
    return key_id(key.encode()).decode()


# ---------------------------------------------------------------- the codec alone


@given(st.binary(max_size=2000), st.dictionaries(st.text(max_size=9), st.binary(max_size=9)))
async def test_round_trip(data: bytes, metadata: dict[str, bytes]) -> None:
    codec = EncryptionCodec([NEW], encrypt=True)
    before = [Payload(metadata=metadata, data=data), PLAIN]
    stored = await codec.encode(before)
    assert all(payload.metadata["encoding"] == ENCODING for payload in stored)
    assert b"secret" not in stored[1].SerializeToString()
    assert await codec.decode(stored) == before


async def test_plain_payloads_pass_through() -> None:
    assert await EncryptionCodec([NEW], encrypt=True).decode([PLAIN]) == [PLAIN]
    assert await EncryptionCodec([NEW], encrypt=False).encode([PLAIN]) == [PLAIN]
    assert await EncryptionCodec([], encrypt=False).encode([PLAIN]) == [PLAIN]


async def test_every_key_decrypts_and_the_first_encrypts() -> None:
    stored = await EncryptionCodec([OLD], encrypt=True).encode([PLAIN])
    rotated = EncryptionCodec([NEW, OLD], encrypt=True)
    assert await rotated.decode(stored) == [PLAIN]
    (fresh,) = await rotated.encode([PLAIN])
    assert fresh.metadata["encryption-key-id"] == key_id(NEW.encode())
    assert await EncryptionCodec([NEW], encrypt=False).decode([fresh]) == [PLAIN]


@pytest.mark.parametrize(
    ("keys", "have"), [([NEW], id_of(NEW)), ([], "no key")], ids=["wrong", "none"]
)
async def test_the_wrong_key_or_none(keys: list[str], have: str) -> None:
    stored = await EncryptionCodec([OLD], encrypt=True).encode([PLAIN])
    with pytest.raises(LabError) as raised:
        await EncryptionCodec(keys, encrypt=False).decode(stored)
    assert f"encrypted with key {id_of(OLD)} and cannot be read with {have}" in str(raised.value)
    assert OLD not in str(raised.value) and NEW not in str(raised.value)


@given(st.integers(0, 10**6), st.integers(1, 255))
async def test_a_changed_byte(position: int, change: int) -> None:
    codec = EncryptionCodec([NEW], encrypt=True)
    (stored,) = await codec.encode([PLAIN])
    data = bytearray(stored.data)
    data[position % len(data)] ^= change
    stored.data = bytes(data)
    try:
        assert await codec.decode([stored]) == [PLAIN], "padding bits of base64 may differ"
    except LabError as err:
        assert id_of(NEW) in str(err)


@pytest.mark.parametrize("keep", [0, 1, 20, 60])
async def test_a_truncated_payload(keep: int) -> None:
    codec = EncryptionCodec([NEW], encrypt=True)
    (stored,) = await codec.encode([PLAIN])
    stored.data = stored.data[:keep]
    stored.metadata["encryption-key-id"] = b"\xff"
    with pytest.raises(LabError, match="or it was changed since"):
        await codec.decode([stored])


# ---------------------------------------------------------------- the settings


def test_without_a_key_plain_still_works(home: Path) -> None:
    write_env(TEMPORAL_ENCRYPTION_KEY="")
    converter = data_converter(encrypted=False)
    assert converter.failure_converter_class is DataConverter.default.failure_converter_class


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "TEMPORAL_ENCRYPTION_KEY is empty"),
        (" , ", "not a Fernet key"),
        ("too-short", "not a Fernet key"),
        (NEW + "," + NEW[:-4], "not a Fernet key"),
        ("ü" * 44, "not a Fernet key"),
    ],
    ids=["empty", "commas", "short", "second-key", "not-ascii"],
)
async def test_nothing_is_sent_without_a_good_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        write_env(TEMPORAL_ENCRYPTION_KEY=value)
        with pytest.raises(LabError, match=words) as raised:
            await connect(encrypted=True)
        assert NEW not in str(raised.value)
        with pytest.raises(TimeoutError):
            server.accept()


# ---------------------------------------------------------------- whole runs


@pytest.fixture
def lab_home(home: Path, monkeypatch: pytest.MonkeyPatch, temporal_address: str) -> Path:
    """A lab whose settings name the test's server."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_address)
    write_env(TEMPORAL_ENCRYPTION_KEY=NEW)
    return home


@pytest.fixture
async def encrypted(lab_home: Path) -> Bench:
    return Bench(await connect(encrypted=True))


async def stored(bench: Bench, client: Client) -> str:
    """All histories as the server keeps them: read by a client that knows no codec."""
    texts = []
    for handle in bench.started:
        history = await client.get_workflow_handle(handle.id).fetch_history()
        texts.append(history.to_json())
        texts += [event.SerializeToString().decode("latin-1") for event in history.events]
    return "\n".join(texts)


async def run_all(bench: Bench) -> None:
    """A run that succeeds, one that fails, one that is rejected: each with secrets in it."""
    bench.fakes.on["train_model"] = fails(times=2, kind="SecretType")
    async with bench.worker():
        approved = await bench.awaiting(name="secret-name.csv")
        await approved.signal("approve_prod_deployment", "secret-ann")
        await approved.result()
        rejected = await bench.awaiting(name="secret-name.csv")
        decision = Decision(False, "secret-bob", "secret-reason")
        await rejected.execute_update(MLOpsWorkflow.decide_prod_deployment, decision)
        await rejected.result()
        bench.fakes.on["deploy_to_dev"] = broken
        with pytest.raises(WorkflowFailureError) as raised:
            await (await bench.start(name="secret-name.csv")).result()
        assert "secret-failure" in str(raised.value.cause.__cause__)


def broken(request: Any, attempt: int) -> None:
    raise ApplicationError("secret-failure", "secret-detail", type="Broken")


SECRETS = (
    "secret",
    "RandomForestRegressor",
    "joblib",
    "deployed_to_prod",
    '"rows":4177',
    "fakes.py",
    "in broken",
)


async def test_an_encrypted_run_leaves_no_plaintext(encrypted: Bench, client: Client) -> None:
    await run_all(encrypted)
    text = await stored(encrypted, client)
    assert [secret for secret in SECRETS if secret in text] == []
    assert "Encoded failure" in text
    await encrypted.replay_all()


async def test_the_search_finds_what_is_plain(lab_home: Path, client: Client) -> None:
    """The test above can fail: without encryption it finds every one of them."""
    bench = Bench(await connect(encrypted=False))
    await run_all(bench)
    text = await stored(bench, client)
    assert [secret for secret in SECRETS if secret not in text] == []


async def test_a_plain_client_and_worker_with_the_key(encrypted: Bench) -> None:
    """Switching back loses nothing: a run begun in cipher goes on in clear."""
    async with encrypted.worker():
        handle = await encrypted.awaiting(name="secret-name.csv")
    plain = Bench(await connect(encrypted=False))
    plain.queue = encrypted.queue
    async with plain.worker():
        view = await look(plain.client, handle.id)
        assert view.status.dataset_path == "data/raw/secret-name.csv"
        await plain.client.get_workflow_handle(handle.id).signal("approve_prod_deployment")
        assert (await handle.result()).deployment_status == "deployed_to_prod"


async def test_failures_of_an_encrypted_run_are_read(encrypted: Bench) -> None:
    """The last failure of a pending activity is ciphertext too, and the view decrypts it."""
    encrypted.fakes.on["log_experiment"] = broken
    async with encrypted.worker():
        handle = await encrypted.start(speed=1)
        for client in (encrypted.client, await connect(encrypted=False)):
            view = await eventually(
                lambda client=client: look(client, handle.id),  # type: ignore[misc]
                lambda view: bool(view.last_failure),
            )
            assert view.last_failure == "Broken: secret-failure"
        await handle.terminate()


async def test_a_client_without_the_key_says_which(encrypted: Bench) -> None:
    async with encrypted.worker():
        handle = await encrypted.awaiting()
        write_env(TEMPORAL_ENCRYPTION_KEY=OLD)
        with pytest.raises(LabError, match=f"encrypted with key {id_of(NEW)}"):
            await look(await connect(encrypted=False), handle.id)
        write_env(TEMPORAL_ENCRYPTION_KEY=f"{OLD},{NEW}")
        rotated = await connect(encrypted=True)
        assert (await look(rotated, handle.id)).status.awaiting_approval
