"""Why an outcome model says what it says: from a trained run, with torch."""
