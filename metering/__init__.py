"""Usage metering and billing for LLM streaming gateways: facts in, folds out."""
