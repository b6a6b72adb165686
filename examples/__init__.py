"""Short programs to copy from: a plain loop, Lightning, the Hugging Face Trainer. Each runs in seconds."""
