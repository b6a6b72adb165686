"""FISMO with AdamW, or AdaFisher, in Lightning: what `configure_optimizers` returns.

Run it with ``python -m examples.lightning_digits`` (or ``... adafisher``). Needs the extra ``ecosystem``.
"""

import sys
import tempfile
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from examples.plain_loop import BATCH, accuracy, digits, network
from torch_impl import FISMO, AdaFisher, Composite, split_parameters


class Digits(lightning.LightningModule):
    """A classifier of digits that knows how it wants to be optimized."""

    def __init__(self, method: str = "fismo") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net: nn.Module = network()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of one batch."""
        X, y = batch
        loss = cross_entropy(self.net(X), y)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """One optimizer, whichever method, and one scheduler that is stepped with it."""
        optimizer: torch.optim.Optimizer
        if self.hparams["method"] == "adafisher":
            # It takes the model, because it measures at its layers, and steps all of its parameters.
            optimizer = AdaFisher(self.net, lr=0.1, lam=0.1)
        else:
            # Two optimizers as one: Lightning's automatic optimization takes no more.
            split = split_parameters(self.net, verbose=False)
            optimizer = Composite(
                [
                    FISMO(split.matrices, lr=0.02, reshape=True),
                    torch.optim.AdamW(split.others, lr=3e-3),
                ]
            )
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def loader() -> DataLoader[tuple[Tensor, ...]]:
    """Batches of training images and labels, always in one order."""
    X, y, _, _ = digits()
    return DataLoader(TensorDataset(X, y), batch_size=BATCH)


def train(method: str = "fismo", *, epochs: int = 4, resume: str | None = None, **options: Any) -> Digits:
    """Train, from a checkpoint if one is given; `options` are those of the Trainer."""
    module = Digits(method)
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="auto", devices=1, logger=False, **options)
    trainer.fit(module, loader(), ckpt_path=resume)
    return module


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        trained = train(*sys.argv[1:], default_root_dir=folder)
    _, _, images, labels = digits()
    print(f"accuracy {accuracy(trained.net, images, labels):.3f}")
