"""What a person sees while something takes long: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

BAR_WIDTH = 24
LINES_EVERY = 25
"""Without a terminal a line is printed for every so many parts of a step."""


class Progress:
    """Numbered steps, each with parts counted where their number is known.

    progress.begin(total_steps=3)
    progress.step("Packages", parts=104)
    progress.advance("numpy")
    progress.tick()        # now and then while nothing happens, to keep the clock moving
    progress.end()
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._steps = 0
        self._step = 0
        self._title = ""
        self._parts = 0
        self._done = 0
        self._doing = ""
        self._since = time.monotonic()

    def begin(self, *, total_steps: int) -> None:
        """Say how many steps there will be."""
        self._steps, self._step = total_steps, 0

    def step(self, title: str, *, parts: int = 0) -> None:
        """Go to the next step; `parts` 0 means that its length isn't known."""
        self._close_line()
        self._step += 1
        self._title, self._parts, self._done, self._doing = title, parts, 0, ""
        self._since = time.monotonic()
        if self._terminal:
            self.tick()
        else:
            self._say(f"[{self._step}/{self._steps}] {title}")

    def advance(self, doing: str) -> None:
        """Count one more part, named by what is being done."""
        self._done = min(self._done + 1, self._parts) if self._parts else self._done + 1
        if not self._terminal and self._parts and self._done % LINES_EVERY == 0:
            self._say(f"      {self._done} of {self._parts}: {doing}")
        self._doing = doing
        self.tick()

    def note(self, doing: str) -> None:
        """Say what is being done now, without counting a part."""
        if doing != self._doing and not self._terminal:
            self._say(f"      {doing}")
        self._doing = doing
        self.tick()

    def tick(self, doing: str | None = None) -> None:
        """Draw the line again, so that its clock moves; a passing `doing` is shown on a terminal only."""
        if not self._terminal:
            return
        self._doing = self._doing if doing is None else doing
        elapsed = int(time.monotonic() - self._since)
        line = f"[{self._step}/{self._steps}] {self._title}"
        if self._parts:
            filled = BAR_WIDTH * self._done // self._parts
            line += f"  [{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {self._done}/{self._parts}"
        line += f"  {elapsed} s  {self._doing}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + line[:width])
        self._stream.flush()

    def line(self, text: str) -> None:
        """Print a whole line that stays."""
        self._close_line()
        self._say(text)

    def end(self) -> None:
        """Leave the last step's line finished."""
        self._close_line()

    def _close_line(self) -> None:
        if self._terminal and self._step and self._title:
            self._doing = "done" if self._done >= self._parts else self._doing
            self.tick()
            self._stream.write("\n")
            self._stream.flush()
        self._title = ""

    def _say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
