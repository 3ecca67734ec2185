"""Decoder, heads, LoRA, sharding rules, pretrained import and export."""
