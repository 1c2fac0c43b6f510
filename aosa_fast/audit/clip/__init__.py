"""What an audit finds out about one clip."""
