"""The processes of an audit on one machine."""
