"""Faults that dtm must survive: crashes, power losses, dying processes."""
