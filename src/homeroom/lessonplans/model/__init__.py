"""Lesson generation by a language model.

All modules but ``config``, ``call_store`` and ``prompt`` need the extra ``llm``.
"""
