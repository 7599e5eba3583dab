"""Why a model says what it says: from a trained run, with torch."""
