"""The training engine: recipe -> loader -> step -> checkpoint. Imports torch only in the modules that need it."""
