"""Files and tokenizers to batches."""
