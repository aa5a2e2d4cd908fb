"""The synthetic world of the embedded tier: its words, facts and documents, its tokenizer, and the bases trained on them."""
