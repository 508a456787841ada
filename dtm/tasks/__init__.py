"""The task API: functions that are tasks, where they are submitted, and what comes of them."""
