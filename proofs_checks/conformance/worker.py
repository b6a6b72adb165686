"""Running checks beside the caller, so that a target that hangs is reported and not waited for."""

import ctypes
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Hung", "Worker"]

#: How long a thread is given to end when asked.
END_SECONDS = 2.0


class Hung(Exception):
    """A call did not come back within its time."""


class _Stop(BaseException):
    """Raised inside a call that hangs; derives from BaseException so that a target does not swallow it."""


class Worker:
    """One daemon thread that runs calls one after another.

    After `Hung` the worker takes no more calls. All calls share one thread because the thread pools of
    numerical libraries belong to the thread that started them.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="conformance", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._results.put((True, call()))
            except BaseException as error:  # whatever the target raises belongs to the caller
                self._results.put((False, error))

    def call(self, function: Callable[[], Any], *, seconds: float) -> Any:
        """The result of `function()`, or what it raised, or `Hung` after `seconds`."""
        self._calls.put(function)
        try:
            done, value = self._results.get(timeout=seconds)
        except queue.Empty:
            self._interrupt()
            raise Hung from None
        if not done:
            raise value
        return value

    def _interrupt(self) -> None:
        """Ask the interpreter to raise in the thread; it does so between two Python instructions, if ever."""
        identity = self._thread.ident
        if identity is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(identity), ctypes.py_object(_Stop))

    def close(self) -> None:
        """End the thread, so that it does not outlive the interpreter; one that hangs is left behind."""
        self._calls.put(None)
        self._thread.join(END_SECONDS)
