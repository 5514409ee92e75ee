"""Small trained models with known right answers, and hand-built ones for single behaviours."""
