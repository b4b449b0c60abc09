"""The page and the routes beside it, over real HTTP."""
