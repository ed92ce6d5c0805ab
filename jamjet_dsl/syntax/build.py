"""Builder functions for declarations: agents with their states, tools, types, tests, and the whole program."""

from __future__ import annotations

from typing import Any

from jamjet_dsl.syntax import ast, literals
from jamjet_dsl.syntax.build_clause import ClauseBuilder
from jamjet_dsl.syntax.build_expr import Kids
from jamjet_dsl.syntax.lexer import Token


class Builder(ClauseBuilder):
    """Builds the program; see `build_expr` for how its functions are called."""

    def start(self, k: Kids, s: int, e: int) -> tuple[ast.LanguageDecl | None, list[Any]]:
        return k[0], k[1:]

    def _version(self, token: Token) -> int:
        return min(literals.integer(token.text), literals.INT_MAX) if token.kind == "INT" else 0

    def language(self, k: Kids, s: int, e: int) -> ast.LanguageDecl:
        return ast.LanguageDecl(self._span(s, e), self._version(k[0]))

    def import_(self, k: Kids, s: int, e: int) -> ast.Import:
        return ast.Import(self._span(s, e), k[0], self.string_lit(k[1]))

    # ---- types, constants, functions

    def record(self, k: Kids, s: int, e: int) -> ast.RecordDecl:
        return ast.RecordDecl(self._span(s, e), self.name(k[0]), tuple(k[1:]), self.doc(s))

    def enum(self, k: Kids, s: int, e: int) -> ast.EnumDecl:
        name, *members = map(self.name, k)
        return ast.EnumDecl(self._span(s, e), name, tuple(members), self.doc(s))

    def const(self, k: Kids, s: int, e: int) -> ast.ConstDecl:
        return ast.ConstDecl(self._span(s, e), self.name(k[0]), k[1], k[2], self.doc(s))

    def fn(self, k: Kids, s: int, e: int) -> ast.FnDecl:
        name, params, result, body = k
        return ast.FnDecl(self._span(s, e), self.name(name), params or (), result, body, self.doc(s))

    # ---- tools and models

    def tool(self, k: Kids, s: int, e: int) -> ast.ToolDecl:
        name, params, result, untrusted, *clauses = k
        return ast.ToolDecl(
            self._span(s, e),
            self.name(name),
            params or (),
            result,
            untrusted is not None,
            self.clauses(clauses),
            self.doc(s),
        )

    def model(self, k: Kids, s: int, e: int) -> ast.ModelDecl:
        return ast.ModelDecl(self._span(s, e), self.name(k[0]), tuple(k[1:]), self.doc(s))

    # ---- agents

    def agent(self, k: Kids, s: int, e: int) -> ast.AgentDecl:
        name, version, *members = k
        number = None if version is None else self._version(version)
        return ast.AgentDecl(self._span(s, e), self.name(name), number, tuple(members), self.doc(s))

    def _described(self, params: tuple[ast.Param, ...], s: int) -> tuple[ast.Param, ...]:
        """A doc comment before `input` or `output` speaks of the first parameter, unless that has its own."""
        first = params[0]
        if first.doc is None and (doc := self.doc(s)) is not None:
            return (ast.Param(first.span, first.name, first.type, doc), *params[1:])
        return params

    def input(self, k: Kids, s: int, e: int) -> ast.InputDecl:
        return ast.InputDecl(self._span(s, e), self._described(k[0], s))

    def output(self, k: Kids, s: int, e: int) -> ast.OutputDecl:
        return ast.OutputDecl(self._span(s, e), self._described(k[0], s))

    def var(self, k: Kids, s: int, e: int) -> ast.VarDecl:
        return ast.VarDecl(self._span(s, e), self.name(k[0]), k[1], k[2], self.doc(s))

    def event(self, k: Kids, s: int, e: int) -> ast.EventDecl:
        return ast.EventDecl(self._span(s, e), self.name(k[0]), k[1] or (), self.doc(s))

    def emits(self, k: Kids, s: int, e: int) -> ast.EmitsDecl:
        return ast.EmitsDecl(self._span(s, e), self.name(k[0]), k[1] or (), self.doc(s))

    def handler(self, k: Kids, s: int, e: int) -> ast.Handler:
        return ast.Handler(self._span(s, e), k[0], self.name(k[1]))

    def finally_(self, k: Kids, s: int, e: int) -> ast.Finally:
        return ast.Finally(self._span(s, e), tuple(k))

    def migration(self, k: Kids, s: int, e: int) -> ast.Migration:
        return ast.Migration(self._span(s, e), self._version(k[0]), tuple(k[1:]))

    def migrate_state(self, k: Kids, s: int, e: int) -> ast.MigrateState:
        return ast.MigrateState(self._span(s, e), self.name(k[0]), self.name(k[1]))

    # ---- states

    def state(self, k: Kids, s: int, e: int) -> ast.StateDecl:
        start, name, *clauses = k
        return ast.StateDecl(self._span(s, e), self.name(name), start is not None, tuple(clauses), self.doc(s))

    def parallel(self, k: Kids, s: int, e: int) -> ast.ParallelDecl:
        start, name, *members = k
        return ast.ParallelDecl(self._span(s, e), self.name(name), start is not None, tuple(members), self.doc(s))

    def branch(self, k: Kids, s: int, e: int) -> ast.Branch:
        name, bind, default, *body = k
        return ast.Branch(self._span(s, e), self.name(name), self._name(bind), default, tuple(body), self.doc(s))

    def join(self, k: Kids, s: int, e: int) -> ast.Join:
        (mode, count, of), within = k
        return ast.Join(self._span(s, e), mode, count, of, within)

    def join_word(self, k: Kids, s: int, e: int) -> tuple[str, None, None]:
        return k[0].text, None, None

    def join_of(self, k: Kids, s: int, e: int) -> tuple[str, ast.Expr, ast.Expr]:
        return "of", k[0], k[1]

    def final(self, k: Kids, s: int, e: int) -> ast.FinalDecl:
        kind, name, *assigns = k
        failed = kind.kind == "FAILED"
        return ast.FinalDecl(self._span(s, e), self.name(name), failed, tuple(assigns), self.doc(s))

    def assign(self, k: Kids, s: int, e: int) -> ast.Assign:
        return ast.Assign(self._span(s, e), self.name(k[0]), k[1])

    # ---- tests

    def test(self, k: Kids, s: int, e: int) -> ast.TestDecl:
        title, agent, *items = k
        return ast.TestDecl(self._span(s, e), self.string_lit(title), self.name(agent), tuple(items))

    def test_input(self, k: Kids, s: int, e: int) -> ast.TestInput:
        return ast.TestInput(self._span(s, e), self.name(k[0]), k[1])

    def mock(self, k: Kids, s: int, e: int) -> ast.Mock:
        return ast.Mock(self._span(s, e), self.name(k[0]), tuple(k[1:]))

    def returns(self, k: Kids, s: int, e: int) -> ast.Returns:
        return ast.Returns(self._span(s, e), k[0])

    def then_returns(self, k: Kids, s: int, e: int) -> ast.Returns:
        return ast.Returns(self._span(s, e), k[0])

    def raises_error(self, k: Kids, s: int, e: int) -> ast.Raises:
        return ast.Raises(self._span(s, e), self.name(k[0]))

    def answers(self, k: Kids, s: int, e: int) -> ast.Answers:
        return ast.Answers(self._span(s, e), self.name(k[0]), k[1])

    def expect_path(self, k: Kids, s: int, e: int) -> ast.ExpectPath:
        return ast.ExpectPath(self._span(s, e), k[0])

    def expect(self, k: Kids, s: int, e: int) -> ast.Expect:
        return ast.Expect(self._span(s, e), k[0])
