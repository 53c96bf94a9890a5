"""The dialog: what people say and click, the router, the skills, and what goes back."""
