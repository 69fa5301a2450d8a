"""Reviewing the file of a proposal as the kvm list would. The rules are in ``publish.review``."""

from __future__ import annotations

from ..publish.proposal import parse_proposal
from ..publish.review import cost, review
from ..view.review import HostCost, ObjectionView, ProposalCost, ReviewView
from .kernels import read_text

_VCPUS, _VMS = 1000, 125


def review_file(file: str) -> ReviewView:
    """The objections to a file's proposal, and its cost. Raises UsageError, CatalogError."""
    proposal = parse_proposal(read_text(file), file)
    needs = cost(proposal)
    return ReviewView(
        title=proposal.title,
        provider=proposal.provider,
        stats=len(proposal.stats),
        objections=tuple(
            ObjectionView(rule=each.rule, stat=each.stat, scope=each.scope, says=each.says, instead=each.instead)
            for each in review(proposal)
        ),
        cost=ProposalCost(
            bytes_per_vm=needs.vm,
            bytes_per_vcpu=needs.vcpu,
            grouped_bytes_per_vm=needs.vm_grouped,
            grouped_bytes_per_vcpu=needs.vcpu_grouped,
            host=HostCost(vms=_VMS, vcpus=_VCPUS, bytes=needs.on_host(vms=_VMS, vcpus=_VCPUS)),
        ),
    )
