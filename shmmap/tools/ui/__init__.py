"""`shmmap ui`: a web page that shows what the maps of this machine do, and what is in them."""
