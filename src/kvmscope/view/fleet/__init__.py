"""Answers over many hosts: costs, findings, interrupt acceleration, differences between kernels.

``place``: what was asked, and the start of every answer. An answer is made of the rows of a ``FleetStore``, whichever
engine is behind it. Rule: sums over hosts are made here; over time and vCPUs the store has made them.
"""
