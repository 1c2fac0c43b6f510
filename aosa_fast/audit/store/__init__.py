"""What an audit leaves in its folder."""
