"""How results look in a notebook: tables with small bars and marked words, and charts. Knows tables, not analyses."""
