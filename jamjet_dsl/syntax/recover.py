"""What to do about a token that fits nowhere: the smallest change of the tokens with which parsing goes on.

Tried in this order, each simulated on the states alone before it is done: what people who know other languages
write (`=>`, `and`, `else if`); a misspelt keyword; one token missing; one token too many; one token in place of
another. If none of them carries the parser over the next tokens, the stack is unwound to where a keyword, a `}` or
an arrow further on fits, and what lies between is skipped. An error within three tokens of the last one is a
consequence of it and not reported.

The work for one error is bounded: so many candidates, each looking at so many tokens; and so is their number.
"""

from __future__ import annotations

from jamjet_dsl.diagnostics.model import Diagnostic
from jamjet_dsl.source import SourceFile, Span
from jamjet_dsl.syntax.balance import unclosed
from jamjet_dsl.syntax.clean import MAX_ERRORS
from jamjet_dsl.syntax.driver import CLOSERS, Driver
from jamjet_dsl.syntax.expected import after, found, phrase, read_as_name
from jamjet_dsl.syntax.lexer import END, Token, keywords
from jamjet_dsl.syntax.mistakes import SYNONYMS, Fix, distance, known, made_from, missing

_LOOK = 16  # tokens that a repair is tried against
_ENOUGH = 3  # tokens that it must carry over to be believed
_STACK_WINDOW = 64  # states of the stack that unwinding looks at
_MAX_ROUNDS = 400  # repairs and unwindings in all, silent ones included

# Tokens that may be put in, cheapest first: brackets and punctuation, then an expression or a name, then the rest.
_PUNCTUATION = ("RBRACE", "RPAR", "RSQB", "LBRACE", "ARROW", "COLON", "EQUAL", "COMMA", "LPAR", "LSQB", "GT", "PERCENT")
_PLACEHOLDERS = ("ERROR_EXPR", "IDENT", "STRING", "DURATION", "MONEY", "QUANTITY", "INT", "FLOAT", "FIELD", "TARGET")
# Where parsing may go on after something that cannot be read.
_SYNC_KINDS = """
    ARROW RBRACE FIELD TARGET WHEN OTHERWISE ON SET YIELDS STATE PARALLEL FINAL FAILED START INPUT OUTPUT VAR EVENT
    EMITS BUDGET POLICY CHECK FINALLY MIGRATE CALL THINK ASK RUN EACH WAIT EMIT UNDO BRANCH JOIN AGENT TOOL RECORD ENUM
    CONST FN MODEL TEST IMPORT ALLOW FORBID REQUIRE NEVER LIMIT REDACT FACT VIA EFFECT KEY CONFIRM COST RAISES TIMEOUT
    RETRY PRICE STEPS TOKENS TIME ACTIVE WARN RESERVE EXCEEDED GIVEN TOOLS TEMPERATURE MAX AS SHOW OPTIONS ANSWER REMIND
    MOCK EXPECT
"""
_SYNC = frozenset(_SYNC_KINDS.split())


