"""Answers over many hosts: who hurts, what is wrong, what became of interrupts, what differs between kernels.

``place``: what was asked, and the start of every answer. An answer is made of the rows of a ``FleetStore``, whichever
engine is behind it. Rule: sums over hosts are made here; over time and vCPUs the store has made them.
"""
