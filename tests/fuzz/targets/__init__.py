"""One module a target; see target.py for what it has to hold."""
