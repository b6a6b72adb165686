"""Exact algebra for all sizes: non-commutative normal forms, positive cones, and the proofs written in them.

Each proof states its identities once, as a function of a carrier (`carriers`): on symbols they are decided by
normal form (`algebra`), on random rational matrices by plain arithmetic (`exact`). Inequalities are
identities whose right side is built by rules that keep non-negativity (`cone`). Every proof names mutated
identities that the same procedure must reject, and its summary names the theorems it quotes.
"""
