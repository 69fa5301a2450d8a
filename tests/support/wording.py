"""Words that no text of the project uses, with what to write instead; for the tests of texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

AVOIDED = {
    r"\bwake-ups?\b": "wakeup",
    r"\banew\b": "again, restart, reload",
    r"\bmeanwhile\b": "during the interval",
    r"\b(mend|mended|mends)\b": "fixed",
    r"\b(told|cannot be told)\b": "reported, unknown",
    r"\bby itself\b": "on its own",
    r"\bin vain\b": "failed",
    r"\bguests? of (the|its|their) (guest|own)\b": "nested guest",
    r"\bso that (it|they|a|the)\b": "so, for a result",
    r"\b(stands?|standing) still\b": "stops, does not increase",
    r"\blets? go of\b": "releases",
    r"\bhas(n't| not)? got\b": "has",
    r"\breturns? to the VMM\b": "userspace exit",
    r"\b(to|cannot|can) be had\b": "available",
    r"\bwhoever\b": "name the person or the case",
    r"\b(fast|slow|cheap) way\b": "fast path, slow path",
    r"(?<!there )\bis no (?!longer)\w+\b": "is not a",
    r"\b(interrupt|NMI)s? at last\b": "interrupt-window exit",
    r"\btranslations?\b": "TLB",
    r"\bof whom\b": "name the noun",
    r"\bis also had for\b": "also evaluates for",
    r"\bas it must be\b": "valid",
    r"\bstands? on std(out|err)\b": "is printed on",
    r"\b(its|the) begin\b": "start, beginning",
    r"\b(that is|are) none (of|in)\b": "is not a",
    r"\bfor ever\b": "forever, without end",
    r"\blikewise\b": "also, too",
    r"\bin the words of\b": "as … writes it",
    r"\bcomes? to (its|their|an) end\b": "ends",
    r"\bnothing to say\b": "cannot be combined with, finds nothing",
    r"\btells (whether|which|what|how|that|where|whose|nothing|nobody)\b": "shows, reports, says",
    r"\b(do|does|may|can)( not)? tell\b": "does not report, is unknown",
    r"\btells? \S+( \S+){0,8} apart\b": "distinguishes",
    r"\bdear(er|est)?\b": "expensive",
    r"\b(thereof|therein|whereof|wherein|hitherto|henceforth)\b": "name the noun",
    r"\bmakes? up for\b": "compensates, reinjects",
    r"\bgoes with:": "cleared by:",
    r"(^|[.:] )times that\b": "Number of",
    r"(^|[.:] )of the [^,.:]{3,40}, (those|what|the ones)\b": "put the noun first: Share of X that …",
    r"\btak(es?|ing|en) away\b": "removes, unmaps",
    r"\bof old\b": "earlier",
    r"\b(look|say|have) a word with\b": "signals, interrupts",
    r"\bten thousands\b|\bsome (ten|tens|hundreds?|thousands?)\b": "tens of thousands, a few hundred",
    r"\bnobody listens\b|\bwithin (its|the) head\b|\bat least so (much|many)\b": "nothing, header, lower bound",
    r"\b(of|is) no known \w+\b|\bin what (it|they) differ": "unknown, how they differ",
    r"\bwhose its \w+ are\b|\bwhich are whose\b": "name the noun",
    r"\bhurts?\b": "costs; is harmless",
    r"\bagain and again\b": "repeatedly, keeps …",
    r"\b(guest|VM|one|host|vCPU)s? at rest\b": "idle",
    r"\bCPUs? of (its|their) own\b": "dedicated CPU",
    r"\blimits? on (halt )?polling\b": "halt polling limit",
    r"\b(the|its) limit from before\b": "previous limit",
    r"\bby what (it|they|that) (is|are|has|have|belongs?)\b": "name the noun",
    r"\b(wins?|won) (or|nor) costs?\b|\bwins? CPU\b": "saves",
    r"\bpage before\b": "previous page",
    r"\bstands? there twice\b": "appears twice",
    r"\b(the|a|an|of|to|is|and|for|with) \1\b": "the word once",
}


def complaints(where: str, text: str, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """A line for each avoided word in a text; ``more``: patterns that are avoided in texts of this kind alone."""
    text = " ".join(text.split())
    for pattern, better in {**AVOIDED, **more}.items():
        if match := re.search(pattern, text, re.IGNORECASE):
            yield f"{where}: {match[0]!r} in {text[:200]!r}; write: {better}"
