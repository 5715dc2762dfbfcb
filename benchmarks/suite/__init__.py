"""What the commands of this folder's parent are made of."""
