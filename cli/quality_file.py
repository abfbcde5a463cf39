"""Tables of quality, prompts × models, in CSV: our own form and those of routing benchmarks."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from updraft.cli.csv_file import read_records
from updraft.errors import ProblemError
from updraft.optimizer.faults import EXACT, Faults, quoted, wrong_number
from updraft.optimizer.problem import Matrix

_MOST_CELLS = 30_000_000
_MOST_ANSWERS = 2_000_000
_ADVICE = "take fewer prompts, or group like prompts into one with a weight"
_COST = "|total_cost"
# What stands beside the columns of experts, in our form and in RouterBench's.
_OURS = {"prompt", "category", "weight"}
_LONG = ("prompt", "model", "quality")
_ROUTERBENCH = {"", "sample_id", "prompt", "eval_name", "oracle_model_to_route_to"}


@dataclass(frozen=True, eq=False)
class QualityTable:
    """Quality of each expert for each prompt, as a file gives it.

    Attributes:
        categories, weights: of the prompts; None where the file has none.
        quality: (prompts, experts).
        cost: (prompts, experts), what an answer costs, in the unit of the file; None where it
            has none.
    """

    prompts: tuple[str, ...]
    experts: tuple[str, ...]
    quality: Matrix
    categories: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    cost: Matrix | None = None


def read_quality(path: Path) -> QualityTable:
    """Read a table; its header tells which form it has.

    `prompt[,category][,weight],<expert>,…` has one row per prompt. RouterBench's form has
    `sample_id`, `eval_name` (the category), a column per model and `<model>|total_cost`. With
    `prompt`, `model`, `quality` and maybe `cost`, each row is one answer.

    Raises:
        ProblemError: with the line and column of each fault, up to a few.
    """
    records = read_records(path, _ADVICE)
    try:
        line, header = next(records)
    except StopIteration:
        raise ProblemError([f"{path}: empty; a header is expected in line 1"]) from None
    header = [name.strip() for name in header]
    if len(header) == 1:
        raise ProblemError(
            [f"{path}:{line}: one column only, {quoted(header[0])}; commas separate columns"]
        )
    if repeated := [name for name, times in Counter(header).items() if name and times > 1]:
        raise ProblemError([f"{path}:{line}: column {quoted(repeated[0])} stands there twice"])
    if {*_LONG} <= {*header}:
        return _Long(path, header).read(records)
    if "sample_id" in header:
        experts = [name for name in header if name not in _ROUTERBENCH and "|" not in name]
        return _Wide(path, line, header, "sample_id", "eval_name", experts).read(records)
    if header[0] == "prompt":
        experts = [name for name in header if name not in _OURS and not name.endswith(_COST)]
        return _Wide(path, line, header, "prompt", "category", experts).read(records)
    raise ProblemError(
        [
            f"{path}:{line}: the header begins with {quoted(header[0])}; known are "
            f'"prompt,<expert>,…", "prompt,model,quality[,cost]" and RouterBench\'s "sample_id,…"'
        ]
    )


class _Table:
    """What every form has: places of columns, and numbers out of cells."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.path, self.header = path, header
        self.places = {name: place for place, name in enumerate(header)}
        self.faults = Faults()

    def add(self, line: int, fault: str) -> None:
        self.faults.add(f"{self.path}:{line}: {fault}")

    def whole(self, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
        """Give the rows that have as many cells as the header, until there are enough faults."""
        for line, row in records:
            if self.faults.full:
                self.faults.stop()
                return
            if len(row) == len(self.header):
                yield line, row
            else:
                self.add(line, f"{len(row)} cells, but the header has {len(self.header)}")

    def numbers(self, line: int, row: Sequence[str], columns: Sequence[int]) -> list[float]:
        """Read cells; what is wrong with them is noted."""
        try:
            numbers = [float(row[column]) for column in columns]
        except ValueError:
            numbers = []
        if numbers and min(numbers) >= 0 and max(numbers) < EXACT and sum(numbers) >= 0:
            return numbers
        for column in columns:
            if fault := _wrong_cell(row[column]):
                name = quoted(self.header[column])
                self.add(line, f"column {column + 1} ({name}): {fault}")
        return [0.0] * len(columns)

    def text(self, line: int, row: Sequence[str], column: int) -> str:
        """Read the cell of an id."""
        text = row[column].strip()
        if not text:
            self.add(line, f"column {column + 1} ({quoted(self.header[column])}): it is empty")
        return text


class _Wide(_Table):
    """One row per prompt, one column per expert."""

    def __init__(
        self,
        path: Path,
        line: int,
        header: Sequence[str],
        prompt: str,
        category: str,
        experts: Sequence[str],
    ) -> None:
        super().__init__(path, header)
        self.experts = tuple(experts)
        places = self.places
        self.prompt = places[prompt]
        self.category, self.weight = places.get(category), places.get("weight")
        self.qualities = [places[expert] for expert in experts]
        self.costs = [places[e + _COST] for e in experts if e + _COST in places]
        if not experts:
            self.add(line, "no column of an expert")
        if "" in experts:
            self.add(line, f"column {places[''] + 1} has no name")
        if self.costs and len(self.costs) < len(experts):
            missing = next(e for e in experts if e + _COST not in places)
            self.add(line, f"no column {quoted(missing + _COST)}, though others have their cost")
        self.faults.raise_any()

    def read(self, records: Iterator[tuple[int, list[str]]]) -> QualityTable:
        first: dict[str, int] = {}
        categories, weights = [], []
        quality, cost = array("d"), array("d")
        for line, row in self.whole(records):
            prompt = self.text(line, row, self.prompt)
            if first.setdefault(prompt, line) != line:
                self.add(line, f"prompt {quoted(prompt)} stands in line {first[prompt]} already")
            quality.extend(self.numbers(line, row, self.qualities))
            cost.extend(self.numbers(line, row, self.costs) if self.costs else ())
            if self.category is not None:
                categories.append(row[self.category].strip())
            if self.weight is not None:
                weights.extend(self.numbers(line, row, [self.weight]))
            if len(quality) > _MOST_CELLS:
                self.add(line, f"more than {_MOST_CELLS:,} cells, the most that is read: {_ADVICE}")
                break
        if not first and not self.faults:
            self.faults.add(f"{self.path}: no prompt below the header")
        self.faults.raise_any()
        shape = (len(first), len(self.experts))
        return QualityTable(
            tuple(first),
            self.experts,
            np.frombuffer(quality).reshape(shape),
            tuple(categories) or None,
            tuple(weights) or None,
            np.frombuffer(cost).reshape(shape) if self.costs else None,
        )


class _Long(_Table):
    """One row per answer of a model to a prompt."""

    def read(self, records: Iterator[tuple[int, list[str]]]) -> QualityTable:
        prompt_at, model_at, quality_at = (self.places[name] for name in _LONG)
        cost_at, category_at = self.places.get("cost"), self.places.get("category")
        columns = [quality_at] if cost_at is None else [quality_at, cost_at]
        prompts: dict[str, int] = {}
        models: dict[str, int] = {}
        categories: list[str] = []
        lines: dict[tuple[int, int], int] = {}
        found = array("d")
        for line, row in self.whole(records):
            prompt, model = self.text(line, row, prompt_at), self.text(line, row, model_at)
            pair = prompts.setdefault(prompt, len(prompts)), models.setdefault(model, len(models))
            if lines.setdefault(pair, line) != line:
                self.add(
                    line,
                    f"prompt {quoted(prompt)} and model {quoted(model)} stand together in line "
                    f"{lines[pair]} already",
                )
            category = "" if category_at is None else row[category_at].strip()
            if len(categories) < len(prompts):
                categories.append(category)
            elif categories[pair[0]] != category:
                known = quoted(categories[pair[0]])
                self.add(line, f"prompt {quoted(prompt)} had category {known} before")
            found.extend(self.numbers(line, row, columns))
            if len(lines) > _MOST_ANSWERS:
                most = f"more than {_MOST_ANSWERS:,} answers, the most that is read in this form"
                self.add(line, f"{most}: give one row per prompt and one column per model")
                break
        if not self.faults:
            self._find_missing(prompts, models, lines)
        self.faults.raise_any()
        numbers = np.frombuffer(found).reshape(-1, len(columns))
        matrices = np.empty((len(columns), len(prompts), len(models)))
        at = np.array([*lines])
        matrices[:, at[:, 0], at[:, 1]] = numbers.T
        return QualityTable(
            tuple(prompts),
            tuple(models),
            matrices[0],
            None if category_at is None else tuple(categories),
            None,
            None if cost_at is None else matrices[1],
        )

    def _find_missing(
        self, prompts: dict[str, int], models: dict[str, int], lines: dict[tuple[int, int], int]
    ) -> None:
        """Note pairs without a row, before anything of their number is made."""
        missing = len(prompts) * len(models) - len(lines)
        if not prompts:
            self.faults.add(f"{self.path}: no answer below the header")
        for prompt, row in prompts.items():
            for model, column in models.items():
                if missing and (row, column) not in lines:
                    self.faults.add(
                        f"{self.path}: no row of prompt {quoted(prompt)} and model {quoted(model)}"
                        f" ({missing} missing in all)"
                    )
                    return


def _wrong_cell(cell: str) -> str:
    try:
        return wrong_number(int(cell))
    except ValueError:
        pass
    try:
        return wrong_number(float(cell))
    except ValueError:
        return f"{quoted(cell)} is not a number >= 0" if cell.strip() else "it is empty"
