"""Get messages to people, once: their inbox, e-mail, SMS and chat, as they want them."""
