"""Few weights that learn beside a frozen network: LoRA, SSF, bottlenecks, prompts, and quantised base weights."""
