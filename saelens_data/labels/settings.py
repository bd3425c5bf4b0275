"""How labels are asked for: by whom, of what, how often, and where answers are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saelens_data.errors import InputError
from saelens_data.labels.ask import Patience
from saelens_data.labels.budget import Price, listed_price
from saelens_data.labels.client import Client, Complete, FunctionClient, OpenAIClient, endpoint_of, host_of
from saelens_data.labels.journal import Journal, hash_of
from saelens_data.labels.sample import Sizes
from saelens_data.labels.shapes import require_pydantic
from saelens_data.store.files import cache_folder


@dataclass(frozen=True)
class LabelSettings:
    """How labels are asked for. Raises InputError for numbers that make no sense."""

    #: Excerpts for the labeller and for the judge.
    sizes: Sizes = field(default_factory=Sizes)
    #: How often a call is repeated.
    patience: Patience = field(default_factory=Patience)
    #: Calls in flight at once.
    concurrency: int = 8
    #: Seconds that an answer may take.
    timeout: float = 120.0
    #: Temperature of the answers, where the model takes one.
    temperature: float = 0.0
    #: Tokens that a model may think for before it answers; what it does not use is not paid.
    thinking: int = 0
    #: US dollars per million tokens read and written; None: as the table says, if it knows the model.
    price: tuple[str | float, str | float] | None = None
    #: The file that answers are kept in; None: one for each model and endpoint in the user's cache.
    journal: str | Path | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.timeout <= 0 or min(self.temperature, self.thinking) < 0:
            raise InputError("give 1 or more calls at once, a timeout above 0, temperature and thinking from 0 on")


@dataclass(frozen=True)
class Endpoint:
    """Whom to ask, and what it costs; `named`: the model has a name, so that its answers can be kept."""

    client: Client
    model: str
    price: Price | None
    named: bool
    #: Whether the price is that of the table.
    listed: bool = False

    @staticmethod
    def of(
        model: str | None,
        complete: Complete | None,
        base_url: str | None,
        settings: LabelSettings,
        *,
        sends: bool = True,
    ) -> Endpoint:
        """The endpoint of a model, or a function; one that never `sends` needs no key.

        Raises InputError if neither is given, or a part is missing.
        """
        require_pydantic()
        price = Price.of(*settings.price) if settings.price else None
        if complete is not None:
            name = model or str(getattr(complete, "__name__", type(complete).__name__))
            identity = {"endpoint": "function", "model": name, "temperature": settings.temperature}
            return Endpoint(FunctionClient(complete, identity), name, price, named=model is not None)
        if not model:
            raise InputError("which model is to be asked? name it (--model NAME), or give complete=")
        key = None if sends else "none"
        how = settings.timeout, settings.temperature
        client = OpenAIClient(model, base_url=base_url, api_key=key, timeout=how[0], temperature=how[1])
        listed = None if price else listed_price(model, host_of(endpoint_of(base_url)))
        return Endpoint(client, model, price or listed, named=True, listed=listed is not None)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on."""
        return self.client.identity

    @contextmanager
    def journal(self, settings: LabelSettings) -> Iterator[Journal]:
        """Its journal; in memory alone for a function without a name, whose answers may change."""
        path = Path(settings.journal) if settings.journal is not None else None
        if path is None and self.named:
            name = hash_of([json.dumps(self.identity, sort_keys=True)])
            path = cache_folder() / "answers" / f"{name}.jsonl"
        with Journal.at(path) as journal:
            yield journal
