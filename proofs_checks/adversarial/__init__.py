"""Attacks on claims: searches inside the assumptions that try to break an inequality or an identity.

The findings say how close the attack came (tightness, rounded down), on how many instances, and with how many
evaluations. The search portfolio is in `search`, the process adversaries in `processes`, the audit that says
which generator can be trusted to find an optimum in `polar`.
"""
