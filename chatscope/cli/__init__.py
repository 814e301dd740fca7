"""The command `chatscope`: reads what services have recorded."""
