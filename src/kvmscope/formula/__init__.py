"""The language of formulas, in which metrics and findings are written.

``tree``: the nodes of a formula. ``parse``: text to tree. ``text``: tree to text. ``check``: the type of a tree.
Not here: the values of a formula (``analysis.evaluate``). A tree is plain data.

    formula     = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = [ "not" ] comparison
    comparison  = sum [ ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum ]
    sum         = product { ( "+" | "-" ) product }
    product     = sign { ( "*" | "/" ) sign }
    sign        = [ "-" ] atom
    atom        = number | "(" formula ")" | name | call
    call        = ( "rate" | "delta" | "value" | "seconds" ) "(" stat ")"
                | "quantile" "(" stat "," number ")"
                | ( "share_above" | "share_below" ) "(" stat "," number ")"
                | "ratio" "(" formula "," formula "," ( "unknown" | [ "-" ] number ) ")"
                | ( "min2" | "max2" ) "(" formula "," formula ")"
                | "either" "(" formula { "," formula } ")"
                | ( "sum" | "max" | "mean" | "count" ) "(" formula ")"
                | "fact" "(" name ")"
    stat        = [ name "." ] name
    number      = digits [ "." digits ] [ "e" [ "+" | "-" ] digits ] [ unit ]
    unit        = "ns" | "us" | "ms" | "s" | "B" | "KiB" | "MiB" | "GiB"

A bare ``name`` is a metric. A stat without a provider is one of ``kvm``.
"""
