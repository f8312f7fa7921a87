"""PostgreSQL behind the contract of ``homeroom.db.database``."""
