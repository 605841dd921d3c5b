# Headless notebooks use this profile: no debugger warning in the log, no history shared with the user's own.
c = get_config()  # noqa: F821
c.IPKernelApp.log_level = 40
c.HistoryManager.enabled = False
