"""How the embedded base model `builtin:sprout` is made from nothing: corpus, tokenizer, pre-training, evaluation."""
