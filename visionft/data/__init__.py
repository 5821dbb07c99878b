"""From files, tables and arrays to checked records and decoded pixels."""
