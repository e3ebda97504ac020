"""Signatures: of every byte of a run's folder; keys that only their owner can read."""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import make_official, make_record
from support import ROOT

from kit.errors import KitError
from kit.results.signing import (
    SIGNATURE_FILE,
    fingerprint,
    load_key,
    new_key,
    public_key,
    read_keys,
    sign,
    verify,
)
from kit.results.store import write_record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILES = {
    "events.jsonl": b'{"type": "started"}\n',
    "output.log": b"",
    "trace.parquet": bytes(range(256)),
    "submission/submission.py": b"def train(run, state): ...\n",
    "submission/parts/café.py": b"",
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> "Ed25519PrivateKey":
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    new_key(path)
    return load_key(path)


def make_run(folder: Path) -> Path:
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_record(make_record(official=make_official()), folder)
    return folder


@pytest.fixture
def run_dir(tmp_path: Path, key: "Ed25519PrivateKey") -> Path:
    folder = make_run(tmp_path / "20261124T120000Z-made-made-s1-abcdef")
    sign(folder, key)
    return folder


def kit(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kit.cli", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


# ---- a signature holds, or says what was changed


def test_a_signature_holds_and_names_its_key(run_dir: Path, key: "Ed25519PrivateKey") -> None:
    found = verify(run_dir)
    assert (found.state, found.because, found.public_key) == ("valid", None, public_key(key))
    assert found.fingerprint == fingerprint(public_key(key))


def test_it_holds_in_another_folder_on_another_day(run_dir: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run_dir, tmp_path / "copied", copy_function=shutil.copyfile)
    assert verify(Path(copied)).state == "valid"


def test_a_run_that_nobody_signed_has_none(tmp_path: Path) -> None:
    assert verify(make_run(tmp_path)).state == "missing"


@pytest.mark.parametrize("name", ["record.json", *FILES])
def test_a_changed_byte_is_found_wherever_it_is(run_dir: Path, name: str) -> None:
    path = run_dir / name
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = verify(run_dir)
    assert (found.state, found.because) == ("invalid", f"{name} was changed")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_change_of_record_or_signature_holds(run_dir: Path, data: st.DataObject) -> None:
    path = run_dir / data.draw(st.sampled_from(["record.json", SIGNATURE_FILE]))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    put = data.draw(st.binary(max_size=3))
    changed = whole[:at] + put + whole[at + data.draw(st.integers(0, 3)) :]
    try:
        path.write_bytes(changed)
        found = verify(run_dir)
    finally:
        path.write_bytes(whole)
    if found.state == "valid" and changed != whole:  # blanks between the signature file's values: it says the same
        assert path.name == SIGNATURE_FILE
        assert json.loads(changed) == json.loads(whole)


@pytest.mark.parametrize("name", ["record.json", "output.log", "submission/submission.py"])
def test_a_file_that_is_gone_is_named(run_dir: Path, name: str) -> None:
    (run_dir / name).unlink()
    assert verify(run_dir).because == f"{name} is gone"


@pytest.mark.parametrize("name", ["extra.json", "submission/more.py", "new/record.json"])
def test_a_file_that_was_added_is_named(run_dir: Path, name: str) -> None:
    (run_dir / name).parent.mkdir(exist_ok=True)
    (run_dir / name).write_text("")
    assert verify(run_dir).because == f"{name} was added"


@pytest.mark.parametrize("name", ["audit.json", "audit.log", ".record-half", ".cache/thing"])
def test_a_later_audit_and_hidden_files_change_nothing(run_dir: Path, name: str) -> None:
    (run_dir / name).parent.mkdir(exist_ok=True)
    (run_dir / name).write_text("later")
    assert verify(run_dir).state == "valid"


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [link, pipe])
def test_a_link_or_a_pipe_in_a_files_place_is_found_and_not_read(run_dir: Path, change: Callable[[Path], None]) -> None:
    change(run_dir / "output.log")
    assert verify(run_dir).because == "output.log is not a plain file"


def test_a_link_is_not_signed(tmp_path: Path, key: "Ed25519PrivateKey") -> None:
    folder = make_run(tmp_path)
    link(folder / "output.log")
    with pytest.raises(KitError, match=r"output\.log is not a plain file"):
        sign(folder, key)


def test_a_strangers_signature_holds_under_the_strangers_key_alone(run_dir: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    public = new_key(stranger)
    sign(run_dir, load_key(stranger))
    assert (verify(run_dir).state, verify(run_dir).public_key) == ("valid", public)


def test_a_signature_under_another_key_does_not_hold(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / SIGNATURE_FILE
    content = json.loads(path.read_text()) | {"public_key": new_key(tmp_path / "stranger.pem")}
    path.write_text(json.dumps(content))
    assert verify(run_dir).because == f"{SIGNATURE_FILE} itself was changed"


def test_a_signature_of_another_run_does_not_hold(run_dir: Path, tmp_path: Path, key: "Ed25519PrivateKey") -> None:
    other = make_run(tmp_path / "other")
    write_record(make_record(seed=2), other)
    sign(other, key)
    shutil.copyfile(other / SIGNATURE_FILE, run_dir / SIGNATURE_FILE)
    assert verify(run_dir).because == "record.json was changed"


def test_a_signature_that_leaves_the_record_out_does_not_hold(tmp_path: Path, key: "Ed25519PrivateKey") -> None:
    folder = make_run(tmp_path)
    (folder / "record.json").rename(tmp_path.parent / "record.json")
    sign(folder, key)
    (tmp_path.parent / "record.json").rename(folder / "record.json")
    assert verify(folder).because == "it does not vouch for record.json"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"[" * 60000, b"\0" * 100, b'{"public_key": "ed25519:AAAA"}', b"\xff\xfe"],
)
def test_what_is_no_signature_is_invalid_in_one_line(run_dir: Path, content: bytes) -> None:
    (run_dir / SIGNATURE_FILE).write_bytes(content)
    found = verify(run_dir)
    assert found.state == "invalid"
    assert f"{SIGNATURE_FILE} is no signature" in (found.because or "")
    assert "\n" not in (found.because or "")


def test_a_huge_signature_is_not_read(run_dir: Path) -> None:
    with (run_dir / SIGNATURE_FILE).open("wb") as file:
        file.truncate(2**40)
    assert "too large" in (verify(run_dir).because or "")


def test_the_signature_is_that_of_ed25519_over_the_files_hashes(run_dir: Path) -> None:
    """As docs/record.md says, so that others can verify without the kit."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    content = json.loads((run_dir / SIGNATURE_FILE).read_text())
    assert set(content["files"]) == {"record.json", *FILES}
    message = b"kit record signature 1\n" + json.dumps(content["files"], sort_keys=True, separators=(",", ":")).encode()
    raw = base64.b64decode(content["public_key"].removeprefix("ed25519:"))
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(content["signature"]), message)


# ---- keys


def test_a_key_is_made_for_its_owner_alone_and_never_over_another_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    before = os.umask(0)
    try:
        public = new_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_key(load_key(path)) == public
    content = path.read_bytes()
    assert content.startswith(b"-----BEGIN PRIVATE KEY-----")
    with pytest.raises(KitError, match="never written over"):
        new_key(path)
    assert path.read_bytes() == content
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["key.pem"]


def test_no_two_keys_are_alike(tmp_path: Path) -> None:
    assert new_key(tmp_path / "a") != new_key(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o660])
def test_a_key_that_others_can_reach_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    new_key(path)
    path.chmod(mode)
    with pytest.raises(KitError, match=f"others can read it .mode {mode:o}.; chmod 600 {path}"):
        load_key(path)


def test_a_key_that_is_not_there_is_named_with_what_makes_one(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(KitError, match=f"there is no key here; kit key new {path} makes one"):
        load_key(path)


def owned(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("content", [b"", b"key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KitError, match="not an unencrypted private key in PEM"):
        load_key(owned(tmp_path / "key.pem", content))


def test_a_key_of_another_kind_or_with_a_password_is_not_used(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    other = ec.generate_private_key(ec.SECP256R1())
    content = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KitError, match="but not of ed25519"):
        load_key(owned(tmp_path / "other.pem", content))
    locked = ed25519.Ed25519PrivateKey.generate()
    content = locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    with pytest.raises(KitError, match="not an unencrypted private key"):
        load_key(owned(tmp_path / "locked.pem", content))


def test_openssl_reads_the_key_and_finds_the_same_public_half(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program")
    public = new_key(tmp_path / "key.pem")
    done = subprocess.run(
        [openssl, "pkey", "-in", tmp_path / "key.pem", "-pubout", "-outform", "DER"], capture_output=True, check=True
    )
    assert base64.b64encode(done.stdout[-32:]).decode() == public.removeprefix("ed25519:")


# ---- whose keys a reader trusts


def test_names_are_read_by_public_key(tmp_path: Path) -> None:
    public = new_key(tmp_path / "key.pem")
    path = tmp_path / "keys.yaml"
    path.write_text(f"the organizers: {public}\n")
    assert read_keys(path) == {public: "the organizers"}


@pytest.mark.parametrize("content", ["", "- a", "name: key", "name: ed25519:AAAA", "name: [", "\x00"])
def test_what_names_no_keys_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(content)
    with pytest.raises(KitError) as caught:
        read_keys(path)
    assert str(path) in str(caught.value)


# ---- commands


def test_kit_show_says_who_signed_and_what_was_changed(run_dir: Path, tmp_path: Path, key: "Ed25519PrivateKey") -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"the organizers: {public_key(key)}\n")
    mark = fingerprint(public_key(key))
    assert f"by a key that you do not name ({mark}); nothing was changed since" in kit("show", run_dir).stdout
    assert f"by the organizers ({mark})" in kit("show", run_dir, "--keys", keys).stdout
    (run_dir / "output.log").write_text("more")
    assert "does not hold: output.log was changed" in kit("show", run_dir).stdout


def test_the_commands_make_a_key_once_and_print_its_public_half(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    made = kit("key", "new", path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == public_key(load_key(path))
    assert kit("key", "show", path).stdout == made.stdout
    again = kit("key", "new", path)
    assert again.returncode == 2
    assert again.stderr == f"kit: {path}: there is a file here already, and a key is never written over\n"
