"""AdaFisher written in another way than ours: running sums of squares in float64, weights as they are.

No rows are kept: every call adds its squares to sums as soon as its gradient arrives. Factors of
convolutions come from autograd, as the derivative of a convolution of the squared input.
"""

import torch
from torch import nn
from torch.nn import functional

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
KNOWN = (nn.Linear, nn.Embedding, *CONVOLUTIONS, *NORMS)


def unit_range(d):
    """Min-max over everything."""
    return (d - d.min()) / (d.max() - d.min()) if d.numel() and d.max() > d.min() else 0 * d


class SummingAdaFisher(torch.optim.Optimizer):
    """For every layer that has factors; others are refused."""

    def __init__(self, model, lr=1e-3, *, beta, gamma, lam, weight_decay=0.0, refresh=1, params=None):
        if lr < 0:
            raise ValueError("lr")
        chosen = list(model.parameters()) if params is None else params
        defaults = {"beta": beta, "gamma": gamma, "lam": lam, "weight_decay": weight_decay}
        super().__init__(chosen, {"lr": lr, "refresh": refresh, **defaults})
        self.sums, self.role = {}, {}
        for module in model.modules():
            if not list(module.parameters(recurse=False)):
                continue
            if not isinstance(module, KNOWN):
                raise ValueError(f"{type(module).__name__} has no factors")
            for name, p in module.named_parameters(recurse=False):
                self.role[id(p)] = (module, name)
            module.register_forward_hook(self.called)

    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)
        self.sums = {}

    def called(self, module, inputs, output):
        if not (torch.is_grad_enabled() and output.requires_grad):
            return
        with torch.no_grad():
            squares = self.input_squares(module, inputs[0])

        def arrived(gradient):
            s = gradient.double().square()
            channel = -1 if isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm | nn.RMSNorm) else 1
            of_outputs = s.movedim(channel, 0).flatten(1)
            old = self.sums.get(module, (0.0, 0.0, 0))
            new = (squares, of_outputs.sum(1), of_outputs.shape[1])
            self.sums[module] = tuple(a + b for a, b in zip(old, new, strict=True))

        output.register_hook(arrived)

    def input_squares(self, module, x):
        """Sums of squares of what each weight multiplies, in the shape of one output's weights."""
        if isinstance(module, nn.Embedding):
            return torch.bincount(x.flatten(), minlength=module.num_embeddings).double()
        x = x.double()
        if isinstance(module, nn.Linear):
            return x.reshape(-1, x.shape[-1]).square().sum(0)
        if isinstance(module, CONVOLUTIONS):
            kernel = torch.zeros(module.groups, *module.weight.shape[1:], dtype=torch.float64)
            function = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[kernel.ndim - 2]
            with torch.enable_grad():
                kernel.requires_grad_()
                options = (module.stride, module.padding, module.dilation, module.groups)
                total = function(x.square(), kernel, None, *options).sum()
                return torch.autograd.grad(total, kernel)[0]  # (groups, inputs of a group, *kernel)
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            centre = 0 if isinstance(module, nn.RMSNorm) else x.mean(-1, keepdim=True)
            spread = (x - centre).square().mean(-1, keepdim=True)
            return ((x - centre).square() / (spread + module.eps)).flatten(0, -2).sum(0)
        if isinstance(module, nn.GroupNorm):
            h = functional.group_norm(x, module.num_groups, eps=module.eps)
        else:
            h = functional.batch_norm(x, None, None, training=True, eps=module.eps)
        return h.square().movedim(1, 0).flatten(1).sum(1)

    def measured(self, module):
        h, s, count = self.sums[module]
        h, s = h / count, s / count
        if isinstance(module, (nn.Linear, *CONVOLUTIONS)) and module.bias is not None:
            rows = h.reshape(getattr(module, "groups", 1), -1)
            h = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], 1)
        return h, s

    def denominator(self, p, h, s, lam):
        module, name = self.role[id(p)]
        h, s = unit_range(h), unit_range(s)
        if isinstance(module, NORMS):
            return lam + (s * h if name == "weight" else 0 * s)
        if isinstance(module, nn.Embedding):
            return lam + h[:, None] * s[None, :]
        groups = getattr(module, "groups", 1)
        rows = h.reshape(groups, -1).repeat_interleave(len(s) // groups, 0)  # (outputs, inputs)
        if name == "bias":
            return lam + s * rows[:, -1]
        weights = rows if module.bias is None else rows[:, :-1]
        return lam + (s[:, None] * weights).reshape(p.shape)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.one(p, group, self.state[p])
        return loss

    def one(self, p, group, state):
        t, beta = state.get("step", 0), group["beta"]
        if t % group["refresh"] == 0:
            fresh = self.measured(self.role[id(p)][0])
            if t:
                fresh = [
                    torch.lerp(new, old, group["gamma"]) for new, old in zip(fresh, state["d"], strict=True)
                ]
            state["d"] = list(fresh)
        state["weight"] = beta * state.get("weight", 0.0) + 1 - beta  # 1 - beta^t, as an average of ones
        state["M"] = torch.lerp(p.grad.double(), state.get("M", torch.zeros_like(p).double()), beta)
        state["step"] = t + 1
        F = self.denominator(p, *state["d"], group["lam"])
        W = p.double() * (1 - group["lr"] * group["weight_decay"])
        p.copy_(W - group["lr"] * state["M"] / (state["weight"] * F))

    def load_state_dict(self, saved):
        """PyTorch's casts state to the dtype of the parameter; this one keeps it."""
        super().load_state_dict(saved)
        for index, p in enumerate(p for group in self.param_groups for p in group["params"]):
            for name, value in saved["state"].get(index, {}).items():
                copied = [d.clone() for d in value] if isinstance(value, list) else value
                self.state[p][name] = copied.clone() if isinstance(copied, torch.Tensor) else copied
