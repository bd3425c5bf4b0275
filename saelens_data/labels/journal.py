"""The journal of calls: what was sent, and what came back, on disk before anything is made of it.

One JSON object a line, appended and brought to the disk. A call is written before it is sent, so that one whose end is
not known is counted as spent; an answer is written before it is used, so that it is never paid for twice. A line that
a kill cut short is left out and cut off. Neither keys nor documents are in it: a call is known by a hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, Any
from uuid import uuid4

from filelock import FileLock, Timeout

from saelens_data.errors import InputError
from saelens_data.labels.budget import Spent


@dataclass(frozen=True)
class Answer:
    """What a model said to one call, and what that took."""

    text: str | None
    #: Its words where it refuses.
    refusal: str | None = None
    #: Why it ended, as the endpoint says: "stop", "length", "content_filter", ...
    finish: str | None = None
    #: Tokens, settled.
    read: int = 0
    written: int = 0
    seconds: float = 0.0


def call_key(about: Mapping[str, Any]) -> str:
    """SHA-256 of everything that a call's answer depends on, hex."""
    said = json.dumps(about, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(eq=False)
class Journal:
    """Answers by key, and what each job has spent. `file` None keeps nothing beyond this process."""

    file: IO[bytes] | None = None
    _answers: dict[str, Answer] = field(default_factory=dict)
    _spent: dict[str, Spent] = field(default_factory=dict)
    #: Calls sent whose end is not known: job and the most they took.
    _open: dict[str, tuple[str, Spent]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    #: Lines written, and of these how many are surely on the disk.
    _written: int = 0
    _synced: int = 0
    _syncing: Lock = field(default_factory=Lock)

    @staticmethod
    @contextmanager
    def at(path: Path | None) -> Iterator[Journal]:
        """The journal in a file, made if it is not there; None: in memory alone.

        Raises InputError where it cannot be written, and while another process has it.
        """
        if path is None:
            yield Journal()
            return
        lock = FileLock(path.with_name(path.name + ".lock"), timeout=0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise InputError(f"another run is asking the same model and writes {path}: let it finish first") from error
        except OSError as error:
            raise InputError(f"cannot write {path} ({error.strerror or error}): choose another journal") from error
        try:
            with path.open("a+b") as file:
                journal = Journal(file)
                journal._read(path)
                yield journal
        finally:
            lock.release()

    def answer(self, key: str) -> Answer | None:
        """What was answered to this call, if it was."""
        with self._lock:
            return self._answers.get(key)

    def spent(self, job: str) -> Spent:
        """What a job has spent so far; a call whose end is not known at the most it can have taken."""
        with self._lock:
            total = self._spent.get(job, Spent())
            for owner, most in self._open.values():
                total += most if owner == job else Spent()
            return total

    def seconds(self) -> list[float]:
        """How long the answers took."""
        with self._lock:
            return [answer.seconds for answer in self._answers.values() if answer.seconds]

    def begin(self, job: str, key: str, most: Spent) -> str:
        """Note a call that is about to be sent; returns its number."""
        number = uuid4().hex[:16]
        self._write({"sent": number, "job": job, "key": key, "read": most.read, "written": most.written})
        return number

    def failed(self, number: str, used: Spent) -> None:
        """Note that a call had no answer, and what it is counted as."""
        self._write({"failed": number, "read": used.read, "written": used.written})

    def answered(self, number: str, key: str, answer: Answer) -> None:
        """Note an answer."""
        self._write({"answered": number, "key": key, "answer": asdict(answer)})

    def _write(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            with self._lock:
                self.file.write(json.dumps(line).encode() + b"\n")
                self.file.flush()
                self._written += 1
                mine = self._written
            self._sync(mine)
        with self._lock:
            self._take(line)

    def _sync(self, line: int) -> None:
        """Return when so many lines are on the disk: those written while another thread waits for it go together."""
        assert self.file is not None
        with self._syncing:
            if self._synced < line:
                upto = self._written
                os.fsync(self.file.fileno())
                self._synced = upto

    def _read(self, path: Path) -> None:
        assert self.file is not None
        self.file.seek(0)
        whole = 0
        for raw in self.file:
            if not raw.endswith(b"\n"):
                break
            whole += len(raw)
            try:
                self._take(json.loads(raw))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path} is damaged at byte {whole - len(raw):,}: move it away to start anew"
                ) from error
        if whole < path.stat().st_size:
            self.file.truncate(whole)
        self.file.seek(0, os.SEEK_END)

    def _take(self, line: dict[str, Any]) -> None:
        if number := line.get("sent"):
            self._open[number] = (line["job"], Spent(1, line["read"], line["written"]))
            return
        answer = Answer(**line["answer"]) if "answered" in line else None
        took = (answer.read, answer.written) if answer else (line["read"], line["written"])
        job, _ = self._open.pop(line["answered"] if answer else line["failed"])
        self._spent[job] = self._spent.get(job, Spent()) + Spent(1, *took)
        if answer:
            self._answers[line["key"]] = answer


def hash_of(parts: Sequence[str]) -> str:
    """A short name for a list of texts, 32 hex digits."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
