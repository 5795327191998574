"""From a batch to the callbacks and handlers of the app."""
