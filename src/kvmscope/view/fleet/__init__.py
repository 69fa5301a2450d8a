"""Answers over many hosts: costs, findings, interrupt acceleration, differences between kernels.

``place`` has the question and the first fields of every answer. An answer is made from the rows of a ``FleetStore`` of
any engine. Rule: this package sums over hosts; the store has already summed over time and vCPUs.
"""
