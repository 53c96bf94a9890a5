"""Who may do what: people and roles, rules, approvals and the audit log."""
