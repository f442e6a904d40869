/**
 * Runs what Ctrl-C and SIGTERM call off, and sets the exit code that it ends with. Once each: a second Ctrl-C ends the process at
 * once.
 */
export async function runUntilCalledOff(run: (signal: AbortSignal) => Promise<number>): Promise<void> {
  const calledOff = new AbortController();
  const callOff = (): void => calledOff.abort();
  process.once('SIGINT', callOff);
  process.once('SIGTERM', callOff);
  try {
    process.exitCode = await run(calledOff.signal);
  } finally {
    process.off('SIGINT', callOff);
    process.off('SIGTERM', callOff);
  }
}
