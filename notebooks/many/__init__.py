"""What notebook 11 works with: small files, the activities that train on them, and its workers."""
