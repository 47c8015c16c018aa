"""Looking for the best detector and parameters: by planted damage, by validation parts."""
