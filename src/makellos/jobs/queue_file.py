"""The file of a queue as YAML: what stands where, and in which line a mistake is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from makellos.data.files import read_bytes
from makellos.detectors.loading import require_packages
from makellos.errors import ConfigurationError, suggest

__all__ = ["Cell", "Entry", "Mistake", "QueueFile", "mistakes_text", "read_queue_file"]

_MOST_BYTES = 128 << 10  # a thousand runs, which take the reader some seconds
_MOST_SHOWN = 50


@dataclass(frozen=True, order=True)
class Mistake:
    """Hold what is wrong in which line, counted from 1."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True)
class Cell:
    """Hold one value of the file, and its line."""

    value: Any
    line: int


@dataclass
class Entry:
    """Hold what one run says, its own values before the defaults, and its mistakes so far."""

    line: int
    cells: dict[str, Cell] = field(default_factory=dict)
    settings: dict[str, Cell] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default where the file has none."""
        return self.cells[key].value if key in self.cells else default

    def line_of(self, key: str) -> int:
        """Return the line of a value, or that of the entry where the file has none."""
        return self.cells[key].line if key in self.cells else self.line


@dataclass
class QueueFile:
    """Hold a queue's file: where results go, its runs, and mistakes that are no single run's."""

    path: Path
    output: Cell | None = None
    entries: list[Entry] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


def read_queue_file(path: Path) -> QueueFile:
    """Read what a queue's file says; mistakes in its form are collected, none is raised.

    Raises `InputError` for a file that cannot be read, `ConfigurationError` for one that is no
    YAML, `MissingRuntimeError` without PyYAML.
    """
    found = QueueFile(path)
    root = _compose(path)
    if root is None or root.id != "mapping":
        what = "is empty" if root is None else f"is {_shown(root)}"
        line = 1 if root is None else _line(root)
        found.mistakes.append(Mistake(line, f"the file {what}; expected a mapping with 'runs'."))
        return found
    top = dict(_items(root, ("output", "defaults", "runs"), "the file", found.mistakes))
    if "output" in top:
        found.output = _cell("output", top["output"], found.mistakes)
    defaults = Entry(line=1, mistakes=found.mistakes)
    if "defaults" in top:
        _fill(defaults, top["defaults"], [key for key in _KINDS if key != "name"], "defaults")
    runs = top.get("runs")
    if runs is None or runs.id != "sequence" or not runs.value:
        line = _line(root if runs is None else runs)
        text = (
            "there are no runs; expected a list in which each run is a '- ' with data and detector."
        )
        found.mistakes.append(Mistake(line, text))
        return found
    for node in runs.value:
        entry = Entry(_line(node), dict(defaults.cells), dict(defaults.settings))
        _fill(entry, node, list(_KINDS), "a run")
        found.entries.append(entry)
    return found


def mistakes_text(path: Path, mistakes: list[Mistake]) -> str:
    """Return the message that names every mistake of a file with its line."""
    listed = sorted(set(mistakes))
    count = "1 mistake" if len(listed) == 1 else f"{len(listed)} mistakes"
    what = "line" if len({mistake.line for mistake in listed}) == 1 else "lines"
    lines = "\n".join(
        "  " + str(mistake).replace("\n", "\n    ") for mistake in listed[:_MOST_SHOWN]
    )
    lines += f"\n  and {len(listed) - _MOST_SHOWN} more" if len(listed) > _MOST_SHOWN else ""
    return f"{path} has {count}. Correct the {what}:\n{lines}"


def _compose(path: Path) -> Any:
    require_packages("yaml")
    import yaml

    advice = "Give the YAML file that lists the runs."
    raw = read_bytes(path, ConfigurationError, advice, most=_MOST_BYTES)
    try:
        return yaml.compose(raw.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        mistake = Mistake(line, "this is not UTF-8 text. Save the file as UTF-8.")
    except yaml.reader.ReaderError as error:
        line = raw.decode("utf-8-sig")[: error.position].count("\n") + 1
        mistake = Mistake(
            line, f"YAML does not allow the character {chr(error.character)!r}. Remove it."
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        text = (
            f"this is not valid YAML: {error.problem}. Check colons, quotes and indentation "
            "(spaces only)."
        )
        mistake = Mistake(1 if mark is None else mark.line + 1, text)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mistake = Mistake(1, f"this is not valid YAML: {str(error)[:200]}. Write it again.")
    except RecursionError:
        mistake = Mistake(1, "the lists are nested too deeply. A queue needs three levels.")
    raise ConfigurationError(mistakes_text(path, [mistake]))


def _fill(entry: Entry, node: Any, known: list[str], what: str) -> None:
    """Put what a mapping says into an entry, `set` key by key."""
    if _is_null(node):
        if what != "defaults":
            entry.mistakes.append(Mistake(_line(node), f"{what} is empty. Give data and detector."))
        return
    for key, value in _items(node, known, what, entry.mistakes):
        if key == "set":
            for name, setting in _items(value, None, "set", entry.mistakes):
                cell = _cell("set", setting, entry.mistakes, f"{name} in set")
                if cell is not None:
                    entry.settings[name] = cell
        else:
            cell = _cell(key, value, entry.mistakes)
            if cell is not None:
                entry.cells[key] = cell


def _items(
    node: Any, known: tuple[str, ...] | list[str] | None, what: str, mistakes: list[Mistake]
) -> Iterator[tuple[str, Any]]:
    """Give keys and values of a mapping but those that are null; wrong keys are mistakes."""
    if node.id != "mapping":
        text = f"{what} is {_shown(node)}; expected lines of 'key: value'."
        mistakes.append(Mistake(_line(node), text))
        return
    lines: dict[str, int] = {}
    for key_node, value in node.value:
        line, key = _line(key_node), key_node.value
        if key_node.id != "scalar":
            mistakes.append(Mistake(line, f"{_shown(key_node)} is not a key; expected a name."))
        elif known is not None and key not in known:
            mistakes.append(Mistake(line, f"{what} has no key {key!r}. {suggest(key, known)}"))
        elif key in lines:
            text = f"{key} is given twice, first in line {lines[key]}. Keep one of them."
            mistakes.append(Mistake(line, text))
        else:
            lines[key] = line
            if not _is_null(value):
                yield key, value


def _cell(key: str, node: Any, mistakes: list[Mistake], what: str = "") -> Cell | None:
    accepted, read = _KINDS.get(key, _TEXT)
    if node.id == "scalar":
        with suppress(ValueError):
            return Cell(read(node), _line(node))
    text = f"{what or key} is {_shown(node)}; expected {accepted}."
    mistakes.append(Mistake(_line(node), text))
    return None


def _text(node: Any) -> str:
    text = str(node.value).strip()
    if not text or not text.isprintable():
        raise ValueError(text)
    return text


def _number(node: Any) -> float:
    # YAML takes 1e-3 for a text, since it has no dot; quoted numbers are texts on purpose.
    if node.style is not None or node.tag.endswith(":bool"):
        raise ValueError(node.value)
    return float(node.value)


def _whole(node: Any) -> int:
    if node.style is not None:
        raise ValueError(node.value)
    return int(node.value)


def _switch(node: Any) -> bool:
    if not node.tag.endswith(":bool"):
        raise ValueError(node.value)
    return node.value.lower() in {"true", "yes", "on"}


def _setting(node: Any) -> str:
    # The text as it stands: a detector's parameter knows its own kind, as with --set.
    return str(node.value).strip()


_TEXT: tuple[str, Callable[[Any], Any]] = ("text", _text)
_KINDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "name": _TEXT,
    "data": _TEXT,
    "detector": _TEXT,
    "preset": _TEXT,
    "set": ("a number, text, true or false", _setting),
    "config": _TEXT,
    "false_alarms": ("a share, such as 0.05 for 5 %", _number),
    "seed": ("a whole number", _whole),
    "device": _TEXT,
    "white_level": ("a whole number", _whole),
    "skip_unreadable": ("true or false", _switch),
    "evaluate": ("true or false", _switch),
}


def _is_null(node: Any) -> bool:
    return bool(node.tag.endswith(":null")) and node.id == "scalar"


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _shown(node: Any) -> str:
    kinds = {"sequence": "a list", "mapping": "a mapping"}
    return kinds.get(node.id) or repr(node.value)
