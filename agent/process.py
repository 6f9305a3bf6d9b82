"""One configured process: who it is, where it belongs, and everything the world says about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.names import process_key

ANY_HOST = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Process:
    """An entry of `world:<region>`; `fields` is its raw JSON object, unknown fields kept for templates."""

    region: str
    ip: str
    name: str
    type: str
    host: str = ANY_HOST  # what it listens on
    port: int = 0  # 0: none
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", process_key(self.region, self.ip, self.name))
