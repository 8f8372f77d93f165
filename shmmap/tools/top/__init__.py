"""`shmmap top`: what the maps of this machine do, as they do it."""
