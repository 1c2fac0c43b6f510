"""Small changes to a source file, of which each should make a test fail."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

Span = tuple[int, int]

# Both formatters put blanks around binary operators, and none where `*`, `&`, `-` or `<` mean something else.
_SWAPS = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "*": ("+",), "/": ("*",), "//": ("*",), "%": ("*",), "<<": (">>",), ">>": ("<<",),
    "&": ("|",), "|": ("&",), "&&": ("||",), "||": ("&&",), "and": ("or",), "or": ("and",), "is": ("is not",),
    "is not": ("is",), "in": ("not in",), "not in": ("in",), "+=": ("-=",), "-=": ("+=",), "*=": ("/=",),
    "/=": ("*=",), "|=": ("&=",), "&=": ("|=",),
}  # fmt: skip
_WORDS = {
    **{word: other for pair in ("min max", "minimum maximum", "amin amax", "argmin argmax", "any all", "True False",
       "true false", "break continue") for word, other in (pair.split(), pair.split()[::-1])},
}  # fmt: skip
_BINARY = re.compile(r"(?<=\s)(is not|not in|is|in|and|or|[<>=!+*/%&|-]=|<<|>>|//|&&|\|\||[<>+*/%&|-])(?=\s)")
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b")
_NOT = re.compile(r"\bnot (?!in\b)|(?<![\w)])!(?=[\w(])")
_RANGE = re.compile(r"(?<=\brange\()\w+(?=\))")
_NUMBER = re.compile(r"(?<![\w.])(\d+\.\d*(?:e[-+]?\d+)?f?|\d+e[-+]?\d+f?|\d+)(?![\w.])")
_CPP_FIXED = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|^[ \t]*#[^\n]*', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """A change of one place in a file; `line` and `becomes` are the line before and after, without indentation."""

    path: str
    number: int
    line: str
    becomes: str
    span: Span
    new: str

    def apply(self, text: str) -> str:
        """The whole file, changed."""
        return text[: self.span[0]] + self.new + text[self.span[1] :]

    def __str__(self) -> str:
        return f"{self.path}:{self.number}\n    - {self.line}\n    + {self.becomes}"


def find_mutants(path: str, text: str, tuning: list[str]) -> list[Mutant]:
    """All of a file. What patterns of `tuning` find in a line keeps as it is, as does what `_fixed` gives."""
    fixed = list(_python_fixed(text) if path.endswith(".py") else (m.span() for m in _CPP_FIXED.finditer(text)))
    found = []
    for (begin, end), new in sorted(set(_changes(text))):
        if any(first < end and begin < last for first, last in fixed):
            continue
        start, stop = text.rfind("\n", 0, begin) + 1, text.find("\n", end)
        line = text[start:stop]
        kept = (match.span() for pattern in tuning for match in re.finditer(pattern, line))
        if not any(first < end - start and begin - start < last for first, last in kept):
            becomes = line[: begin - start] + new + line[end - start :]
            number = text.count("\n", 0, begin) + 1
            found.append(Mutant(path, number, line.strip(), becomes.strip(), (begin, end), new))
    return found


def _changes(text: str) -> Iterator[tuple[Span, str]]:
    for match in _BINARY.finditer(text):
        yield from ((match.span(), new) for new in _SWAPS[match.group()])
    for match in _WORD.finditer(text):
        yield match.span(), _WORDS[match.group()]
    for match in _NOT.finditer(text):
        yield match.span(), ""
    for match in _RANGE.finditer(text):
        yield match.span(), f"{match.group()} - 1"
    for match in _NUMBER.finditer(text):
        if match.group().isdigit():
            yield from (
                (match.span(), str(int(match.group()) + step)) for step in (1, -1) if int(match.group()) + step >= 0
            )
        else:
            yield match.span(), f"({match.group()} + 1)"


def _python_fixed(text: str) -> Iterator[Span]:
    """Where nothing is changed: comments, texts, errors, types, declarations and imports."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(row: int, column: int) -> int:  # a column of `ast` is in bytes
        line = text[starts[row - 1] : starts[row]]
        return starts[row - 1] + len(line.encode()[:column].decode())

    def span(node: ast.AST) -> Span:
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Raise() | ast.JoinedStr() | ast.Constant(value=str()):
                yield span(node)
            case ast.arg(annotation=ast.AST() as kind) | ast.AnnAssign(annotation=kind):
                yield span(kind)
            case ast.Call(func=ast.Name("isinstance"), args=[_, kind]):
                yield span(kind)
            case ast.Call(func=ast.Attribute(value=ast.Name("warnings"))) | ast.keyword(arg="strict"):
                yield span(node)  # `strict` of zip, which only checks ourselves
            case ast.For() | ast.comprehension():  # `in` is no comparison here
                yield span(node.target)[1], span(node.iter)[0]
            case ast.Module():  # aliases of types
                yield from (span(part) for part in node.body if _is_alias(part))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from map(span, node.decorator_list)
            if isinstance(node, ast.FunctionDef) and node.returns:
                yield span(node.returns)


def _is_alias(part: ast.stmt) -> bool:
    match part:
        case ast.Assign(value=ast.BinOp(op=ast.BitOr())):
            return True
        case ast.If(test=ast.Compare(left=ast.Name("__name__"))):
            return True
    return False
