"""Who watches which booking, and how a position reaches them."""
