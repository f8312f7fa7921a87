"""Messages to people: inbox, e-mail, SMS and chat, each message delivered once."""
