"""Have lessons written by a language model. Needs the extra ``llm``, but for ``config``."""