class Recovery:
    """Repairs one parse. `diagnostics` are what it found; `incomplete` whether parts were lost or invented. Braces are
    put in only where `braces` says that they are out of balance: elsewhere one more would upset all that follows."""

    def __init__(self, source: SourceFile, driver: Driver, *, braces: bool) -> None:
        self.source = source
        self._braces = braces
        self.driver = driver
        self.diagnostics: list[Diagnostic] = []
        self.incomplete = False
        self._quiet_until = -1  # index of the token before which an error is a consequence of the last one
        self._reported_open: set[int] = set()

    def run(self) -> bool:
        """Parse to the end whatever stands there. False when it gave up: then there is no tree."""
        driver = self.driver
        for _ in range(_MAX_ROUNDS):
            if driver.run():
                return True
            before = driver.at
            depth = len(driver.states)
            self._step()
            stuck = driver.at == before and len(driver.states) >= depth
            if stuck and driver.tokens[driver.at].kind == END and not self._close_all():
                return False
            if len(self.diagnostics) >= MAX_ERRORS:
                last = self.diagnostics[-1].span
                self._report(
                    "JAM001",
                    f"more than {MAX_ERRORS} syntax errors: the rest is not shown",
                    last.start,
                    last.end,
                    "fix these first",
                )
                self.incomplete = True
                return False
        self.incomplete = True
        return False

    def _step(self) -> None:
        """Deal with the token that does not fit: repair or unwind."""
        driver = self.driver
        token = driver.tokens[driver.at]
        accepted = driver.accepted()
        if token.kind == "GE" and "GT" in accepted:  # `list<int>=`: two tokens that the scanner takes for one
            middle = token.start + 1
            driver.tokens[driver.at : driver.at + 1] = [
                Token("GT", ">", token.start, middle),
                Token("EQUAL", "=", middle, token.end),
            ]
            return
        fix = (
            self._named(token, accepted)
            or self._misspelt(token, accepted)
            or self._best(token, accepted, _ENOUGH)
            or self._best(token, accepted, _ENOUGH - 1)
        )
        quiet = driver.at < self._quiet_until
        if fix is None:
            if not quiet:
                expected = phrase(driver, accepted)
                message = f"expected {expected}{after(driver)}, found {found(token)}"
                self._report("JAM001", message, token.start, token.end, read_as_name(driver))
            self._unwind()
            return
        if not quiet:
            self._report_fix(fix, token)
        self._apply(fix)

    def _apply(self, fix: Fix) -> None:
        driver = self.driver
        if fix.pop:
            driver.drop(len(driver.states) - fix.pop)
        driver.tokens[driver.at : driver.at + fix.drop] = fix.insert
        sure = fix.drop == len(fix.insert) or fix.needs == 1
        self._quiet_until = driver.at + len(fix.insert) + (1 if sure else _ENOUGH)

    # ---- reporting

    def _report(self, code: str, message: str, start: int, end: int, help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, Span(self.source, start, end), help=help))

    def _missing(self, token: Token, fix: Fix) -> None:
        """Report that something is missing before the token: there, or at the end of the line before. A keyword that
        begins a clause is missing on the line of its clause."""
        driver = self.driver
        self.incomplete = True
        previous = driver.tokens[driver.at - 1] if driver.at else None
        begins = fix.insert[0].kind in _SYNC and fix.insert[0].kind not in ("ARROW", "RBRACE")
        if previous is None or begins or "\n" not in self.source.text[previous.end : token.start]:
            self._report(fix.code, fix.message, token.start, token.end, fix.help)
        else:
            self._report(fix.code, fix.message, previous.end, previous.end, fix.help)

    def _report_fix(self, fix: Fix, token: Token) -> None:
        driver = self.driver
        inserted = fix.insert[0] if fix.insert else None
        if fix.drop == 0 and not fix.pop and inserted is not None:
            opened = driver.opened_by()
            if opened is not None and inserted.kind == opened[1]:
                self._report_open(opened[0])
            else:
                self._missing(token, fix)
            return
        if fix.pop:
            previous = driver.tokens[driver.at - fix.pop]
            self._report(fix.code, fix.message, previous.start, previous.end, fix.help)
            return
        last = driver.tokens[driver.at + max(fix.drop, 1) - 1]
        if not fix.insert:
            self.incomplete = True
        self._report(fix.code, fix.message, token.start, last.end, fix.help)

    def _report_open(self, opened: Token) -> None:
        self.incomplete = True
        if opened.start not in self._reported_open:
            self._reported_open.add(opened.start)
            at = self.driver.tokens[self.driver.at - 1].end
            self.diagnostics.append(unclosed(self.source, opened, at))

    # ---- repairs

    def _reach(self, fix: Fix) -> int:
        driver = self.driver
        if fix.drop and driver.tokens[driver.at].kind == END:
            return -1
        depth = len(driver.states) - fix.pop
        return driver.reach(fix.insert, driver.at + fix.drop, _LOOK, depth)

    def _named(self, token: Token, accepted: list[str]) -> Fix | None:
        """A mistake with a name of its own, if what was meant carries parsing on."""
        fixes = known(self.source, self.driver, token, accepted)
        return next((fix for fix in fixes if self._reach(fix) >= fix.needs), None)

    def _misspelt(self, token: Token, accepted: list[str]) -> Fix | None:
        """A keyword of another language, or one misspelt: this token, or the word before it that was read as a name."""
        driver = self.driver
        fix = self._respelt(token, accepted, 1, 0)
        if fix is not None or driver.at == 0 or driver.tables.symbols[driver.states[-1]] != "IDENT":
            return fix
        previous = driver.tokens[driver.at - 1]
        if type(driver.values[-1]) is not Token or driver.values[-1].start != previous.start:
            return None
        row = driver.tables.actions[driver.states[-2]]
        return self._respelt(previous, list(row), 0, 1)

    def _respelt(self, token: Token, accepted: list[str], drop: int, pop: int) -> Fix | None:
        word = token.text
        if not word[:1].isalpha() or len(word) > 30:
            return None
        words = {literal: kind for literal, kind in keywords().items() if kind in accepted}
        synonym = SYNONYMS.get(word.lower(), word.lower())
        if synonym in words and synonym != word:
            fix = Fix(drop, (Token(words[synonym], synonym, token.start, token.end),), "", pop=pop)
            if self._reach(fix) >= _ENOUGH - 1:
                message = f"`{word}` begins nothing here: did you mean `{synonym}`?"
                return fix._replace(message=message, help=f"write `{synonym}`")
        if word in ("goto", "next") and "ARROW" in accepted:
            fix = Fix(
                drop,
                (made_from("ARROW", token),),
                f"`{word}` begins nothing here: did you mean `->`?",
                "write `->`",
                pop=pop,
            )
            return fix if self._reach(fix) >= _ENOUGH - 1 else None
        best: tuple[int, int, Fix] | None = None
        for literal, kind in words.items():
            away = distance(word, literal)
            if away > (1 if len(literal) <= 4 else 2) or away >= len(literal):
                continue
            fix = Fix(drop, (Token(kind, literal, token.start, token.end),), "", pop=pop)
            reach = self._reach(fix)
            if reach >= _ENOUGH - 1 and (best is None or (away, -reach) < best[:2]):
                best = (away, -reach, fix._replace(help=f"write `{literal}`"))
        if best is None:
            return None
        literal = best[2].insert[0].text
        return best[2]._replace(message=f"unknown word `{word}`: did you mean `{literal}`?")

    def _best(self, token: Token, accepted: list[str], enough: int) -> Fix | None:
        """The cheapest single insertion, deletion or replacement that carries parsing over `enough` tokens."""
        driver = self.driver
        best: tuple[int, int, Fix] | None = None
        where, shown = after(driver), found(token)
        words = keywords()
        literals = driver.tables.literals
        for cost, fix in self._candidates(token, accepted, words):
            reach = self._reach(fix)
            keyword = bool(fix.insert) and literals.get(fix.insert[0].kind, "") in words
            needed = _LOOK if keyword and fix.insert[0].kind in _SYNC else enough + 2 * keyword
            if reach < needed:
                continue
            if best is None or (-reach, cost) < best[:2]:
                best = (-reach, cost, fix)
        if best is None:
            return None
        fix = best[2]
        if fix.insert:
            message = f"expected {phrase(driver, [fix.insert[0].kind])}{where}, found {shown}"
            return fix._replace(message=message, help=read_as_name(driver))
        return fix._replace(message=f"unexpected {shown}{where}", help="remove it")

    def _candidates(self, token: Token, accepted: list[str], words: dict[str, str]) -> list[tuple[int, Fix]]:
        at = token.start
        found_kinds = set(accepted)
        opened = self.driver.opened_by()
        made: list[tuple[int, Fix]] = []
        for kind in _PUNCTUATION:
            closer = kind in ("RBRACE", "RPAR", "RSQB")
            if kind in ("LBRACE", "RBRACE") and not self._braces:
                continue
            # After a value these would begin a call, an index or a comparison, and before one a group: never forgotten.
            if kind in ("LPAR", "LSQB", "GT", "PERCENT") and not found_kinds.isdisjoint(("EQ", "ERROR_EXPR")):
                continue
            if kind in found_kinds and not (closer and (opened is None or opened[1] != kind)):
                made.append((10, Fix(0, (missing(kind, at),), "")))
                made.append((31, Fix(1, (missing(kind, at),), "")))
        if token.kind != END:
            twice = self.driver.at > 0 and token.text == self.driver.tokens[self.driver.at - 1].text
            made.append((5 if twice else 20, Fix(1, (), "")))
        for kind in _PLACEHOLDERS:
            if kind in found_kinds:
                made.append((21, Fix(0, (missing(kind, at),), "")))
                made.append((30, Fix(1, (missing(kind, at),), "")))
        few = len(accepted) <= 3
        for kind in words.values():
            # A keyword of a phrase may be forgotten; one that begins a clause is less likely to be.
            if kind in found_kinds and (few or kind in _SYNC):
                made.append((40, Fix(0, (missing(kind, at),), "")))
                if few:
                    made.append((41, Fix(1, (missing(kind, at),), "")))
        return made

    # ---- unwinding

    def _unwind(self) -> None:
        """Skip to where something known fits again, and forget what stood open for it."""
        driver = self.driver
        self.incomplete = True
        tokens = driver.tokens
        depth = 0
        at = driver.at
        while True:
            token = tokens[at]
            if token.kind == END:
                break
            header = token.kind == "LBRACE" and depth <= 0 and self._continues(at)
            if token.kind in CLOSERS and not header:
                depth += 1
            elif token.kind in ("RBRACE", "RPAR", "RSQB"):
                depth -= 1
            if depth <= 0 and (token.kind in _SYNC or header) and (target := self._landing(at)) is not None:
                keep, prefix = target
                driver.drop(keep)
                driver.tokens[driver.at : at] = prefix
                self._quiet_until = driver.at + len(prefix) + _ENOUGH
                return
            if depth <= 0 and (word := SYNONYMS.get(token.text)) and self._begins(keywords().get(word, ""), at):
                return
            depth = max(depth, 0) if token.kind == "RBRACE" else depth
            at += 1
        driver.tokens[driver.at : at] = []

    def _begins(self, kind: str, at: int) -> bool:
        """Go on at a word of another language that begins a line, an error of its own, if the keyword meant fits."""
        driver = self.driver
        if "\n" not in self.source.text[driver.tokens[at - 1].end : driver.tokens[at].start]:
            return False
        for keep in range(len(driver.states), max(len(driver.states) - _STACK_WINDOW, 0), -1):
            if kind in driver.tables.actions[driver.states[keep - 1]]:
                if at == driver.at and keep == len(driver.states):
                    return False  # nothing would have changed
                driver.drop(keep)
                driver.tokens[driver.at : at] = []
                self._quiet_until = driver.at
                return True
        return False

    def _continues(self, at: int) -> bool:
        """Whether the `{` at a place opens the body of the declaration whose head is being read."""
        driver = self.driver
        for keep in range(len(driver.states), max(len(driver.states) - 8, 0), -1):
            if driver.tables.symbols[driver.states[keep - 1]] in CLOSERS:
                return False
            if driver.reach((), at, 1, keep) == 1:
                return True
        return False

    def _landing(self, at: int) -> tuple[int, tuple[Token, ...]] | None:
        """How much of the stack to keep, and what to put in, so that the tokens from `at` on are read."""
        driver = self.driver
        size = len(driver.states)
        instead = (missing("ERROR_EXPR", driver.tokens[driver.at].start),)
        window = range(size, max(size - _STACK_WINDOW, 0), -1)
        for keep in window:
            row = driver.tables.actions[driver.states[keep - 1]]
            enough = 1 if driver.tokens[at].kind == "LBRACE" else _ENOUGH
            if driver.reach((), at, enough, keep) >= enough:
                return keep, ()
            if "ERROR_EXPR" in row and driver.reach(instead, at, _ENOUGH, keep) >= _ENOUGH:
                return keep, instead
        return None

    def _close_all(self) -> bool:
        """At the end of the file: close what is still open. False when that cannot be done."""
        driver = self.driver
        end = driver.at
        for _ in range(2 * len(driver.states) + 4):
            if driver.reach((), driver.at, 1) == 1:
                return True
            opened = driver.opened_by()
            at = driver.tokens[end].start if end < len(driver.tokens) else 0
            for prefix in ("", "ERROR_EXPR"):
                if opened is None:
                    break
                insert = [missing(prefix, at)] if prefix else []
                insert.append(missing(opened[1], at))
                if driver.reach(tuple(insert), driver.at, 0) == 0:
                    driver.tokens[driver.at : driver.at] = insert
                    driver.run()
                    break
            else:
                opened = None
            if opened is None:
                if len(driver.states) == 1:
                    return False
                driver.drop(len(driver.states) - 1)
        return False
