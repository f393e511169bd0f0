"""How fast a model ages: trained on one span, tested on the spans that follow it."""
