"""Which boards a user has: those of `devices.toml`, and the hosts that their ssh configuration names."""

from __future__ import annotations

import os
import shlex
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...models.errors import FileProblem
from .link import CONFIG

FILE: Final = "devices.toml"
WILD: Final = frozenset("*?!")


class Known(BaseModel):
    """`[[device]]`: its `address`, and the `python` there that has an engine; `source` says where it is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, Field(pattern="^(ssh|adb):.+")]
    python: str = "python3"
    source: str = FILE


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    device: tuple[Known, ...] = ()


def path() -> Path:
    """Where `devices.toml` is looked for: the user's folder of settings."""
    from platformdirs import user_config_dir

    return Path(user_config_dir("evit-edge"), FILE)


def listed(file: Path) -> tuple[Known, ...]:
    """The devices of `devices.toml`, none if there is no such file; raises `FileProblem`."""
    try:
        return _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).device
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise FileProblem(f"{file}: {error}", "see docs/devices.md") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FileProblem(f"{file}: {where}: {first['msg']}", "see docs/devices.md") from error


def boards() -> list[Known]:
    """All that are known, each once, those of `devices.toml` first."""
    config = Path(os.environ.get(CONFIG) or Path.home() / ".ssh" / "config")
    named = [Known(address=f"ssh:{host}", source=config.name) for host in hosts(config)]
    return list({each.address: each for each in (*reversed(named), *reversed(listed(path())))}.values())[::-1]


def python_of(address: str) -> str:
    """The interpreter that `devices.toml` names for `address`."""
    return next((each.python for each in listed(path()) if each.address == address), "python3")


def hosts(config: Path) -> list[str]:
    """The names after `Host` that are no patterns, in order; files that it includes are not looked into."""
    lines: list[str] = []
    with suppress(OSError):
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    found: dict[str, None] = {}
    for line in lines:
        key, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if key.lower() == "host":
            # A quotation mark without its pair: ssh takes no such line either.
            with suppress(ValueError):
                found |= dict.fromkeys(name for name in shlex.split(rest, comments=True) if not WILD & set(name))
    return list(found)
