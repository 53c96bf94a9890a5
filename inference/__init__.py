"""Everything that guesses: the language model, the offline engine, embeddings and classifiers."""
