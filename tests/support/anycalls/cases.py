"""Running cases, many in one mount, each in a process of its own; and making a case smaller."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from tests.support.anycalls import callers, compare
from tests.support.anycalls.actor import Actor, Step
from tests.support.anycalls.callers import Who
from tests.support.anycalls.compare import ANSWER, Facet, Seen
from tests.support.anycalls.known import Found, is_known
from tests.support.anycalls.steps import Case
from tests.support.anycalls.trees import build, finish
from tests.support.mounts import Mounted
from tests.support.stacks import Layers

_LONG_SECONDS = 60  # a case that takes longer hangs
_TRIES = 150  # runs that shrinking may take
Perform = Callable[[Actor, Who, Step], Any]


def perform(actor: Actor, who: Who, step: Step) -> Any:
    """Make *step* as *who*; return the answer."""
    return callers.as_who(who, lambda: actor.answer(step))


class Way(NamedTuple):
    """How cases are mounted, and how a step is made: tests of this make one wrong."""

    mount: Callable[[Layers, bytes], Mounted]
    pure: bool = False
    perform: Perform = perform


class Outcome(NamedTuple):
    """How many steps were made alike, and what was different then; *error*: the case failed."""

    done: int
    facets: Sequence[Facet] = ()
    error: str = ""

    @property
    def wrong(self) -> bool:
        """Whether this is not as it should be."""
        return bool(self.facets or self.error)

    def __str__(self) -> str:
        rows = [f"{name} {field}: plain {a!r}, ours {b!r}" for name, field, a, b in self.facets]
        return "\n".join([f"after {self.done} steps that are alike", *rows, self.error])


def run_all(folder: str, cases: Sequence[Case], way: Way) -> list[Outcome]:
    """Run *cases* in one mount, whose directories are made in *folder* and removed again."""
    layers = _made(folder, cases)
    fine = compare.is_fine(folder)
    with way.mount(layers, f"{folder}/merged".encode()):
        outcomes = [_run_alone(folder, str(at), case, way, fine) for at, case in enumerate(cases)]
    subprocess.run(["rm", "-rf", "--", folder], check=True)
    return outcomes


def _run_alone(folder: str, name: str, case: Case, way: Way, fine: bool) -> Outcome:
    tops = f"{folder}/plain/{name}", f"{folder}/merged/{name}"
    return _in_child(lambda: _run(tops, case, way, fine))


def _made(folder: str, cases: Sequence[Case]) -> Layers:
    for name in ("", "lower", "upper", "work", "plain"):
        os.mkdir(f"{folder}/{name}", 0o755)
    for number, case in enumerate(cases):
        for side in ("plain", "lower"):
            top = f"{folder}/{side}/{number}"
            os.mkdir(top)
            os.chmod(top, 0o777)
            build(top, case.tree)
    lower, upper, work = (f"{folder}/{name}".encode() for name in ("lower", "upper", "work"))
    return Layers((lower,), upper, work)


def _in_child(work: Callable[[], Outcome]) -> Outcome:
    """Return what *work* returns in a process of its own, which may be left in any state."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        _be_child(work, theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return pickle.loads(data) if data else Outcome(0, error=f"it ended with status {status}")


def _be_child(work: Callable[[], Outcome], answer: int) -> NoReturn:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_LONG_SECONDS)
    try:
        callers.prepare()
        outcome = work()
    except BaseException:
        outcome = Outcome(0, error=traceback.format_exc())
    with open(answer, "wb") as pipe:
        pipe.write(pickle.dumps(outcome))
    os._exit(0)


class _Side:
    """The tree below *top*, and what it showed last."""

    def __init__(self, top: str) -> None:
        self.actor = Actor(top)
        os.chdir(top)
        self.was: Seen = {}
        self.now = compare.look(self.actor)

    def step(self, way: Way, who: Who, step: Step) -> tuple[Any, Seen]:
        """Make a step; return the answer and the effect."""
        os.chdir(self.actor.top)
        answer = way.perform(self.actor, who, step)
        self.was, self.now = self.now, compare.look(self.actor)
        return answer, compare.effect(self.was, self.now)


def _run(tops: tuple[str, str], case: Case, way: Way, fine: bool) -> Outcome:
    """Do the case in both directories, up to the first step with a difference."""
    for top in tops:
        finish(top, case.tree)
    plain, ours = map(_Side, tops)
    for done, (who, step) in enumerate(case.turns):
        compare.wait_for(step, fine=fine)
        (answer, effect), (answered, effected) = (
            side.step(way, who, step) for side in (plain, ours)
        )
        facets = compare.differences(effect, effected)
        if answer != answered:
            facets.insert(0, Facet(ANSWER, "answer", answer, answered))
        if facets:
            known = is_known(Found(step, ours.was, facets), pure=way.pure)
            return Outcome(done, () if known else facets)
    return Outcome(len(case.turns))


def shrink(case: Case, outcome: Outcome, again: Callable[[Case], Outcome]) -> tuple[Case, Outcome]:
    """Return the smallest case that a bounded search finds with the same kind of difference."""
    case = case._replace(turns=case.turns[: outcome.done + 1])
    tries, found = 0, True
    while found:
        found = False
        for less in list(_smaller(case)):
            now = again(less) if (tries := tries + 1) <= _TRIES else Outcome(0)
            if _alike(now, outcome):
                case, outcome, found = less._replace(turns=less.turns[: now.done + 1]), now, True
                break
    return case, outcome


def _smaller(case: Case) -> Iterator[Case]:
    """Yield it without each of its steps, each entry of its tree, and the attributes of each."""
    for at in range(len(case.turns) - 1):
        yield case._replace(turns=case.turns[:at] + case.turns[at + 1 :])
    for entry in case.tree:
        kept = [one for one in case.tree if not f"{one.path}/".startswith(f"{entry.path}/")]
        yield case._replace(tree=tuple(kept))
    for at, entry in enumerate(case.tree):
        if entry.xattrs:
            bare = entry._replace(xattrs=())
            yield case._replace(tree=(*case.tree[:at], bare, *case.tree[at + 1 :]))


def _alike(one: Outcome, other: Outcome) -> bool:
    def kind(outcome: Outcome) -> object:
        return [facet.field for facet in outcome.facets[:1]], bool(outcome.error)

    return one.wrong and kind(one) == kind(other)
