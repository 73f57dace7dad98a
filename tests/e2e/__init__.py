"""From the outside: the page of ``stagepose serve`` in a real browser, where there is one."""
