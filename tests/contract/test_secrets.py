"""The port of secrets, kept by the real adapter and by the scenarios' stand-in."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from pipeline.adapters.secrets.sealed import SealedSecrets, key_from, token_from
from pipeline.domain.errors import PermanentError
from pipeline.ports.common import Secret
from pipeline.ports.secrets import Secrets
from tests.scenarios.world import ClearSecrets


def sealed() -> Secrets:
    return SealedSecrets(Secret(Fernet.generate_key().decode()))


@pytest.mark.parametrize("make", [sealed, ClearSecrets])
@pytest.mark.parametrize("text", ["s3cret", "", "-----BEGIN KEY-----\nline\n-----END KEY-----\n", "schlüssel 🔑"])
def test_what_was_sealed_is_opened_again(make: Callable[[], Secrets], text: str) -> None:
    secrets = make()
    assert secrets.open(secrets.seal(Secret(text))).reveal() == text


@pytest.mark.parametrize("make", [sealed, ClearSecrets])
@pytest.mark.parametrize("text", ["", "never sealed", "gAAAAABm", "ü"])
def test_what_was_never_sealed_is_refused(make: Callable[[], Secrets], text: str) -> None:
    with pytest.raises(PermanentError):
        make().open(text)


def test_another_deployment_cannot_open_it() -> None:
    with pytest.raises(PermanentError, match="another key") as caught:
        sealed().open(sealed().seal(Secret("s3cret")))
    assert "s3cret" not in str(caught.value)


def test_the_same_secret_is_sealed_differently_each_time_and_never_shows() -> None:
    secrets = sealed()
    first, second = secrets.seal(Secret("s3cret")), secrets.seal(Secret("s3cret"))
    assert first != second
    assert "s3cret" not in first


def test_a_secret_prints_as_stars() -> None:
    secret = Secret("s3cret")
    assert f"{secret} {secret!r} {[secret]} {secret!s}" == "*** Secret('***') [Secret('***')] ***"


@pytest.mark.parametrize("make", [key_from, token_from])
def test_secret_files_are_made_once_and_for_their_owner_alone(make: Callable[[str], Secret], tmp_path: Path) -> None:
    path = tmp_path / "home" / "secret"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: make(str(path)).reveal(), range(8)))
    assert len(set(found)) == 1
    assert len(found[0]) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret"]
    assert make(str(path)).reveal() == found[0]
