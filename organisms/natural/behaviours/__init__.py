"""The families of plain English, one file each: a module of this package whose `FAMILY` is a `NaturalFamily` is found by being here."""
