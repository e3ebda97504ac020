"""The organizer's secret, and seeds that nobody can know without it."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_track

from kit.errors import KitError
from kit.score.seeds import SECRET_BYTES, read_or_make_secret, seeds

secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "round.secret"
    before = os.umask(0)
    try:
        secret = read_or_make_secret(path, tmp_path / "results")
    finally:
        os.umask(before)
    assert len(secret) == SECRET_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_secret(path, tmp_path / "results") == secret
    assert read_or_make_secret(tmp_path / "other.secret", tmp_path / "results") != secret
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["deep", "other.secret", "round.secret"]


@pytest.mark.parametrize("inside", ["a.secret", "deep/a.secret", "../results/a.secret"])
def test_a_secret_among_the_results_is_refused(tmp_path: Path, inside: str) -> None:
    with pytest.raises(KitError, match="would lie in the results"):
        read_or_make_secret(tmp_path / "results" / inside, tmp_path / "results")
    assert not list(tmp_path.rglob("*.secret"))


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "round.secret"
    read_or_make_secret(path, tmp_path / "results")
    path.chmod(0o640)
    with pytest.raises(KitError, match=f"others can read it .mode 640.; chmod 600 {path}"):
        read_or_make_secret(path, tmp_path / "results")


@pytest.mark.parametrize(
    "content", [b"", b"secret", b"ab" * (SECRET_BYTES - 1), b"ab" * (SECRET_BYTES + 1), b"\xff" * 64]
)
def test_what_is_no_secret_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "round.secret"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KitError, match="expected 64 hexadecimal digits"):
        read_or_make_secret(path, tmp_path / "results")
    assert path.read_bytes() == content


@given(secret=secrets, count=st.integers(1, 50))
def test_seeds_are_fixed_by_secret_and_track_and_fit_32_bits(secret: bytes, count: int) -> None:
    found = seeds(secret, make_track(), count)
    assert found == seeds(secret, make_track(), count)
    assert found == seeds(secret, make_track(), count + 1)[:-1]
    assert all(0 <= seed < 2**32 for seed in found)


@given(secret=secrets, other=secrets)
def test_another_secret_track_or_version_has_other_seeds(secret: bytes, other: bytes) -> None:
    first = seeds(secret, make_track(), 3)
    assert first != seeds(secret, make_track(version=2), 3)
    assert first != seeds(secret, make_track(name="small"), 3)
    assert secret == other or first != seeds(other, make_track(), 3)


def test_seeds_are_what_hmac_gives_with_any_other_program() -> None:
    # printf tiny/1/0 | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001...1f, first eight digits
    import hashlib
    import hmac

    key = bytes(range(32))
    expected = int(hmac.new(key, b"tiny/1/0", hashlib.sha256).hexdigest()[:8], 16)
    assert seeds(key, make_track(), 1) == (expected,)
