"""Reading and writing files so that nothing is ever half-written and damage is named."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

UTF_8 = "utf-8", "backslashreplace"
CHECKSUM = "sha256"
SEAL = "sha256_of_content"  # of everything else in a JSON object
DESCRIBING = (".hdr", ".json")  # what describes a file of the same name


def write_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """Write a safetensors file, with a checksum of its tensors in its header."""
    separate = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    metadata = {**metadata, CHECKSUM: digest(separate)}
    metadata[SEAL] = seal(metadata)
    write_file(path, lambda temporary: save_file(separate, temporary, metadata))


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Every tensor of a safetensors file, and its metadata.

    Raises:
        ValueError: the file is of another kind, or damaged: its tensors have another checksum than
            its header says (if it says one).
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged, or not a safetensors file ({error})") from error
    check_seal(path, metadata)
    check_digest(path, tensors, metadata.pop(CHECKSUM, None))
    return tensors, metadata


def check_digest(path: str | Path, tensors: dict[str, torch.Tensor], expected: str | None) -> None:
    """Compare tensors with their stored checksum, if there is one.

    Raises:
        ValueError: they differ.
    """
    found = digest(tensors)
    if expected not in (None, found):
        raise ValueError(
            f"{path}: damaged, its tensors have the checksum {found[:12]}…, expected "
            f"{expected[:12]}…"
        )


def write_json(path: str | Path, content: dict) -> None:
    """Write JSON, one item a line; NaN and infinity, which JSON does not have, become null."""
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n")


def plain(content):
    """Numbers, texts, lists and dictionaries as JSON will give them back."""
    text = json.dumps(content)
    return json.loads(text, parse_constant=lambda _: None)


def write_sealed(path: str | Path, content: dict) -> None:
    """Write JSON with a checksum of what it says."""
    content = plain(content)
    write_json(path, content | {SEAL: seal(content)})


def read_json(path: str | Path) -> dict:
    """A JSON object, compared with its checksum if it has one.

    Raises:
        ValueError: a damaged file, or no JSON object.
    """
    try:
        content = dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, or no JSON object ({error})") from error
    check_seal(path, content)
    return content


def resume(path: str | Path) -> dict | None:
    """`read_json` of what a run goes on from, or None if there is nothing yet; what a killed run
    left beside it goes, since this one may have nothing to write.
    """
    path = Path(path)
    clear(path.parent)
    return read_json(path) if path.exists() else None


def seal(content: dict) -> str:
    """SHA-256 of what a JSON object says."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_seal(path: str | Path, content: dict) -> None:
    """Take the checksum out of a JSON object and compare it, if there is one.

    Raises:
        ValueError: they differ.
    """
    expected = content.pop(SEAL, None)
    if expected not in (None, seal(content)):
        raise ValueError(
            f"{path}: damaged or changed, what it says has another checksum; take {SEAL} out if it "
            "was changed on purpose"
        )


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8; half characters, as names of files have them that are not in the
    user's encoding, are spelled out.
    """
    write_file(path, lambda temporary: Path(temporary).write_bytes(text.encode(*UTF_8)))


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write a .npy file."""

    def save(temporary: str) -> None:
        with open(temporary, "wb") as file:  # a file object, because np.save appends .npy to names
            np.save(file, array)

    write_file(path, save)


def packaged_file(cache: Path, name: str, package: str, folder: str) -> Path:
    """The data file `name`: the copy in `cache` if there is one, else that in `folder` of an
    installed package.

    The package is found, not imported: importing one can take seconds.

    Raises:
        FileNotFoundError: neither place has the file.
    """
    if (cache / name).exists():
        return cache / name
    found = importlib.util.find_spec(package)
    if found is not None and (shipped := Path(found.origin).parent / folder / name).exists():
        return shipped
    raise FileNotFoundError(
        f"{name}: not in {cache} and the package {package} is not installed (pip install {package})"
    )


PREFIX = ".s3rnet_lite."  # begins the names of temporary folders
# what nobody locks was left by a killed program; without locks, what is older than that
STALE_SECONDS = 0.0 if fcntl else 3600.0


def write_file(path: str | Path, write: Callable[[str], object]) -> None:
    """Let `write` fill a file of that name in a temporary folder, flush it to the disk, then rename
    it to `path`.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    path = Path(path)
    try:
        with temporary_folder(path.parent) as folder:
            temporary = folder / path.name
            temporary.touch()
            mode = temporary.stat().st_mode  # as the user's umask wants it; safetensors does not
            write(str(temporary))
            temporary.chmod(mode)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path}: cannot be written ({error})") from error


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` that goes at the end, or, if the program is killed, when the next one
    writes there.
    """
    parent.mkdir(parents=True, exist_ok=True)
    clear(parent)
    with ExitStack() as stack:
        folder = ""
        while not os.path.exists(folder):  # or somebody cleared it away before it was locked
            folder = stack.enter_context(tempfile.TemporaryDirectory(".tmp", PREFIX, parent))
            with suppress(FileNotFoundError):
                stack.enter_context(locked(folder))
        yield Path(folder)


def clear(parent: Path) -> None:
    """Remove the temporary folders that killed programs left."""
    for left in parent.glob(f"{PREFIX}*.tmp"):
        with suppress(OSError):  # somebody works there, or it is gone meanwhile
            if time.time() - left.stat().st_mtime >= STALE_SECONDS:
                with locked(left, wait=False):
                    shutil.rmtree(left)


@contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[None]:
    """Keep others out of a file or folder that exists; a lock ends with the program.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is False.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


@contextmanager
def together(folder: str | Path) -> Iterator[Path]:
    """Files that are written into the folder which this yields move to `folder` when the block ends
    well, and none of them otherwise.

    A header or metadata file goes away before what it describes changes, and comes last, so none is
    ever found beside other data.
    """
    folder = Path(folder)
    with temporary_folder(folder) as temporary:
        yield temporary
        publish({file: folder / file.name for file in temporary.iterdir()})


def publish(names: dict[Path, Path]) -> None:
    """Give finished files their final names in one folder, as `together` does; two programs that
    publish there do it one after the other.
    """
    ordered = sorted(names.items(), key=lambda pair: (pair[1].suffix in DESCRIBING, pair[1].name))
    for file, _ in ordered:
        sync(file)
    parent = next(iter(names.values())).parent
    with nullcontext() if parent.name.startswith(PREFIX) else locked(parent):  # that is ours alone
        for _, final in ordered:
            if final.suffix in DESCRIBING:
                final.unlink(missing_ok=True)
        for file, final in ordered:
            os.replace(file, final)
            sync(final.parent)


def sync(path: str | Path) -> None:
    """Flush a file to the disk, or the names in a folder where the system can do that."""
    if os.name == "nt" and Path(path).is_dir():
        return
    handle = os.open(path, os.O_RDWR if Path(path).is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        numbers = tensor.detach().cpu().contiguous()
        found.update(f"{name} {numbers.dtype} {tuple(numbers.shape)} ".encode())
        found.update(numbers.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
