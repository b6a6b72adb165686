"""FISMO and AdamW in a plain PyTorch loop, with a scheduler, mixed precision and checkpoints.

Run it with ``python -m examples.plain_loop``, again with ``--resume``. Needs scikit-learn for its data, the
8 x 8 digits, and takes a few seconds on a CPU.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_impl import FISMO, Composite, split_parameters

BATCH = 64


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels; images (N, 1, 8, 8) with pixels in [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    X = torch.tensor(images / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, test = order[: 3 * len(y) // 4], order[3 * len(y) // 4 :]
    return X[train], y[train], X[test], y[test]


def network() -> nn.Sequential:
    """A small convolutional network."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 2 * 2, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(
    *,
    epochs: int = 6,
    until: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    verbose: bool = True,
) -> tuple[nn.Module, float]:
    """Train up to epoch `until` of a schedule of `epochs`; return the model and its accuracy in the test."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    X, y, X_test, y_test = (x.to(device) for x in digits())
    model = network().to(device)

    # Which parameters go where is printed; `overrides` changes it. Kernels count as (out, in * kh * kw).
    split = split_parameters(model, verbose=verbose)
    optimizer = Composite(
        [
            FISMO(split.matrices, lr=0.02, reshape=True, weight_decay=0.01),
            torch.optim.AdamW(split.others, lr=3e-3),
        ]
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)  # bfloat16 needs none

    shuffle, start = torch.Generator().manual_seed(1), 0
    if resume and checkpoint is not None:
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        start = saved["epoch"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        scaler.load_state_dict(saved["scaler"])
        shuffle.set_state(saved["shuffle"].cpu())

    for epoch in range(start, epochs if until is None else until):
        model.train()
        for batch in torch.randperm(len(y), generator=shuffle).to(device).split(BATCH):
            optimizer.zero_grad()
            with torch.autocast(device, dtype=dtype):
                loss = cross_entropy(model(X[batch]), y[batch])
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        if checkpoint is not None:
            torch.save(
                {
                    "epoch": epoch + 1,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),  # of both, as one
                    "scheduler": scheduler.state_dict(),
                    "scaler": scaler.state_dict(),
                    "shuffle": shuffle.get_state(),
                },
                checkpoint,
            )
        if verbose:
            print(f"epoch {epoch + 1}: accuracy {accuracy(model, X_test, y_test):.3f}")
    return model, accuracy(model, X_test, y_test)


@torch.no_grad()
def accuracy(model: nn.Module, X: Tensor, y: Tensor) -> float:
    """Share of images recognised."""
    model.eval()
    return float((model(X).argmax(dim=1) == y).float().mean())


def main(arguments: list[str] | None = None) -> Any:
    """Train from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.plain_loop", description=train.__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--until", type=int, help="stop after this epoch")
    parser.add_argument("--checkpoint", type=Path, help="written after each epoch")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    return train(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
