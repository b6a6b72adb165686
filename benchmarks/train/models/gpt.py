"""The transformer of GPT-2, in any size.

Source: Radford, Wu, Child, Luan, Amodei and Sutskever, "Language Models are Unsupervised Multitask Learners"
(2019), section 2.3: layer norms before each part and one at the end, learnt positions, residual weights made
smaller with depth at the start; GELU in the tanh form, tied head and deviations as in the released model.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GPT", "GPT2_VOCABULARY", "PADDED_VOCABULARY", "causal_attention", "gpt2"]

#: Tokens of GPT-2: 256 bytes, 50 000 merges, one end of text.
GPT2_VOCABULARY = 50257

#: The next multiple of 64, which many GPUs prefer; the additional tokens never occur.
PADDED_VOCABULARY = 50304

#: Standard deviations at the start: of weights and token embeddings, and of position embeddings.
WEIGHT_DEVIATION, POSITION_DEVIATION = 0.02, 0.01


def causal_attention(q: Tensor, k: Tensor, v: Tensor, *, fused: bool) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v``, where no query sees a later key.

    Parameters
    ----------
    q, k, v : (..., T, d) Tensor
    fused : bool
        Use torch's fused kernel, which needs memory in T, not T squared, but cannot be differentiated twice.

    Returns
    -------
    attended : (..., T, d) Tensor
    """
    if fused:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    T, d = q.shape[-2:]
    later = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    scores = (q @ k.mT / math.sqrt(d)).masked_fill(later, -math.inf)
    return scores.softmax(dim=-1) @ v


class _Attention(nn.Module):
    """Causal self-attention with several heads; queries, keys and values come from one linear layer."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (  # (N, T, width) each, to (N, heads, T, width / heads)
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.inputs(x).chunk(3, dim=-1)
        )
        return self.output(causal_attention(q, k, v, fused=self.fused).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Attention, then a perceptron of four times the width; each sees its input normalised and adds to it."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = _Attention(width, heads, fused=fused)
        self.perceptron_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        wide = functional.gelu(self.widen(self.perceptron_norm(x)), approximate="tanh")
        return x + self.narrow(wide)


class GPT(nn.Module):
    """Logits of the next token at every place of a window. No dropout.

    With L layers of width D, context T and V tokens there are ``V D + T D + L (12 D^2 + 13 D) + 2 D``
    parameters; the head is the token embedding itself.

    Parameters
    ----------
    vocabulary, context, layers, heads, width : int
        Tokens, longest window, blocks, heads (a divisor of the width), width.
    fused : bool
        See `causal_attention`. Off by default: AdaHessian differentiates twice.

    Raises
    ------
    ValueError
        If `heads` does not divide `width`.
    """

    def __init__(
        self, *, vocabulary: int, context: int, layers: int, heads: int, width: int, fused: bool = False
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide the width, got {heads} heads for {width}")
        self.context = context
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(_Block(width, heads, fused=fused) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False, device="meta")  # no weights of its own
        self.head.weight = self.token_embedding.weight
        self._initialise(layers)

    def _initialise(self, layers: int) -> None:
        nn.init.normal_(self.token_embedding.weight, std=WEIGHT_DEVIATION)
        nn.init.normal_(self.position_embedding.weight, std=POSITION_DEVIATION)
        for block in self.blocks:
            # Two parts of each block end in the residual sum, which 2 L terms of this size leave at its size.
            residual = WEIGHT_DEVIATION / math.sqrt(2 * layers)
            for layer, deviation in (
                (block.attention.inputs, WEIGHT_DEVIATION),
                (block.attention.output, residual),
                (block.widen, WEIGHT_DEVIATION),
                (block.narrow, residual),
            ):
                nn.init.normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, T, vocabulary) of int64 tokens (N, T), T at most the context.

        Raises
        ------
        ValueError
            If the window is longer than the context.
        """
        length = tokens.shape[1]
        if length > self.context:
            raise ValueError(f"a window must have at most {self.context} tokens, got {length}")
        positions = torch.arange(length, device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        for block in self.blocks:
            x = block(x)
        return self.head(self.final_norm(x))


def gpt2(*, vocabulary: int = GPT2_VOCABULARY, fused: bool = True) -> GPT:
    """GPT-2 small, "124M": 12 layers, 12 heads, width 768, context 1024; 124 439 808 parameters.

    With the padded vocabulary of 50 304 there are 124 475 904.
    Source: the released model of Radford et al. (2019), which the paper lists as 117M by a miscount.
    """
    return GPT(vocabulary=vocabulary, context=1024, layers=12, heads=12, width=768, fused=fused)
