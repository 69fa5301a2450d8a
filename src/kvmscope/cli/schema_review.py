"""``kvmscope schema review``: what reviewers would say of stats that somebody proposes. Rules: ``publish.review``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .echo import echo_lines
from .options import json_option

if TYPE_CHECKING:
    from ..publish.proposal import Proposal
    from ..view.review import ReviewView

_VCPUS, _VMS = 1000, 125
_FOUND = 1


@click.command("review")
@click.argument("file", metavar="FILE")
@json_option
def review(*, file: str, as_json: bool) -> None:
    """Review the stats that FILE (TOML) proposes as the kvm list would: the objections to each, what to do instead, and
    the cost on a host with 1,000 vCPUs. Exits with 1 if there is an objection. docs/review.md has the rules.
    """
    from ..publish.proposal import parse_proposal
    from ..view.jsonout import dump, to_value
    from ..view.review import review_lines

    view = _view(parse_proposal(_read(file), file))
    if as_json:
        click.echo(dump(to_value(view)))
    else:
        echo_lines(review_lines(view))
    if view.objections:
        click.get_current_context().exit(_FOUND)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8 (byte {error.start})") from error


def _view(proposal: Proposal) -> ReviewView:
    from ..publish import review as rules
    from ..view.review import HostCost, ObjectionView, ProposalCost, ReviewView

    cost = rules.cost(proposal)
    return ReviewView(
        title=proposal.title,
        provider=proposal.provider,
        stats=len(proposal.stats),
        objections=tuple(
            ObjectionView(rule=each.rule, stat=each.stat, scope=each.scope, says=each.says, instead=each.instead)
            for each in rules.review(proposal)
        ),
        cost=ProposalCost(
            bytes_per_vm=cost.vm,
            bytes_per_vcpu=cost.vcpu,
            grouped_bytes_per_vm=cost.vm_grouped,
            grouped_bytes_per_vcpu=cost.vcpu_grouped,
            host=HostCost(vms=_VMS, vcpus=_VCPUS, bytes=cost.on_host(vms=_VMS, vcpus=_VCPUS)),
        ),
    )
