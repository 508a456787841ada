"""One file a step. A step never imports dtm: it must do tomorrow what it did on the day it was written."""
